//! Exchanges that go on for long: what admitted them is asked again when policies change.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use decision::{
    code::Code,
    decide::{Revoked, decide_again},
    denial::{Denial, DenialReason},
    disclosure::Disclosure,
    snapshot::Snapshot,
    standing::Standing,
    time::Timestamp,
};
use tokio::{
    sync::Notify,
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::{
    clock::timestamp,
    inputs::Current,
    record::{Case, Recorder},
    refused::{Refused, Unserved},
    tokens::TokenCache,
};

/// How often all are judged although no policy has changed: subscriptions expire by themselves.
const PACE: Duration = Duration::from_secs(10);

/// How many are judged before requests get their turn.
const BATCH: usize = 64;

/// A rest after each batch in which something was closed, so that not all clients come back at
/// once: 20,000 connections of a thread are closed within five seconds.
const SPREAD: Duration = Duration::from_millis(15);

/// What goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes of a switched protocol, both ways.
    Tunnel,
    /// A response that takes its time.
    Stream,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tunnel => "tunnel",
            Self::Stream => "response",
        }
    }
}

/// What judging again takes.
#[derive(Clone, Copy)]
pub(crate) struct Bench<'a> {
    pub(crate) snapshot: &'a Current<Snapshot>,
    pub(crate) tokens: &'a TokenCache,
    pub(crate) record: &'a Recorder,
}

impl Bench<'_> {
    /// Judges a request again that waits for its answer.
    ///
    /// # Errors
    /// If it would be refused now.
    pub(crate) fn again(self, standing: &mut Standing, case: &Case) -> Result<(), Refused> {
        self.judge(standing, now()).map_err(|revoked| refused(revoked, case))
    }

    fn judge(self, standing: &mut Standing, now: Timestamp) -> Result<(), Revoked> {
        let judged = self.snapshot.with(|snapshot| {
            // As with requests: a panic in there is a bug of ours, and a refusal of this one.
            catch_unwind(AssertUnwindSafe(|| decide_again(snapshot, standing, self.tokens, now)))
        });
        let bug = || Revoked::Denied(Box::new(Denial::of_request(DenialReason::JudgementFailed)));
        judged.unwrap_or_else(|_| Err(bug()))
    }
}

fn refused(revoked: Revoked, case: &Case) -> Refused {
    match revoked {
        Revoked::Denied(denial) => Refused::Denied(denial),
        Revoked::NotFound => Refused::Unserved(Unserved::new(
            Code::RouteNotFound,
            case.route().cloned(),
            "no route for the host and path any more",
        )),
    }
}

/// One thread's long exchanges.
#[derive(Default)]
pub(crate) struct Ongoing {
    entries: RefCell<HashMap<u64, Rc<Entry>>>,
    next: Cell<u64>,
    changed: Notify,
}

struct Entry {
    kind: Kind,
    case: Rc<Case>,
    standing: RefCell<Standing>,
    began: Instant,
    /// The code that ended it, as far as its client may know it.
    revoked: Cell<Option<Ended>>,
    waker: RefCell<Option<Waker>>,
}

/// How an exchange was ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Why, if policies let the client know.
    pub(crate) told: Option<Code>,
}

/// A place among the long exchanges; given up when it is dropped.
pub(crate) struct Enrolled {
    ongoing: Rc<Ongoing>,
    entry: Rc<Entry>,
    number: u64,
}

impl Enrolled {
    /// Whether it has to end. Wakes the caller once it has, and when the process begins to end.
    pub(crate) fn poll_ended(&self, context: &Context<'_>) -> Poll<Ended> {
        if let Some(ended) = self.entry.revoked.get() {
            return Poll::Ready(ended);
        }
        let mut waker = self.entry.waker.borrow_mut();
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Whether it has to end.
    pub(crate) fn has_ended(&self) -> bool {
        self.entry.revoked.get().is_some()
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        self.ongoing.entries.borrow_mut().remove(&self.number);
    }
}

impl Entry {
    /// The same, whatever the bugs of ours in there: a panic ends this one exchange.
    fn judge_or_end(&self, bench: Bench<'_>, now: Timestamp) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.judge(bench, now))).unwrap_or_else(|_| {
            self.revoked.set(Some(Ended { told: None }));
            self.wake();
            true
        })
    }

    /// True if it had to be ended.
    fn judge(&self, bench: Bench<'_>, now: Timestamp) -> bool {
        if self.revoked.get().is_some() {
            return false;
        }
        let judged = bench.judge(&mut self.standing.borrow_mut(), now);
        let Err(revoked) = judged else { return false };
        self.end(bench.record, refused(revoked, &self.case));
        true
    }

    fn end(&self, record: &Recorder, refused: Refused) {
        let told = match &refused {
            Refused::Denied(denial) if denial.disclosure == Disclosure::None => None,
            Refused::Denied(denial) => Some(denial.code()),
            Refused::Unserved(unserved) => Some(unserved.code),
        };
        record.counts.revoked.add();
        record.revoked(&self.case, &refused, self.kind.as_str(), self.began.elapsed());
        self.case.refused(refused);
        self.revoked.set(Some(Ended { told }));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

impl Ongoing {
    /// Judges a request that goes on, and again from now on. Nothing of the snapshot that admitted
    /// it is kept, so `case` has to be a detached one.
    pub(crate) fn enroll(
        self: &Rc<Self>,
        kind: Kind,
        case: Rc<Case>,
        standing: Standing,
        bench: Bench<'_>,
    ) -> Enrolled {
        let entry = Rc::new(Entry {
            kind,
            case,
            standing: RefCell::new(standing),
            began: Instant::now(),
            revoked: Cell::new(None),
            waker: RefCell::default(),
        });
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        // It may have begun under another snapshot than today's.
        entry.judge(bench, now());
        self.entries.borrow_mut().insert(number, Rc::clone(&entry));
        Enrolled { ongoing: Rc::clone(self), entry, number }
    }

    /// There is a newer snapshot.
    pub(crate) fn snapshot_changed(&self) {
        self.changed.notify_one();
    }

    /// Lets each look at what has become of the process.
    pub(crate) fn wake(&self) {
        self.entries.borrow().values().for_each(|entry| entry.wake());
    }

    /// Judges all of them whenever there is a newer snapshot, and now and then without.
    pub(crate) async fn follow(&self, bench: Bench<'_>) {
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.changed.notified() => {}
                _ = ticks.tick() => {}
            }
            self.judge(bench).await;
        }
    }

    async fn judge(&self, bench: Bench<'_>) {
        let entries: Vec<_> = self.entries.borrow().values().map(Rc::clone).collect();
        for batch in entries.chunks(BATCH) {
            let now = now();
            let closed = batch.iter().filter(|entry| entry.judge_or_end(bench, now)).count();
            if closed > 0 && entries.len() > BATCH {
                sleep(SPREAD).await;
            } else {
                yield_now().await;
            }
        }
    }
}

fn now() -> Timestamp {
    timestamp(SystemTime::now())
}
