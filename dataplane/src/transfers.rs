//! Bodies on their way to clients, looked at now and then: one that its client does not take is not
//! asked for more, and cannot look at a clock by itself.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use foldhash::fast::RandomState;
use tokio::{
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval},
};

/// How often all are looked at, at most.
const PACE: Duration = Duration::from_secs(1);

/// How many are looked at before requests get their turn.
const BATCH: usize = 64;

/// What is looked at.
pub(crate) trait Look {
    /// Does what is due.
    fn look(&self, now: Instant);
}

/// One thread's bodies that are not over yet.
#[derive(Default)]
pub(crate) struct Transfers(RefCell<HashMap<usize, Rc<dyn Look>, RandomState>>);

impl Transfers {
    /// Looks at this one from now on.
    pub(crate) fn watch(&self, one: Rc<impl Look + 'static>) {
        self.0.borrow_mut().insert(name(&one), one);
    }

    /// Not any more.
    pub(crate) fn forget(&self, one: &Rc<impl Look>) {
        self.0.borrow_mut().remove(&name(one));
    }

    /// Looks at all of them, for ever; those that last so `long` are to be seen soon after that.
    pub(crate) async fn follow(&self, long: Duration) {
        let mut ticks = interval((long / 4).clamp(Duration::from_millis(1), PACE));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let all: Vec<_> = self.0.borrow().values().map(Rc::clone).collect();
            for batch in all.chunks(BATCH) {
                let now = Instant::now();
                for one in batch {
                    one.look(now);
                }
                yield_now().await;
            }
        }
    }
}

/// Its address: unique as long as it is in the table, which holds a reference.
fn name<T>(one: &Rc<T>) -> usize {
    Rc::as_ptr(one).addr()
}
