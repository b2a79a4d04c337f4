//! One data thread: its own sockets, connections to upstreams, counters and caches.

use std::{cell::Cell, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use decision::snapshot::Snapshot;
use futures::future::join;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    denials::DenialSample,
    id::Ids,
    inputs::{Current, EndpointTable, Inputs},
    metrics::{Rejected, Shared, ThreadCounts},
    record::Recorder,
    serve::{
        progress::{Open, Progress},
        serve,
    },
    settings::Settings,
    tokens::TokenCache,
    upstream::Upstream,
};

/// How long accepting rests when the process has no descriptor left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// What the whole data plane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// Still accepting, but every connection is asked to end.
    Draining,
    /// No longer accepting; requests in flight have this long.
    Stopping(Duration),
}

/// Everything that a thread is given.
pub(crate) struct Equipment {
    pub(crate) settings: Arc<Settings>,
    pub(crate) inputs: Inputs,
    pub(crate) counts: Arc<ThreadCounts>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) samples: mpsc::Sender<DenialSample>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) http: Vec<std::net::TcpListener>,
    pub(crate) https: Vec<std::net::TcpListener>,
    pub(crate) tls: TlsAcceptor,
}

/// What the requests of one thread share.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) snapshot: Current<Snapshot>,
    pub(crate) endpoints: Current<EndpointTable>,
    pub(crate) tokens: TokenCache,
    pub(crate) upstream: Upstream,
    pub(crate) record: Recorder,
    pub(crate) ids: Ids,
    pub(crate) tasks: TaskTracker,
    open: Open,
    phase: Cell<Phase>,
}

impl Worker {
    /// The age at which a connection is asked to end: the limit, give or take a tenth, so that
    /// connections that came together do not leave together.
    fn age(&self) -> Duration {
        let age = self.settings.limits.connection_age;
        let tenth = age / 10;
        let spread = u64::try_from(2 * tenth.as_millis()).unwrap_or(u64::MAX).max(1);
        let random = Duration::from_millis(self.ids.number() % spread);
        age.saturating_sub(tenth).saturating_add(random)
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.open.tell(|progress| tell(phase, progress));
    }
}

/// A connection that counts as open, and learns when the process begins to end.
pub(crate) struct Guest {
    pub(crate) worker: Rc<Worker>,
    pub(crate) progress: Rc<Progress>,
}

impl Guest {
    /// Takes a connection in, unless there are too many.
    fn admit(worker: &Rc<Worker>) -> Option<Self> {
        let (counts, limits) = (&worker.record.counts, &worker.settings.limits);
        let open = usize::try_from(counts.connections.value()).unwrap_or(usize::MAX);
        if open >= limits.connections {
            return None;
        }
        counts.connections.add();
        let progress = Progress::new(Instant::now(), worker.age());
        Some(Self { worker: Rc::clone(worker), progress: Rc::new(progress) })
    }

    /// Lets the calling task be woken when the process begins to end.
    pub(crate) async fn listen(&self) {
        let waker = std::future::poll_fn(|context| std::task::Poll::Ready(context.waker().clone()));
        self.worker.open.insert(waker.await, &self.progress);
        tell(self.worker.phase.get(), &self.progress);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.worker.open.remove(&self.progress);
        self.worker.record.counts.connections.subtract();
    }
}

fn tell(phase: Phase, progress: &Progress) {
    match phase {
        Phase::Serving => {}
        Phase::Draining => progress.drain(),
        Phase::Stopping(_) => progress.stop(),
    }
}

/// Serves until the process ends. Gives the number of requests that did not end in time.
pub(crate) async fn run(equipment: Equipment) -> io::Result<usize> {
    let Equipment { settings, inputs, counts, shared, samples, mut phase, http, https, tls } =
        equipment;
    let worker = Rc::new(Worker {
        snapshot: Current::new(inputs.snapshot),
        endpoints: Current::new(inputs.endpoints),
        tokens: TokenCache::new(&settings.limits),
        upstream: Upstream::new(Arc::clone(&settings), Arc::clone(&counts)),
        record: Recorder::new(Arc::clone(&counts), shared, samples),
        ids: Ids::new(settings.replica),
        tasks: TaskTracker::new(),
        open: Open::default(),
        phase: Cell::new(Phase::Serving),
        settings,
    });
    let (keeping, stopping) = (keep(&worker), CancellationToken::new());
    let listeners = http.into_iter().map(|socket| (socket, None));
    let listeners = listeners.chain(https.into_iter().map(|socket| (socket, Some(tls.clone()))));
    let accepting = TaskTracker::new();
    for (socket, tls) in listeners {
        let listener = TcpListener::from_std(socket)?;
        drop(accepting.spawn_local(accept(Rc::clone(&worker), listener, tls, stopping.clone())));
    }
    accepting.close();
    let grace = follow(&worker, &mut phase).await;
    stopping.cancel();
    accepting.wait().await;
    worker.tasks.close();
    let ended = timeout(grace, worker.tasks.wait()).await;
    keeping.abort();
    let left = usize::try_from(counts.requests_in_flight.value()).unwrap_or(usize::MAX);
    Ok(if ended.is_ok() { 0 } else { left })
}

/// Keeps the thread's inputs fresh and its kept connections few.
fn keep(worker: &Rc<Worker>) -> tokio::task::JoinHandle<()> {
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let record = &worker.record;
        let snapshot = worker.snapshot.follow(|newest| {
            record.snapshot_changed(newest.generation);
        });
        let inputs = join(snapshot, worker.endpoints.follow(|_| ()));
        join(inputs, worker.upstream.sweep()).await;
    })
}

/// Follows the data plane until it stops; gives how long requests in flight have.
async fn follow(worker: &Worker, phase: &mut watch::Receiver<Phase>) -> Duration {
    loop {
        let now = *phase.borrow_and_update();
        worker.enter(now);
        if let Phase::Stopping(grace) = now {
            return grace;
        }
        if phase.changed().await.is_err() {
            // Nobody is left to wait for the requests in flight.
            worker.enter(Phase::Stopping(Duration::ZERO));
            return Duration::ZERO;
        }
    }
}

/// Accepts connections until the process ends, and then those that were already waiting.
async fn accept(
    worker: Rc<Worker>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    stopping: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => admit(&worker, socket, peer, tls.clone()),
            // The connection was gone before it was accepted.
            Err(error) if is_about_the_connection(&error) => {}
            Err(_) => sleep(OUT_OF_DESCRIPTORS).await,
        }
    }
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((socket, peer)) = listener.accept() {
        let socket = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket));
        if let Ok(socket) = socket {
            admit(&worker, socket, peer, tls.clone());
        }
    }
}

fn is_about_the_connection(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionRefused,
    ];
    kinds.contains(&error.kind())
}

fn admit(worker: &Rc<Worker>, socket: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>) {
    match Guest::admit(worker) {
        Some(guest) => drop(worker.tasks.spawn_local(serve(guest, socket, peer, tls))),
        None => worker.record.counts.rejected(Rejected::TooManyConnections),
    }
}
