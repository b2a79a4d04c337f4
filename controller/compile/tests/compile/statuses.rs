//! What the writer of statuses is told.

use compile::conditions::{Details, PolicyStatus};
use decision::time::Timestamp;

use crate::world::{NOW, OFFICE, World, api, policy, targeted};

/// Conditions as `Accepted=True/Accepted: …`.
fn conditions(world: &World, name: &str, now: Timestamp) -> Vec<String> {
    let mut statuses = world.compiled.statuses.iter();
    let status = statuses.find(|status| &*status.resource.name == name).expect("a status");
    let conditions = status.conditions_at(now);
    conditions
        .iter()
        .map(|one| format!("{}={}/{}: {}", one.type_, one.status, one.reason, one.message))
        .collect()
}

#[test]
fn an_accepted_policy_tells_how_far_it_reaches() {
    let world = World::of(&(api() + &policy("office", OFFICE)));
    assert_eq!(
        conditions(&world, "office", NOW)[0],
        "Accepted=true/Accepted: applies to 1 Ingress"
    );
    assert_eq!(
        world.compiled.statuses[0].details,
        Details::Policy(PolicyStatus { matched: 1, hosts: 1, paths: 1, names_others: false })
    );
}

#[test]
fn a_policy_that_names_an_ingress_that_is_not_ours_may_be_somebody_elses_too() {
    let target = |name| format!("{{ group: networking.k8s.io, kind: Ingress, name: {name} }}");
    let targets = [target("api"), target("nobody"), target("api")].join(", ");
    let world = World::of(&(api() + &targeted("office", &targets, OFFICE)));
    let details = PolicyStatus { matched: 1, hosts: 1, paths: 1, names_others: true };
    assert_eq!(world.compiled.statuses[0].details, Details::Policy(details));
}

#[test]
fn a_policy_without_target_is_not_accepted() {
    let target = "{ group: networking.k8s.io, kind: Ingress, name: nobody }";
    let world = World::of(&(api() + &targeted("office", target, OFFICE)));
    assert!(
        conditions(&world, "office", NOW)[0].starts_with("Accepted=false/TargetNotFound: "),
        "{:?}",
        conditions(&world, "office", NOW)
    );
}

#[test]
fn an_entry_that_closes_its_ingress_is_told_in_the_status() {
    let target = "{ group: networking.k8s.io, kind: Ingress, name: api, hosts: [b.example.org] }";
    let world = World::of(&(api() + &targeted("office", target, OFFICE)));
    assert_eq!(
        conditions(&world, "office", NOW)[1],
        "ResolvedRefs=false/TargetUnmatched: spec.targetRefs[0]: no request to this Ingress has these hosts and paths, so the Ingress is closed"
    );
}

#[test]
fn an_invalid_policy_names_the_field() {
    let world = World::of(&(api() + &policy("office", &OFFICE.replace("192.0.2.0", "192.0.2.1"))));
    assert_eq!(
        conditions(&world, "office", NOW)[0],
        "Accepted=false/Invalid: spec.require[0].ip.cidrs[0]: `192.0.2.1/24` is not a network: it has bits set behind its prefix; write 192.0.2.0/24"
    );
}

#[test]
fn a_missing_plan_is_an_unresolved_reference() {
    let spec = "  require: [{ name: a, subscription: { plans: [gold] } }]";
    let world = World::of(&(api() + &policy("plans", spec)));
    assert_eq!(
        conditions(&world, "plans", NOW)[1],
        "ResolvedRefs=false/RefNotFound: spec.require[0].subscription.plans[0]: AccessPlan shop/gold: it does not exist"
    );
}

#[test]
fn a_subscription_is_expired_from_its_end_on_and_leaves_its_plan() {
    let text = format!(
        "apiVersion: whygate.dev/v1alpha1\nkind: AccessPlan\nmetadata: {{ name: gold, namespace: shop }}\nspec: {{ approval: Automatic }}\n---\napiVersion: whygate.dev/v1alpha1\nkind: AccessSubscription\nmetadata: {{ name: mobile, namespace: shop }}\nspec: {{ planRef: {{ name: gold }}, expiresAt: '2026-01-01T00:00:01Z', credentials: [{{ apiKey: {{ id: aaaaaaaa, sha256: {} }} }}] }}\n",
        "ab".repeat(32)
    );
    let world = World::of(&text);
    let later = Timestamp(NOW.0 + 1);
    let active = |now| {
        let plan = &world.compiled.statuses[0];
        let Details::Plan(plan) = &plan.details else { panic!("{plan:?}") };
        plan.active_at(now)
    };
    assert_eq!((active(NOW), active(later)), (1, 0), "{:?}", world.compiled.statuses);
    assert!(conditions(&world, "mobile", NOW)[0].starts_with("Active=true/Active"));
    assert!(conditions(&world, "mobile", later)[0].starts_with("Active=false/Expired"));
}
