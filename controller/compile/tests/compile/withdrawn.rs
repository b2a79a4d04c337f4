//! Protection that is taken away while the program runs.

use compile::{
    Before,
    finding::{Effect, Reason},
};

use crate::world::{OFFICE, World, api, policy};

/// What is told of withdrawn protection after `before`, and what a stranger's request hears.
fn after(before: &Before, text: &str) -> (World, Vec<String>) {
    let mut world = World::of(text);
    world.compile_after(before);
    let findings = world.compiled.findings.iter();
    let told = findings.filter(|finding| finding.reason == Reason::PolicyWithdrawn);
    let told = told.map(|finding| {
        assert_eq!(finding.effect, Effect::Warns);
        format!("{}: {}", finding.field, finding.message)
    });
    let told = told.collect();
    (world, told)
}

const REQUEST: &str = "GET api.example.com/ 203.0.113.9";

#[test]
fn a_deleted_policy_opens_its_route_and_somebody_hears_of_it_until_it_is_closed_again() {
    let protected = api() + &policy("office", OFFICE);
    let mut before = World::of(&protected).compiled.next;
    for _ in 0..2 {
        let (world, told) = after(&before, &api());
        assert_eq!(world.ask(REQUEST), "shop/api:80");
        assert_eq!(
            told,
            [
                "Ingress shop/api at metadata.name: it is open: AccessPolicy shop/office protected it, and is not enforced on it any more"
            ]
        );
        before = world.compiled.next;
    }
    let (world, told) = after(&before, &protected);
    assert_eq!((world.ask(REQUEST).as_str(), told), ("AddressNotAllowed", vec![]));
    let (world, told) = after(&World::of(&api()).compiled.next, &api());
    assert_eq!((world.ask(REQUEST).as_str(), told), ("shop/api:80", vec![]), "it was never closed");
}

#[test]
fn a_policy_that_only_counts_from_now_on_is_told_on_itself_and_on_what_it_opens() {
    let enforced = api() + &policy("office", OFFICE);
    let counting = enforced.replace("targetRefs", "enforcement: Shadow\n  targetRefs");
    let before = World::of(&enforced).compiled.next;
    let (world, told) = after(&before, &counting);
    assert_eq!(world.ask(REQUEST), "shop/api:80");
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].starts_with("Ingress shop/api at metadata.name: it is open: "), "{told:#?}");
    let expected = "AccessPolicy shop/office at spec.enforcement: it was enforced before";
    assert!(told[1].starts_with(expected), "{told:#?}");
    let (_, told) = after(&World::of(&counting).compiled.next, &counting);
    assert_eq!(told, Vec::<String>::new(), "it always only counted");
    let (world, told) = after(
        &before,
        &(counting + &policy("methods", "  require: [{ name: none, methods: [PUT] }]")),
    );
    assert_eq!(world.ask(REQUEST), "MethodRefused");
    assert_eq!(told.len(), 1, "another policy still holds: {told:#?}");
}
