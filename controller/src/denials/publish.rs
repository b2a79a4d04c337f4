//! Refusals as core/v1 Events: created once, then only count, message and last time change.
//!
//! An Event is named after its group, its object and this replica, so no two writers ever meet, and
//! `kubectl describe` shows one line a replica. Under `events.k8s.io/v1` a note could never change;
//! under core/v1 it can.

use std::{
    collections::HashMap, convert::Infallible, fmt, future::Future, sync::Arc, time::Duration,
};

use compile::{Resources, reference};
use decision::refs::{Kind, ResourceRef};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};

use crate::{
    cause::{innermost, missing_verb},
    denials::{
        aggregate::{Group, Note, NoteId},
        collect::Collector,
    },
    leader::{FIELD_MANAGER, Membership},
    pipeline::Outcome,
};

/// Longest time for one call.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after the first failure; it doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_secs(1);
/// Longest pause while the API server is away.
const LONGEST: Duration = Duration::from_secs(30);
/// How long an Event rests that the API server refuses: another try would end the same way.
const REFUSED: Duration = Duration::from_mins(10);
/// How long an Event rests for want of a right: an API server that has just started does not know
/// every role yet, and forbids what it will allow a moment later.
const FORBIDDEN: Duration = Duration::from_secs(10);
/// Longest name of an object (RFC 1123 subdomain).
const NAME_LIMIT: usize = 253;

/// Writes Events.
pub struct Publisher {
    client: Client,
    collector: Collector,
    outcome: watch::Receiver<Option<Arc<Outcome>>>,
    membership: watch::Receiver<Membership>,
    /// Whether this replica told of findings in the last round.
    led: bool,
    replica: String,
    /// Tells this run of the program from an earlier one of the same name.
    instance: String,
    /// The Events that exist, by name, and what they stand on: counts of an earlier run of this
    /// replica.
    events: HashMap<String, Standing>,
    identities: Identities,
    pause: Duration,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("replica", &self.replica).finish_non_exhaustive()
    }
}

/// An Event that exists, as far as we know.
#[derive(Clone, Debug)]
struct Standing {
    object: ResourceRef,
    /// Counted by an earlier run of this replica, or before the refusals were forgotten.
    base: u64,
    /// The count that was written last, without the base.
    written: u64,
}

impl Standing {
    fn new(object: &ResourceRef, base: u64) -> Self {
        Self { object: object.clone(), base, written: 0 }
    }

    /// The count that the Event is to show, which never goes back.
    fn total(&mut self, count: u64) -> u64 {
        if count < self.written {
            self.base = self.base.saturating_add(self.written);
        }
        self.written = count;
        self.base.saturating_add(count)
    }
}

/// How a write ended.
enum Written {
    Done,
    /// We know better now whether to create or to update: that is another write of the budget.
    Again,
    /// The API server does not want it.
    Refused(kube::Error),
    /// The API server is away, or busy.
    Away(String),
}

impl Publisher {
    /// Writes with the rights of a client, as one replica.
    pub fn new(
        client: Client,
        collector: Collector,
        outcome: watch::Receiver<Option<Arc<Outcome>>>,
        replica: String,
        membership: watch::Receiver<Membership>,
    ) -> Self {
        let instance = format!("{replica}-{}", Timestamp::now().as_microsecond());
        Self {
            client,
            collector,
            outcome,
            membership,
            led: false,
            replica,
            instance,
            events: HashMap::new(),
            identities: Identities::default(),
            pause: SHORTEST,
        }
    }

    /// Counts and writes, for ever.
    ///
    /// # Errors
    /// Never.
    pub async fn follow(this: Arc<Mutex<Self>>) -> Result<(), Infallible> {
        loop {
            let mut this = this.lock().await;
            let membership = this.membership.borrow().clone();
            this.collector.divide(membership.replicas());
            let leads = membership.leads();
            let changed = this.outcome.has_changed().unwrap_or(false)
                || this.identities.of.is_none()
                || this.led != leads;
            this.led = leads;
            let outcome = this.outcome.borrow_and_update().clone();
            // All replicas find the same: one of them tells.
            let findings = outcome.as_ref().map(|outcome| &*outcome.findings);
            let findings = findings.map(|findings| if leads { findings } else { &[] });
            this.collector.collect(findings.filter(|_| changed)).await;
            this.write_due(outcome.as_deref()).await;
        }
    }

