//! What this replica counted in the last hour, policy by policy: pure, the clock is an argument.
//!
//! Steps are told apart by the time since the start, so a wall clock that is set moves nothing.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use dataplane::{DenialKey, DenialSample};

use crate::denials::{
    aggregate::Moment,
    page::{Cause, HOUR, Line, Page, Policy, STEP, STEPS},
};

/// Most policies with refusals in the hour. What others refuse is not counted here.
const POLICIES: usize = 2_000;
/// Most of them in one namespace, so that none takes the room of the others.
const SHARE: usize = 500;
/// Most causes of a policy that are counted one by one; the rest is counted together.
const CAUSES: usize = 16;

/// What was counted in the last hour.
#[derive(Debug, Default)]
pub struct Hour {
    policies: HashMap<Policy, Causes>,
    /// How many of them each namespace has.
    shares: HashMap<Arc<str>, usize>,
    /// The totals that were counted already.
    counted: HashMap<Arc<DenialKey>, u64>,
    changes: u64,
    is_short: bool,
}

impl Hour {
    /// Counts what the exact totals have grown by. `policy_of` names the policy as it is now; what
    /// belongs to none, or to one that is gone, is nobody's status.
    pub fn count(
        &mut self,
        totals: &[(Arc<DenialKey>, u64)],
        samples: &[DenialSample],
        now: Moment,
        policy_of: impl Fn(&DenialKey) -> Option<Policy>,
    ) {
        let before = mem::take(&mut self.counted);
        for (key, total) in totals.iter().filter(|(key, _)| key.policy.is_some()) {
            // A total that is lower than before was forgotten, and begins anew.
            let known = before.get(key).filter(|known| *known <= total);
            let more = total - known.copied().unwrap_or_default();
            self.counted.insert(Arc::clone(key), *total);
            if more > 0
                && let Some(policy) = policy_of(key)
            {
                self.add(policy, cause_of(key), step_of(now.elapsed), more, now.wall.as_second());
            }
        }
        for sample in samples {
            if let Some(causes) = policy_of(&sample.key).and_then(|it| self.policies.get_mut(&it)) {
                causes.observe(&cause_of(&sample.key), sample.id.to_string());
            }
        }
    }

    /// Goes on where an earlier run of this replica ended that wrote a page `age` ago.
    pub fn adopt(&mut self, page: &Page, age: Duration, now: Moment) {
        let living = page.living(age);
        for (policy, lines) in &page.policies {
            for line in lines {
                for (place, more) in line.counts.iter().take(living).enumerate() {
                    let began = (now.elapsed + HOUR).saturating_sub(page.age_of(place, age));
                    let step = began.as_secs() / STEP.as_secs();
                    self.add(policy.clone(), line.cause.clone(), step, *more, line.last);
                }
                let causes = self.policies.get_mut(policy);
                if let (Some(causes), Some(id)) = (causes, &line.id) {
                    causes.observe(&line.cause, id.clone());
                }
            }
        }
    }

    /// Forgets policies that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&Policy) -> bool) {
        self.policies.retain(|policy, _| is_there(policy));
        self.share_again();
    }

    /// What stands now. What is older than an hour is forgotten.
    pub fn page(&mut self, now: Moment) -> Page {
        let step = step_of(now.elapsed);
        for causes in self.policies.values_mut() {
            causes.0.retain(|_, counted| !counted.steps.until(step).is_empty());
        }
        self.policies.retain(|_, causes| !causes.0.is_empty());
        self.share_again();
        let policies = self.policies.iter();
        let lines = |causes: &Causes| -> Vec<Line> {
            let lines = causes.0.iter().map(|(cause, counted)| Line {
                cause: cause.clone(),
                counts: counted.steps.until(step),
                last: counted.last,
                id: counted.id.clone(),
            });
            lines.collect()
        };
        Page {
            at: now.wall.as_second(),
            into: now.elapsed.as_secs() % STEP.as_secs(),
            policies: policies.map(|(policy, causes)| (policy.clone(), lines(causes))).collect(),
        }
    }

    /// Grows whenever something was counted.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether there ever was a policy without room.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    fn add(&mut self, policy: Policy, cause: Cause, step: u64, more: u64, last: i64) {
        if more == 0 {
            return;
        }
        if !self.policies.contains_key(&policy) {
            let share = self.shares.entry(Arc::clone(&policy.0.namespace)).or_default();
            if *share >= SHARE || self.policies.len() >= POLICIES {
                self.is_short = true;
                return;
            }
            *share += 1;
        }
        self.changes = self.changes.saturating_add(1);
        self.policies.entry(policy).or_default().add(cause, step, more, last);
    }

    fn share_again(&mut self) {
        self.shares.clear();
        for (policy, _) in self.policies.keys() {
            *self.shares.entry(Arc::clone(&policy.namespace)).or_default() += 1;
        }
    }
}

