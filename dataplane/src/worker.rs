//! What one data thread has for itself: connections to upstreams, counters and caches.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use decision::{snapshot::Snapshot, standing::Standing};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{
    compress::Places,
    id::Ids,
    inputs::{Current, EndpointTable, Inputs},
    ongoing::{Bench, Enrolled, Kind, Ongoing},
    progress::{Open, Progress},
    record::{Case, Recorder},
    settings::Settings,
    tokens::TokenCache,
    trace::Tracer,
    transfers::Transfers,
    upstream::Upstream,
};

/// What the whole data plane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// Still accepting, but every connection is asked to end.
    Draining,
    /// No longer accepting; requests in flight have this long.
    Stopping(Duration),
}

/// How many resting connections are closed at once to make room for others, one of so many, and at
/// least some: looking for them takes time that grows with the number of connections.
const LEAVING_SHARE: u64 = 64;
const LEAVING: u64 = 8;
/// How long nobody looks again when there were fewer.
const LEAVING_PAUSE: Duration = Duration::from_millis(10);

/// How much of a tunnel is read at once.
const ROOM: usize = 64 * 1024;

/// What the requests of one thread share.
pub(crate) struct Worker {
    /// The thread's own copy: requests share it without writing to what other threads read.
    pub(crate) settings: Rc<Settings>,
    pub(crate) snapshot: Current<Snapshot>,
    pub(crate) endpoints: Current<EndpointTable>,
    pub(crate) tokens: TokenCache,
    pub(crate) upstream: Upstream,
    pub(crate) record: Recorder,
    pub(crate) ids: Ids,
    pub(crate) tracer: Tracer,
    pub(crate) tasks: TaskTracker,
    pub(crate) ongoing: Rc<Ongoing>,
    /// Where tunnels read to: none of them needs a buffer of its own while it is silent.
    pub(crate) room: RefCell<Box<[u8]>>,
    pub(crate) compressed: Places,
    pub(crate) transfers: Transfers,
    open: Open,
    /// Connections beyond the limit that may come in the place of some that are about to go.
    room_for: Cell<usize>,
    /// When such were sought and too few were found.
    room_sought: Cell<Option<Instant>>,
    phase: Cell<Phase>,
}

impl Worker {
    pub(crate) fn new(settings: Settings, inputs: Inputs, record: Recorder) -> Self {
        let settings = Rc::new(settings);
        Self {
            snapshot: Current::new(inputs.snapshot),
            endpoints: Current::new(inputs.endpoints),
            tokens: TokenCache::new(&settings.limits),
            upstream: Upstream::new(Rc::clone(&settings), Arc::clone(&record.counts)),
            record,
            ids: Ids::new(settings.replica),
            tracer: Tracer::new(settings.traces, settings.access_log.is_some()),
            tasks: TaskTracker::new(),
            ongoing: Rc::default(),
            room: RefCell::new(vec![0; ROOM].into()),
            compressed: Places::default(),
            transfers: Transfers::default(),
            open: Open::default(),
            room_for: Cell::new(0),
            room_sought: Cell::new(None),
            phase: Cell::new(Phase::Serving),
            settings,
        }
    }

    /// The age at which a connection is asked to end: the limit, give or take a tenth, so that
    /// connections that came together do not leave together.
    fn age(&self) -> Duration {
        let age = self.settings.limits.connection_age;
        let tenth = age / 10;
        let spread = u64::try_from(2 * tenth.as_millis()).unwrap_or(u64::MAX).max(1);
        let random = Duration::from_millis(self.ids.number() % spread);
        age.saturating_sub(tenth).saturating_add(random)
    }

    /// Tells every open connection.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.open.tell(|progress| tell(phase, progress));
        self.ongoing.wake();
    }

    /// Whether a connection may come in the place of one that rested longest and is closed now.
    fn replaces(&self) -> bool {
        if self.room_for.get() == 0 {
            self.make_room();
        }
        let room = self.room_for.get();
        self.room_for.set(room.saturating_sub(1));
        room > 0
    }

    /// Closes some of the connections that have rested longest.
    pub(crate) fn make_room(&self) {
        let now = Instant::now();
        if self.room_sought.get().is_some_and(|sought| now < sought + LEAVING_PAUSE) {
            return;
        }
        let share = self.record.counts.connections.value() / LEAVING_SHARE;
        let wanted = usize::try_from(share.max(LEAVING)).unwrap_or(usize::MAX);
        let made = self.open.make_room(wanted);
        self.room_for.set(made);
        self.room_sought.set((made < wanted).then_some(now));
    }

    /// What judging an admitted request again takes.
    pub(crate) fn bench(&self) -> Bench<'_> {
        Bench { snapshot: &self.snapshot, tokens: &self.tokens, record: &self.record }
    }

    /// Judges a request that goes on, and again whenever policies change.
    pub(crate) fn enroll(&self, kind: Kind, case: Rc<Case>, standing: Standing) -> Enrolled {
        self.ongoing.enroll(kind, case, standing, self.bench())
    }
}

/// A connection that counts as open, and learns when the process begins to end.
pub(crate) struct Guest {
    pub(crate) worker: Rc<Worker>,
    pub(crate) progress: Rc<Progress>,
}

impl Guest {
    /// Takes a connection in; if there are too many, in the place of one that rests.
    pub(crate) fn admit(worker: &Rc<Worker>) -> Option<Self> {
        let (counts, limits) = (&worker.record.counts, &worker.settings.limits);
        let open = usize::try_from(counts.connections.value()).unwrap_or(usize::MAX);
        if open < limits.connections {
            worker.room_for.set(0);
        } else if !worker.replaces() {
            return None;
        }
        counts.connections.add();
        let progress = Progress::new(Instant::now(), worker.age());
        Some(Self { worker: Rc::clone(worker), progress: Rc::new(progress) })
    }

    /// Lets the calling task be woken when the process begins to end.
    pub(crate) async fn listen(&self) {
        let waker = std::future::poll_fn(|context| std::task::Poll::Ready(context.waker().clone()));
        self.progress.listens(waker.await);
        self.worker.open.insert(&self.progress);
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
