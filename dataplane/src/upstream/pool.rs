//! One thread's connections to upstreams: the one that was used last is used next.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use decision::{
    endpoint::EndpointAddress,
    transport::{HttpVersion, Transport},
};
use foldhash::fast::RandomState;
use futures::FutureExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Mutex, Notify},
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    UpstreamError,
    avoid::Avoid,
    health::Health,
    sender::{Place, STREAMS, Sender, Streams},
    transport::Configurations,
};
use crate::{
    executor::LocalExecutor,
    metrics::ThreadCounts,
    settings::Settings,
    upload::RequestBody,
    wire::{READ_BYTES, Wire},
};

/// How often connections that were kept too long are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// How long a connection is kept before a request on it may cross the word that it was closed. Those
/// of busy endpoints never are, so that their requests need not be copied.
const RESTED: Duration = Duration::from_millis(100);

/// How long a kept connection may take to be ready for the next request.
const SETTLE: Duration = Duration::from_millis(500);

/// How far an endpoint may send ahead on one stream of HTTP/2, in bytes.
const STREAM_WINDOW: u32 = 64 * 1024;
/// How far on all streams of a connection, in bytes: six times as far as on each of them, so that
/// clients who take nothing stand in nobody's way. What is more is for small frames, which h2 counts
/// as 256 bytes each, up to the half of it, and ends the connection with all of its requests beyond.
const CONNECTION_WINDOW: u32 = 6 * STREAMS * STREAM_WINDOW;

/// Largest head of an answer over HTTP/2, in bytes (RFC 9113 section 6.5.2).
const HEAD_BYTES: u32 = 64 * 1024;

/// How many requests that were given up are remembered, for a second, lest their answers be taken for
/// errors of the endpoint.
const REMEMBERED: usize = 4_096;
/// How many such errors end a connection. They are counted as long as it lives.
const ERRORS: usize = 100_000;

/// How often an HTTP/2 connection with requests is asked whether it is alive, and until when it has
/// to say so.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(10);

/// One thread's endpoints with their connections.
pub(crate) struct Upstream {
    pub(super) settings: Rc<Settings>,
    pub(super) counts: Arc<ThreadCounts>,
    one: http1::Builder,
    many: http2::Builder<LocalExecutor>,
    tls: Configurations,
    pub(super) endpoints: RefCell<HashMap<EndpointAddress, Rc<Endpoint>, RandomState>>,
    /// How many of them were ejected lately.
    pub(super) ejected: Cell<usize>,
    tasks: TaskTracker,
}

pub(super) struct Endpoint {
    pub(super) address: EndpointAddress,
    pub(super) in_flight: Cell<usize>,
    pub(super) health: Health,
    /// How many of the requests became tunnels, which need no room.
    tunnels: Cell<usize>,
    /// How many requests wait until there is room for them.
    waiting: Cell<usize>,
    room: Notify,
    /// One for each way to speak to it, which is one nearly always.
    lines: RefCell<Vec<Rc<Line>>>,
}

/// The connections of an endpoint that are spoken on in the same way.
pub(super) struct Line {
    pub(super) endpoint: Rc<Endpoint>,
    transport: Transport,
    /// HTTP/1.1: those that nobody uses.
    idle: RefCell<Vec<Idle>>,
    /// HTTP/2: all of them.
    shared: RefCell<Vec<Shared>>,
    /// Who opens a connection that others wait for.
    turn: Mutex<()>,
}

struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

struct Shared {
    sender: http2::SendRequest<RequestBody>,
    streams: Rc<Streams>,
    opened: Instant,
    /// When it was last given to a request.
    used: Cell<Instant>,
}

/// A connection in use by one request. Dropped, it is closed if it has no other; released, it is
/// kept.
pub(crate) struct Lease {
    pub(crate) sender: Sender,
    pub(crate) address: EndpointAddress,
    /// Whether it was kept for so long that the endpoint may be about to close it.
    pub(super) rested: bool,
    keep: usize,
    in_use: InUse,
}