    /// Writes what was counted since, when the program ends.
    pub async fn close(this: &Mutex<Self>) {
        // The one who follows holds the lock for at most one round.
        let close = async {
            let mut this = this.lock().await;
            let outcome = this.outcome.borrow().clone();
            this.collector.close();
            this.write_due(outcome.as_deref()).await;
        };
        if timeout(PATIENCE, close).await.is_err() {
            tracing::warn!("The last Events could not be written in time");
        }
    }

    async fn write_due(&mut self, outcome: Option<&Outcome>) {
        let Some(outcome) = outcome else { return };
        if self.identities.refresh(&outcome.resources) {
            let known = &self.identities.known;
            self.events.retain(|_, standing| known.contains_key(&standing.object));
        }
        loop {
            let known = &self.identities.known;
            let Some(note) = self.collector.next(|object| known.contains_key(object)) else {
                return;
            };
            let Some(identity) = known.get(&note.id.object).cloned() else { return };
            match self.write(&note, &identity).await {
                Written::Done => {
                    self.pause = SHORTEST;
                    self.collector.written(&note);
                }
                Written::Again => self.collector.again(&note),
                Written::Refused(error) => {
                    let (resource, sentence) = (&note.id.object, refused(&error, &note.id.object));
                    tracing::warn!(%resource, error = sentence, "Event refused");
                    self.collector.failed(&note, rest(&error));
                }
                Written::Away(error) => {
                    tracing::warn!(error, "Event cannot be written; it is tried again");
                    self.collector.failed(&note, self.pause);
                    self.collector.rest(self.pause);
                    self.pause = self.pause.saturating_mul(2).min(LONGEST);
                    return;
                }
            }
        }
    }

    /// Updates the Event if it should exist, and creates it otherwise; an Event that somebody
    /// deleted, or that expired, is created anew.
    async fn write(&mut self, note: &Note, identity: &Identity) -> Written {
        let name = self.name(&note.id, identity);
        let api: Api<Event> = Api::namespaced(self.client.clone(), &note.id.object.namespace);
        let standing = self.events.get_mut(&name);
        if let Some(total) = standing.map(|standing| standing.total(note.count)) {
            match self.update(&api, &name, note, total).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    self.events.remove(&name);
                    return Written::Again;
                }
                result => return ended(result),
            }
        }
        let event = self.event(name.clone(), note, identity);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), dry_run: false };
        match within(api.create(&params, &event)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                self.take_over(&api, name, &note.id.object).await
            }
            result => {
                if result.is_ok() {
                    let standing = Standing::new(&note.id.object, 0);
                    self.events.insert(name, Standing { written: note.count, ..standing });
                }
                ended(result.map(drop))
            }
        }
    }

    /// An Event of this name is there: an earlier run of this replica wrote it, and its count goes
    /// on; or this run did and the answer was lost.
    async fn take_over(&mut self, api: &Api<Event>, name: String, object: &ResourceRef) -> Written {
        let before = match within(api.get(&name)).await {
            Ok(before) => before,
            Err(error) => return ended(Err(error)),
        };
        let own = before.reporting_instance.as_deref() == Some(&self.instance);
        let base = if own { 0 } else { u64::try_from(before.count.unwrap_or(0)).unwrap_or(0) };
        self.events.insert(name, Standing::new(object, base));
        Written::Again
    }

    async fn update(
        &self,
        api: &Api<Event>,
        name: &str,
        note: &Note,
        total: u64,
    ) -> kube::Result<()> {
        let patch = json!({
            "count": count(total),
            "message": note.message,
            "lastTimestamp": Time(note.last),
            "reportingInstance": self.instance,
        });
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        within(api.patch(name, &params, &Patch::Merge(patch))).await.map(drop)
    }

    fn event(&self, name: String, note: &Note, identity: &Identity) -> Event {
        let object = &note.id.object;
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(object.namespace.to_string()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(identity.api_version.to_owned()),
                kind: Some(object.kind.as_str().to_owned()),
                namespace: Some(object.namespace.to_string()),
                name: Some(object.name.to_string()),
                uid: identity.uid.clone(),
                ..ObjectReference::default()
            },
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(note.reason.to_owned()),
            message: Some(note.message.clone()),
            count: Some(count(note.count)),
            first_timestamp: Some(Time(note.first)),
            last_timestamp: Some(Time(note.last)),
            source: Some(EventSource {
                component: Some("whygate".to_owned()),
                host: Some(self.replica.clone()),
            }),
            reporting_component: Some(compile::settings::CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            action: Some(if note.warning { "Refuse" } else { "Count" }.to_owned()),
            ..Event::default()
        }
    }

    /// `NAME.HASH`: the hash is of group, object and replica. An object that was created anew under
    /// its old name gets Events of its own, or `kubectl describe` would not find them.
    fn name(&self, id: &NoteId, identity: &Identity) -> String {
        let uid = identity.uid.as_deref().unwrap_or_default();
        let text = format!("{:?}|{}|{uid}|{}", Named(&id.group), id.object, self.replica);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let start = digest.as_ref().first_chunk::<8>().copied().unwrap_or_default();
        let hash = format!("{:016x}", u64::from_be_bytes(start));
        let room = NAME_LIMIT.saturating_sub(hash.len() + 1);
        let name: String = id.object.name.chars().take(room).collect();
        format!("{}.{hash}", name.trim_end_matches(['.', '-']))
    }
}

