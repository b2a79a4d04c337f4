//! One change of the configuration from top to bottom: resources, hold-off, compile, snapshot.
//!
//! Endpoints have a short line of their own below: they change far more often than routes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use compile::{
    Before, Compiled, Finding, IngressSummary, Resources, Status,
    finding::Reason,
    settings::{ExternalNames, NameProblems},
};
use dataplane::{Certificate, Certificates, EndpointTable, Inputs};
use decision::{
    endpoint::EndpointAddress, refs::ResourceRef, route::ServicePort, snapshot::Snapshot,
};
use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    sync::watch::{self, error::RecvError},
    task::{JoinError, spawn_blocking},
    time::{Instant, sleep, sleep_until},
};

/// The endpoints of a source.
pub type Slices = Vec<Arc<EndpointSlice>>;

/// What a source gives: nothing before everything was listed once, then always the newest.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Everything but endpoints.
    pub resources: watch::Receiver<Option<Arc<Resources>>>,
    /// The endpoints.
    pub slices: watch::Receiver<Option<Arc<Slices>>>,
}

/// Where the ports lead that a name of the DNS stands for.
pub type NamedEndpoints = HashMap<ServicePort, Arc<[EndpointAddress]>>;

/// What is known of the names that stand for endpoints; nothing if such are not served.
#[derive(Clone, Debug, Default)]
pub struct KnownNames {
    /// Where they lead.
    pub endpoints: watch::Sender<Arc<NamedEndpoints>>,
    /// What is wrong with them.
    pub problems: watch::Sender<Arc<NameProblems>>,
}

/// What became of the newest resources.
#[derive(Debug)]
pub struct Outcome {
    /// What was compiled.
    pub resources: Arc<Resources>,
    /// What requests are judged by.
    pub snapshot: Arc<Snapshot>,
    /// What is wrong with the manifests.
    pub findings: Vec<Finding>,
    /// The desired status of policies, plans and subscriptions.
    pub statuses: Vec<Status>,
    /// The Ingresses of ours.
    pub ingresses: Vec<IngressSummary>,
    /// When the certificates that handshakes get expire, by Secret.
    pub expiries: BTreeMap<ResourceRef, Timestamp>,
    /// How many routes there are.
    pub routes: usize,
    /// The ports that a name of the DNS stands for.
    pub external_names: BTreeMap<ServicePort, Arc<str>>,
    /// How long compiling took.
    pub took: Duration,
    /// What the next compilation has to know.
    next: Before,
}

impl Outcome {
    /// Compiles resources after those of `before`.
    pub fn of(
        resources: Arc<Resources>,
        settings: &compile::Settings,
        before: Option<&Self>,
    ) -> (Self, Certificates) {
        let begun = Instant::now();
        let first = Before::default();
        let known = before.map_or(&first, |before| &before.next);
        let compiled = compile::compile(&resources, settings, known);
        let Compiled { snapshot, certificates, findings, statuses, ingresses, next, .. } = compiled;
        let (routes, external_names) = (compiled.routes, compiled.external_names);
        let outcome = Self {
            resources,
            snapshot: Arc::new(snapshot),
            findings,
            statuses,
            ingresses,
            expiries: certificates.expiries(),
            routes,
            external_names,
            took: begun.elapsed(),
            next,
        };
        (outcome, table_of(certificates))
    }

    /// Says so if the class of the settings is another controller's, and no class is ours: then no
    /// Ingress can be served that names a class.
    pub fn foreign_class(&self, settings: &compile::Settings) -> Option<String> {
        let classes = self.resources.ingress_classes.iter();
        let mut controllers = classes.filter_map(|class| class.spec.as_ref()?.controller.as_ref());
        let is_served = settings.watch_ingress_without_class
            || controllers.any(|controller| *controller == settings.controller_name);
        let conflict = |finding: &&Finding| finding.reason == Reason::ClassConflict;
        let conflict = self.findings.iter().find(conflict).filter(|_| !is_served);
        conflict.map(ToString::to_string)
    }
}

/// How long changes are collected before they are compiled.
#[derive(Clone, Copy, Debug)]
pub struct HoldOff {
    /// A silence of this length ends the wait.
    pub quiet: Duration,
    /// No change waits longer than this.
    pub longest: Duration,
}

/// When the next compilation may begin: compiling is to take at most three tenths of the time, so
/// what took 3 ms may begin again 10 ms after it began. [`HoldOff::longest`] goes before it.
fn rested(begun: Instant, took: Duration) -> Instant {
    begun + took * 10 / 3
}

