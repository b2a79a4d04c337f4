//! The connections that are open, all of one thread.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use tokio::time::Instant;

use super::Progress;
use crate::metrics::Rejected;

/// The connections of one thread, to be woken when the process begins to end.
#[derive(Debug, Default)]
pub(crate) struct Open(RefCell<HashMap<usize, Rc<Progress>>>);

impl Open {
    pub(crate) fn insert(&self, progress: &Rc<Progress>) {
        self.0.borrow_mut().insert(Self::name(progress), Rc::clone(progress));
    }

    pub(crate) fn remove(&self, progress: &Rc<Progress>) {
        self.0.borrow_mut().remove(&Self::name(progress));
    }

    /// Tells every connection something, and lets each look at what it means.
    pub(crate) fn tell(&self, what: impl Fn(&Progress)) {
        for progress in self.0.borrow().values() {
            what(progress);
            progress.wake();
        }
    }

    /// Ends connections on which no request is being served, as many as `count`, those that have
    /// waited longest first. Gives how many there were.
    pub(crate) fn make_room(&self, count: usize) -> usize {
        let (open, now) = (self.0.borrow(), Instant::now());
        let mut resting: Vec<_> = open.values().filter(|progress| progress.rests(now)).collect();
        if count < resting.len() {
            resting.select_nth_unstable_by_key(count, |progress| progress.since.get());
            resting.truncate(count);
        }
        for progress in &resting {
            progress.cut(Rejected::TooManyConnections);
            progress.wake();
        }
        resting.len()
    }

    /// Its address: unique as long as it is in the table, which holds a reference.
    fn name(progress: &Rc<Progress>) -> usize {
        Rc::as_ptr(progress).addr()
    }
}
