//! What a connection is waiting for, and until when.

mod flight;
mod open;

use std::{
    cell::{Cell, OnceCell},
    task::Waker,
    time::Duration,
};

use tokio::time::Instant;

pub(crate) use self::{
    flight::{InFlight, OpenTunnel, Uploading},
    open::Open,
};
use crate::{metrics::Rejected, settings::Limits, waits::Waits};

/// How long an HTTP/2 connection may take to end once it was asked to and nothing runs on it.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a connection of HTTP/1.1 rests before its buffers are given back.
const AWAKE: Duration = Duration::from_secs(1);

/// How long a connection rests before it may be closed to make room: clients that ask one request
/// after the other keep theirs.
const RESTED: Duration = Duration::from_millis(100);

/// Most frames of an HTTP/2 client that carry no part of a body and bring nothing forward.
const FRAMES: u32 = 400;
/// How many more it may send each second.
const FRAMES_A_SECOND: u32 = 25;
/// What is earned is kept up to this: a whole download may lie in the system's buffers, and the
/// windows for it are opened when all of it is sent.
const FRAMES_EARNED: u32 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// For the end of the TLS handshake.
    Handshake,
    /// For anything at all.
    FirstByte,
    /// For the rest of a request's head.
    Head,
    /// For requests to be served.
    Requests,
    /// For the next request.
    Idle,
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing before this instant.
    Nothing(Instant),
    /// Ask it to end once its requests are served.
    Farewell,
    /// End it.
    Close(Close),
}

/// Why a connection ends without its client's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// It rested too long, or it is broken: nothing to count.
    Rested,
    /// It kept us waiting, or spoke what is no HTTP.
    Rejected(Rejected),
}

/// The course of one connection. One timer looks at it, instead of one a request.
#[derive(Debug)]
pub(crate) struct Progress {
    waiting: Cell<Waiting>,
    since: Cell<Instant>,
    requests: Cell<usize>,
    /// How many of the requests became tunnels, which may be silent for long.
    tunnels: Cell<usize>,
    /// HTTP/2: bytes alone say nothing, and the end is announced on the connection.
    multiplexed: Cell<bool>,
    /// When it is old, give or take.
    old: Instant,
    told: Cell<bool>,
    /// Whether it is to end behind its next answer.
    draining: Cell<bool>,
    unread: Cell<bool>,
    /// How long the requests in flight may stand still, if a route of theirs allows more than usual.
    allowed: Cell<Duration>,
    /// Since when the whole process is ending.
    stopping: Cell<Option<Instant>>,
    /// How many frames may still come that bring nothing forward, and when time last added to them.
    frames: Cell<u32>,
    frames_since: Cell<Instant>,
    /// Why it has to end now, whatever it does.
    cut: Cell<Option<Rejected>>,
    /// Whether something waits to be written.
    blocked: Cell<bool>,
    /// HTTP/1.1: whether it has no buffers.
    asleep: Cell<bool>,
    /// Whether the last request has a body, of which some may still come behind its answer.
    had_body: Cell<bool>,
    /// Of the connection's task.
    waker: OnceCell<Waker>,
}

impl Progress {
    pub(crate) fn new(now: Instant, age: Duration) -> Self {
        Self {
            waiting: Cell::new(Waiting::FirstByte),
            since: Cell::new(now),
            requests: Cell::new(0),
            tunnels: Cell::new(0),
            multiplexed: Cell::new(false),
            old: now + age,
            told: Cell::new(false),
            draining: Cell::new(false),
            unread: Cell::new(false),
            allowed: Cell::new(Duration::ZERO),
            stopping: Cell::new(None),
            frames: Cell::new(FRAMES),
            frames_since: Cell::new(now),
            cut: Cell::new(None),
            blocked: Cell::new(false),
            asleep: Cell::new(false),
            had_body: Cell::new(false),
            waker: OnceCell::new(),
        }
    }

    /// Lets a task be woken when something happens to its connection elsewhere.
    pub(crate) fn listens(&self, waker: Waker) {
        // A connection has one task for as long as it lives.
        let _ = self.waker.set(waker);
    }

    fn wake(&self) {
        self.waker.get().inspect(|waker| waker.wake_by_ref());
    }

