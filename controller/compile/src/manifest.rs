//! YAML files into resources, with the file, line and column of every field.

mod document;
mod node;
mod object;

use std::{collections::HashMap, sync::Arc};

use decision::{
    escape::printable,
    refs::{FieldRef, ResourceRef},
};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::{
    finding::sentence,
    resources::{Lost, Resources},
};
use node::{At, Node};

/// The namespace of objects that name none, as with `kubectl apply`.
const DEFAULT_NAMESPACE: &str = "default";

/// What a set of files holds.
#[derive(Debug, Default)]
pub struct Manifests {
    /// The objects.
    pub resources: Resources,
    /// The endpoints, which go a way of their own.
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
    /// What cannot be read. The objects of a broken document count as missing; if it may hold
    /// policies, the routes of the namespaces that it names are closed.
    pub problems: Vec<Problem>,
    places: HashMap<ResourceRef, Place>,
}

/// Something in a file that is not a manifest as it should be.
///
/// Prints as `shop.yaml:12:5: …`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as it was named to [`read`].
    pub path: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong: lower case, without a final period.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, line, column, message, remedy } = self;
        let (message, remedy) = (printable(message).to_string(), printable(remedy));
        write!(f, "{path}:{line}:{column}: {} {remedy}", sentence(&message))
    }
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The file, as it was named to [`read`].
    pub path: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// An object in a file.
#[derive(Debug)]
struct Place {
    path: Arc<str>,
    /// How many lines stand before its document.
    before: usize,
    node: Node,
}

/// Reads files, each with a name and its text, in the order of their names.
///
/// A file may hold many documents, and lists of objects (`kind: List`). Kinds that are not used
/// here are passed over. Total: what cannot be read becomes a problem, and the rest goes on.
pub fn read(files: impl IntoIterator<Item = (String, String)>) -> Manifests {
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort();
    let mut manifests = Manifests::default();
    for (path, text) in files {
        let path: Arc<str> = path.into();
        for document in document::documents(&text) {
            match document.read() {
                Ok(nodes) => {
                    for node in nodes {
                        manifests.add(&path, document.before, node);
                    }
                }
                Err(broken) => manifests.lose(&path, &document, &broken),
            }
        }
    }
    manifests
}

impl Manifests {
    /// Where a field stands, or the nearest part around it that exists; the name of a field, or an
    /// entry of a list. `None` if the object is in none of the files.
    pub fn locate(&self, field: &FieldRef) -> Option<Position> {
        let place = self.places.get(&field.resource)?;
        let At { line, column } = place.node.locate(&field.path);
        let line = line.saturating_add(place.before);
        Some(Position { path: Arc::clone(&place.path), line, column })
    }

    /// Keeps what a broken document may have protected closed.
    fn lose(
        &mut self,
        path: &Arc<str>,
        document: &document::Document<'_>,
        broken: &document::Broken,
    ) {
        let At { line, column } = broken.at;
        let place = format!("{path}:{line}");
        let namespaces = document.protected_namespaces().into_iter();
        self.resources
            .lost
            .extend(namespaces.map(|namespace| Lost { namespace, place: place.clone() }));
        self.problems.push(Problem {
            path: Arc::clone(path),
            line,
            column,
            message: format!("not readable as YAML: {}", broken.message),
            remedy: "Correct the text; the objects of this document count as missing until then."
                .to_owned(),
        });
    }
}