impl HoldOff {
    /// 100 ms, at most 500 ms.
    pub const CONFIGURATION: Self =
        Self { quiet: Duration::from_millis(100), longest: Duration::from_millis(500) };
    /// A directory has waited for calm already: each reading at once, or 500 ms later if the one
    /// before has to rest from.
    pub const DIRECTORY: Self = Self { quiet: Duration::ZERO, longest: Duration::from_millis(500) };
    /// 10 ms, at most 100 ms.
    pub const ENDPOINTS: Self =
        Self { quiet: Duration::from_millis(10), longest: Duration::from_millis(100) };
    /// Every change at once.
    pub const NONE: Self = Self { quiet: Duration::ZERO, longest: Duration::ZERO };

    /// Waits until the changes of a channel pause, and until `earliest`, unless the first of them
    /// has waited long enough. `first` is when the first change came, if it has come already.
    async fn settle<T>(
        self,
        channel: &mut watch::Receiver<T>,
        first: Option<Instant>,
        earliest: Instant,
    ) -> Result<(), RecvError> {
        let first = if let Some(first) = first {
            first
        } else {
            channel.changed().await?;
            Instant::now()
        };
        let latest = first + self.longest;
        loop {
            let pause = (Instant::now() + self.quiet).max(earliest).min(latest);
            tokio::select! {
                biased;
                () = sleep_until(pause) => return Ok(()),
                changed = channel.changed() => changed?,
            }
        }
    }
}

/// The ends of the line: what the data plane reads, and what everybody else reads.
#[derive(Clone, Debug)]
pub struct Pipeline {
    settings: Arc<compile::Settings>,
    hold_off: HoldOff,
    hurried: Counter,
    snapshot: watch::Sender<Arc<Snapshot>>,
    certificates: watch::Sender<Arc<Certificates>>,
    endpoints: watch::Sender<Arc<EndpointTable>>,
    outcome: watch::Sender<Option<Arc<Outcome>>>,
    endpoints_known: watch::Sender<bool>,
    /// What is known of the names that stand for endpoints.
    pub names: KnownNames,
}

impl Pipeline {
    /// A line through which nothing has gone yet. `hurried` counts the compilations that begin
    /// before the one before has rested.
    pub fn new(settings: compile::Settings, hold_off: HoldOff, hurried: Counter) -> Self {
        Self {
            settings: Arc::new(settings),
            hold_off,
            hurried,
            snapshot: watch::Sender::default(),
            certificates: watch::Sender::default(),
            endpoints: watch::Sender::default(),
            outcome: watch::Sender::new(None),
            endpoints_known: watch::Sender::new(false),
            names: KnownNames::default(),
        }
    }

    /// What the data plane reads.
    pub fn inputs(&self) -> Inputs {
        Inputs {
            snapshot: self.snapshot.subscribe(),
            endpoints: self.endpoints.subscribe(),
            certificates: self.certificates.subscribe(),
        }
    }

    /// What became of the newest resources; nothing before the first are compiled.
    pub fn outcome(&self) -> watch::Receiver<Option<Arc<Outcome>>> {
        self.outcome.subscribe()
    }

    /// Waits until there is a first snapshot and a first table of endpoints.
    ///
    /// # Errors
    /// Never, as long as the pipeline exists.
    pub async fn ready(&self) -> Result<(), RecvError> {
        self.outcome.subscribe().wait_for(Option::is_some).await.map(drop)?;
        self.endpoints_known.subscribe().wait_for(|known| *known).await.map(drop)
    }

    /// Turns each change of the resources into a snapshot, for as long as the source lives.
    ///
    /// # Errors
    /// If the source is gone, or compiling panicked; the last snapshot stays in force.
    pub async fn configure(self, feed: Feed) -> Result<(), PipelineError> {
        let mut channel = feed.resources;
        let mut changed_at = newest(&mut channel).is_some().then(Instant::now);
        let mut earliest = Instant::now();
        loop {
            let before = self.outcome.borrow().clone();
            // The first resources need no patience: the program is not ready without them.
            let hold_off = if before.is_none() { HoldOff::NONE } else { self.hold_off };
            hold_off.settle(&mut channel, changed_at.take(), earliest).await?;
            let Some(resources) = newest(&mut channel) else { continue };
            let begun = Instant::now();
            if begun < earliest {
                self.hurried.inc();
            }
            let work = self.compile(resources, before);
            tokio::pin!(work);
            let (outcome, certificates) = loop {
                tokio::select! {
                    biased;
                    compiled = &mut work => break compiled?,
                    changed = channel.changed(), if changed_at.is_none() => {
                        changed?;
                        changed_at = Some(Instant::now());
                    }
                }
            };
            earliest = rested(begun, outcome.took);
            self.publish(outcome, certificates);
        }
    }

