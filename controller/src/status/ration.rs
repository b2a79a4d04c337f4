//! Which policies get a write of their status for nothing but their refusals: few, and in turn.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::denials::{budget::Budget, page::Policy};

/// From one such write of a policy to the next.
const DISTANCE: Duration = Duration::from_secs(30);
/// Most such writes in a minute.
const PER_MINUTE: u32 = 60;
/// Most of them at once.
const BURST: u32 = 25;

/// A status that waits for its turn.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Whose it is.
    pub(super) key: Policy,
    /// What is to be written.
    pub(super) later: Later,
}

/// A status that differs from the one that stands by nothing but the refusals.
#[derive(Debug, PartialEq)]
pub(super) struct Later {
    /// The whole status.
    pub(super) status: Value,
    /// Whether it says no more than that nothing was refused, where nothing was said before.
    is_first: bool,
}

/// Divides what should stand into what is written at once, and what may wait. `digest` is what was
/// refused, if that is known; otherwise what stands there stays.
pub(super) fn divide(
    desired: Value,
    before: Option<&Value>,
    digest: Option<Value>,
) -> (Value, Option<Later>) {
    let stands = before.and_then(|status| status.get("denials"));
    let kept = with(desired.clone(), stands.cloned());
    let Some(digest) = digest else { return (kept, None) };
    let status = with(desired, Some(digest.clone()));
    if before != Some(&kept) {
        // There is a write in any case.
        return (status, None);
    }
    let is_first = stands.is_none() && digest.get("top").is_none() && is_zero(&digest);
    let later = (stands != Some(&digest)).then_some(Later { status, is_first });
    (kept, later)
}

fn with(mut status: Value, denials: Option<Value>) -> Value {
    if let (Some(fields), Some(denials)) = (status.as_object_mut(), denials) {
        fields.insert("denials".to_owned(), denials);
    }
    status
}

fn is_zero(digest: &Value) -> bool {
    let zero = json!(0);
    digest.get("lastHour") == Some(&zero) && digest.pointer("/shadow/wouldDeny") == Some(&zero)
}

/// The budget of these writes, and when each policy had one.
#[derive(Debug)]
pub(super) struct Ration {
    begun: Instant,
    budget: Budget,
    written: HashMap<Policy, Duration>,
}

impl Default for Ration {
    fn default() -> Self {
        let (begun, budget) = (Instant::now(), Budget::new(PER_MINUTE, BURST));
        Self { begun, budget, written: HashMap::new() }
    }
}

impl Ration {
    /// The most urgent of those that wait, if there is a write for it. It counts as written,
    /// whatever comes of it.
    ///
    /// Whoever has waited longest goes first, but a namespace that has had half of the last minute
    /// waits for the others, and who has nothing to say for all.
    pub(super) fn next(&mut self, waiting: &mut Vec<Waiting>) -> Option<Waiting> {
        self.next_at(waiting, self.begun.elapsed())
    }

