//! One kind in one namespace, or in all: a watch, its store, and whether it was listed.

mod orphans;

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        reflector::{Lookup, ObjectRef, Store, store::Writer},
        watcher::{self, Event},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{sync::Notify, time::sleep};

use self::orphans::Orphans;
use super::{
    definition::{Definition, Life},
    pause::Pause,
    right,
};
use crate::{
    admin::{Admin, Readiness},
    cause::innermost,
    pulse::Pulse,
};

/// Most events that are looked at together.
const CHUNK: usize = 256;
/// Annotation of kubectl that repeats the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Between two looks for a right that is missing.
const RETRY: Duration = Duration::from_secs(2);

/// What a store can hold.
pub(super) trait Stored:
    Resource<DynamicType: Clone + Eq + Hash + fmt::Debug + Send + Sync + Unpin>
    + Clone
    + fmt::Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Stored for K where
    K: Resource<DynamicType: Clone + Eq + Hash + fmt::Debug + Send + Sync + Unpin>
        + Clone
        + fmt::Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// What a watch is about, for people.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// `ingresses`.
    pub(super) what: &'static str,
    /// The namespace; `None` for all.
    pub(super) namespace: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} in namespace `{namespace}`", self.what),
            None => f.write_str(self.what),
        }
    }
}

/// Whether what a store holds can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not listed yet.
    Waiting,
    /// Listed at least once; from then on errors change nothing.
    Listed,
    /// A single namespace that may not be listed: its routes are closed.
    Forbidden,
}

/// One watch.
#[derive(Debug)]
pub(super) struct Slot<K: Stored> {
    place: Place,
    store: Store<K>,
    inner: Mutex<Inner<K>>,
    changed: Arc<Notify>,
    admin: Admin,
    pulse: Arc<Pulse>,
    dynamic_type: K::DynamicType,
    /// Whether objects stay in force that vanish with their definition. Only what closes may: what
    /// opens is gone with the next list.
    keeps_orphans: bool,
}

#[derive(Debug)]
struct Inner<K: Stored> {
    writer: Writer<K>,
    /// What each object means, so that our own writes of status do not count as changes.
    meanings: HashMap<ObjectRef<K>, u64>,
    orphans: Orphans<K>,
    /// The uid of the definition whose objects are watched.
    definition: Option<String>,
    state: State,
    said: Option<String>,
}

impl<K: Stored> Slot<K> {
    /// An empty store.
    pub(super) fn new(
        place: Place,
        admin: &Admin,
        changed: Arc<Notify>,
        dynamic_type: K::DynamicType,
    ) -> Self {
        let writer = Writer::new(dynamic_type.clone());
        let store = writer.as_reader();
        let (state, said) = (State::Waiting, None);
        let (meanings, orphans) = (HashMap::new(), Orphans::default());
        let inner = Mutex::new(Inner { writer, meanings, orphans, definition: None, state, said });
        let admin = admin.clone();
        admin.readiness.lacks(&place.to_string(), format!("{place} are not listed yet"));
        let pulse = admin.watches.begin(&K::kind(&dynamic_type));
        Self { place, store, inner, changed, admin, pulse, dynamic_type, keeps_orphans: false }
    }

    /// When the watch last heard from the API server.
    pub(super) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Keeps objects in force that vanish with their definition.
    pub(super) fn keeping_orphans(self) -> Self {
        Self { keeps_orphans: true, ..self }
    }

    /// The objects, as far as they are known.
    pub(super) fn objects(&self) -> Vec<Arc<K>> {
        let inner = self.lock();
        let mut objects = self.store.state();
        objects.extend(inner.orphans.objects());
        objects
    }

    /// Whether there is a complete list, or none to be had.
    pub(super) fn is_settled(&self) -> bool {
        self.lock().state != State::Waiting
    }

    /// The namespace, if it may not be listed.
    pub(super) fn forbidden(&self) -> Option<String> {
        let forbidden = self.lock().state == State::Forbidden;
        self.place.namespace.clone().filter(|_| forbidden)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn readiness(&self) -> &Readiness {
        &self.admin.readiness
    }

    /// Watches, for ever. Errors are tried again and never take anything out of the store.
    pub(super) async fn follow(
        self: Arc<Self>,
        api: Api<K>,
        config: watcher::Config,
        definition: Option<Definition>,
    ) -> Result<(), &'static str> {
        if let Some(definition) = &definition {
            let uid = definition.wait(|sentence| self.lack(sentence)).await;
            self.adopt(uid);
        }
        while let Some(verb) = self.missing_verb(&api).await {
            self.refuse(missing_right(verb, &self.place));
            sleep(RETRY).await;
        }
        let pause = Pause::default();
        let answered = Arc::clone(&pause.answered);
        let events = watcher::watcher(api, config)
            .inspect_err(move |error| {
                answered.store(status_of(error).is_some(), Ordering::Relaxed);
            })
            .backoff(pause);
        let mut events = std::pin::pin!(events.ready_chunks(CHUNK));
        while let Some(chunk) = events.next().await {
            // Asked after the events came: deletions that follow from the removal of the
            // definition are seen only when it is already marked.
            let removes = |event: &Result<Event<K>, watcher::Error>| {
                matches!(event, Ok(Event::Delete(_) | Event::InitDone))
            };
            let life = match &definition {
                Some(definition) if chunk.iter().any(removes) => {
                    let known = self.lock().definition.clone().unwrap_or_default();
                    definition.life(&known).await
                }
                Some(_) | None => Life::Same,
            };
            for event in chunk {
                match event {
                    Ok(event) => self.follow_one(event, life),
                    Err(error) => self.fail(&error),
                }
            }
            if life == Life::Replaced {
                return Err("the definition was replaced: its objects are listed anew");
            }
        }
        Err("the watch ended")
    }

