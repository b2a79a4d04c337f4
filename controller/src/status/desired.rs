//! A desired status as the API server stores it: pure, the clock is an argument.

use compile::{
    Status,
    conditions::{Condition, Details},
};
use decision::time::Timestamp as Seconds;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// How many replicas of the release do not enforce an object as we do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lag {
    /// Those that do not.
    pub(super) behind: usize,
    /// All that live, this one included.
    pub(super) replicas: usize,
}

/// The status of an object of ours, given the one that stands: a condition that stays keeps its
/// time.
pub(super) fn status(desired: &Status, before: Option<&Value>, lag: Lag, now: Timestamp) -> Value {
    let seconds = Seconds(now.as_second());
    let conditions = desired.conditions_at(seconds);
    let mut all: Vec<Value> = conditions
        .iter()
        .map(|it| condition(desired, it.type_, it.status, it.reason, &it.message, before, now))
        .collect();
    let mut status = Map::new();
    if let Some(generation) = desired.generation {
        status.insert("observedGeneration".to_owned(), json!(generation));
    }
    match &desired.details {
        Details::Policy(policy) => {
            let waits = !stands(desired, before);
            let (held, reason, message) = programmed(&conditions, lag, waits);
            all.push(condition(desired, "Programmed", held, reason, &message, before, now));
            let targets = json!({
                "matched": policy.matched, "hosts": policy.hosts, "paths": policy.paths,
            });
            status.insert("targets".to_owned(), targets);
        }
        Details::Plan(plan) => {
            status.insert("subscriptions".to_owned(), json!(plan.active_at(seconds)));
        }
        Details::Subscription(subscription) => {
            status.insert("state".to_owned(), json!(subscription.state_at(seconds)));
        }
    }
    status.insert("conditions".to_owned(), Value::Array(all));
    Value::Object(status)
}

/// Whether it was said of this very generation that every replica enforces it. None of them falls
/// back behind that: a replica that lags now lags with something else, and one that has just been
/// started gets no traffic before it enforces everything.
fn stands(desired: &Status, before: Option<&Value>) -> bool {
    let conditions = before.and_then(|status| status.get("conditions")).and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        let is =
            |field: &str, value: &str| condition.get(field).and_then(Value::as_str) == Some(value);
        let generation = condition.get("observedGeneration").and_then(Value::as_i64);
        is("type", "Programmed") && is("status", "True") && generation == desired.generation
    })
}

/// Statuses are written once every data thread has the snapshot, so what is accepted is enforced
/// here; other replicas may lag, if the condition `waits` for them.
fn programmed(conditions: &[Condition], lag: Lag, waits: bool) -> (bool, &'static str, String) {
    let Lag { behind, replicas } = lag;
    let accepted = conditions.iter().find(|condition| condition.type_ == "Accepted");
    if !accepted.is_some_and(|accepted| accepted.status) {
        let message = "the policy is not accepted; see the condition Accepted";
        return (false, "NotAccepted", message.to_owned());
    }
    if waits && behind > 0 {
        return (false, "ReplicasBehind", format!("{behind} of {replicas} replicas behind"));
    }
    (true, "Programmed", "the proxy enforces this generation".to_owned())
}

fn condition(
    desired: &Status,
    type_: &str,
    held: bool,
    reason: &str,
    message: &str,
    before: Option<&Value>,
    now: Timestamp,
) -> Value {
    let held = if held { "True" } else { "False" };
    let conditions = before.and_then(|status| status.get("conditions")).and_then(Value::as_array);
    let same = conditions.into_iter().flatten().find(|condition| {
        let is =
            |field: &str, value: &str| condition.get(field).and_then(Value::as_str) == Some(value);
        is("type", type_) && is("status", held)
    });
    let since = same.and_then(|condition| condition.get("lastTransitionTime")).cloned();
    let mut condition = json!({
        "type": type_,
        "status": held,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since.unwrap_or_else(|| json!(whole_seconds(now))),
    });
    if let (Some(generation), Some(fields)) = (desired.generation, condition.as_object_mut()) {
        fields.insert("observedGeneration".to_owned(), json!(generation));
    }
    condition
}

