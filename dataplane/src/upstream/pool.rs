//! One thread's connections to upstreams: the one that was used last is used next.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::task::TaskTracker;

use super::{Choice, UpstreamError};
use crate::{id::Ids, metrics::ThreadCounts, settings::Settings, upload::RequestBody};

/// How much of a response is read at once.
const READ_BYTES: usize = 64 * 1024;

/// How often connections that were kept too long are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// How long a kept connection may take to be ready for the next request.
const SETTLE: Duration = Duration::from_millis(500);

/// One thread's endpoints with their connections.
pub(crate) struct Upstream {
    pub(super) settings: Rc<Settings>,
    pub(super) counts: Arc<ThreadCounts>,
    builder: Builder,
    endpoints: RefCell<HashMap<SocketAddr, Rc<Endpoint>>>,
    tasks: TaskTracker,
}

struct Endpoint {
    address: SocketAddr,
    idle: RefCell<Vec<Idle>>,
    in_flight: Cell<usize>,
}

struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// A connection in use by one request. Dropped, it is closed; released, it is kept.
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<RequestBody>,
    pub(crate) address: SocketAddr,
    keep: usize,
    in_use: InUse,
}

/// Counts a request of an endpoint as long as it lives.
struct InUse(Rc<Endpoint>);

impl InUse {
    fn new(endpoint: &Rc<Endpoint>) -> Self {
        endpoint.in_flight.set(endpoint.in_flight.get() + 1);
        Self(Rc::clone(endpoint))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
    }
}

impl Lease {
    /// Keeps the connection for the next request: both messages have ended as they should.
    pub(crate) fn release(self) {
        let Self { sender, keep, in_use, .. } = self;
        let mut idle = in_use.0.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < keep {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

impl Upstream {
    pub(crate) fn new(settings: Rc<Settings>, counts: Arc<ThreadCounts>) -> Self {
        let mut builder = Builder::new();
        builder.max_buf_size(READ_BYTES);
        let (endpoints, tasks) = (RefCell::default(), TaskTracker::new());
        Self { settings, counts, builder, endpoints, tasks }
    }

    /// Of two endpoints picked at random the one with fewer requests of this thread.
    pub(crate) fn choose(&self, addresses: &[SocketAddr], ids: &Ids) -> Option<Choice> {
        let count = addresses.len();
        let one = ids.below(count);
        let first = *addresses.get(one)?;
        if count == 1 {
            return Some(Choice { first, second: None });
        }
        let second = *addresses.get((one + 1 + ids.below(count - 1)) % count)?;
        if self.in_flight(second) < self.in_flight(first) {
            return Some(Choice { first: second, second: Some(first) });
        }
        Some(Choice { first, second: Some(second) })
    }

    fn in_flight(&self, address: SocketAddr) -> usize {
        self.endpoints.borrow().get(&address).map_or(0, |endpoint| endpoint.in_flight.get())
    }

    /// A connection to an endpoint: the one kept last, or a new one.
    pub(super) async fn lease(
        &self,
        address: SocketAddr,
        fresh: bool,
        connect: Duration,
    ) -> Result<Lease, UpstreamError> {
        let endpoint = self.endpoint(address);
        let in_use = InUse::new(&endpoint);
        let kept = if fresh { None } else { endpoint.kept().await };
        let sender = match kept {
            Some(sender) => sender,
            None => self.connect(address, connect).await?,
        };
        let keep = self.settings.limits.upstream_idle_connections;
        Ok(Lease { sender, address, keep, in_use })
    }

    fn endpoint(&self, address: SocketAddr) -> Rc<Endpoint> {
        let mut endpoints = self.endpoints.borrow_mut();
        let endpoint = endpoints.entry(address).or_insert_with(|| {
            let (idle, in_flight) = (RefCell::default(), Cell::new(0));
            Rc::new(Endpoint { address, idle, in_flight })
        });
        Rc::clone(endpoint)
    }

    async fn connect(
        &self,
        address: SocketAddr,
        limit: Duration,
    ) -> Result<SendRequest<RequestBody>, UpstreamError> {
        let Ok(stream) = timeout(limit, TcpStream::connect(address)).await else {
            return Err(UpstreamError::ConnectTimeout { address, limit });
        };
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        let stream = stream.map_err(|source| UpstreamError::Connect { address, source })?;
        let (sender, connection) = self
            .builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| UpstreamError::Reset { address, source })?;
        self.counts.upstream_connections.add();
        // How it ended is told to the request that was on it.
        let connection = connection.with_upgrades();
        drop(self.tasks.spawn_local(async move { drop(connection.await) }));
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
                let mut idle = endpoint.idle.borrow_mut();
                idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < limit);
                !idle.is_empty() || endpoint.in_flight.get() > 0
            });
        }
    }
}

impl Endpoint {
    /// The connection that was used last and is still open.
    async fn kept(&self) -> Option<SendRequest<RequestBody>> {
        loop {
            let Idle { mut sender, .. } = self.idle.borrow_mut().pop()?;
            if sender.is_ready() {
                return Some(sender);
            }
            // Both messages have ended, so the connection's task needs but a turn to say whether
            // it goes on; unless its upstream answered early and leaves the request unread.
            if !sender.is_closed() && matches!(timeout(SETTLE, sender.ready()).await, Ok(Ok(()))) {
                return Some(sender);
            }
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}
