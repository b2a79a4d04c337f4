//! An hour that moves on, whatever happens to clocks, policies and programs.

use decision::{
    code::Code,
    refs::{Kind, ResourceRef},
};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::denials::digest::Digests;

/// The wall clock shows `wall` when the program has run for so many seconds.
fn at(seconds: u64, wall: i64) -> Moment {
    let wall = Timestamp::from_second(wall).unwrap();
    Moment { elapsed: Duration::from_secs(seconds), wall }
}

fn key(name: &str, rule: &str, code: Code, shadow: bool) -> Arc<DenialKey> {
    Arc::new(DenialKey {
        code,
        route: None,
        policy: Some(ResourceRef::new(Kind::AccessPolicy, "shop", name)),
        rule: Some(rule.into()),
        field: None,
        shadow,
        rest_of: None,
    })
}

fn office() -> Arc<DenialKey> {
    key("office", "vpn", Code::AddressNotAllowed, false)
}

fn policy(name: &str, uid: &str) -> Policy {
    (ResourceRef::new(Kind::AccessPolicy, "shop", name), Some(uid.to_owned()))
}

/// Every policy is there, for the first time.
fn first(key: &DenialKey) -> Option<Policy> {
    Some((key.policy.clone()?, Some("1".to_owned())))
}

fn sum(page: &Page) -> u64 {
    let counts = page.policies.values().flatten().flat_map(|line| &line.counts);
    counts.sum()
}

#[test]
fn totals_that_grow_are_counted_once() {
    let mut hour = Hour::default();
    for total in [3, 3, 5] {
        hour.count(&[(office(), total)], &[], at(0, 0), first);
    }
    assert_eq!((sum(&hour.page(at(0, 0))), hour.changes()), (5, 2));
    // The series was forgotten, and came back.
    hour.count(&[], &[], at(1, 0), first);
    hour.count(&[(office(), 5)], &[], at(2, 0), first);
    hour.count(&[(office(), 1)], &[], at(3, 0), first);
    assert_eq!(sum(&hour.page(at(3, 0))), 11);
}

#[test]
fn a_wall_clock_that_is_set_moves_nothing() {
    let mut hour = Hour::default();
    hour.count(&[(office(), 3)], &[], at(0, 1_000_000), first);
    let day = 86_400;
    for wall in [1_000_000 - day, 1_000_000 + day] {
        assert_eq!(sum(&hour.page(at(60, wall))), 3);
    }
    hour.count(&[(office(), 5)], &[], at(1_800, 1_000_000 - day), first);
    assert_eq!(sum(&hour.page(at(1_800, 0))), 5);
    assert_eq!(sum(&hour.page(at(3_600, 0))), 2);
    assert_eq!(hour.page(at(5_400, 0)).policies.len(), 0, "what is over is forgotten");
}

#[test]
fn a_policy_that_was_made_anew_begins_with_nothing() {
    let mut hour = Hour::default();
    hour.count(&[(office(), 3)], &[], at(0, 0), first);
    let second = |key: &DenialKey| Some((key.policy.clone()?, Some("2".to_owned())));
    hour.retain(|known| known.1.as_deref() == Some("2"));
    hour.count(&[(office(), 4)], &[], at(1, 0), second);
    let page = hour.page(at(1, 0));
    assert_eq!(page.policies.keys().collect::<Vec<_>>(), [&policy("office", "2")]);
    assert_eq!(sum(&page), 1);
}

#[test]
fn what_belongs_to_no_policy_or_to_one_that_is_gone_is_not_counted() {
    let mut hour = Hour::default();
    let nobody = DenialKey { policy: None, rule: None, ..(*office()).clone() };
    hour.count(&[(Arc::new(nobody), 9)], &[], at(0, 0), first);
    hour.count(&[(office(), 9)], &[], at(0, 0), |_| None);
    // It is there now: what was refused before was another one's.
    hour.count(&[(office(), 10)], &[], at(1, 0), first);
    assert_eq!(sum(&hour.page(at(1, 0))), 1);
}