/// Counts a request of an endpoint as long as it lives.
struct InUse {
    line: Rc<Line>,
    is_tunnel: bool,
}

impl InUse {
    fn new(line: Rc<Line>) -> Self {
        let in_flight = &line.endpoint.in_flight;
        in_flight.set(in_flight.get() + 1);
        Self { line, is_tunnel: false }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let Endpoint { in_flight, tunnels, .. } = &*self.line.endpoint;
        in_flight.set(in_flight.get().saturating_sub(1));
        if self.is_tunnel {
            tunnels.set(tunnels.get().saturating_sub(1));
        } else {
            self.line.endpoint.has_room();
        }
    }
}

/// A request that waits for room; counts as long as it does.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Lease {
    /// Keeps the connection for the next request: both messages have ended as they should.
    pub(crate) fn release(self) {
        let Self { sender, keep, in_use, .. } = self;
        let Sender::One(sender) = sender else { return };
        let mut idle = in_use.line.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < keep {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    /// The exchange goes on as a tunnel, which may take days: it takes no room from requests.
    pub(crate) fn becomes_tunnel(&mut self) {
        let endpoint = &self.in_use.line.endpoint;
        if !std::mem::replace(&mut self.in_use.is_tunnel, true) {
            endpoint.tunnels.set(endpoint.tunnels.get() + 1);
            endpoint.has_room();
        }
    }

    /// Whether requests wait for room at its endpoint, or on its connection.
    pub(crate) fn is_wanted(&self) -> bool {
        let waits = self.in_use.line.endpoint.waiting.get() > 0;
        waits || self.sender.streams().is_some_and(|streams| streams.is_wanted())
    }
}

impl Upstream {
    pub(crate) fn new(settings: Rc<Settings>, counts: Arc<ThreadCounts>) -> Self {
        let tasks = TaskTracker::new();
        let mut one = http1::Builder::new();
        one.max_buf_size(READ_BYTES);
        let mut many = http2::Builder::new(LocalExecutor(tasks.clone()));
        many.timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(READ_BYTES)
            .max_header_list_size(HEAD_BYTES)
            .max_concurrent_reset_streams(REMEMBERED)
            .max_local_error_reset_streams(ERRORS)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG);
        let (endpoints, tls) = (RefCell::default(), Configurations::default());
        let ejected = Cell::new(0);
        Self { settings, counts, one, many, tls, endpoints, ejected, tasks }
    }

    /// The connections to an endpoint that are spoken on like this.
    pub(super) fn line(&self, address: EndpointAddress, transport: &Transport) -> Rc<Line> {
        let mut endpoints = self.endpoints.borrow_mut();
        let endpoint = endpoints.entry(address).or_insert_with(|| {
            Rc::new(Endpoint {
                address,
                in_flight: Cell::new(0),
                health: Health::default(),
                tunnels: Cell::new(0),
                waiting: Cell::new(0),
                room: Notify::new(),
                lines: RefCell::default(),
            })
        });
        let mut lines = endpoint.lines.borrow_mut();
        if let Some(known) = lines.iter().find(|line| line.transport == *transport) {
            return Rc::clone(known);
        }
        let line = Rc::new(Line {
            endpoint: Rc::clone(endpoint),
            transport: transport.clone(),
            idle: RefCell::default(),
            shared: RefCell::default(),
            turn: Mutex::new(()),
        });
        lines.push(Rc::clone(&line));
        line
    }

    /// A connection to an endpoint: the one kept last, one with room, or a new one.
    pub(super) async fn lease(
        &self,
        line: Rc<Line>,
        avoid: &Avoid,
        connect: Duration,
    ) -> Result<Lease, UpstreamError> {
        let (address, http) = (line.endpoint.address, line.transport.http);
        let limit = self.settings.limits.upstream_connections;
        if line.endpoint.is_full(limit) {
            // Boxed: rare, and every request would be larger.
            Box::pin(self.wait_for_room(&line.endpoint, limit, connect)).await?;
        }
        let in_use = InUse::new(line);
        let line = &in_use.line;
        let (sender, rested) = match http {
            HttpVersion::One => match if avoid.is_nothing() { line.kept().await } else { None } {
                Some((sender, rested)) => (Sender::One(sender), rested),
                // Boxed: rare, and every request would be larger.
                None => (Box::pin(self.connect(line, connect)).await?, false),
            },
            HttpVersion::Two => (self.share(line, avoid, connect).await?, false),
        };
        let keep = self.settings.limits.upstream_idle_connections;
        Ok(Lease { sender, address, rested, keep, in_use })
    }

    /// Waits, with no more others than may be served at once.
    async fn wait_for_room(
        &self,
        endpoint: &Endpoint,
        limit: usize,
        time: Duration,
    ) -> Result<(), UpstreamError> {
        let full = || UpstreamError::Full { address: endpoint.address, limit };
        if endpoint.waiting.get() >= limit {
            return Err(full());
        }
        self.counts.upstream_waits.add();
        let (_waiting, due) = (Waiting::new(&endpoint.waiting), Instant::now() + time);
        loop {
            timeout_at(due, endpoint.room.notified()).await.map_err(|_| full())?;
            if endpoint.requests() < limit {
                return Ok(());
            }
        }
    }

    /// A place on a connection that others may use, too.
    async fn share(
        &self,
        line: &Rc<Line>,
        avoid: &Avoid,
        connect: Duration,
    ) -> Result<Sender, UpstreamError> {
        if let Some(sender) = line.with_room(avoid) {
            return Ok(sender);
        }
        // Whoever comes while one is being opened waits for it instead of opening another.
        let (address, limit) = (line.endpoint.address, connect);
        let turn = timeout_at(Instant::now() + limit, line.turn.lock()).await;
        let _turn = turn.map_err(|_| UpstreamError::ConnectTimeout { address, limit })?;
        if let Some(sender) = line.with_room(avoid) {
            return Ok(sender);
        }
        // Boxed: rare, and every request would be larger.
        Box::pin(self.connect(line, connect)).await
    }

    async fn connect(&self, line: &Line, limit: Duration) -> Result<Sender, UpstreamError> {
        let (address, due) = (line.endpoint.address, Instant::now() + limit);
        let late = |_| UpstreamError::ConnectTimeout { address, limit };
        let stream = timeout_at(due, TcpStream::connect(address.socket())).await.map_err(late)?;
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| Wire(stream)));
        let stream = stream.map_err(|source| UpstreamError::Connect { address, source })?;
        let Transport { http, tls } = &line.transport;
        let Some(tls) = tls else { return self.shake_hands(line, stream).await };
        let secured = Box::pin(timeout_at(due, self.tls.connect(tls, *http, stream)));
        let name = || Arc::clone(&tls.server_name);
        let secured = secured.await.map_err(late)?;
        let stream =
            secured.map_err(|source| UpstreamError::Tls { address, name: name(), source })?;
        Box::pin(self.shake_hands(line, stream)).await
    }

    async fn shake_hands(
        &self,
        line: &Line,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Sender, UpstreamError> {
        let (address, io) = (line.endpoint.address, TokioIo::new(stream));
        let reset = |source| UpstreamError::Reset { address, source };
        // How a connection ended is told to the requests that were on it.
        let sender = match line.transport.http {
            HttpVersion::One => {
                let (sender, connection) = self.one.handshake(io).await.map_err(reset)?;
                let connection = connection.with_upgrades();
                drop(self.tasks.spawn_local(async move { drop(connection.await) }));
                Sender::One(sender)
            }
            HttpVersion::Two => {
                let handshake = Box::pin(self.many.handshake(io));
                let (sender, mut connection) = handshake.await.map_err(reset)?;
                let streams = Streams::new();
                let allowed = Rc::clone(&streams);
                let ended = poll_fn(move |context| {
                    let polled = connection.poll_unpin(context);
                    allowed.allow(connection.current_max_send_streams(), context.waker());
                    polled
                });
                drop(self.tasks.spawn_local(async move { drop(ended.await) }));
                line.add(sender, streams)
            }
        };
        self.counts.upstream_connections.add();
        Ok(sender)
    }

    /// Closes what was kept too long, again and again.
    pub(crate) async fn sweep(&self) {
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let limit = self.settings.limits.upstream_idle;
            self.endpoints.borrow_mut().retain(|_, endpoint| {
                let remembered = !endpoint.health.is_unremarkable(Instant::now());
                let busy = endpoint.in_flight.get() > 0 || endpoint.waiting.get() > 0;
                let mut lines = endpoint.lines.borrow_mut();
                lines.retain(|line| line.sweep(limit) || Rc::strong_count(line) > 1);
                busy || remembered || !lines.is_empty()
            });
            let (endpoints, now) = (self.endpoints.borrow(), Instant::now());
            let ejected = endpoints.values().filter(|one| !one.health.is_unremarkable(now));
            self.ejected.set(ejected.count());
            drop(endpoints);
            self.tls.forget_unused();
        }
    }
}