fn cause_of(key: &DenialKey) -> Cause {
    Cause { rule: key.rule.clone(), code: Some(key.code), shadow: key.shadow }
}

/// An hour ahead, so that there are steps for what an earlier run counted.
fn step_of(elapsed: Duration) -> u64 {
    (elapsed + HOUR).as_secs() / STEP.as_secs()
}

/// What one policy refused.
#[derive(Debug, Default)]
struct Causes(BTreeMap<Cause, Counted>);

#[derive(Debug, Default)]
struct Counted {
    steps: Steps,
    last: i64,
    id: Option<String>,
}

impl Causes {
    fn add(&mut self, cause: Cause, step: u64, more: u64, last: i64) {
        if cause.code.is_some() && !self.0.contains_key(&cause) {
            self.make_room();
        }
        let counted = self.0.entry(cause).or_default();
        counted.steps.add(step, more);
        counted.last = counted.last.max(last);
    }

    /// The rarest of too many causes is counted with the rest from now on: what is frequent keeps
    /// its line, however many others there are.
    fn make_room(&mut self) {
        let named = self.0.iter().filter(|(cause, _)| cause.code.is_some());
        if named.clone().count() < CAUSES {
            return;
        }
        let rarest = named.min_by_key(|(_, counted)| counted.steps.sum());
        let Some(rarest) = rarest.map(|(cause, _)| cause.clone()) else { return };
        let Some(counted) = self.0.remove(&rarest) else { return };
        let rest = Cause { rule: None, code: None, shadow: rarest.shadow };
        let rest = self.0.entry(rest).or_default();
        rest.steps.merge(&counted.steps);
        rest.last = rest.last.max(counted.last);
    }

    /// Ids are sorted by time.
    fn observe(&mut self, cause: &Cause, id: String) {
        if let Some(counted) = self.0.get_mut(cause)
            && counted.id.as_ref().is_none_or(|known| *known < id)
        {
            counted.id = Some(id);
        }
    }
}

/// Counts of the last steps, the newest first.
#[derive(Debug, Default)]
struct Steps {
    newest: u64,
    counts: VecDeque<u64>,
}

impl Steps {
    fn add(&mut self, step: u64, more: u64) {
        let ahead = usize::try_from(step.saturating_sub(self.newest)).unwrap_or(usize::MAX);
        for _ in 0..ahead.min(STEPS) {
            self.counts.push_front(0);
        }
        self.newest = self.newest.max(step);
        self.counts.resize(STEPS, 0);
        let place = usize::try_from(self.newest - step).unwrap_or(usize::MAX);
        if let Some(count) = self.counts.get_mut(place) {
            *count = count.saturating_add(more);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (count, back) in other.counts.iter().zip(0..) {
            self.add(other.newest.saturating_sub(back), *count);
        }
    }

    fn sum(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The counts of an hour that ends with this step, without zeros at the end.
    fn until(&self, step: u64) -> Vec<u64> {
        let ahead = usize::try_from(step.saturating_sub(self.newest)).unwrap_or(usize::MAX);
        let since = std::iter::repeat_n(0, ahead.min(STEPS));
        let mut counts: Vec<_> = since.chain(self.counts.iter().copied()).take(STEPS).collect();
        while counts.last() == Some(&0) {
            counts.pop();
        }
        counts
    }
}

#[cfg(test)]
mod tests;
