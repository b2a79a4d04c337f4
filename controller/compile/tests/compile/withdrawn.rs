//! Protection that is taken away while the program runs.

use compile::{
    Before,
    finding::{Effect, Reason},
};

use crate::world::{OFFICE, World, api, policy, targeted};

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

#[test]
fn a_policy_that_is_lost_beside_others_is_told_until_it_or_one_in_its_place_is_enforced() {
    let orders = "{ group: networking.k8s.io, kind: Ingress, name: api, paths: [/orders] }";
    let orders = api() + &targeted("orders", orders, OFFICE);
    let both = orders.clone() + &policy("office", OFFICE);
    let mistyped = orders.clone() + &policy("office", OFFICE).replace("name: api", "name: apy");
    let (world, told) = after(&World::of(&both).compiled.next, &mistyped);
    assert_eq!(world.ask(REQUEST), "shop/api:80");
    let lost = [
        "Ingress shop/api at metadata.name: AccessPolicy shop/office protected it, and is not enforced on it any more; still enforced: AccessPolicy shop/orders",
    ];
    assert_eq!(told, lost);
    let (world, told) = after(&world.compiled.next, &mistyped);
    assert_eq!(told, lost, "it is still lost");
    let narrow = mistyped.clone()
        + &targeted(
            "bills",
            "{ group: networking.k8s.io, kind: Ingress, name: api, paths: [/bills] }",
            OFFICE,
        );
    assert_eq!(after(&world.compiled.next, &narrow).1.len(), 1, "it holds for other requests");
    for closed in [both, orders + &policy("another", OFFICE)] {
        let (world, told) = after(&world.compiled.next, &closed);
        assert_eq!((world.ask(REQUEST).as_str(), told), ("AddressNotAllowed", vec![]));
        assert_eq!(after(&world.compiled.next, &closed).1, Vec::<String>::new());
    }
}

#[test]
fn a_policy_whose_targets_cannot_be_read_closes_so_it_is_not_lost() {
    let orders = "{ group: networking.k8s.io, kind: Ingress, name: api, paths: [/orders] }";
    let both = api() + &targeted("orders", orders, OFFICE) + &policy("office", OFFICE);
    let unreadable = both.replace(
        "name: office, namespace: shop }\nspec:\n  targetRefs",
        "name: office, namespace: shop }\nspec:\n  targets",
    );
    assert_ne!(both, unreadable);
    let (world, told) = after(&World::of(&both).compiled.next, &unreadable);
    assert_eq!((world.ask(REQUEST).as_str(), told), ("PolicyInvalid", vec![]));
}

#[test]
fn lost_policies_are_remembered_up_to_a_bound() {
    let kept = api() + &policy("kept", OFFICE);
    let mut before = World::of(&kept).compiled.next;
    for number in 0..40 {
        let target = "{ group: networking.k8s.io, kind: Ingress, name: api, paths: [/a] }";
        let text = kept.clone() + &targeted(&format!("p{number}"), target, OFFICE);
        before = after(&before, &text).0.compiled.next;
    }
    let (_, told) = after(&before, &kept);
    assert!(told[0].contains("12 more protected it"), "{told:#?}");
}
