//! What happens with requests that no policy covers: the strictest of flag, class and namespace.

use std::collections::{BTreeMap, HashMap};

use decision::{
    refs::{FieldRef, Kind, ResourceRef},
    uncovered::{ClosedBy, OpenBy, Uncovered},
};

use crate::{
    annotation::{POSTURE, PREFIX, meant},
    class::Class,
    finding::{Effect, Findings, Problem, Reason},
    index::Index,
    metadata::annotation_path as path,
    resources::Resources,
    settings::{Posture, Settings},
};

/// Who closes routes without a policy, by class and by namespace.
pub(crate) struct Postures {
    flag: Posture,
    classes: HashMap<String, FieldRef>,
    namespaces: HashMap<String, FieldRef>,
}

impl Postures {
    /// Reads the annotations of all `IngressClasses` and Namespaces.
    ///
    /// A value or key under our prefix that is not understood closes: a typing error must not open.
    pub(crate) fn read(
        resources: &Resources,
        settings: &Settings,
        findings: &mut Findings,
    ) -> Self {
        let mut closed = |kind, name: &Option<String>, annotations: &Option<_>| {
            let name = name.clone().unwrap_or_default();
            let resource = ResourceRef::new(kind, "", name.as_str());
            let field = read(&resource, annotations.as_ref()?, findings)?;
            Some((name, field))
        };
        let classes = &resources.ingress_classes;
        let namespaces = &resources.namespaces;
        Self {
            flag: settings.default_posture,
            classes: classes
                .iter()
                .map(|class| &class.metadata)
                .filter_map(|meta| closed(Kind::IngressClass, &meta.name, &meta.annotations))
                .collect(),
            namespaces: namespaces
                .iter()
                .map(|namespace| &namespace.metadata)
                .filter_map(|meta| closed(Kind::Namespace, &meta.name, &meta.annotations))
                .collect(),
        }
    }

    /// What happens with requests to an Ingress that no policy covers.
    pub(crate) fn of(&self, class: Class<'_>, namespace: &str) -> Uncovered {
        if self.flag == Posture::Closed {
            return Uncovered::Closed(ClosedBy::Flag);
        }
        let class = class.object.and_then(|class| class.metadata.name.as_deref());
        let closed = class.and_then(|class| self.classes.get(class));
        match closed.or_else(|| self.namespaces.get(namespace)) {
            Some(field) => Uncovered::Closed(ClosedBy::Annotation(field.clone())),
            None => Uncovered::Open(OpenBy::Flag),
        }
    }
}

/// The annotation that closes, if one does.
fn read(
    resource: &ResourceRef,
    annotations: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Option<FieldRef> {
    let mut closing = None;
    for (key, value) in annotations.iter().filter(|(key, _)| key.starts_with(PREFIX)) {
        let (message, remedy) = match (key.as_str(), value.as_str()) {
            (POSTURE, "Open") => continue,
            (POSTURE, "Closed") => {
                closing.get_or_insert_with(|| FieldRef::new(resource.clone(), path(key)));
                continue;
            }
            (POSTURE, value) => (
                format!("`{value}` is not a posture, and counts as `Closed`"),
                "Write `Closed` or `Open`.".to_owned(),
            ),
            (key, _) => (
                format!(
                    "`{key}` is not an annotation of this kind, and counts as `{POSTURE}: Closed`"
                ),
                meant(key, &[POSTURE]),
            ),
        };
        closing.get_or_insert_with(|| FieldRef::new(resource.clone(), path(key)));
        let problem = Problem::new(path(key), message, remedy);
        findings.add(resource, Reason::PostureInvalid, Effect::Closes, problem);
    }
    closing
}

/// Why an Ingress in this namespace cannot be judged yet.
pub(crate) fn unknown_namespace(index: &Index<'_>, namespace: &str) -> Option<Problem> {
    (!index.is_known(namespace)).then(|| {
        Problem::new(
            "metadata.namespace",
            format!("Namespace `{namespace}` is not known, so its posture is not"),
            "Wait until the Namespace was read, or create it.",
        )
    })
}
