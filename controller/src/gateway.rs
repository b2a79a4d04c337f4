//! The parts put together: what `run`, `serve` and `demo` have in common, from the admin port to
//! the last request.

mod ending;
mod error;
mod upkeep;

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use dataplane::{Addresses, Dataplane, DenialSample};
use tokio::{
    net::TcpListener,
    sync::{
        mpsc,
        watch::{self, error::RecvError},
    },
    time::sleep,
};

pub use self::error::GatewayError;
use self::{
    ending::Signals,
    error::explain,
    upkeep::{forget, measure, pass_on},
};
use crate::{
    access_log::Destination,
    admin::{self, Admin, Readiness},
    denials::{
        aggregate::Pace,
        collect::{Collector, Totals},
    },
    following::Following,
    inspect::{Access, Inspect},
    names::{Lookup, Names, pass_on_resources},
    pipeline::{Feed, HoldOff, Outcome, Pipeline},
    ready_file::Ready,
    settings::{ServeFlags, Surroundings},
    supervise::Supervisor,
};

/// Most samples of refusals that wait for the aggregation. Beyond it they are dropped and counted.
const SAMPLES: usize = 4_096;

/// A program on its way up: the admin port answers, nothing else is bound.
pub struct Gateway {
    flags: ServeFlags,
    place: Surroundings,
    settings: dataplane::Settings,
    /// Every task of the program.
    pub supervisor: Supervisor,
    /// What the admin port tells.
    pub admin: Admin,
    /// From resources to snapshots.
    pub pipeline: Pipeline,
    /// Who asks for names that stand for endpoints, if such are served.
    names: Option<Names>,
    admin_address: Option<SocketAddr>,
    access_log: Option<Destination>,
    signals: Signals,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Reads the settings and opens the admin port.
    ///
    /// # Errors
    /// If flags contradict each other, or the port cannot be opened.
    pub async fn open(flags: ServeFlags, place: Surroundings) -> Result<Self, GatewayError> {
        let settings = flags.dataplane(place)?;
        let access_log = Destination::open(&flags.access_log)?;
        let signals = Signals::new()?;
        let mut supervisor = Supervisor::default();
        let admin = Admin { health: supervisor.health(), ..Admin::default() };
        admin.readiness.lacks("resources", "not every kind of object has been listed yet");
        admin.readiness.lacks("listeners", "the listeners for traffic are not bound yet");
        let mut admin_address = None;
        if let Some(address) = flags.admin(place) {
            let listener = admin::bind("--admin-listen", address).await?;
            admin_address = listener.local_addr().ok();
            let (listener, router) = (Arc::new(listener), admin.router());
            supervisor
                .keep("admin", move || crate::port::serve(Arc::clone(&listener), router.clone()));
        }
        let hold_off = match place {
            Surroundings::Cluster => HoldOff::CONFIGURATION,
            Surroundings::Directory | Surroundings::Demo => HoldOff::DIRECTORY,
        };
        let pipeline =
            Pipeline::new(flags.compile(place), hold_off, admin.compiles_hurried.clone());
        let names = if flags.ingresses.allow_external_name {
            let lookup = Lookup::new(&flags.names.dns_server)?;
            Some(Names::new(lookup, flags.external_reach(place)))
        } else {
            None
        };
        Ok(Self {
            flags,
            place,
            settings,
            supervisor,
            admin,
            pipeline,
            names,
            admin_address,
            access_log,
            signals,
        })
    }

    /// How long repeats of a refusal are counted.
    pub fn denial_window(&self) -> Duration {
        self.flags.denial_window(self.place)
    }

    /// Connects the source: from now on its resources become snapshots.
    pub fn connect(&mut self, feed: &Feed) {
        let feed = &self.with_names(feed);
        let (line, source) = (self.pipeline.clone(), feed.clone());
        self.supervisor.keep("configuration", move || line.clone().configure(source.clone()));
        let (line, source) = (self.pipeline.clone(), feed.clone());
        self.supervisor.keep("endpoints", move || line.clone().place_endpoints(source.clone()));
        let (outcome, admin) = (self.pipeline.outcome(), self.admin.clone());
        self.supervisor.keep("measures", move || measure(outcome.clone(), admin.clone()));
    }