    /// Keeps the table of endpoints, for as long as the source lives.
    ///
    /// # Errors
    /// If the source is gone.
    pub async fn place_endpoints(self, feed: Feed) -> Result<(), PipelineError> {
        let Feed { mut resources, mut slices } = feed;
        let mut named = self.names.endpoints.subscribe();
        resources.mark_changed();
        // A table is built in no time: there is nothing to rest from.
        let at_once = Instant::now();
        loop {
            tokio::select! {
                settled = HoldOff::ENDPOINTS.settle(&mut resources, None, at_once) => settled?,
                settled = HoldOff::ENDPOINTS.settle(&mut slices, None, at_once) => settled?,
                settled = HoldOff::ENDPOINTS.settle(&mut named, None, at_once) => settled?,
            }
            let (Some(resources), Some(slices)) = (newest(&mut resources), newest(&mut slices))
            else {
                continue;
            };
            let named = named.borrow_and_update().clone();
            let table = spawn_blocking(move || table(&resources, &slices, &named)).await?;
            if **self.endpoints.borrow() != table {
                bury(self.endpoints.send_replace(Arc::new(table)));
            }
            self.endpoints_known.send_replace(true);
        }
    }

    /// Compiles where a long run disturbs neither tasks nor requests.
    async fn compile(
        &self,
        resources: Arc<Resources>,
        before: Option<Arc<Outcome>>,
    ) -> Result<(Outcome, Certificates), PipelineError> {
        let settings = self.settings();
        let work = move || Outcome::of(resources, &settings, before.as_deref());
        Ok(spawn_blocking(work).await?)
    }

    /// The settings, with what is known of names by now.
    fn settings(&self) -> Arc<compile::Settings> {
        let mut settings = Arc::clone(&self.settings);
        if let ExternalNames::Allowed(_) = settings.external_names {
            let problems = Arc::clone(&self.names.problems.borrow());
            Arc::make_mut(&mut settings).external_names = ExternalNames::Allowed(problems);
        }
        settings
    }

    /// Puts a snapshot into force.
    fn publish(&self, outcome: Outcome, certificates: Certificates) {
        let outcome = Arc::new(outcome);
        // Certificates first: a new host is not served before its handshake can succeed.
        bury(self.certificates.send_replace(Arc::new(certificates)));
        bury(self.snapshot.send_replace(Arc::clone(&outcome.snapshot)));
        tracing::info!(
            snapshot.generation = outcome.snapshot.generation,
            routes = outcome.routes,
            findings = outcome.findings.len(),
            duration_ms = outcome.took.as_millis(),
            "Snapshot published"
        );
        if let Some(before) = self.outcome.send_replace(Some(outcome)) {
            bury(before);
        }
    }
}

/// The newest value of a channel, taken out so that the channel is not held.
fn newest<T>(channel: &mut watch::Receiver<Option<Arc<T>>>) -> Option<Arc<T>> {
    channel.borrow_and_update().clone()
}

/// The certificates as the data plane looks them up.
fn table_of(certificates: compile::Certificates) -> Certificates {
    let compile::Certificates { hosts, refused, default } = certificates;
    let certificate = |it: compile::certificate::Certificate| Certificate {
        key: it.key,
        until: it.until.map(SystemTime::from),
    };
    let hosts = hosts.into_iter().map(|(host, it)| (host, certificate(it)));
    Certificates::new(hosts, default.map(certificate)).without(refused)
}

/// Where the ports of the Services lead.
fn table(resources: &Resources, slices: &Slices, named: &NamedEndpoints) -> EndpointTable {
    let endpoints = compile::endpoints(&resources.services, slices);
    let of_slices = endpoints
        .into_iter()
        .map(|(port, list)| (port, list.into_iter().map(EndpointAddress::of_slice).collect()));
    let of_names = named.iter().map(|(port, list)| (port.clone(), Arc::clone(list)));
    EndpointTable(of_names.chain(of_slices).collect())
}

/// How often it is looked at whether something that was replaced is still in use.
const WAKE: Duration = Duration::from_millis(50);

/// Frees what was replaced once nobody else has it. Freeing something large takes milliseconds, so
/// the last owner must never be a data thread; and nobody waits for it.
fn bury<T: Send + Sync + 'static>(dead: Arc<T>) {
    tokio::spawn(async move {
        while Arc::strong_count(&dead) > 1 {
            sleep(WAKE).await;
        }
        // It touches nothing but memory.
        drop(spawn_blocking(move || drop(dead)));
    });
}

/// Why a line ended.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Nothing can change any more.
    #[error("the source of resources is gone")]
    Source(#[from] RecvError),
    /// A bug: the last snapshot stays in force.
    #[error("compiling failed: {0}")]
    Compile(#[from] JoinError),
}

#[cfg(test)]
mod tests;
