//! The data plane as a whole: binds, starts its threads, counts over them, and ends.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, mpsc as std_mpsc},
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, LocalOptions},
    sync::{mpsc, watch},
};

use crate::{
    accept::{Equipment, run},
    access::{self, AccessReader},
    denial_key::DenialKey,
    denials::DenialSample,
    inputs::Inputs,
    listen::{self, BindError},
    metrics::{Count, Metrics, Shared, ThreadCounts},
    record::{AccessLog, Listeners},
    settings::Settings,
    tls::{Manners, Resolver},
    worker::Phase,
};

/// Why the data plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The TLS library refuses our settings.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A thread cannot be started.
    #[error("cannot start a data thread: {0}")]
    Thread(#[from] io::Error),
}

/// The addresses that are really listened on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Plain HTTP, in the order of the settings.
    pub http: Vec<SocketAddr>,
    /// HTTPS, in the order of the settings.
    pub https: Vec<SocketAddr>,
}

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Requests that were still being served when the grace was over.
    pub lost: usize,
}

/// A running data plane. Dropped without [`Dataplane::stop`], it ends at once.
#[derive(Debug)]
pub struct Dataplane {
    addresses: Addresses,
    phase: watch::Sender<Phase>,
    metrics: Metrics,
    access_log: Option<AccessReader>,
    spans: Option<AccessReader>,
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    handle: thread::JoinHandle<()>,
    /// Once it has stopped, the number of requests that did not end in time.
    lost: watch::Receiver<Option<usize>>,
}

impl Dataplane {
    /// Binds every address and starts the threads. Samples of refusals are offered to `samples`;
    /// when it is full they are dropped and counted.
    ///
    /// # Errors
    /// If an address cannot be bound; then nothing runs.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the caller hands its ends over; a thread each gets a copy"
    )]
    pub fn start(
        mut settings: Settings,
        inputs: Inputs,
        samples: mpsc::Sender<DenialSample>,
    ) -> Result<Self, StartError> {
        let count = settings.threads.get();
        let mut http = bind(&settings.http, count)?;
        let mut https = bind(&settings.https, count)?;
        let addresses = Addresses { http: addresses(&http), https: addresses(&https) };
        if settings.redirect_port == Some(0) {
            settings.redirect_port = addresses.https.first().map(SocketAddr::port);
        }
        let resolver = Resolver::new(&inputs.certificates);
        let tls = Manners::new(&resolver)?;
        let counts: Vec<_> = (0..count).map(|_| Arc::default()).collect();
        let shared = Arc::new(Shared { threads: counts.clone(), ..Shared::default() });
        let (mut listeners, access_log, spans) = listeners(&settings, &counts);
        let (phase, follower) = watch::channel(Phase::Serving);
        let mut threads = Vec::with_capacity(count);
        for (number, counts) in counts.into_iter().enumerate() {
            let equipment = Equipment {
                settings: settings.clone(),
                inputs: inputs.clone(),
                counts,
                shared: Arc::clone(&shared),
                samples: samples.clone(),
                listeners: listeners.pop().unwrap_or_default(),
                phase: follower.clone(),
                http: take(&mut http),
                https: take(&mut https),
                tls: tls.clone(),
            };
            let certificates = (number == 0).then(|| Arc::clone(&resolver));
            threads.push(spawn(number, equipment, certificates)?);
        }
        let metrics = Metrics(shared);
        Ok(Self { addresses, phase, metrics, access_log, spans, threads })
    }

    /// The addresses that are really listened on.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Exact totals of refusals since the start, summed over the threads.
    pub fn denial_counts(&self) -> Vec<(Arc<DenialKey>, u64)> {
        self.metrics.0.denials.totals(Count::value)
    }

    /// The metrics, to be registered or printed by whoever serves them.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// The exchanges that [`Settings::access_log`] asks for, for whoever writes them down. There is
    /// one reader; what nobody reads is dropped and counted.
    pub fn access_log(&mut self) -> Option<AccessReader> {
        self.access_log.take()
    }

    /// The exchanges of traces that [`Settings::traces`] asks for, like [`Dataplane::access_log`].
    pub fn spans(&mut self) -> Option<AccessReader> {
        self.spans.take()
    }

    /// Goes on accepting, but asks every connection to end after its next response.
    pub fn start_draining(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Accepts what is waiting, closes the listeners, and gives requests in flight at most `grace`,
    /// that of the first call if there are several.
    pub async fn stop(&self, grace: Duration) -> Stopped {
        self.phase.send_if_modified(|phase| {
            let stops = !matches!(phase, Phase::Stopping(_));
            if stops {
                *phase = Phase::Stopping(grace);
            }
            stops
        });
        let mut lost = 0;
        for thread in &self.threads {
            let mut told = thread.lost.clone();
            // A thread that has died has nothing to say.
            lost += told.wait_for(Option::is_some).await.map_or(0, |lost| lost.unwrap_or(0));
        }
        Stopped { lost }
    }

    /// False once a data thread has died, or has done nothing that was due for 10 s: the process should
    /// end, and be started anew.
    pub fn alive(&self) -> bool {
        let died = self.threads.iter().any(|thread| thread.handle.is_finished());
        !died && self.metrics.0.threads.iter().all(|counts| counts.pulse.is_felt())
    }
}