impl Line {
    /// The connection that was used last and is still open, and whether it rested since.
    async fn kept(&self) -> Option<(http1::SendRequest<RequestBody>, bool)> {
        loop {
            let Idle { mut sender, since } = self.idle.borrow_mut().pop()?;
            let rested = since.elapsed() >= RESTED;
            if sender.is_ready() {
                return Some((sender, rested));
            }
            // Both messages have ended, so the connection's task needs but a turn to say whether
            // it goes on; unless its upstream answered early and leaves the request unread.
            let due = Instant::now() + SETTLE;
            if !sender.is_closed() && matches!(timeout_at(due, sender.ready()).await, Ok(Ok(()))) {
                return Some((sender, rested));
            }
        }
    }

    /// A place on an open connection that has room.
    fn with_room(&self, avoid: &Avoid) -> Option<Sender> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|shared| !shared.sender.is_closed());
        let mut open = shared.iter().filter(|shared| !avoid.avoids(&shared.streams, shared.opened));
        let with_room = open.find(|shared| shared.streams.has_room())?;
        with_room.used.set(Instant::now());
        let place = Place::new(&with_room.streams);
        Some(Sender::Many { sender: with_room.sender.clone(), place })
    }

    /// Keeps a new connection, and takes the first place on it.
    fn add(&self, sender: http2::SendRequest<RequestBody>, streams: Rc<Streams>) -> Sender {
        let opened = Instant::now();
        let place = Place::new(&streams);
        let first = Sender::Many { sender: sender.clone(), place };
        self.shared.borrow_mut().push(Shared { sender, streams, opened, used: Cell::new(opened) });
        first
    }

    /// Closes what was kept too long. False if nothing is left.
    fn sweep(&self, limit: Duration) -> bool {
        let (mut idle, mut shared) = (self.idle.borrow_mut(), self.shared.borrow_mut());
        idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < limit);
        shared.retain(|shared| {
            let rests = shared.streams.is_empty() && shared.used.get().elapsed() >= limit;
            !shared.sender.is_closed() && !rests
        });
        !idle.is_empty() || !shared.is_empty()
    }
}

impl Endpoint {
    /// Whether a request has to wait; who comes does not overtake those who wait.
    fn is_full(&self, limit: usize) -> bool {
        self.requests() >= limit || self.waiting.get() > 0
    }

    fn requests(&self) -> usize {
        self.in_flight.get().saturating_sub(self.tunnels.get())
    }

    /// Lets the one that waits longest look again.
    fn has_room(&self) {
        if self.waiting.get() > 0 {
            self.room.notify_one();
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}