#[test]
fn a_frequent_cause_keeps_its_line_beside_however_many_rare_ones_and_no_refusal_is_lost() {
    let mut hour = Hour::default();
    let rules: Vec<_> = (0..500).map(|rule| format!("rule{rule}")).collect();
    let rare = rules.iter().map(|rule| key("office", rule, Code::MethodRefused, false));
    let mut totals = vec![(office(), 40)];
    totals.extend(rare.map(|key| (key, 1)));
    hour.count(&totals, &[], at(0, 0), first);
    let page = hour.page(at(0, 0));
    assert_eq!(page.policies.values().map(Vec::len).collect::<Vec<_>>(), [CAUSES + 1]);
    let digest = Digests::of([(&page, Duration::ZERO)]).of_policy(&policy("office", "1"));
    assert_eq!(digest.last_hour, 540);
    assert_eq!(
        digest.top.first().map(|top| (top.count, &*top.reason)),
        Some((40, "AddressNotAllowed"))
    );
}

#[test]
fn a_namespace_takes_no_more_than_its_share() {
    let mut hour = Hour::default();
    let names: Vec<_> = (0..SHARE + 7).map(|name| name.to_string()).collect();
    let keys = names.iter().map(|name| key(name, "vpn", Code::AddressDenied, false));
    let totals: Vec<_> = keys.map(|key| (key, 1)).collect();
    hour.count(&totals, &[], at(0, 0), first);
    let policies = hour.page(at(0, 0)).policies.len();
    assert_eq!((policies, hour.is_short()), (SHARE, true));
    let other = DenialKey {
        policy: Some(ResourceRef::new(Kind::AccessPolicy, "quiet", "office")),
        ..(*office()).clone()
    };
    hour.count(&[(Arc::new(other), 1)], &[], at(1, 0), first);
    assert_eq!(hour.page(at(1, 0)).policies.len(), SHARE + 1);
    assert_eq!(hour.page(at(4_000, 0)).policies.len(), 0);
    hour.count(&[(office(), 1)], &[], at(4_000, 0), first);
    assert_eq!(hour.page(at(4_000, 0)).policies.len(), 1, "there is room again");
}

/// Seconds since the refusals before, which rule, how many more.
fn refusals() -> impl Strategy<Value = Vec<(u64, usize, u64)>> {
    proptest::collection::vec((0..900_u64, 0..40_usize, 1..50_u64), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_sum_is_exact_for_55_minutes_and_holds_nothing_older_than_an_hour(
        refusals in refusals(), dies_at in 0..60_usize, dead_for in 0..1_000_u64,
    ) {
        let mut hour = Hour::default();
        let (mut totals, mut told) = (HashMap::new(), Vec::new());
        // The time of the world, and when the program that runs now was started.
        let (mut now, mut started) = (0, 0);
        for (number, (gap, rule, more)) in refusals.into_iter().enumerate() {
            now += gap;
            let moment = |now: u64, started| at(now - started, i64::try_from(now).unwrap());
            if number == dies_at {
                // Another program of the same name goes on with the last page of this one.
                let text = hour.page(moment(now, started)).text(usize::MAX).0;
                now += dead_for;
                started = now;
                hour = Hour::default();
                totals.clear();
                let age = Duration::from_secs(dead_for);
                hour.adopt(&Page::parse(&text).unwrap(), age, moment(now, started));
            }
            let rule = format!("rule{rule}");
            *totals.entry(key("office", &rule, Code::AddressDenied, false)).or_insert(0) += more;
            told.push((now, more));
            let all: Vec<_> = totals.iter().map(|(key, total)| (Arc::clone(key), *total)).collect();
            hour.count(&all, &[], moment(now, started), first);

            let page = hour.page(moment(now, started));
            let within = |seconds| -> u64 {
                let young = told.iter().filter(|(at, _)| now - at < seconds);
                young.map(|(_, more)| more).sum()
            };
            // A page that another program took over is taken for up to one step older.
            let exact = if started > 0 { 3_000 } else { 3_300 };
            prop_assert!(sum(&page) >= within(exact), "{} {}", sum(&page), within(exact));
            prop_assert!(sum(&page) <= within(3_600), "{} {}", sum(&page), within(3_600));
        }
    }
}
