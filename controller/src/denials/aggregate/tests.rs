//! Exact counts, a kept budget, and the first Event within a second.

use std::collections::{HashMap, VecDeque};

use decision::{code::Code, refs::RouteName};
use proptest::prelude::*;

use super::*;

fn at(milliseconds: u64) -> Moment {
    let elapsed = Duration::from_millis(milliseconds);
    let wall = i64::try_from(milliseconds).unwrap();
    Moment { elapsed, wall: Timestamp::from_millisecond(wall).unwrap() }
}

fn key(namespace: &str, number: usize) -> Arc<DenialKey> {
    let ingress = ResourceRef::new(Kind::Ingress, namespace, "web");
    let field = FieldRef::new(ingress, format!("spec.rules[{number}].http.paths[0]"));
    Arc::new(DenialKey {
        code: Code::AddressNotAllowed,
        route: Some(Arc::new(RouteName { field, host: "*".into(), path: "/".into() })),
        policy: Some(ResourceRef::new(Kind::AccessPolicy, namespace, "office")),
        rule: Some("office".into()),
        field: None,
        shadow: false,
        rest_of: None,
    })
}

fn new() -> Aggregate {
    Aggregate::new(Pace::of_cluster(Duration::from_secs(30), 60))
}

/// Writes everything that is due, and says how much that was.
fn drain(aggregate: &mut Aggregate, now: Moment) -> Vec<Note> {
    let notes = std::iter::from_fn(|| {
        let note = aggregate.next(now, |_| true)?;
        aggregate.written(&note, now);
        Some(note)
    });
    notes.collect()
}

#[test]
fn the_first_refusal_is_an_event_on_the_ingress_and_on_the_policy() {
    let mut aggregate = new();
    aggregate.count(vec![(key("shop", 0), 1)], at(0));
    let notes = drain(&mut aggregate, at(500));
    let mut objects: Vec<_> = notes.iter().map(|note| note.id.object.to_string()).collect();
    objects.sort();
    assert_eq!(objects, ["AccessPolicy shop/office", "Ingress shop/web"]);
}

/// When the first of so many groups, all of them refused every second, is written, and its count.
fn writes_of_one_among(groups: usize, seconds: u64) -> Vec<(u64, u64)> {
    let mut aggregate = new();
    let mut written = Vec::new();
    for second in 0..seconds {
        let now = at(second * 1_000);
        let counts = (0..groups).map(|number| (key("shop", number), second + 1)).collect();
        aggregate.count(counts, now);
        for note in drain(&mut aggregate, now) {
            let is_first = note.id.group == Group::Denial(key("shop", 0));
            if is_first && note.id.object.kind == Kind::Ingress {
                written.push((second, note.count));
            }
        }
    }
    written
}

#[test]
fn repeats_are_counted_and_written_every_window_while_there_is_room() {
    assert_eq!(writes_of_one_among(1, 100), [(1, 2), (31, 32), (61, 62), (91, 92)]);
}

#[test]
fn repeats_are_written_at_growing_distances_when_many_want_the_budget() {
    let alone = writes_of_one_among(1, 4_000).len();
    let among_many = writes_of_one_among(200, 4_000).len();
    assert!(alone > 130 && among_many > 3 && among_many < 20, "{alone} {among_many}");
}

#[test]
fn a_group_that_was_silent_for_long_is_told_at_once_again() {
    let mut aggregate = new();
    aggregate.count(vec![(key("shop", 0), 1)], at(0));
    drain(&mut aggregate, at(500));
    aggregate.count(vec![(key("shop", 0), 2)], at(40_000));
    drain(&mut aggregate, at(40_000));
    let hour = 3_600_000;
    aggregate.count(vec![(key("shop", 0), 3)], at(hour));
    assert_eq!(drain(&mut aggregate, at(hour)).len(), 2);
    aggregate.count(vec![(key("shop", 0), 4)], at(hour + 31_000));
    assert_eq!(drain(&mut aggregate, at(hour + 31_000)).len(), 2);
}

#[test]
fn a_refusal_without_a_route_writes_no_event() {
    let mut aggregate = new();
    let key = DenialKey { route: None, ..(*key("shop", 0)).clone() };
    aggregate.count(vec![(Arc::new(key), 1_000)], at(0));
    assert_eq!(drain(&mut aggregate, at(1_000)), []);
}

