//! YAML files into resources, with the file, line and column of every field.

mod document;
mod file;
mod item;
mod kinds;
mod node;

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::Entry},
    sync::Arc,
};

use decision::{
    escape::printable,
    refs::{FieldRef, Kind, ResourceRef},
};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::{
    finding::sentence,
    map::{Map, Set},
    resources::{Lost, Resources},
};
use document::Broken;
use file::{File, Standing};
use item::{Decoded, Fault, Item, Named};
use node::At;

/// The namespace of objects that name none, as with `kubectl apply`.
const DEFAULT_NAMESPACE: &str = "default";

/// What a set of files holds.
#[derive(Debug, Default)]
pub struct Manifests {
    /// The objects.
    pub resources: Resources,
    /// The endpoints, which go a way of their own.
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
    /// What cannot be read. The objects of a broken document count as missing, and the routes of
    /// the namespace that it names are closed; those of all namespaces, if that is not certain.
    pub problems: Vec<Problem>,
    places: Map<ResourceRef, Place>,
    files: Map<Arc<str>, Arc<File>>,
    /// The files that hold an object, of use here or not.
    with_objects: Set<Arc<str>>,
    /// The files with a document that cannot be read.
    with_broken: Set<Arc<str>>,
    /// Where the first document stands that may hold a policy of any namespace.
    lost_anywhere: Option<String>,
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
    file: Arc<File>,
    /// Which of the documents of the file.
    document: usize,
    /// Which of the objects of the document.
    item: usize,
}

/// Reads files, each with a name and its text, in the order of their names.
///
/// A file may hold many documents, and lists of objects (`kind: List`). Kinds that are not used
/// here are passed over. Total: what cannot be read becomes a problem, and the rest goes on.
pub fn read(files: impl IntoIterator<Item = (String, String)>) -> Manifests {
    let files = files.into_iter().map(|(path, text)| (path, text.into()));
    read_again(files, &Manifests::default())
}

/// What [`read`] gives, faster: a document whose text stood in the same file of `before` is not
/// parsed again.
pub fn read_again(
    files: impl IntoIterator<Item = (String, Arc<str>)>,
    before: &Manifests,
) -> Manifests {
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort();
    let mut manifests = Manifests::default();
    manifests.places.reserve(before.places.len());
    for (path, text) in files {
        let path: Arc<str> = path.into();
        let file = match before.files.get(&path) {
            Some(file) if file.text == text => Arc::clone(file),
            before => Arc::new(File::read(path, text, before.map(|file| &**file))),
        };
        manifests.add(file);
    }
    manifests.close_everywhere();
    manifests
}

impl Manifests {
    /// The policies of each file that holds an object and nothing that is broken.
    pub fn policies(&self) -> BTreeMap<Arc<str>, BTreeSet<ResourceRef>> {
        let whole = self.with_objects.difference(&self.with_broken);
        let mut policies: BTreeMap<_, BTreeSet<_>> =
            whole.map(|path| (Arc::clone(path), BTreeSet::new())).collect();
        for (resource, place) in &self.places {
            if resource.kind == Kind::AccessPolicy
                && let Some(policies) = policies.get_mut(&place.file.path)
            {
                policies.insert(resource.clone());
            }
        }
        policies
    }

    /// Keeps the routes of the namespaces of policies closed that a file held before, if it is
    /// empty, broken or of other text now and they are nowhere else: whoever wants a policy gone
    /// deletes its file, or leaves other objects in it.
    pub fn remember(&mut self, path: &Arc<str>, held: &BTreeSet<ResourceRef>) {
        let is_broken = self.with_broken.contains(path);
        if self.with_objects.contains(path) && !is_broken {
            return;
        }
        let gone = held.iter().filter(|policy| !self.places.contains_key(*policy));
        let gone: Vec<&ResourceRef> = gone.collect();
        let place = format!("{path}:1");
        let namespaces: BTreeSet<_> = gone.iter().map(|policy| &*policy.namespace).collect();
        let lost = |namespace: &str| Lost { namespace: namespace.to_owned(), place: place.clone() };
        self.resources.lost.extend(namespaces.into_iter().map(lost));
        // Of what is broken it is told already.
        if !gone.is_empty() && !is_broken {
            let names: Vec<_> = gone.iter().map(ToString::to_string).collect();
            self.problems.push(Problem {
                path: Arc::clone(path),
                line: 1,
                column: 1,
                message: format!("held {} before, and nothing now", names.join(", ")),
                remedy: "Restore the file, or delete it if that is meant; the routes of the namespace stay closed until then.".to_owned(),
            });
        }
    }

    /// Closes every namespace of an Ingress, if a policy of any of them may be lost.
    fn close_everywhere(&mut self) {
        let Some(place) = self.lost_anywhere.clone() else { return };
        let resources = &mut self.resources;
        let ingresses = resources.ingresses.iter().map(|ingress| &ingress.metadata);
        let others = resources.undecodable_ingresses.iter().map(|ingress| &ingress.metadata);
        let namespaces = ingresses.chain(others).filter_map(|metadata| metadata.namespace.clone());
        let namespaces: BTreeSet<String> = namespaces.collect();
        let lost = |namespace| Lost { namespace, place: place.clone() };
        resources.lost.extend(namespaces.into_iter().map(lost));
    }

