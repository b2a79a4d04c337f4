//! One data thread at work: it accepts connections until the process ends, and then gives the
//! requests in flight their time.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use futures::future::{join, join5};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    denials::DenialSample,
    inputs::Inputs,
    metrics::{Rejected, Shared, ThreadCounts},
    pulse::BEAT,
    record::{Listeners, Recorder},
    serve::serve,
    settings::Settings,
    tls::Manners,
    worker::{Guest, Phase, Worker},
};

/// How long accepting rests when the process has no descriptor left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Everything that a thread is given.
pub(crate) struct Equipment {
    pub(crate) settings: Settings,
    pub(crate) inputs: Inputs,
    pub(crate) counts: Arc<ThreadCounts>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) samples: mpsc::Sender<DenialSample>,
    pub(crate) listeners: Listeners,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) http: Vec<std::net::TcpListener>,
    pub(crate) https: Vec<std::net::TcpListener>,
    pub(crate) tls: Manners,
}

/// Serves until the process ends. Gives the number of requests that did not end in time.
pub(crate) async fn run(equipment: Equipment) -> io::Result<usize> {
    let Equipment { mut phase, http, https, tls, .. } = equipment;
    let Equipment { settings, inputs, counts, shared, samples, listeners, .. } = equipment;
    let record = Recorder::new(Arc::clone(&counts), shared, samples, listeners);
    let worker = Rc::new(Worker::new(settings, inputs, record));
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
            worker.ongoing.snapshot_changed();
        });
        let inputs = join(snapshot, worker.endpoints.follow(|_| ()));
        let beats = async {
            let mut times = interval(BEAT);
            loop {
                times.tick().await;
                record.counts.pulse.beat();
            }
        };
        let again = worker.ongoing.follow(worker.bench());
        let transfers = worker.transfers.follow(worker.settings.limits.long_exchange);
        join5(inputs, worker.upstream.sweep(), again, transfers, beats).await;
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
    tls: Option<Manners>,
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
            Err(_) => {
                worker.make_room();
                sleep(OUT_OF_DESCRIPTORS).await;
            }
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

fn admit(worker: &Rc<Worker>, socket: TcpStream, peer: SocketAddr, tls: Option<Manners>) {
    match Guest::admit(worker) {
        Some(guest) => drop(worker.tasks.spawn_local(serve(guest, socket, peer, tls))),
        None => worker.record.counts.rejected(Rejected::TooManyConnections),
    }
}
