//! What one replica counted in the last hour, and its form in an annotation: pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use decision::{
    code::Code,
    refs::{Kind, ResourceRef},
};
use serde::{Deserialize, Serialize};

/// Refusals are counted in steps of this length.
pub const STEP: Duration = Duration::from_mins(5);
/// So many steps are kept; with the one that has just begun they are 55 to 60 minutes.
pub const STEPS: usize = 12;
/// What is older is counted no more.
pub const HOUR: Duration = Duration::from_hours(1);

/// A policy and its uid: one that was made anew under the old name is another.
pub type Policy = (ResourceRef, Option<String>);

/// What refusals by one policy have in common that are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cause {
    /// The rule; none if it was the policy as a whole.
    pub rule: Option<Arc<str>>,
    /// The code; none for what has no line of its own.
    pub code: Option<Code>,
    /// Whether it was only counted, not refused.
    pub shadow: bool,
}

/// How often, and when last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is counted.
    pub cause: Cause,
    /// How often in each step, the newest first; at most [`STEPS`].
    pub counts: Vec<u64>,
    /// When last, in seconds since 1970 by the clock of the replica.
    pub last: i64,
    /// The id of the last refusal that was sampled.
    pub id: Option<String>,
}

/// What one replica counted in the last hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// When it was written, in seconds since 1970 by the clock of the replica.
    pub at: i64,
    /// How long the newest step has lasted then, in seconds; less than [`STEP`].
    pub into: u64,
    /// What each policy refused.
    pub policies: BTreeMap<Policy, Vec<Line>>,
}

impl Page {
    /// How long ago the step `place` began, 0 being the newest, `age` after the page was written.
    pub fn age_of(&self, place: usize, age: Duration) -> Duration {
        let steps = u32::try_from(place).unwrap_or(u32::MAX);
        let before = STEP.saturating_mul(steps);
        age.saturating_add(Duration::from_secs(self.into)).saturating_add(before)
    }

    /// How many steps are not older than an hour, `age` after the page was written.
    pub fn living(&self, age: Duration) -> usize {
        (0..STEPS).take_while(|place| self.age_of(*place, age) < HOUR).count()
    }

    /// Reads what [`Page::text`] wrote. A code that this version does not know counts in the sum.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        let PageText { at, into, policies } = serde_json::from_str(text)?;
        let mut page = Self { at, into: into.min(STEP.as_secs() - 1), policies: BTreeMap::new() };
        for PolicyText { namespace, name, uid, lines } in policies {
            let policy = (ResourceRef::new(Kind::AccessPolicy, namespace, name), uid);
            let lines = lines.into_iter().map(LineText::read);
            page.policies.entry(policy).or_default().extend(lines);
        }
        Ok(page)
    }

    /// The page in at most `limit` bytes, and how many policies found no room.
    ///
    /// What was refused most goes first, but no namespace takes the room of others: the first
    /// policy of each goes before the second of any.
    pub fn text(&self, limit: usize) -> (String, usize) {
        let head = format!("{{\"at\":{},\"into\":{},\"policies\":[", self.at, self.into);
        let end = "]}";
        let (mut text, mut left_out) = (head, 0);
        let mut separator = "";
        for (policy, lines) in self.by_urgency() {
            // Names and numbers: there is nothing in it that JSON could not hold.
            let entry = serde_json::to_string(&PolicyText::of(policy, lines)).unwrap_or_default();
            if text.len() + separator.len() + entry.len() + end.len() > limit {
                left_out += 1;
                continue;
            }
            text.push_str(separator);
            text.push_str(&entry);
            separator = ",";
        }
        text.push_str(end);
        (text, left_out)
    }

    fn by_urgency(&self) -> Vec<(&Policy, &[Line])> {
        let sum = |lines: &[Line]| -> u64 {
            let counts = lines.iter().flat_map(|line| &line.counts);
            counts.fold(0, |sum, count| sum.saturating_add(*count))
        };
        let policies = self.policies.iter();
        let mut all: Vec<_> =
            policies.map(|(policy, lines)| (sum(lines), policy, lines.as_slice())).collect();
        all.sort_by_key(|(sum, ..)| std::cmp::Reverse(*sum));
        let mut ranks: HashMap<&str, usize> = HashMap::new();
        let mut ranked: Vec<_> = all
            .into_iter()
            .map(|(_, policy, lines)| {
                let rank = ranks.entry(&policy.0.namespace).or_default();
                *rank += 1;
                (*rank, policy, lines)
            })
            .collect();
        ranked.sort_by_key(|(rank, ..)| *rank);
        ranked.into_iter().map(|(_, policy, lines)| (policy, lines)).collect()
    }
}

#[derive(Deserialize)]
struct PageText {
    at: i64,
    into: u64,
    policies: Vec<PolicyText>,
}

#[derive(Serialize, Deserialize)]
struct PolicyText {
    namespace: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    lines: Vec<LineText>,
}

#[derive(Serialize, Deserialize)]
struct LineText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shadow: bool,
    last: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    counts: Vec<u64>,
}

impl PolicyText {
    fn of(policy: &Policy, lines: &[Line]) -> Self {
        let (resource, uid) = policy;
        Self {
            namespace: resource.namespace.to_string(),
            name: resource.name.to_string(),
            uid: uid.clone(),
            lines: lines.iter().map(LineText::of).collect(),
        }
    }
}