/// RFC 3339 without fractions, as the API server stores times.
fn whole_seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests {
    use compile::conditions::{PolicyStatus, SubscriptionStatus};
    use decision::{
        refs::{Kind, ResourceRef},
        subscription::State,
    };

    use super::*;

    fn policy(accepted: bool) -> Status {
        let (reason, message) = ("Accepted", "applies to 1 Ingress".to_owned());
        Status {
            resource: ResourceRef::new(Kind::AccessPolicy, "shop", "office"),
            generation: Some(4),
            conditions: vec![Condition { type_: "Accepted", status: accepted, reason, message }],
            details: Details::Policy(PolicyStatus {
                matched: 1,
                hosts: 1,
                paths: 2,
                names_others: false,
            }),
        }
    }

    const ALL: Lag = Lag { behind: 0, replicas: 3 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn times(status: &Value) -> Vec<&str> {
        let conditions = status["conditions"].as_array().unwrap();
        conditions.iter().map(|it| it["lastTransitionTime"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_status_that_stays_is_written_once() {
        let first = status(&policy(true), None, ALL, at(1_000));
        assert_eq!(status(&policy(true), Some(&first), ALL, at(2_000)), first);
    }

    #[test]
    fn a_condition_that_turns_gets_a_new_time() {
        let first = status(&policy(true), None, ALL, at(0));
        let second = status(&policy(false), Some(&first), ALL, at(60));
        assert_eq!(times(&first), ["1970-01-01T00:00:00Z"; 2]);
        assert_eq!(times(&second), ["1970-01-01T00:01:00Z"; 2]);
        assert_eq!(second["conditions"][1]["reason"], "NotAccepted");
    }

    #[test]
    fn a_policy_is_programmed_once_every_replica_enforces_it() {
        let lag = Lag { behind: 1, replicas: 3 };
        let waiting = status(&policy(true), None, lag, at(0));
        assert_eq!(waiting["conditions"][1]["status"], "False");
        assert_eq!(waiting["conditions"][1]["message"], "1 of 3 replicas behind");
        let done = status(&policy(true), Some(&waiting), ALL, at(9));
        assert_eq!(done["conditions"][1]["status"], "True");
        assert_eq!(times(&done), ["1970-01-01T00:00:00Z", "1970-01-01T00:00:09Z"]);
    }

    #[test]
    fn a_policy_that_is_programmed_stays_so_until_it_changes() {
        let lag = Lag { behind: 4, replicas: 5 };
        let done = status(&policy(true), None, ALL, at(0));
        assert_eq!(status(&policy(true), Some(&done), lag, at(9)), done);
        let changed = Status { generation: Some(5), ..policy(true) };
        let waiting = status(&changed, Some(&done), lag, at(9));
        assert_eq!(waiting["conditions"][1]["message"], "4 of 5 replicas behind");
        let refused = status(&policy(false), Some(&done), lag, at(9));
        assert_eq!(refused["conditions"][1]["reason"], "NotAccepted");
        let again = status(&policy(true), Some(&refused), lag, at(9));
        assert_eq!(again["conditions"][1]["reason"], "ReplicasBehind");
    }

    #[test]
    fn a_subscription_expires_without_a_change() {
        let state = State::Active { expires: Some(Seconds(100)) };
        let subscription = Status {
            resource: ResourceRef::new(Kind::AccessSubscription, "acme", "mobile"),
            generation: Some(1),
            conditions: Vec::new(),
            details: Details::Subscription(SubscriptionStatus { state }),
        };
        assert_eq!(status(&subscription, None, ALL, at(99))["state"], "Active");
        let expired = status(&subscription, None, ALL, at(100));
        assert_eq!(expired["state"], "Expired");
        assert_eq!(expired["conditions"][0]["status"], "False");
    }
}
