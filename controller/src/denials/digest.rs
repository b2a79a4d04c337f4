//! The sum over all replicas, as it stands in the status of policies: pure.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crds::{Denials, ShadowDenials, Time, TopDenial};
use jiff::Timestamp;

use crate::denials::page::{Cause, Line, Page, Policy};

/// So many causes are named in a status.
const TOP: usize = 5;

/// What each policy refused in the last hour; those that are not in it refused nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests(HashMap<Policy, Denials>);

impl Digests {
    /// Sums the pages of all replicas, each with the time since it was written.
    pub fn of<'a>(pages: impl IntoIterator<Item = (&'a Page, Duration)>) -> Self {
        let mut sums: HashMap<&Policy, Sums<'_>> = HashMap::new();
        for (page, age) in pages {
            let living = page.living(age);
            for (policy, lines) in &page.policies {
                let sums = sums.entry(policy).or_default();
                for line in lines {
                    sums.add(line, living);
                }
            }
        }
        let sums = sums.into_iter().filter(|(_, sums)| !sums.0.is_empty());
        Self(sums.map(|(policy, sums)| (policy.clone(), sums.digest())).collect())
    }

    /// What one policy refused.
    pub fn of_policy(&self, policy: &Policy) -> Denials {
        self.0.get(policy).cloned().unwrap_or_else(|| Sums::default().digest())
    }
}

/// What one policy refused, by cause.
#[derive(Default)]
struct Sums<'a>(BTreeMap<&'a Cause, Sum<'a>>);

#[derive(Clone, Copy)]
struct Sum<'a> {
    count: u64,
    last: i64,
    id: Option<&'a str>,
}

impl<'a> Sums<'a> {
    fn add(&mut self, line: &'a Line, living: usize) {
        let counts = line.counts.iter().take(living);
        let count = counts.fold(0_u64, |sum, count| sum.saturating_add(*count));
        if count == 0 {
            return;
        }
        let new = Sum { count: 0, last: i64::MIN, id: None };
        let sum = self.0.entry(&line.cause).or_insert(new);
        sum.count = sum.count.saturating_add(count);
        if line.last >= sum.last {
            sum.last = line.last;
            sum.id = line.id.as_deref().or(sum.id);
        }
    }

    fn digest(&self) -> Denials {
        let count = |shadow| {
            let sums = self.0.iter().filter(|(cause, _)| cause.shadow == shadow);
            let sum = sums.fold(0_u64, |all, (_, sum)| all.saturating_add(sum.count));
            // Numbers in a status have 64 bits with a sign.
            sum.min(i64::MAX.unsigned_abs())
        };
        let refused = self.0.iter().filter(|(cause, _)| !cause.shadow);
        let mut named: Vec<_> = refused
            .filter_map(|(cause, sum)| Some((cause.rule.as_deref(), cause.code?.as_str(), *sum)))
            .collect();
        let last = named.iter().max_by_key(|(.., sum)| sum.last);
        let last_reason = last.map(|(_, code, _)| (*code).to_owned());
        named.sort_by_key(|(.., sum)| std::cmp::Reverse((sum.count, sum.last)));
        Denials {
            last_hour: count(false),
            last_reason,
            top: named.into_iter().take(TOP).map(top).collect(),
            shadow: Some(ShadowDenials { would_deny: count(true) }),
        }
    }
}

