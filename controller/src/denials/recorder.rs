//! From exact totals to the last hour of each policy that there is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use compile::{Resources, reference};
use dataplane::{DenialKey, DenialSample};
use decision::refs::{Kind, ResourceRef};
use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};

use crate::{
    denials::{aggregate::Moment, hour::Hour},
    pipeline::Outcome,
};

/// The hour that one writes and another tells of, and the clock that it goes by.
#[derive(Debug)]
pub struct SharedHour {
    begun: Instant,
    hour: Mutex<Hour>,
}

impl Default for SharedHour {
    fn default() -> Self {
        Self { begun: Instant::now(), hour: Mutex::default() }
    }
}

impl SharedHour {
    /// The hour, and what time it is there.
    pub(crate) fn open(&self) -> (MutexGuard<'_, Hour>, Moment) {
        let hour = self.hour.lock().unwrap_or_else(PoisonError::into_inner);
        (hour, Moment { elapsed: self.begun.elapsed(), wall: Timestamp::now() })
    }
}

/// Writes what is counted into the hour.
#[derive(Debug)]
pub struct Recorder {
    hour: Arc<SharedHour>,
    outcome: watch::Receiver<Option<Arc<Outcome>>>,
    /// The policies of these resources, each with its uid.
    of: Option<Arc<Resources>>,
    policies: HashMap<ResourceRef, Option<String>>,
}

impl Recorder {
    /// Counts for the policies of the newest outcome.
    pub fn new(hour: Arc<SharedHour>, outcome: watch::Receiver<Option<Arc<Outcome>>>) -> Self {
        Self { hour, outcome, of: None, policies: HashMap::new() }
    }

    /// Takes exact totals and samples. Totals are read before the policies are looked up: a policy
    /// that refuses is known by then.
    pub(crate) fn record(&mut self, totals: &[(Arc<DenialKey>, u64)], samples: &[DenialSample]) {
        let others = self.refresh();
        let policies = &self.policies;
        let (mut hour, now) = self.hour.open();
        if others {
            hour.retain(|(policy, uid)| policies.get(policy) == Some(uid));
        }
        hour.count(totals, samples, now, |key| {
            let policy = key.policy.as_ref()?;
            Some((policy.clone(), policies.get(policy)?.clone()))
        });
    }

    /// Tells whether there are other policies now.
    fn refresh(&mut self) -> bool {
        let newest = self.outcome.borrow().clone();
        let Some(resources) = newest.map(|outcome| Arc::clone(&outcome.resources)) else {
            return false;
        };
        if self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &resources)) {
            return false;
        }
        let policies = resources.access_policies.iter().map(|policy| {
            (reference(Kind::AccessPolicy, &policy.metadata), policy.metadata.uid.clone())
        });
        self.policies = policies.collect();
        self.of = Some(resources);
        true
    }
}
