//! What replicas tell each other of the last hour, and the sum of it for whoever writes statuses.
//!
//! Each replica has a Lease for its page, which outlives it: the hour of a replica that has ended
//! is counted until it is over. How old a page is that changed while we looked on, our own clock
//! tells; of others their own time must be believed.

use std::{collections::BTreeMap, convert::Infallible, fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep},
};

use crate::{
    denials::{
        digest::Digests,
        page::{HOUR, Page},
        recorder::SharedHour,
    },
    leader::{FIELD_MANAGER, Identity, Membership, bounded},
};

/// Between two looks at what is to be done.
const ROUND: Duration = Duration::from_secs(5);
/// A replica writes its page not more often than this, and only when it has grown. Whoever is
/// killed takes no more with it.
const PUBLISHED: Duration = Duration::from_secs(30);
/// How often the pages of all replicas are read and summed.
const SUMMED: Duration = Duration::from_secs(30);
/// Most bytes of a page. All annotations of an object have 256 KiB together.
const ROOM: usize = 192 * 1024;

/// Not the label of the other Leases, which are read every few seconds.
const DENIALS_OF: &str = "whygate.dev/denials-of";
const DENIALS: &str = "whygate.dev/denials";

/// Tells what this replica counted, and sums what all have told while it leads.
pub struct Exchange {
    hour: Arc<SharedHour>,
    /// None if there are no other replicas.
    leases: Option<Leases>,
    membership: watch::Receiver<Membership>,
    digests: watch::Sender<Option<Arc<Digests>>>,
    summed: Option<Instant>,
    said: Option<String>,
    /// Whether somebody was told that not every policy is counted.
    said_short: bool,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("hour", &self.hour).finish_non_exhaustive()
    }
}

impl Exchange {
    /// Of one replica: `with` is who it is and by whose rights it keeps its Lease. Without, there
    /// is no other replica, and nothing outlives this one.
    pub fn new(
        hour: Arc<SharedHour>,
        with: Option<(Client, Identity)>,
        membership: watch::Receiver<Membership>,
    ) -> Self {
        Self {
            hour,
            leases: with.map(|(client, identity)| Leases::new(client, identity)),
            membership,
            digests: watch::Sender::new(None),
            summed: None,
            said: None,
            said_short: false,
        }
    }

    /// The sums of all replicas; nothing unless this one leads and has read all of them.
    pub fn digests(&self) -> watch::Receiver<Option<Arc<Digests>>> {
        self.digests.subscribe()
    }

    /// Tells and sums, for ever.
    ///
    /// # Errors
    /// Never.
    pub async fn follow(this: Arc<Mutex<Self>>) -> Result<(), Infallible> {
        let mut membership = this.lock().await.membership.clone();
        loop {
            this.lock().await.attend().await;
            tokio::select! {
                () = sleep(ROUND) => {}
                Ok(()) = membership.changed() => {}
            }
        }
    }

    /// Tells a last time: what is written now outlives the program.
    pub async fn leave(&mut self) {
        let has_counted = self.hour.open().0.changes() > 0;
        if has_counted && let Err(error) = self.publish(Duration::ZERO).await {
            let error = self.sentence(&error);
            tracing::warn!(error, "What was refused last could not be told to the other replicas");
        }
    }

    async fn attend(&mut self) {
        match self.round().await {
            Ok(()) => self.said = None,
            Err(error) => {
                let sentence = self.sentence(&error);
                if self.said.as_ref() != Some(&sentence) {
                    tracing::warn!(
                        error = sentence,
                        "What the replicas refused cannot be summed; it is tried again"
                    );
                    self.said = Some(sentence);
                }
            }
        }
    }

    fn sentence(&self, error: &kube::Error) -> String {
        let leases = self.leases.as_ref();
        leases.map_or_else(|| error.to_string(), |leases| leases.identity.sentence(error))
    }

    async fn round(&mut self) -> kube::Result<()> {
        if !self.said_short && self.hour.open().0.is_short() {
            self.said_short = true;
            tracing::warn!(
                "More policies refuse in one hour than are counted, all in all or in one namespace; the statuses of some show too little"
            );
        }
        let published = self.publish(PUBLISHED).await;
        if self.membership.borrow().leads() {
            self.sum().await?;
        } else {
            self.summed = None;
            self.digests.send_if_modified(|known| known.take().is_some());
            if let Some(leases) = &mut self.leases {
                leases.pages = None;
            }
        }
        published
    }

    /// Writes the page if it has grown and was not written within `distance`.
    async fn publish(&mut self, distance: Duration) -> kube::Result<()> {
        let Some(leases) = &mut self.leases else { return Ok(()) };
        if !leases.adopted {
            // What an earlier run of this replica left must not be written over.
            let before = leases.own().await?;
            leases.adopted = true;
            if let Some((page, age)) = before {
                let (mut hour, now) = self.hour.open();
                hour.adopt(&page, age, now);
            }
        }
        let (page, changes) = {
            let (mut hour, now) = self.hour.open();
            if !leases.is_due(hour.changes(), distance) {
                return Ok(());
            }
            (hour.page(now), hour.changes())
        };
        leases.write(&page, changes).await
    }

    async fn sum(&mut self) -> kube::Result<()> {
        if self.summed.is_some_and(|at| at.elapsed() < SUMMED) {
            return Ok(());
        }
        if let Some(leases) = &mut self.leases {
            if !leases.adopted {
                return Ok(());
            }
            leases.read().await?;
        }
        let own = {
            let (mut hour, now) = self.hour.open();
            hour.page(now)
        };
        let others = self.leases.iter().flat_map(Leases::others);
        let digests = Digests::of(others.chain([(&own, Duration::ZERO)]));
        self.summed = Some(Instant::now());
        self.digests.send_if_modified(|known| {
            let is_news = known.as_deref() != Some(&digests);
            if is_news {
                *known = Some(Arc::new(digests));
            }
            is_news
        });
        if let Some(leases) = &self.leases {
            leases.sweep().await?;
        }
        Ok(())
    }
}