    /// The same feed, which says something also when other names lead nowhere.
    fn with_names(&mut self, feed: &Feed) -> Feed {
        let Some(names) = &self.names else { return feed.clone() };
        let (line, names) = (self.pipeline.clone(), names.clone());
        let known = line.names.clone();
        let follow = move || names.clone().follow(line.outcome(), line.names.clone());
        self.supervisor.keep("names", follow);
        let (sender, resources) = watch::channel(None);
        let (source, slices) = (feed.resources.clone(), feed.slices.clone());
        self.supervisor.keep("resources and names", move || {
            pass_on_resources(source.clone(), known.problems.subscribe(), sender.clone())
        });
        Feed { resources, slices }
    }

    /// Waits until everything was listed once and compiled, then binds the listeners.
    ///
    /// Gives nothing if the program was asked to end before.
    ///
    /// # Errors
    /// If a port is in use or forbidden.
    pub async fn start(mut self) -> Result<Option<Serving>, GatewayError> {
        let settings = self.flags.compile(self.place);
        let readiness = self.admin.readiness.clone();
        tokio::select! {
            ready = prepared(self.pipeline.clone(), readiness, settings, self.place) => {
                ready?;
                if let Some(names) = &self.names {
                    names.settled().await;
                }
            }
            _ = self.signals.wait() => {
                self.supervisor.stop().await;
                return Ok(None);
            }
        }
        self.admin.readiness.has("resources");
        let (sender, samples) = mpsc::channel(SAMPLES);
        let settings = self.settings.clone();
        let mut dataplane = Dataplane::start(settings, self.pipeline.inputs(), sender)
            .map_err(|error| explain(error, &self.settings))?;
        let following = self.follow(&mut dataplane)?;
        let dataplane = Arc::new(dataplane);
        // Set once: there is one data plane.
        let _ = self.admin.dataplane.set(Arc::downgrade(&dataplane));
        let (outcome, metrics) = (self.pipeline.outcome(), dataplane.metrics());
        self.supervisor.keep("series", move || forget(outcome.clone(), metrics.clone()));
        let samples = Some(samples);
        Ok(Some(Serving { gateway: self, dataplane, samples, inspect: None, following }))
    }

    /// Follows what the data plane tells of exchanges that have ended.
    fn follow(&mut self, dataplane: &mut Dataplane) -> Result<Vec<Following>, GatewayError> {
        let mut following = Vec::new();
        if let Some((file, reader)) = self.access_log.take().zip(dataplane.access_log()) {
            following.push(file.follow(reader).map_err(GatewayError::Follow)?);
        }
        #[cfg(feature = "otlp")]
        if let Some((to, reader)) = self.flags.traces.collector().zip(dataplane.spans()) {
            following.push(crate::spans::follow(to, reader).map_err(GatewayError::Follow)?);
        }
        Ok(following)
    }
}

/// Waits until there is something to serve by: everything was listed and compiled, and in a cluster
/// the class is not another controller's.
async fn prepared(
    pipeline: Pipeline,
    readiness: Readiness,
    settings: compile::Settings,
    place: Surroundings,
) -> Result<(), RecvError> {
    pipeline.ready().await?;
    let mut outcome = pipeline.outcome();
    let mut said = None;
    loop {
        let newest = outcome.borrow_and_update().clone();
        let foreign = newest.and_then(|newest| newest.foreign_class(&settings));
        let Some(sentence) = foreign.filter(|_| place == Surroundings::Cluster) else {
            readiness.has("class");
            return Ok(());
        };
        if said.as_ref() != Some(&sentence) {
            tracing::warn!(error = sentence, "There is no class to serve");
            readiness.lacks("class", sentence.clone());
            said = Some(sentence);
        }
        outcome.changed().await?;
    }
}

/// A program that serves traffic.
pub struct Serving {
    /// The parts.
    pub gateway: Gateway,
    dataplane: Arc<Dataplane>,
    samples: Option<mpsc::Receiver<DenialSample>>,
    inspect: Option<SocketAddr>,
    following: Vec<Following>,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("dataplane", &self.dataplane).finish_non_exhaustive()
    }
}

