//! Whose status it is where several releases see one object: each puts the name of its controller
//! into what it writes, and leaves alone what another one has more to say about.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use compile::{Status, conditions::Details};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::current::Key;

/// A status of another release that is wrong for so long is nobody's: that release is gone, or has
/// another name now.
const PATIENCE: Duration = Duration::from_mins(2);

const CONTROLLER_NAME: &str = "controllerName";

/// A status with the name of who writes it.
pub(super) fn signed(mut status: Value, controller: &str) -> Value {
    if let Some(fields) = status.as_object_mut() {
        fields.insert(CONTROLLER_NAME.to_owned(), json!(controller));
    }
    status
}

/// The other release that wrote a status; none if nobody says that it is his.
pub(super) fn other<'a>(standing: &'a Value, controller: &str) -> Option<&'a str> {
    let writer = standing.get(CONTROLLER_NAME).and_then(Value::as_str);
    writer.filter(|writer| *writer != controller)
}

/// A status that stands, and what this release would write instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    /// What is judged.
    pub(super) status: &'a Status,
    /// What stands, by whomever.
    pub(super) standing: Option<&'a Value>,
    /// What should stand if it is ours.
    pub(super) desired: &'a Value,
}

impl Case<'_> {
    /// Whether we know Ingresses that a policy names, and the other release knows none.
    fn is_taken_at_once(&self, standing: &Value) -> bool {
        let Details::Policy(policy) = &self.status.details else { return false };
        let theirs = standing.pointer("/targets/matched").and_then(Value::as_u64);
        // What we have judged may be older than what they have.
        observed(standing) <= self.status.generation
            && policy.matched > 0
            && theirs.unwrap_or(0) == 0
    }

    /// Whether another release that lives would not leave this standing.
    fn is_wrong(&self, standing: &Value) -> bool {
        if observed(standing) < self.status.generation {
            return true;
        }
        match &self.status.details {
            // All Ingresses that it names are ours.
            Details::Policy(policy) => policy.matched > 0 && !policy.names_others,
            // These depend on nothing that is of one release.
            Details::Plan(_) | Details::Subscription(_) => {
                unsigned(standing) != unsigned(self.desired)
            }
        }
    }
}

fn observed(status: &Value) -> Option<i64> {
    status.get("observedGeneration").and_then(Value::as_i64)
}

fn unsigned(status: &Value) -> Vec<(&String, &Value)> {
    let fields = status.as_object().into_iter().flatten();
    fields.filter(|(name, _)| *name != CONTROLLER_NAME).collect()
}

/// What is known of the statuses that other releases write.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Since when they are wrong.
    wrong: HashMap<Key, Instant>,
    /// The generations at which they were taken over because they were wrong: whoever takes one back
    /// lives and sees it otherwise, and to go on would never end.
    taken: HashMap<Key, Option<i64>>,
    /// Which of them somebody was told of.
    told: HashSet<Key>,
}

impl Claims {
    /// Whether the release of this controller is to write the status of an object.
    pub(super) fn is_ours(&mut self, key: &Key, case: Case<'_>, controller: &str) -> bool {
        let generation = case.status.generation;
        let foreign = case.standing.and_then(|it| Some((it, other(it, controller)?)));
        let Some((standing, other)) = foreign else {
            if self.wrong.remove(key).is_some() {
                self.taken.insert(key.clone(), generation);
            }
            self.told.remove(key);
            return true;
        };
        if case.is_taken_at_once(standing) {
            return true;
        }
        let has_targets =
            matches!(&case.status.details, Details::Policy(policy) if policy.matched > 0);
        if has_targets && self.told.insert(key.clone()) {
            let resource = &key.0;
            tracing::info!(%resource, controller = other, "Status of a policy is written by another release, which has Ingresses of it, too");
        }
        if self.taken.get(key) == Some(&generation) || !case.is_wrong(standing) {
            self.wrong.remove(key);
            return false;
        }
        let now = Instant::now();
        now.duration_since(*self.wrong.entry(key.clone()).or_insert(now)) >= PATIENCE
    }

    /// Forgets objects that are gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(&Key) -> bool) {
        self.wrong.retain(|key, _| is_there(key));
        self.taken.retain(|key, _| is_there(key));
        self.told.retain(is_there);
    }
}