/// The Leases with the pages of all replicas.
struct Leases {
    api: Api<Lease>,
    identity: Identity,
    /// Whether it is known what an earlier run of this replica left.
    adopted: bool,
    /// When this replica last wrote, and how often it had counted then.
    written: Option<(Instant, u64)>,
    /// Those of others as they were last read; nothing if this replica has not led since.
    pages: Option<BTreeMap<String, Told>>,
    /// Whether somebody was told that there is no room for all policies.
    is_short: bool,
}

/// What a replica told.
struct Told {
    version: Option<String>,
    /// None if it cannot be read.
    page: Option<Page>,
    /// How old it was when it was first read.
    age: Duration,
    since: Instant,
}

impl Told {
    fn age(&self) -> Duration {
        self.age.saturating_add(self.since.elapsed())
    }

    /// Whether nothing on it counts any more, by our own clock: by that of its replica, which may be
    /// wrong, it could be over although it has just been written.
    fn is_over(&self) -> bool {
        self.since.elapsed() >= HOUR
    }
}

impl Leases {
    fn new(client: Client, identity: Identity) -> Self {
        Self {
            api: Api::namespaced(client, &identity.namespace),
            identity,
            adopted: false,
            written: None,
            pages: None,
            is_short: false,
        }
    }

    /// No name of another Lease of ours: where this one has a word, those have the release.
    fn name(&self) -> String {
        format!("whygate-denials-{}-{}", self.identity.release, self.identity.replica)
    }

    /// The page of an earlier run of this replica, and how old it is.
    async fn own(&self) -> kube::Result<Option<(Page, Duration)>> {
        let name = self.name();
        let lease = bounded(self.api.get_opt(&name)).await?;
        let page = lease.and_then(|lease| read(&lease));
        Ok(page.map(|page| {
            let age = age_of(&page);
            (page, age)
        }))
    }

    fn is_due(&self, changes: u64, distance: Duration) -> bool {
        match self.written {
            None => changes > 0,
            Some((at, before)) => changes != before && at.elapsed() >= distance,
        }
    }

    async fn write(&mut self, page: &Page, changes: u64) -> kube::Result<()> {
        let (text, left_out) = page.text(ROOM);
        if left_out > 0 && !self.is_short {
            tracing::warn!(
                policies = left_out,
                "More policies refuse than one replica can tell the others of; those that refuse least are not summed"
            );
        }
        self.is_short = left_out > 0;
        let name = self.name();
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name,
                "labels": { DENIALS_OF: self.identity.release },
                "annotations": { DENIALS: text },
                "ownerReferences": Vec::from_iter(&self.identity.owner),
            },
            "spec": {
                "holderIdentity": self.identity.replica,
                "leaseDurationSeconds": HOUR.as_secs(),
                "renewTime": MicroTime(Timestamp::now()),
            },
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let now = Instant::now();
        bounded(self.api.patch(&name, &params, &Patch::Apply(lease))).await?;
        self.written = Some((now, changes));
        Ok(())
    }

    /// Reads what the other replicas have told.
    async fn read(&mut self) -> kube::Result<()> {
        let selector = format!("{DENIALS_OF}={}", self.identity.release);
        let leases = bounded(self.api.list(&ListParams::default().labels(&selector))).await?.items;
        let since = Instant::now();
        let own = self.name();
        let mut before = self.pages.take();
        let leases = leases.iter().filter(|lease| lease.name_any() != own);
        let pages = leases.map(|lease| {
            let (name, version) = (lease.name_any(), lease.resource_version());
            let known = before.as_mut().and_then(|before| before.remove(&name));
            if let Some(known) = known.filter(|known| known.version == version) {
                return (name, known);
            }
            let page = read(lease);
            // What was not there the last time has just been written.
            let is_new = before.is_some();
            let age = page.as_ref().filter(|_| !is_new).map(age_of).unwrap_or_default();
            (name, Told { version, page, age, since })
        });
        self.pages = Some(pages.collect());
        Ok(())
    }

    fn others(&self) -> impl Iterator<Item = (&Page, Duration)> {
        let told = self.pages.iter().flat_map(BTreeMap::values);
        told.filter_map(|told| Some((told.page.as_ref()?, told.age())))
    }

    /// Deletes what is over, unless its replica has written meanwhile.
    async fn sweep(&self) -> kube::Result<()> {
        let pages = self.pages.iter().flatten();
        for (name, told) in pages.filter(|(_, told)| told.is_over()) {
            let resource_version = told.version.clone();
            let only = Preconditions { resource_version, uid: None };
            let params = DeleteParams::default().preconditions(only);
            match bounded(self.api.delete(name, &params)).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                result => drop(result?),
            }
        }
        Ok(())
    }
}

/// The page in a Lease; what is none is told, and left out.
fn read(lease: &Lease) -> Option<Page> {
    let text = lease.annotations().get(DENIALS).map_or("", String::as_str);
    match Page::parse(text) {
        Ok(page) => Some(page),
        Err(error) => {
            tracing::warn!(
                lease = lease.name_any(),
                %error,
                "What this Lease tells of refusals cannot be read, and is left out of the sums"
            );
            None
        }
    }
}

/// How old a page says that it is. It is never from the future, whatever its clock said.
fn age_of(page: &Page) -> Duration {
    let seconds = Timestamp::now().as_second().saturating_sub(page.at);
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests;