/// A group without what its type prints about memory.
struct Named<'a>(&'a Group);

impl fmt::Debug for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Group::Denial(key) => {
                let field = key.field.as_ref().map(ToString::to_string).unwrap_or_default();
                let route = key.route.as_ref().map(ToString::to_string).unwrap_or_default();
                let rule = key.rule.as_deref().unwrap_or_default();
                let policy = key.policy.as_ref().map(ToString::to_string).unwrap_or_default();
                write!(f, "{}|{route}|{policy}|{rule}|{field}|{}", key.code, key.shadow)
            }
            Group::Finding(field, reason) => write!(f, "{field}|{}", reason.as_str()),
        }
    }
}

/// A call that takes too long is one that failed.
async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match timeout(PATIENCE, call).await {
        Ok(result) => result,
        Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
    }
}

fn ended(result: kube::Result<()>) -> Written {
    match result {
        Ok(()) => Written::Done,
        Err(kube::Error::Api(status)) if matches!(status.code, 400..=428) => {
            Written::Refused(kube::Error::Api(status))
        }
        Err(error) => Written::Away(away(&error)),
    }
}

/// What a person can act on, without the names of the client's parts.
fn away(error: &kube::Error) -> String {
    // It answered, and said why not.
    if let kube::Error::Api(status) = error {
        return status.to_string();
    }
    format!("the API server cannot be reached: {}", innermost(error))
}

/// Why the API server refuses an Event; if a right is missing, which.
fn refused(error: &kube::Error, object: &ResourceRef) -> String {
    let missing = if let kube::Error::Api(status) = error { missing_verb(status) } else { None };
    let namespace = &object.namespace;
    missing.map_or_else(
        || error.to_string(),
        |verb| {
            format!(
                "the right to {verb} events of the core API group in namespace `{namespace}` is missing; grant the ServiceAccount the verbs create, get and patch"
            )
        },
    )
}

/// How long an Event rests after a refusal.
fn rest(error: &kube::Error) -> Duration {
    let is_forbidden =
        matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403));
    if is_forbidden { FORBIDDEN } else { REFUSED }
}

fn count(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// What an Event needs to know of its object so that `kubectl describe` finds it.
#[derive(Clone, Debug)]
struct Identity {
    uid: Option<String>,
    api_version: &'static str,
}

/// The objects that Events can be about.
#[derive(Debug, Default)]
struct Identities {
    of: Option<Arc<Resources>>,
    known: HashMap<ResourceRef, Identity>,
}

impl Identities {
    /// Tells whether there are others now.
    fn refresh(&mut self, resources: &Arc<Resources>) -> bool {
        if self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, resources)) {
            return false;
        }
        let ingresses = resources.ingresses.iter();
        let ingresses = ingresses.map(|it| (Kind::Ingress, "networking.k8s.io/v1", &it.metadata));
        let policies = resources.access_policies.iter();
        let policies =
            policies.map(|it| (Kind::AccessPolicy, "whygate.dev/v1alpha1", &it.metadata));
        let identity = |(kind, api_version, metadata): (Kind, &'static str, &ObjectMeta)| {
            (reference(kind, metadata), Identity { uid: metadata.uid.clone(), api_version })
        };
        self.known = ingresses.chain(policies).map(identity).collect();
        self.of = Some(Arc::clone(resources));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_api_server_that_is_away_is_told_with_the_cause_alone() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let said = away(&kube::Error::Service(Box::new(refused)));
        assert_eq!(said, "the API server cannot be reached: connection refused");
    }
}