    /// Where a field stands, or the nearest part around it that exists; the name of a field, or an
    /// entry of a list. `None` if the object is in none of the files.
    pub fn locate(&self, field: &FieldRef) -> Option<Position> {
        let Place { file, document, item } = self.places.get(&field.resource)?;
        let document = file.documents.get(*document)?;
        let At { line, column } = document.node(*item, &file.text)?.locate(&field.path);
        Some(Position { path: Arc::clone(&file.path), line: document.line(line), column })
    }

    /// Adds what a file holds.
    fn add(&mut self, file: Arc<File>) {
        let mut items = file.documents.iter().filter_map(|it| it.items().as_ref().ok()).flatten();
        if items.any(|item| item.is_object) {
            self.with_objects.insert(Arc::clone(&file.path));
        }
        for (number, document) in file.documents.iter().enumerate() {
            match document.items() {
                Ok(items) => {
                    for (index, item) in items.iter().enumerate() {
                        let place =
                            Place { file: Arc::clone(&file), document: number, item: index };
                        self.add_item(place, document.line(item.at.line), item);
                    }
                }
                Err(broken) => self.lose(&file, document, broken),
            }
        }
        self.files.insert(Arc::clone(&file.path), file);
    }

    fn add_item(&mut self, place: Place, line: usize, item: &Item) {
        let path = &Arc::clone(&place.file.path);
        if item.is_cut_off {
            self.lost_anywhere.get_or_insert_with(|| format!("{path}:{line}"));
        }
        let problem = |message, remedy| {
            let (path, column) = (Arc::clone(path), item.at.column);
            Problem { path, line, column, message, remedy }
        };
        for Fault { message, remedy, lost } in &item.faults {
            let place = format!("{path}:{line}");
            let lost = lost.iter().cloned();
            let lost = lost.map(|namespace| Lost { namespace, place: place.clone() });
            self.resources.lost.extend(lost);
            self.problems.push(problem(message.clone(), remedy.clone()));
        }
        let Some(Named { resource, decoded, fault }) = &item.object else { return };
        match self.places.entry(resource.clone()) {
            Entry::Vacant(free) => _ = free.insert(place),
            Entry::Occupied(taken) => {
                let first = taken.get();
                let message =
                    format!("{resource} stands in {}:{} already", first.file.path, first.line());
                self.problems.push(problem(message, "Remove one of the two.".to_owned()));
                // Policies only add, so both of them are enforced; of the others the first one counts.
                if resource.kind != Kind::AccessPolicy {
                    return;
                }
            }
        }
        if let Some(decoded) = decoded {
            self.store(decoded.clone());
        }
        if let Some(message) = fault {
            let message = format!("{resource} cannot be decoded: {message}");
            let remedy = "Correct the field; what cannot be read of the object counts as missing until then.";
            self.problems.push(problem(message, remedy.to_owned()));
        }
    }

    /// Puts an object among its like.
    fn store(&mut self, object: Decoded) {
        let resources = &mut self.resources;
        match object {
            Decoded::Policy(policy) => resources.access_policies.push(policy),
            Decoded::Plan(plan) => resources.access_plans.push(plan),
            Decoded::Subscription(one) => resources.access_subscriptions.push(one),
            Decoded::Ingress(ingress) => resources.ingresses.push(ingress),
            Decoded::UndecodableIngress(raw) => resources.undecodable_ingresses.push(raw),
            Decoded::Class(class) => resources.ingress_classes.push(class),
            Decoded::Namespace(namespace) => resources.namespaces.push(namespace),
            Decoded::Service(service) => resources.services.push(service),
            Decoded::Secret(secret) => resources.secrets.push(secret),
            Decoded::ConfigMap(map) => resources.config_maps.push(map),
            Decoded::Slice(slice) => self.endpoint_slices.push(slice),
        }
    }

    /// Keeps what a broken document may have protected closed.
    fn lose(&mut self, file: &File, document: &Standing, broken: &Broken) {
        let path = &file.path;
        let (line, column) = (document.line(broken.at.line), broken.at.column);
        let place = format!("{path}:{line}");
        let mut remedy =
            "Correct the text; the objects of this document count as missing until then.";
        if let Some(namespaces) = document.protected_namespaces(&file.text) {
            let lost = |namespace| Lost { namespace, place: place.clone() };
            self.resources.lost.extend(namespaces.into_iter().map(lost));
        } else {
            remedy = "Correct the text; it may hold a policy of any namespace, so the routes of all of them stay closed until then.";
            self.lost_anywhere.get_or_insert(place);
        }
        self.with_broken.insert(Arc::clone(path));
        self.problems.push(Problem {
            path: Arc::clone(path),
            line,
            column,
            message: format!("not readable as YAML: {}", broken.message),
            remedy: remedy.to_owned(),
        });
    }
}

impl Place {
    /// The line of the object in its file, from 1.
    fn line(&self) -> usize {
        let document = self.file.documents.get(self.document);
        let item = document.and_then(|it| Some((it, it.items().as_ref().ok()?.get(self.item)?)));
        item.map_or(1, |(document, item)| document.line(item.at.line))
    }
}
