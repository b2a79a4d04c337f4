//! Which replicas of the release live, what each enforces, and which of them writes statuses.
//!
//! Every replica routes and enforces: the leader only writes. Each has a Lease of its own, so that
//! it counts among the living, and one Lease is held by the leader. Writes to that one carry the
//! resource version that was read: of two that want it, one loses. Whether a Lease lives is told by
//! our own clock and by its changes, never by the times in it.

mod enforced;
mod observed;
mod owner;

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until, timeout},
};

pub use self::enforced::Enforced;
use self::observed::Observed;
pub use self::owner::owner;
use crate::{cause::missing_verb, pipeline::Outcome};

/// Who writes, as `kubectl get --show-managed-fields` shows it.
pub const FIELD_MANAGER: &str = "whygate";
/// Between two rounds.
const ROUND: Duration = Duration::from_secs(4);
/// A change of what is enforced is told at once, but not more often than this.
const HURRY: Duration = Duration::from_secs(1);
/// The leader is a leader so long after its last write; others wait for [`EXPIRY`].
const TERM: Duration = Duration::from_secs(10);
/// A Lease of the leader that did not change for so long is anybody's. With a round on either side
/// a new leader is there within 20 s.
const EXPIRY: Duration = Duration::from_secs(12);
/// A replica whose Lease did not change for so long is gone.
const GONE: Duration = Duration::from_secs(30);
/// A Lease of a replica that did not change for so long is deleted by the leader.
const FORGOTTEN: Duration = Duration::from_mins(10);
/// How often a replica writes its own Lease if nothing changes.
const RENEWAL: Duration = Duration::from_secs(10);
/// Longest time for one call.
const PATIENCE: Duration = Duration::from_secs(3);

const RELEASE: &str = "whygate.dev/release";
const ENFORCES: &str = "whygate.dev/enforces";

/// Who this replica is, and where its release keeps its Leases.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The namespace of the Leases.
    pub namespace: String,
    /// The replica; in a cluster the pod's name.
    pub replica: String,
    /// The release: replicas with equal releases belong together.
    pub release: String,
    /// With whom the Leases go; nobody if they stay.
    pub owner: Option<OwnerReference>,
}

impl Identity {
    /// The release of a controller and a class, as a part of names.
    pub fn new(namespace: String, replica: String, controller: &str, class: &str) -> Self {
        let sum = digest(&SHA256, format!("{controller}\n{class}").as_bytes());
        let short = sum.as_ref().first_chunk().map_or(0, |first| u32::from_be_bytes(*first));
        let release = format!("{short:08x}");
        Self { namespace, replica, release, owner: None }
    }

    fn of_leader(&self) -> String {
        format!("whygate-{}", self.release)
    }

    fn of_replica(&self) -> String {
        format!("whygate-{}-{}", self.release, self.replica)
    }

    /// Why a call for a Lease failed; if a right is missing, which.
    pub(crate) fn sentence(&self, error: &kube::Error) -> String {
        let missing =
            if let kube::Error::Api(status) = error { missing_verb(status) } else { None };
        missing.map_or_else(
            || error.to_string(),
            |verb| {
                format!(
                    "the right to {verb} leases of API group coordination.k8s.io in namespace `{}` is missing; grant the ServiceAccount the verbs get, list, create, update, patch and delete",
                    self.namespace
                )
            },
        )
    }
}

/// What a replica knows of its release.
#[derive(Clone, Debug)]
pub struct Membership {
    /// It may write statuses until then; `None` if another replica leads, or nobody.
    leads_until: Option<Instant>,
    /// What the other living replicas enforce; nothing if they have not said so yet.
    pub others: Arc<[Option<Enforced>]>,
}

impl Membership {
    /// That of a replica without others, which leads for ever.
    pub fn of_one() -> watch::Receiver<Self> {
        let century = Duration::from_hours(24 * 365 * 100);
        let until = Some(Instant::now() + century);
        watch::channel(Self { leads_until: until, others: Arc::default() }).1
    }

    /// Another one leads, or nobody.
    fn following() -> Self {
        Self { leads_until: None, others: Arc::default() }
    }

    /// Whether this replica may write a status now.
    pub fn leads(&self) -> bool {
        self.leads_until.is_some_and(|until| Instant::now() < until)
    }