    /// Whether its socket takes no more for now.
    pub(crate) fn blocks(&self, blocked: bool) {
        self.blocked.set(blocked);
    }

    pub(crate) fn sleeps(&self, asleep: bool) {
        self.asleep.set(asleep);
    }

    /// A request began that has a body, or none.
    pub(crate) fn request_has_body(&self, has_body: bool) {
        self.had_body.set(has_body);
    }

    /// Whether it has rested for so long that its buffers may go. Never behind a body: hyper knows how
    /// much of it is left, and without hyper that would be read as the next request.
    pub(crate) fn falls_asleep(&self) -> bool {
        self.sleeps_at().is_some_and(|at| at <= Instant::now())
    }

    fn sleeps_at(&self) -> Option<Instant> {
        let rests = self.waiting.get() == Waiting::Idle && !self.multiplexed.get();
        let may = rests && !self.blocked.get() && !self.asleep.get() && !self.had_body.get();
        may.then(|| self.since.get() + AWAKE)
    }

    pub(crate) fn becomes_multiplexed(&self) {
        self.multiplexed.set(true);
    }

    /// A body was not read to its end, and nobody will: what is left of it is not waited for.
    pub(crate) fn leave_unread(&self) {
        self.unread.set(true);
    }

    pub(crate) fn left_unread(&self) -> bool {
        self.unread.get()
    }

    pub(crate) fn is_multiplexed(&self) -> bool {
        self.multiplexed.get()
    }

    pub(crate) fn handshake_began(&self) {
        self.wait_for(Waiting::Handshake);
    }

    /// The time for the first byte begins anew.
    pub(crate) fn handshake_ended(&self) {
        self.wait_for(Waiting::FirstByte);
    }

    pub(crate) fn bytes_arrived(&self) {
        let waiting = self.waiting.get();
        let begins = waiting == Waiting::FirstByte || waiting == Waiting::Idle;
        if begins && !(self.multiplexed.get() && waiting == Waiting::Idle) {
            self.wait_for(Waiting::Head);
        }
    }

    /// An HTTP/2 client sent so many frames that carry no part of a body, or did what counts for them.
    pub(crate) fn frames_arrived(&self, count: u32) {
        let left = self.frames.get().saturating_sub(count);
        self.frames.set(left);
        if left > 0 {
            return;
        }
        let now = Instant::now();
        let elapsed = now.duration_since(self.frames_since.replace(now));
        let due = u128::from(FRAMES_A_SECOND) * elapsed.as_millis() / 1000;
        self.frames.set(u32::try_from(due).unwrap_or(FRAMES).min(FRAMES));
        if self.frames.get() == 0 {
            self.cut(Rejected::Flood);
        }
    }

    fn allow_frames(&self, count: u32) {
        self.frames.set(self.frames.get().saturating_add(count).min(FRAMES_EARNED));
    }

    /// Ends it as soon as its task looks. HTTP/2 is told, but not waited for.
    fn cut(&self, why: Rejected) {
        self.cut.set(Some(why));
    }

    /// Why it was ended at once, if it was.
    pub(crate) fn cut_for(&self) -> Option<Rejected> {
        self.cut.get()
    }

    /// Whether nothing runs on it that somebody waits for, and nothing has for a while.
    fn rests(&self, now: Instant) -> bool {
        let rests = self.waiting.get() != Waiting::Requests && self.cut.get().is_none();
        rests && now.duration_since(self.since.get()) >= RESTED
    }

    /// A byte of a body moved, or a response began; gives when.
    pub(crate) fn progressed(&self) -> Instant {
        let now = Instant::now();
        self.since.set(now);
        now
    }

    /// Lets the requests in flight stand still for this long.
    pub(crate) fn allow(&self, stall: Duration) {
        self.allowed.set(self.allowed.get().max(stall));
    }

    /// Whether the next response on HTTP/1.1 should be the last of its connection.
    pub(crate) fn is_last(&self) -> bool {
        !self.multiplexed.get() && (self.draining.get() || Instant::now() >= self.old)
    }

