//! What objects are called, and which of two is the older.

use decision::refs::{Kind, ResourceRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Namespace and name; empty if absent.
pub(crate) fn place(metadata: &ObjectMeta) -> (&str, &str) {
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

/// The name of an object; the namespace is empty if it has none.
pub fn reference(kind: Kind, metadata: &ObjectMeta) -> ResourceRef {
    let (namespace, name) = place(metadata);
    ResourceRef::new(kind, namespace, name)
}

/// The place of an annotation: `metadata.annotations['whygate.dev/posture']`.
pub(crate) fn annotation_path(key: &str) -> String {
    format!("metadata.annotations['{key}']")
}

/// Where an object stands among its like: the older first. Objects without a creation time, as in
/// files, come after those with one, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Age<'a> {
    untimed: bool,
    created: Option<jiff::Timestamp>,
    name: (&'a str, &'a str),
}

impl<'a> Age<'a> {
    pub(crate) fn of(metadata: &'a ObjectMeta) -> Self {
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        Self { untimed: created.is_none(), created, name: place(metadata) }
    }

    /// Namespace and name of the object.
    pub(crate) fn name(&self) -> (&'a str, &'a str) {
        self.name
    }
}