    /// How many replicas live, this one included.
    pub fn replicas(&self) -> usize {
        self.others.len() + 1
    }
}

/// Keeps the Leases of a replica.
pub struct Member {
    api: Api<Lease>,
    identity: Identity,
    membership: watch::Sender<Membership>,
    observed: Observed,
    written: Option<(Instant, Enforced)>,
    leads: bool,
    left: bool,
    said: Option<String>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Member {
    /// A replica that follows, until it has won the leader's Lease.
    pub fn new(client: Client, identity: Identity) -> Self {
        Self {
            api: Api::namespaced(client, &identity.namespace),
            identity,
            membership: watch::Sender::new(Membership::following()),
            observed: Observed::default(),
            written: None,
            leads: false,
            left: false,
            said: None,
        }
    }

    /// What is known at any time.
    pub fn membership(&self) -> watch::Receiver<Membership> {
        self.membership.subscribe()
    }

    /// Keeps the Leases, for ever. `enforced` is what every data thread judges by.
    ///
    /// # Errors
    /// Never.
    pub async fn follow(
        this: Arc<Mutex<Self>>,
        mut enforced: watch::Receiver<Option<Arc<Outcome>>>,
    ) -> Result<(), Infallible> {
        // What a replica tells first should not be that it enforces nothing. If it takes long, that
        // is the truth, and the others have to know.
        let _ = timeout(ROUND, enforced.wait_for(Option::is_some)).await;
        loop {
            let begun = Instant::now();
            let outcome = enforced.borrow_and_update().clone();
            let ours = outcome.map(|outcome| Enforced::of(&outcome.statuses)).unwrap_or_default();
            this.lock().await.attend(&ours).await;
            tokio::select! {
                () = sleep_until(begun + ROUND) => {}
                Ok(()) = enforced.changed() => sleep_until(begun + HURRY).await,
            }
        }
    }

    async fn attend(&mut self, ours: &Enforced) {
        if self.left {
            return;
        }
        match self.round(ours).await {
            Ok(()) => self.said = None,
            Err(error) => self.complain(&error),
        }
    }

    /// Gives the Leases back for good, so that others need not wait.
    pub async fn leave(&mut self) {
        self.left = true;
        self.membership.send_replace(Membership::following());
        let name = self.identity.of_replica();
        let deleted = bounded(self.api.delete(&name, &DeleteParams::default())).await.map(drop);
        let abdicated = if self.leads { bounded(self.abdicate()).await } else { Ok(()) };
        let is_there =
            |error: &kube::Error| !matches!(error, kube::Error::Api(status) if status.code == 404);
        for error in [deleted, abdicated].into_iter().filter_map(Result::err).filter(is_there) {
            let error = self.identity.sentence(&error);
            tracing::warn!(error, "A Lease cannot be given back; others find out by waiting");
        }
    }

    async fn abdicate(&self) -> kube::Result<()> {
        let mut lease = self.api.get(&self.identity.of_leader()).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() == Some(&self.identity.replica) {
            spec.holder_identity = None;
            self.api.replace(&lease.name_any(), &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    async fn round(&mut self, ours: &Enforced) -> kube::Result<()> {
        self.write_own(ours).await?;
        let selector = format!("{RELEASE}={}", self.identity.release);
        let leases = bounded(self.api.list(&ListParams::default().labels(&selector))).await?.items;
        let now = Instant::now();
        let versions = leases.iter().map(|lease| {
            let version = lease.metadata.resource_version.as_deref();
            (lease.metadata.name.as_deref().unwrap_or_default(), version.unwrap_or_default())
        });
        self.observed.note(versions, now);
        let leader = leases.iter().find(|lease| lease.name_any() == self.identity.of_leader());
        let leads_until = self.campaign(leader).await?;
        let others = self.others(&leases, now);
        let leads = leads_until.is_some();
        if leads != self.leads {
            self.leads = leads;
            let replica = &self.identity.replica;
            tracing::info!(replica, leads, replicas = others.len() + 1, "Leadership changed");
        }
        self.membership.send_if_modified(|known| {
            let is_news = known.leads_until.is_some() != leads || known.others != others;
            *known = Membership { leads_until, others };
            is_news
        });
        if leads {
            self.sweep(&leases, now).await;
        }
        Ok(())
    }

    async fn write_own(&mut self, ours: &Enforced) -> kube::Result<()> {
        let now = Instant::now();
        let is_fresh = self
            .written
            .as_ref()
            .is_some_and(|(at, enforced)| enforced == ours && now.duration_since(*at) < RENEWAL);
        if is_fresh {
            return Ok(());
        }
        let name = self.identity.of_replica();
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name,
                "labels": { RELEASE: self.identity.release },
                "annotations": { ENFORCES: ours.text() },
                "ownerReferences": Vec::from_iter(&self.identity.owner),
            },
            "spec": {
                "holderIdentity": self.identity.replica,
                "leaseDurationSeconds": GONE.as_secs(),
                "renewTime": MicroTime(Timestamp::now()),
            },
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        bounded(self.api.patch(&name, &params, &Patch::Apply(lease))).await?;
        self.written = Some((now, ours.clone()));
        Ok(())
    }

    /// Holds the leader's Lease, or takes it if nobody else does. Gives how long this replica leads.
    async fn campaign(&self, lease: Option<&Lease>) -> kube::Result<Option<Instant>> {
        let begun = Instant::now();
        let us = &self.identity.replica;
        let result = match lease {
            None => bounded(self.api.create(&PostParams::default(), &self.candidate(None))).await,
            Some(lease) => {
                let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref());
                let held = holder.is_some_and(|holder| holder != us && !holder.is_empty());
                if held && self.observed.lives(&lease.name_any(), EXPIRY, begun) {
                    return Ok(None);
                }
                let (name, ours) = (lease.name_any(), self.candidate(Some(lease)));
                bounded(self.api.replace(&name, &PostParams::default(), &ours)).await
            }
        };
        match result {
            Ok(_) => Ok(Some(begun + TERM)),
            // Somebody else was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The leader's Lease as this replica wants it; `before` is as it was read, and must be still.
    fn candidate(&self, before: Option<&Lease>) -> Lease {
        let us = self.identity.replica.clone();
        let spec = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let is_ours = spec.holder_identity.as_ref() == Some(&us);
        let now = MicroTime(Timestamp::now());
        let transitions = spec.lease_transitions.unwrap_or_default();
        let metadata = before.map_or_else(
            || ObjectMeta {
                name: Some(self.identity.of_leader()),
                labels: Some([(RELEASE.to_owned(), self.identity.release.clone())].into()),
                ..ObjectMeta::default()
            },
            |lease| lease.metadata.clone(),
        );
        let owner_references = self.identity.owner.clone().map(|owner| vec![owner]);
        let metadata = ObjectMeta { owner_references, ..metadata };
        let spec = LeaseSpec {
            holder_identity: Some(us),
            lease_duration_seconds: i32::try_from(EXPIRY.as_secs()).ok(),
            acquire_time: if is_ours { spec.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(transitions.saturating_add(i32::from(!is_ours))),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Deletes what replicas left behind that were killed long ago.
    async fn sweep(&self, leases: &[Lease], now: Instant) {
        for name in leases.iter().map(ResourceExt::name_any) {
            if name != self.identity.of_leader() && !self.observed.lives(&name, FORGOTTEN, now) {
                // It is tried again in the next round.
                let _ = timeout(PATIENCE, self.api.delete(&name, &DeleteParams::default())).await;
            }
        }
    }

    fn others(&self, leases: &[Lease], now: Instant) -> Arc<[Option<Enforced>]> {
        let (leader, us) = (self.identity.of_leader(), self.identity.of_replica());
        let others = leases.iter().filter(|lease| {
            let name = lease.name_any();
            name != leader && name != us && self.observed.lives(&name, GONE, now)
        });
        let enforced = others.map(|lease| {
            let annotations = lease.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get(ENFORCES)).and_then(|text| Enforced::parse(text))
        });
        enforced.collect()
    }

    fn complain(&mut self, error: &kube::Error) {
        let sentence = self.identity.sentence(error);
        if self.said.as_ref() != Some(&sentence) {
            tracing::warn!(error = sentence, "Leases cannot be kept; statuses are not written");
            self.said = Some(sentence);
        }
    }
}

/// A call that is given up in time: whoever leads must know when it does not any more.
pub(crate) async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let silent = |_| std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time");
    timeout(PATIENCE, call)
        .await
        .map_err(silent)
        .map_err(|error| kube::Error::Service(error.into()))?
}

#[cfg(test)]
mod tests;