    /// What vanishes with its definition stays in force: nobody deleted it by itself.
    fn follow_one(&self, event: Event<K>, life: Life) {
        match (event, life) {
            (Event::Delete(_) | Event::InitDone, Life::Gone | Life::Replaced) => {
                self.admin.deletions_ignored.inc();
            }
            (event, Life::Same | Life::Gone | Life::Replaced) => self.apply(event),
        }
    }

    /// From here on the objects of this definition are followed. What an earlier one had, and this
    /// one lacks, was not deleted by anybody.
    fn adopt(&self, uid: String) {
        let mut inner = self.lock();
        let is_another = inner.definition.as_ref().is_some_and(|known| *known != uid);
        if is_another && self.keeps_orphans {
            inner.orphans.bereave();
        }
        inner.definition = Some(uid);
    }

    fn apply(&self, event: Event<K>) {
        let event = event.modify(project);
        let mut inner = self.lock();
        let orphans = inner.orphans.len();
        let before = match &event {
            Event::InitDone => self.store.state(),
            Event::Apply(_) | Event::Delete(_) | Event::Init | Event::InitApply(_) => Vec::new(),
        };
        inner.writer.apply_watcher_event(&event);
        let changed = match &event {
            Event::Apply(object) => {
                let key = object.to_object_ref(self.dynamic_type.clone());
                let meaning = meaning(object);
                inner.orphans.release(&key);
                inner.meanings.insert(key, meaning) != Some(meaning)
            }
            Event::Delete(object) => {
                let key = object.to_object_ref(self.dynamic_type.clone());
                inner.orphans.release(&key);
                inner.meanings.remove(&key);
                true
            }
            Event::InitDone => {
                // The list is complete; what it means is compared object by object from now on.
                let listed = self.store.state();
                inner.orphans.list(before, &listed, &self.dynamic_type);
                let reference = |object: &K| object.to_object_ref(self.dynamic_type.clone());
                inner.meanings =
                    listed.iter().map(|object| (reference(object), meaning(&**object))).collect();
                inner.state = State::Listed;
                inner.said = None;
                self.pulse.beat();
                self.readiness().has(&self.place.to_string());
                true
            }
            Event::Init | Event::InitApply(_) => false,
        };
        let left = inner.orphans.len();
        drop(inner);
        self.tell_orphans(orphans, left);
        if changed {
            self.changed.notify_one();
        }
    }

    fn tell_orphans(&self, before: usize, now: usize) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.admin.orphans.inc_by(count(now) - count(before));
        if now > before {
            tracing::warn!(
                resource = %self.place, objects = now,
                "Objects stay in force that vanished with their definition; apply them again, or restart the program to let them go"
            );
        }
    }

    async fn missing_verb(&self, api: &Api<K>) -> Option<&'static str> {
        let client = api.clone().into_client();
        right::missing::<K>(client, &self.dynamic_type, self.place.namespace.as_deref()).await
    }

    fn fail(&self, error: &watcher::Error) {
        self.admin.watch_errors.inc();
        match status_of(error) {
            Some(403) => self.refuse(missing_right("list and watch", &self.place)),
            Some(404) => self.lack(format!(
                "the API server does not know {}; install the definitions of whygate.dev",
                self.place
            )),
            Some(401) => self.lack(format!(
                "{} cannot be watched: Unauthorized; check the token in the kubeconfig or of the ServiceAccount",
                self.place
            )),
            Some(_) | None => {
                self.lack(format!("{} cannot be watched: {}", self.place, innermost(error)));
            }
        }
    }

    /// The kind may not be read. In a single namespace that is an answer: its routes are closed.
    fn refuse(&self, sentence: String) {
        let mut inner = self.lock();
        if self.place.namespace.is_some() && inner.state == State::Waiting {
            inner.state = State::Forbidden;
            self.changed.notify_one();
        }
        drop(inner);
        self.lack(sentence);
    }

    /// Something is wrong; as long as nothing was ever listed, the program is not ready.
    fn lack(&self, sentence: String) {
        let mut inner = self.lock();
        let state = inner.state;
        let news = inner.said.as_ref() != Some(&sentence);
        inner.said = Some(sentence.clone());
        drop(inner);
        if news {
            tracing::warn!(resource = %self.place, error = sentence, "Watch failed and is tried again");
        }
        match state {
            State::Waiting => self.readiness().lacks(&self.place.to_string(), sentence),
            State::Forbidden => self.readiness().has(&self.place.to_string()),
            State::Listed => {}
        }
    }
}

/// Keeps what is used: nobody reads who managed which field.
fn project<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
    if let Some(annotations) = object.meta_mut().annotations.as_mut() {
        annotations.remove(LAST_APPLIED);
    }
}

/// A hash of everything but status and versions.
fn meaning<K: Stored>(object: &K) -> u64 {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
    }
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

fn missing_right(verbs: &str, place: &Place) -> String {
    format!(
        "the right to {verbs} {place} is missing; grant the ServiceAccount the verbs get, list and watch"
    )
}

/// The status of the API server's answer, if there was one.
fn status_of(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => {
            if let kube::Error::Api(status) = error {
                Some(status.code)
            } else {
                None
            }
        }
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::NoResourceVersion => None,
    }
}

#[cfg(test)]
mod tests;