#[cfg(test)]
mod tests {
    use compile::conditions::{PlanStatus, PolicyStatus};
    use decision::refs::{Kind, ResourceRef};
    use tokio::time::advance;

    use super::*;

    const US: &str = "example.com/us";

    fn status(details: Details) -> Status {
        let resource = ResourceRef::new(Kind::AccessPolicy, "shop", "office");
        Status { resource, generation: Some(4), conditions: Vec::new(), details }
    }

    fn policy(matched: u32, names_others: bool) -> Status {
        let reach = PolicyStatus { matched, names_others, ..PolicyStatus::default() };
        status(Details::Policy(reach))
    }

    /// A status of another release.
    fn theirs(generation: i64, matched: u32) -> Value {
        let status = json!({ "observedGeneration": generation, "targets": { "matched": matched } });
        signed(status, "example.com/them")
    }

    fn is_ours(claims: &mut Claims, status: &Status, standing: &Value) -> bool {
        let key = (status.resource.clone(), None);
        let desired = json!({ "observedGeneration": 4, "subscriptions": 1 });
        let case = Case { status, standing: Some(standing), desired: &desired };
        claims.is_ours(&key, case, US)
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_that_no_release_signed_or_ours_did_is_ours() {
        let mut claims = Claims::default();
        for standing in [json!({}), signed(theirs(4, 1), US)] {
            assert!(is_ours(&mut claims, &policy(0, true), &standing), "{standing}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_releases_the_one_with_ingresses_has_the_status_or_else_the_first() {
        let mut claims = Claims::default();
        for (ours, them, taken) in [(1, 0, true), (1, 1, false), (0, 1, false), (0, 0, false)] {
            for _ in 0..2 {
                let is_ours = is_ours(&mut claims, &policy(ours, true), &theirs(4, them));
                assert_eq!(is_ours, taken, "we know {ours} Ingresses, and they {them}");
                advance(PATIENCE * 2).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_gone_is_followed_after_two_minutes() {
        for (status, standing) in [
            (policy(0, true), theirs(3, 1)),
            (policy(1, false), theirs(4, 1)),
            (status(Details::Plan(PlanStatus::default())), theirs(4, 0)),
        ] {
            let mut claims = Claims::default();
            assert!(!is_ours(&mut claims, &status, &standing));
            advance(PATIENCE / 2).await;
            assert!(!is_ours(&mut claims, &status, &standing));
            advance(PATIENCE / 2).await;
            assert!(is_ours(&mut claims, &status, &standing), "{standing}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_wrong_and_right_again_has_not_gone() {
        let mut claims = Claims::default();
        let policy = policy(0, true);
        for generation in [3, 4, 3] {
            assert!(!is_ours(&mut claims, &policy, &theirs(generation, 1)));
            advance(PATIENCE / 2).await;
        }
        assert!(!is_ours(&mut claims, &policy, &theirs(3, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_that_is_taken_back_stays_until_the_object_changes() {
        let (mut claims, mut policy) = (Claims::default(), policy(1, false));
        let standing = theirs(4, 1);
        assert!(!is_ours(&mut claims, &policy, &standing));
        advance(PATIENCE).await;
        assert!(is_ours(&mut claims, &policy, &standing), "and again, if it could not be written");
        assert!(is_ours(&mut claims, &policy, &standing));
        assert!(is_ours(&mut claims, &policy, &signed(standing.clone(), US)));
        for _ in 0..3 {
            assert!(!is_ours(&mut claims, &policy, &standing));
            advance(PATIENCE).await;
        }
        policy.generation = Some(5);
        assert!(!is_ours(&mut claims, &policy, &standing));
        advance(PATIENCE).await;
        assert!(is_ours(&mut claims, &policy, &standing));
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_of_which_both_say_the_same_is_left_to_the_other() {
        let mut claims = Claims::default();
        let plan = status(Details::Plan(PlanStatus::default()));
        let standing = json!({ "observedGeneration": 4, "subscriptions": 1 });
        let standing = signed(standing, "example.com/them");
        for _ in 0..2 {
            assert!(!is_ours(&mut claims, &plan, &standing));
            advance(PATIENCE).await;
        }
    }
}