impl LineText {
    fn of(line: &Line) -> Self {
        let Line { cause: Cause { rule, code, shadow }, counts, last, id } = line;
        Self {
            rule: rule.as_deref().map(str::to_owned),
            code: code.map(|code| code.as_str().to_owned()),
            shadow: *shadow,
            last: *last,
            id: id.clone(),
            counts: counts.clone(),
        }
    }

    fn read(self) -> Line {
        let Self { rule, code, shadow, last, id, mut counts } = self;
        let code = code.and_then(|text| Code::ALL.iter().find(|code| code.as_str() == text));
        counts.truncate(STEPS);
        let cause = Cause { rule: rule.map(Into::into), code: code.copied(), shadow };
        Line { cause, counts, last, id }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(namespace: &str, name: &str) -> Policy {
        let uid = format!("uid of {name}");
        (ResourceRef::new(Kind::AccessPolicy, namespace, name), Some(uid))
    }

    fn line(counts: &[u64]) -> Line {
        let cause =
            Cause { rule: Some("vpn".into()), code: Some(Code::AddressNotAllowed), shadow: false };
        Line { cause, counts: counts.to_vec(), last: 1_000, id: None }
    }

    fn page<const N: usize>(policies: [(Policy, Vec<Line>); N]) -> Page {
        Page { at: 1_000, into: 60, policies: policies.into() }
    }

    #[test]
    fn a_step_is_counted_until_its_beginning_is_an_hour_ago() {
        let page = page([(policy("shop", "office"), vec![line(&[0, 0, 7])])]);
        let seconds = Duration::from_secs;
        assert_eq!(page.living(seconds(0)), STEPS);
        assert_eq!(page.living(seconds(239)), STEPS);
        assert_eq!(page.living(seconds(240)), STEPS - 1);
        assert_eq!(page.living(seconds(3_600 - 660 - 1)), 3);
        assert_eq!(page.living(seconds(3_600 - 660)), 2);
        assert_eq!(page.living(Duration::MAX), 0);
    }

    #[test]
    fn what_strangers_write_is_an_error_or_a_page_and_never_more() {
        for text in ["", "7", "[]", "{}", r#"{"at":1,"into":2,"policies":[{"name":"a"}]}"#] {
            Page::parse(text).unwrap_err();
        }
        let greatest = r#"{"at":9223372036854775807,"into":18446744073709551615,"policies":[
            {"namespace":"","name":"\u0000","lines":[{"code":"FromTheFuture","last":-1,
             "counts":[18446744073709551615,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}]}]}"#;
        let page = Page::parse(greatest).unwrap();
        assert!(page.into < STEP.as_secs());
        let line = page.policies.values().flatten().next().unwrap();
        assert_eq!((line.cause.code, line.counts.len()), (None, STEPS));
    }

    #[test]
    fn where_room_is_short_every_namespace_has_its_most_refusing_policy_first() {
        let page = page([
            (policy("loud", "a"), vec![line(&[900])]),
            (policy("loud", "b"), vec![line(&[800])]),
            (policy("quiet", "a"), vec![line(&[1])]),
        ]);
        let (whole, left_out) = page.text(10_000);
        assert_eq!(left_out, 0);
        let (text, left_out) = page.text(whole.len() - 1);
        assert_eq!(left_out, 1);
        let kept = Page::parse(&text).unwrap();
        let kept: Vec<_> = kept.policies.keys().map(|(it, _)| it.path().to_string()).collect();
        assert_eq!(kept, ["loud/a", "quiet/a"]);
    }

    fn causes() -> impl Strategy<Value = Cause> {
        let code = proptest::option::of(proptest::sample::select(Code::ALL));
        (proptest::option::of(".{0,8}"), code, any::<bool>())
            .prop_map(|(rule, code, shadow)| Cause { rule: rule.map(Into::into), code, shadow })
    }

    fn lines() -> impl Strategy<Value = Line> {
        let counts = proptest::collection::vec(any::<u64>(), 0..=STEPS);
        (causes(), counts, any::<i64>(), proptest::option::of(".{0,8}"))
            .prop_map(|(cause, counts, last, id)| Line { cause, counts, last, id })
    }

    fn pages() -> impl Strategy<Value = Page> {
        let policy =
            (".{0,8}", ".{0,8}", proptest::option::of(".{0,8}")).prop_map(|(space, name, uid)| {
                (ResourceRef::new(Kind::AccessPolicy, space, name), uid)
            });
        let lines = proptest::collection::vec(lines(), 0..4);
        let policies = proptest::collection::btree_map(policy, lines, 0..6);
        (any::<i64>(), 0..STEP.as_secs(), policies).prop_map(|(at, into, policies)| Page {
            at,
            into,
            policies,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_read_again_and_never_longer_than_it_may_be(
            page in pages(), limit in 100..2_000_usize,
        ) {
            let (text, left_out) = page.text(usize::MAX);
            prop_assert_eq!((Page::parse(&text).unwrap(), left_out), (page.clone(), 0));
            let (text, left_out) = page.text(limit);
            prop_assert!(text.len() <= limit);
            let kept = Page::parse(&text).unwrap();
            prop_assert_eq!(kept.policies.len() + left_out, page.policies.len());
            prop_assert!(kept.policies.iter().all(|(key, lines)| page.policies.get(key) == Some(lines)));
        }
    }
}