impl Serving {
    /// The addresses that are really bound for traffic.
    pub fn addresses(&self) -> &Addresses {
        self.dataplane.addresses()
    }

    /// The way from refusals to Events, for whoever publishes them. There is one.
    pub fn collector(&mut self, pace: Pace) -> Collector {
        let samples = self.samples.take().unwrap_or_else(|| mpsc::channel(1).1);
        let dataplane = Arc::downgrade(&self.dataplane);
        let totals: Totals = Box::new(move || {
            dataplane.upgrade().map(|dataplane| dataplane.denial_counts()).unwrap_or_default()
        });
        Collector::new(totals, samples, pace, self.gateway.admin.events.clone())
    }

    /// The newest outcome that every data thread judges by: what may be called programmed.
    pub fn enforced(&mut self) -> watch::Receiver<Option<Arc<Outcome>>> {
        let (sender, enforced) = watch::channel(None);
        let (outcome, metrics) = (self.gateway.pipeline.outcome(), self.dataplane.metrics());
        self.gateway
            .supervisor
            .keep("enforced", move || pass_on(outcome.clone(), metrics.clone(), sender.clone()));
        enforced
    }

    /// Opens the inspect port, unless it is `off`.
    ///
    /// # Errors
    /// If it cannot be bound, or would be open to everybody.
    pub async fn open_inspect(&mut self, access: Access) -> Result<(), GatewayError> {
        let Some(address) = self.gateway.flags.inspect_listen.address() else { return Ok(()) };
        if matches!(access, Access::Everybody) && !address.ip().is_loopback() {
            return Err(GatewayError::OpenInspect(address));
        }
        let listener: TcpListener = admin::bind("--inspect-listen", address).await?;
        self.inspect = listener.local_addr().ok();
        let listener = Arc::new(listener);
        let router = Inspect { outcome: self.gateway.pipeline.outcome(), access }.router();
        self.gateway
            .supervisor
            .keep("inspect", move || crate::port::serve(Arc::clone(&listener), router.clone()));
        Ok(())
    }

    /// Says that traffic may come.
    ///
    /// # Errors
    /// If the ready file cannot be written.
    pub fn announce(&self) -> Result<(), GatewayError> {
        let addresses = self.dataplane.addresses();
        if let Some(path) = &self.gateway.flags.ready_file {
            let ready = Ready {
                http: &addresses.http,
                https: &addresses.https,
                admin: self.gateway.admin_address,
                inspect: self.inspect,
                pid: std::process::id(),
            };
            ready.write(path)?;
        }
        self.gateway.admin.readiness.has("listeners");
        tracing::info!(http = ?addresses.http, https = ?addresses.https, "Ready");
        Ok(())
    }

    /// Serves until the program is asked to end, then drains: not ready at once, connections are
    /// still accepted for the delay, and requests in flight have the grace. Somebody at a keyboard
    /// is no balancer: SIGINT skips the delay. A second signal ends it at once. `last` tells what
    /// was counted until then.
    pub async fn until_stopped(mut self, last: impl AsyncFnOnce()) {
        let ending = self.gateway.signals.wait().await;
        let Gateway { flags, place, admin, .. } = &self.gateway;
        admin.readiness.lacks("shutdown", "the program is shutting down");
        self.dataplane.start_draining();
        let delay = ending.delay(flags.shutdown_delay(*place));
        let grace = Duration::from_secs(flags.shutdown_grace_seconds);
        let signal = ending.as_str();
        tracing::info!(signal, delay = ?delay, grace = ?grace, "Shutting down; a second signal ends it at once");
        let Self { mut gateway, dataplane, following, .. } = self;
        let drain = async {
            sleep(delay).await;
            let stopped = dataplane.stop(grace).await;
            if stopped.lost > 0 {
                tracing::warn!(lost = stopped.lost, "Requests were cut off by the grace");
            }
            for following in following {
                following.finish().await;
            }
            last().await;
        };
        tokio::select! {
            () = drain => {}
            again = gateway.signals.wait() => {
                tracing::warn!(signal = again.as_str(), "Ended without draining");
            }
        }
        gateway.supervisor.stop().await;
    }
}