#[test]
fn a_flood_of_one_namespace_leaves_room_for_another() {
    let mut aggregate = new();
    let mut counts: Vec<_> = (0..500).map(|number| (key("loud", number), 1)).collect();
    aggregate.count(counts.clone(), at(0));
    let mut now = 500;
    while now < 30_000 {
        drain(&mut aggregate, at(now));
        now += 250;
    }
    counts.push((key("quiet", 0), 1));
    aggregate.count(counts, at(now));
    drain(&mut aggregate, at(now + 500));
    let notes = drain(&mut aggregate, at(now + 1_500));
    assert!(notes.iter().any(|note| &*note.id.object.namespace == "quiet"), "{notes:?}");
}

#[test]
fn a_failed_write_loses_no_count() {
    let mut aggregate = new();
    aggregate.count(vec![(key("shop", 0), 7)], at(0));
    let note = aggregate.next(at(500), |_| true).unwrap();
    aggregate.failed(&note, Duration::from_secs(5), at(500));
    aggregate.count(vec![(key("shop", 0), 9)], at(5_500));
    let counts: Vec<_> = drain(&mut aggregate, at(5_500)).iter().map(|note| note.count).collect();
    assert_eq!(counts, [9, 9]);
}

#[test]
fn an_object_that_is_gone_costs_no_write() {
    let mut aggregate = new();
    aggregate.count(vec![(key("shop", 0), 1)], at(0));
    assert_eq!(aggregate.next(at(500), |_| false), None);
    assert_eq!(drain(&mut aggregate, at(500)).len(), 2);
}

#[test]
fn what_is_not_counted_any_more_is_forgotten_and_told_anew_when_it_comes_back() {
    let mut aggregate = new();
    aggregate.count(vec![(key("evil", 0), 9), (key("shop", 0), 7)], at(0));
    assert_eq!((drain(&mut aggregate, at(500)).len(), aggregate.groups()), (4, 2));
    aggregate.count(vec![(key("shop", 0), 8)], at(1_000));
    assert_eq!((aggregate.groups(), aggregate.waiting(at(60_000), |_| true)), (1, 2));
    // It went and came back between two looks.
    aggregate.count(vec![(key("shop", 0), 1)], at(90_000));
    let counts: Vec<_> = drain(&mut aggregate, at(90_000)).iter().map(|note| note.count).collect();
    assert_eq!(counts, [1, 1]);
}

#[test]
fn what_was_counted_last_is_written_when_the_program_ends() {
    let mut aggregate = new();
    aggregate.count(vec![(key("shop", 0), 1)], at(0));
    drain(&mut aggregate, at(500));
    aggregate.count(vec![(key("shop", 0), 5)], at(1_000));
    assert_eq!(drain(&mut aggregate, at(1_500)), []);
    aggregate.close();
    assert_eq!(drain(&mut aggregate, at(1_500)).len(), 2);
}

fn finding(kind: Kind, number: usize, effect: Effect, message: &str) -> Finding {
    let object = ResourceRef::new(kind, "shop", "office");
    Finding {
        field: FieldRef::new(object, format!("spec.targets[{number}]")),
        reason: Reason::TargetNotFound,
        message: message.to_owned(),
        remedy: "Create it".to_owned(),
        effect,
    }
}

#[test]
fn a_finding_that_costs_something_is_an_event_once_until_its_words_change() {
    let mut aggregate = new();
    let findings = [
        finding(Kind::AccessPolicy, 0, Effect::Rejects, "one"),
        finding(Kind::AccessPolicy, 1, Effect::Warns, "only probably wrong"),
        finding(Kind::Secret, 2, Effect::Closes, "nobody describes a Secret"),
    ];
    aggregate.find(&findings, at(0));
    let notes = drain(&mut aggregate, at(0));
    let told: Vec<_> = notes.iter().map(|note| (note.reason, &*note.message, note.count)).collect();
    assert_eq!(told, [("TargetNotFound", "spec.targets[0]: one. Create it.", 1)]);
    aggregate.find(&findings, at(60_000));
    assert_eq!(drain(&mut aggregate, at(60_000)), []);
    aggregate.find(&[finding(Kind::AccessPolicy, 0, Effect::Rejects, "two")], at(61_000));
    let notes = drain(&mut aggregate, at(61_000));
    assert_eq!(notes.iter().map(|note| note.count).collect::<Vec<_>>(), [1]);
    aggregate.find(&[], at(62_000));
    assert_eq!(aggregate.groups(), 0);
}