fn top((rule, reason, sum): (Option<&str>, &'static str, Sum<'_>)) -> TopDenial {
    TopDenial {
        rule: rule.map(str::to_owned),
        reason: reason.to_owned(),
        count: sum.count.min(i64::MAX.unsigned_abs()),
        last_seen: Time(Timestamp::from_second(sum.last).unwrap_or_default()),
        last_decision: sum.id.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use decision::{
        code::Code,
        refs::{Kind, ResourceRef},
    };
    use serde_json::json;

    use super::*;

    fn policy(name: &str, uid: &str) -> Policy {
        (ResourceRef::new(Kind::AccessPolicy, "shop", name), Some(uid.to_owned()))
    }

    fn line(rule: &str, code: Code, shadow: bool, counts: &[u64], last: i64) -> Line {
        let cause = Cause { rule: Some(rule.into()), code: Some(code), shadow };
        Line { cause, counts: counts.to_vec(), last, id: Some(format!("id{last}")) }
    }

    fn page(policy: Policy, lines: Vec<Line>) -> Page {
        Page { at: 0, into: 0, policies: [(policy, lines)].into() }
    }

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn the_replicas_are_summed_cause_by_cause() {
        let office = policy("office", "1");
        let first = page(
            office.clone(),
            vec![
                line("vpn", Code::AddressNotAllowed, false, &[2, 0, 10], 50),
                line("trial", Code::MethodRefused, true, &[7], 90),
            ],
        );
        let second = page(
            office.clone(),
            vec![
                line("vpn", Code::AddressNotAllowed, false, &[1], 60),
                line("read", Code::MethodRefused, false, &[1], 70),
            ],
        );
        let digest = Digests::of([(&first, NOW), (&second, NOW)]).of_policy(&office);
        let expected = json!({
            "lastHour": 14,
            "lastReason": "MethodRefused",
            "top": [
                { "rule": "vpn", "reason": "AddressNotAllowed", "count": 13,
                  "lastSeen": "1970-01-01T00:01:00Z", "lastDecision": "id60" },
                { "rule": "read", "reason": "MethodRefused", "count": 1,
                  "lastSeen": "1970-01-01T00:01:10Z", "lastDecision": "id70" },
            ],
            "shadow": { "wouldDeny": 7 },
        });
        assert_eq!(json!(digest), expected);
    }

    #[test]
    fn a_sum_decays_when_nothing_is_refused_any_more() {
        let office = policy("office", "1");
        let page =
            page(office.clone(), vec![line("vpn", Code::AddressDenied, false, &[1, 2, 4], 0)]);
        let after = |minutes| {
            Digests::of([(&page, Duration::from_mins(minutes))]).of_policy(&office).last_hour
        };
        assert_eq!([0, 49, 50, 54, 55, 59, 60].map(after), [7, 7, 3, 3, 1, 1, 0]);
        let over = Digests::of([(&page, Duration::from_hours(1))]);
        assert_eq!(
            json!(over.of_policy(&office)),
            json!({ "lastHour": 0, "shadow": { "wouldDeny": 0 } })
        );
    }

    #[test]
    fn a_policy_that_was_made_anew_has_refused_nothing() {
        let before =
            page(policy("office", "1"), vec![line("vpn", Code::AddressDenied, false, &[5], 0)]);
        let digests = Digests::of([(&before, NOW)]);
        assert_eq!(digests.of_policy(&policy("office", "2")).last_hour, 0);
    }

    #[test]
    fn what_has_no_name_is_in_the_sum_and_nothing_overflows() {
        let office = policy("office", "1");
        let rest = Cause { rule: None, code: None, shadow: false };
        let rest = Line { cause: rest, counts: vec![u64::MAX, 9], last: i64::MAX, id: None };
        let known = line("vpn", Code::AddressDenied, false, &[u64::MAX], i64::MAX);
        let page = page(office.clone(), vec![rest, known]);
        let digest = Digests::of([(&page, NOW), (&page, NOW)]).of_policy(&office);
        let most = i64::MAX.unsigned_abs();
        assert_eq!((digest.last_hour, digest.top.len()), (most, 1));
        assert_eq!(digest.top.first().map(|top| top.count), Some(most));
    }

    #[test]
    fn at_most_five_causes_are_named_the_most_frequent_first() {
        let office = policy("office", "1");
        let rules = ["a", "b", "c", "d", "e", "f", "g"];
        let lines = rules.iter().zip(1..);
        let lines = lines.map(|(rule, count)| line(rule, Code::AddressDenied, false, &[count], 0));
        let page = page(office.clone(), lines.collect());
        let digest = Digests::of([(&page, NOW)]).of_policy(&office);
        let named: Vec<_> = digest.top.iter().filter_map(|top| top.rule.as_deref()).collect();
        assert_eq!(named, ["g", "f", "e", "d", "c"]);
        assert_eq!(digest.last_hour, 28);
    }
}