    /// Whether the process is ending, and nothing new may begin.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get().is_some()
    }

    pub(crate) fn drain(&self) {
        self.draining.set(true);
    }

    pub(crate) fn stop(&self) {
        self.draining.set(true);
        if self.stopping.get().is_none() {
            self.stopping.set(Some(Instant::now()));
        }
    }

    /// A request ends, or what is left of it; gives whether the connection is idle now.
    fn ends_one(&self, now: impl FnOnce() -> Instant) -> bool {
        let left = self.requests.get().saturating_sub(1);
        self.requests.set(left);
        if left == 0 {
            self.allowed.set(Duration::ZERO);
            self.wait_since(Waiting::Idle, now());
        }
        left == 0
    }

    fn wait_for(&self, what: Waiting) {
        self.wait_since(what, Instant::now());
    }

    fn wait_since(&self, what: Waiting, now: Instant) {
        self.waiting.set(what);
        self.since.set(now);
    }

    /// When the timer has to look again.
    pub(crate) fn deadline(&self, limits: &Limits) -> Instant {
        let opened = matches!(self.waiting.get(), Waiting::Requests | Waiting::Idle);
        let farewell = self.multiplexed.get() && !self.told.get() && opened;
        let deadline = self.wait_ends(limits);
        let deadline = self.sleeps_at().map_or(deadline, |at| at.min(deadline));
        if farewell { deadline.min(self.old) } else { deadline }
    }

    fn wait_ends(&self, limits: &Limits) -> Instant {
        let (since, waiting) = (self.since.get(), self.waiting.get());
        match waiting {
            Waiting::Handshake => since + limits.handshake,
            Waiting::Head => since + limits.header_read,
            Waiting::Requests if self.tunnels.get() > 0 => since + limits.tunnel_stall(),
            Waiting::Requests => since + limits.stall().max(self.allowed.get()),
            Waiting::FirstByte => self.or_linger(since + limits.first_byte, limits),
            Waiting::Idle if self.told.get() => since + FAREWELL,
            Waiting::Idle => self.or_linger(since + limits.keep_alive_idle, limits),
        }
    }

    /// A silent connection of an ending process does not get its full time.
    fn or_linger(&self, deadline: Instant, limits: &Limits) -> Instant {
        let linger =
            self.stopping.get().map(|stopping| stopping.max(self.since.get()) + limits.linger);
        linger.map_or(deadline, |linger| linger.min(deadline))
    }

    /// What is due now.
    pub(crate) fn due(&self, limits: &Limits) -> Due {
        if let Some(why) = self.cut.get() {
            let tell = self.multiplexed.get() && !self.told.replace(true);
            return if tell { Due::Farewell } else { Due::Close(Close::Rejected(why)) };
        }
        let now = Instant::now();
        if self.farewell_is_due(now, limits) {
            self.told.set(true);
            if self.waiting.get() == Waiting::Idle {
                self.since.set(now);
            }
            return Due::Farewell;
        }
        if now < self.wait_ends(limits) {
            return Due::Nothing(self.deadline(limits));
        }
        Due::Close(match self.waiting.get() {
            Waiting::Handshake => Close::Rejected(Rejected::HandshakeTimeout),
            Waiting::FirstByte => Close::Rejected(Rejected::FirstByteTimeout),
            Waiting::Head => Close::Rejected(Rejected::HeaderTimeout),
            Waiting::Requests => Close::Rejected(Rejected::Stalled),
            Waiting::Idle => Close::Rested,
        })
    }

    /// Every connection is told when it has rested for too long. HTTP/2 is also told when it is old
    /// or the process ends, but not before its first request; HTTP/1.1 learns that from the
    /// response.
    fn farewell_is_due(&self, now: Instant, limits: &Limits) -> bool {
        let ends = self.multiplexed.get() && (self.draining.get() || now >= self.old);
        let due = match self.waiting.get() {
            Waiting::Handshake | Waiting::FirstByte | Waiting::Head => false,
            Waiting::Requests => ends,
            Waiting::Idle => ends || now >= self.wait_ends(limits),
        };
        due && !self.told.get()
    }
}

impl Limits {
    /// See [`Waits::stall`].
    fn stall(&self) -> Duration {
        Waits::of(self, None).stall(self.body_idle)
    }

    /// A tunnel watches its own silence, so this is only for what is behind it.
    fn tunnel_stall(&self) -> Duration {
        self.stall().max(self.tunnel_idle.saturating_mul(2))
    }
}

#[cfg(test)]
mod tests;