/// How long lines of the access log gather.
const LINES: Duration = Duration::from_millis(20);
/// How long spans do: each time becomes a message.
const SPANS: Duration = Duration::from_millis(200);

/// Where each thread tells of exchanges, and the ends of those who want to know.
fn listeners(
    settings: &Settings,
    threads: &[Arc<ThreadCounts>],
) -> (Vec<Listeners>, Option<AccessReader>, Option<AccessReader>) {
    let mut listeners: Vec<_> = threads.iter().map(|_| Listeners::default()).collect();
    let access_log = settings.access_log.map(|one_in| {
        let (senders, reader) = access::ways(threads, LINES, |counts| &counts.access_log_dropped);
        for (listener, sender) in listeners.iter_mut().zip(senders) {
            listener.access_log = Some(AccessLog::new(sender, one_in));
        }
        reader
    });
    let spans = settings.traces.one_in.map(|_| {
        let (senders, reader) = access::ways(threads, SPANS, |counts| &counts.spans_dropped);
        for (listener, sender) in listeners.iter_mut().zip(senders) {
            listener.spans = Some(sender);
        }
        reader
    });
    (listeners, access_log, spans)
}

fn bind(asked: &[SocketAddr], threads: usize) -> Result<Vec<listen::Listeners>, BindError> {
    asked.iter().map(|address| listen::bind(*address, threads)).collect()
}

fn addresses(listeners: &[listen::Listeners]) -> Vec<SocketAddr> {
    listeners.iter().map(|listeners| listeners.address).collect()
}

/// One thread's socket of each address.
fn take(listeners: &mut [listen::Listeners]) -> Vec<std::net::TcpListener> {
    listeners.iter_mut().filter_map(|listeners| listeners.sockets.pop()).collect()
}

/// Starts a thread and waits until it has its runtime.
fn spawn(
    number: usize,
    equipment: Equipment,
    certificates: Option<Arc<Resolver>>,
) -> io::Result<Thread> {
    let (ready, started) = std_mpsc::sync_channel(1);
    let (done, lost) = watch::channel(None);
    let body = move || {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        drop(ready.send(Ok(())));
        let channel = equipment.inputs.certificates.clone();
        let ended = runtime.block_on(async {
            let following = certificates.map(|resolver| tokio::spawn(resolver.follow(channel)));
            let ended = run(equipment).await;
            following.inspect(tokio::task::JoinHandle::abort);
            ended
        });
        match ended {
            Ok(lost) => drop(done.send(Some(lost))),
            Err(error) => tracing::error!(%error, "Data thread ended"),
        }
    };
    let handle = thread::Builder::new().name(format!("data-{number}")).spawn(body)?;
    started.recv().map_err(io::Error::other)??;
    Ok(Thread { handle, lost })
}