    /// Forgets policies that are gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(&Policy) -> bool) {
        self.written.retain(|key, _| is_there(key));
    }

    fn next_at(&mut self, waiting: &mut Vec<Waiting>, now: Duration) -> Option<Waiting> {
        if waiting.is_empty() || !self.budget.has_room(now) {
            return None;
        }
        let mut shares: HashMap<&str, usize> = HashMap::new();
        let due = waiting.iter().enumerate().filter_map(|(place, Waiting { key, later })| {
            let written = self.written.get(key).copied();
            let is_due = written.is_none_or(|at| now.saturating_sub(at) >= DISTANCE);
            is_due.then_some((place, key, later, written))
        });
        let next = due.min_by_key(|(_, (resource, _), later, written)| {
            let namespace = &*resource.namespace;
            let share = shares.entry(namespace).or_insert_with(|| self.budget.share(namespace));
            (later.is_first, self.budget.is_greedy(*share), *written)
        });
        let place = next.map(|(place, ..)| place)?;
        let next = waiting.swap_remove(place);
        self.budget.take(&next.key.0.namespace, now);
        self.written.insert(next.key.clone(), now);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use decision::refs::{Kind, ResourceRef};

    use super::*;

    fn digest(count: u64) -> Value {
        json!({ "lastHour": count, "shadow": { "wouldDeny": 0 } })
    }

    fn waiting(namespace: &str, name: &str, is_first: bool) -> Waiting {
        let key = (ResourceRef::new(Kind::AccessPolicy, namespace, name), None);
        Waiting { key, later: Later { status: json!({}), is_first } }
    }

    fn written(ration: &mut Ration, mut all: Vec<Waiting>, second: u64) -> Vec<String> {
        let now = Duration::from_secs(second);
        let next = || ration.next_at(&mut all, now).map(|next| next.key.0.path().to_string());
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn refusals_alone_wait_and_go_along_with_whatever_is_written_anyhow() {
        let (old, new) = (json!({ "observedGeneration": 1 }), json!({ "observedGeneration": 2 }));
        let stands = with(old.clone(), Some(digest(3)));
        let (at_once, later) = divide(old.clone(), Some(&stands), Some(digest(4)));
        assert_eq!(at_once, stands);
        let status = with(old, Some(digest(4)));
        assert_eq!(later, Some(Later { status, is_first: false }));
        let (at_once, later) = divide(new.clone(), Some(&stands), Some(digest(4)));
        assert_eq!((at_once, later), (with(new.clone(), Some(digest(4))), None));
        let (at_once, later) = divide(new.clone(), None, Some(digest(0)));
        assert_eq!((at_once, later), (with(new, Some(digest(0))), None));
    }

    #[test]
    fn as_long_as_nobody_knows_the_sums_they_stay_as_they_are() {
        let desired = json!({ "observedGeneration": 2 });
        let stands = json!({ "observedGeneration": 1, "denials": digest(3) });
        let (at_once, later) = divide(desired.clone(), Some(&stands), None);
        assert_eq!((at_once, later), (with(desired.clone(), Some(digest(3))), None));
        assert_eq!(divide(desired.clone(), None, None), (desired, None));
    }

    #[test]
    fn a_policy_is_written_once_in_30_seconds_and_no_minute_has_more_than_60() {
        let mut ration = Ration::default();
        let one = || vec![waiting("shop", "office", false)];
        assert_eq!(written(&mut ration, one(), 0), ["shop/office"]);
        assert!(written(&mut ration, one(), 29).is_empty());
        assert_eq!(written(&mut ration, one(), 30), ["shop/office"]);

        let mut ration = Ration::default();
        let all = || (0..500).map(|one| waiting("shop", &one.to_string(), false)).collect();
        let mut seen = std::collections::HashSet::new();
        let mut count = 0;
        for second in 0..60 {
            let names = written(&mut ration, all(), second);
            count += names.len();
            seen.extend(names);
        }
        assert_eq!((count, seen.len()), (60, 60), "each once before any twice");
    }

    #[test]
    fn who_has_nothing_to_say_waits_for_all_and_who_had_much_for_the_others() {
        let mut ration = Ration::default();
        let nothing = || waiting("a", "nothing", true);
        let two = vec![nothing(), waiting("b", "refusals", false)];
        assert_eq!(written(&mut ration, two, 0), ["b/refusals", "a/nothing"]);

        let mut ration = Ration::default();
        let loud = |names: std::ops::Range<usize>| {
            names.map(|one| waiting("loud", &one.to_string(), false)).collect::<Vec<_>>()
        };
        written(&mut ration, loud(0..25), 0);
        written(&mut ration, loud(25..50), 10);
        let mut all = loud(50..100);
        all.push(waiting("quiet", "office", false));
        assert_eq!(written(&mut ration, all, 11), ["quiet/office"]);
    }
}