#[test]
fn findings_leave_half_of_the_budget_to_refusals_that_go_first() {
    let mut aggregate = new();
    let finding = |number| finding(Kind::Ingress, number, Effect::Closes, "wrong");
    let findings: Vec<_> = (0..500).map(finding).collect();
    aggregate.find(&findings, at(0));
    let mut told = 0;
    for second in 0..60 {
        told += drain(&mut aggregate, at(second * 1_000)).len();
    }
    assert_eq!(told, 30);
    aggregate.count(vec![(key("quiet", 0), 1)], at(60_000));
    let notes = drain(&mut aggregate, at(60_500));
    let first = notes.first().map(|note| note.reason);
    assert_eq!(first, Some("AddressNotAllowed"), "{notes:?}");
}

/// Some refusals of some groups: milliseconds since the last, group, how many.
fn bursts() -> impl Strategy<Value = Vec<(u64, usize, u64)>> {
    proptest::collection::vec((0..3_000_u64, 0..40_usize, 1..500_u64), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn counts_are_exact_and_no_minute_has_more_writes_than_the_budget(bursts in bursts()) {
        let mut aggregate = new();
        let mut totals: HashMap<usize, u64> = HashMap::new();
        let mut events: HashMap<NoteId, u64> = HashMap::new();
        let mut last_minute: VecDeque<u64> = VecDeque::new();
        let mut pending: VecDeque<_> = bursts.into();
        let mut next = pending.front().map_or(0, |burst| burst.0);
        let mut now = 0;
        loop {
            while let Some((_, group, more)) = pending.front().copied().filter(|_| next <= now) {
                *totals.entry(group).or_default() += more;
                pending.pop_front();
                next += pending.front().map_or(0, |burst| burst.0);
            }
            let counts = totals.iter().map(|(group, total)| (key("shop", *group), *total));
            aggregate.count(counts.collect(), at(now));
            for note in drain(&mut aggregate, at(now)) {
                last_minute.push_back(now);
                events.insert(note.id, note.count);
            }
            while last_minute.front().is_some_and(|write| *write + 60_000 <= now) {
                last_minute.pop_front();
            }
            prop_assert!(last_minute.len() <= 60, "{} writes at {now}", last_minute.len());
            if pending.is_empty() && aggregate.groups.values().all(|group| {
                group.told.iter().all(|told| told.written == group.count)
            }) {
                break;
            }
            now += 250;
        }
        for (group, total) in totals {
            for object in ["Ingress shop/web", "AccessPolicy shop/office"] {
                let told = events.iter().find(|(id, _)| {
                    id.group == Group::Denial(key("shop", group)) && id.object.to_string() == object
                });
                prop_assert_eq!(told.map(|(_, count)| *count), Some(total));
            }
        }
    }

    #[test]
    fn a_new_group_is_told_within_a_second_while_budget_remains(
        starts in proptest::collection::vec(0..20_000_u64, 1..12),
    ) {
        let mut aggregate = new();
        let mut told: HashMap<usize, u64> = HashMap::new();
        for now in (0..25_000).step_by(250) {
            let begun = starts.iter().enumerate().filter(|(_, start)| **start <= now);
            aggregate.count(begun.map(|(group, _)| (key("shop", group), 1)).collect(), at(now));
            for note in drain(&mut aggregate, at(now)) {
                let group = (0..starts.len())
                    .find(|group| note.id.group == Group::Denial(key("shop", *group)))
                    .unwrap();
                told.entry(group).or_insert(now);
            }
        }
        for (group, start) in starts.iter().enumerate() {
            let at = told.get(&group).copied();
            prop_assert!(at.is_some_and(|at| at <= start + 1_000), "{group}: {start} {at:?}");
        }
    }
}
