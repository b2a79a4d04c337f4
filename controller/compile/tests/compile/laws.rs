//! Laws that hold for any manifests.

use compile::{Settings, manifest, settings::Posture};
use proptest::prelude::*;

use crate::world::{OFFICE, SERVICES, World, aged, api, ingress, policy, rule, settings, targeted};

/// Documents of all kinds, some of them wrong.
fn documents() -> Vec<String> {
    let ingresses = [
        aged("shop/api", 1, "", &[rule("a.example.com", "/"), rule("*.example.com", "/v1")]),
        aged("shop/web", 2, "whygate.dev/require-policy: office", &[rule("a.example.com", "/x")]),
        aged("other/a", 3, "", &[rule("a.example.com", "/y"), rule("", "/any")]),
        aged("other/b", 3, "satisfy: any", &[rule("b.example.com", "/y/../z")]),
    ];
    let web = "{ group: networking.k8s.io, kind: Ingress, name: web, paths: [/x] }";
    let policies = [
        policy("office", OFFICE),
        targeted("web", web, "  deny: [{ name: a, ip: { cidrs: [10.0.0.0/8] } }]"),
        policy("broken", "  requires: []"),
        policy("shadow", &format!("  enforcement: Shadow\n{OFFICE}")),
        policy("plans", "  require: [{ name: a, subscription: { plans: [gold, none] } }]"),
    ];
    let mut documents: Vec<String> =
        SERVICES.split("---\n").map(|one| format!("{one}---\n")).collect();
    documents.extend(ingresses);
    documents.extend(policies);
    documents.push("apiVersion: whygate.dev/v1alpha1\nkind: AccessPlan\nmetadata: { name: gold, namespace: shop }\nspec: { approval: Automatic }\n---\n".to_owned());
    for name in ["a", "b"] {
        documents.push(format!("apiVersion: whygate.dev/v1alpha1\nkind: AccessSubscription\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ planRef: {{ name: gold }}, credentials: [{{ apiKey: {{ id: aaaaaaaa, sha256: {} }} }}] }}\n---\n", "ab".repeat(32)));
    }
    documents
}

const REQUESTS: [&str; 9] = [
    "GET a.example.com/ 192.0.2.7",
    "GET a.example.com/ 10.0.0.1",
    "GET a.example.com/x 192.0.2.7",
    "GET a.example.com/x 10.0.0.1",
    "GET a.example.com/y 192.0.2.7",
    "GET c.example.com/v1 192.0.2.7",
    "GET b.example.com/z 192.0.2.7",
    "GET d.example.org/any 192.0.2.7",
    "GET a.example.com/nothing x-api-key=x",
];

fn answers(world: &World) -> Vec<String> {
    REQUESTS.iter().map(|request| world.ask(request)).collect()
}

/// What is without order in the results.
fn result(documents: &[String]) -> (Vec<String>, Vec<String>, String) {
    let world = World::of(&documents.concat());
    let findings = world.compiled.findings.iter().map(ToString::to_string).collect();
    let rest = format!("{:?} {:?}", world.compiled.statuses, world.compiled.ingresses);
    (answers(&world), findings, rest)
}

/// The Ingress `shop/api` under `require-policy`.
fn demanding() -> String {
    let rules = format!("rules: [{}]", rule("api.example.com", "/"));
    ingress("annotations: { whygate.dev/require-policy: office }", &rules)
}

/// A policy with a part cut out, doubled or replaced.
fn any_policy() -> impl Strategy<Value = String> {
    let text = policy(
        "office",
        "  require: [{ name: office, ip: { cidrs: [192.0.2.0/24] } }]\n  deny: [{ name: d, methods: [POST] }]\n  onDeny: { disclosure: Code }",
    );
    let junk =
        prop_oneof![Just(String::new()), Just(" ".to_owned()), "[ -~]{1,6}", Just("\n".to_owned())];
    (0..text.len(), 0..12_usize, junk).prop_map(move |(at, length, junk)| {
        let end = (at + length).min(text.len());
        let mut text = text.clone();
        text.replace_range(at..end, &junk);
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_resources_has_no_effect(documents in Just(documents()).prop_shuffle()) {
        prop_assert_eq!(result(&documents), result(&self::documents()));
    }

    #[test]
    fn no_set_of_policies_opens_a_route_that_demands_one(
        kept in prop::sample::subsequence(documents(), 0..=documents().len()),
    ) {
        let policies: String = kept.iter().filter(|one| one.contains("kind: AccessPolicy")).map(String::as_str).collect();
        let world = World::of(&(demanding() + &policies));
        prop_assert_ne!(world.ask("GET api.example.com/ 203.0.113.7"), "shop/web:80");
        let closed = Settings { default_posture: Posture::Closed, ..settings() };
        let world = World::with(&(api() + &policies), &closed);
        prop_assert_ne!(world.ask("GET api.example.com/ 203.0.113.7"), "shop/api:80");
    }

    #[test]
    fn a_damaged_policy_never_opens_a_route_that_demands_it(policy in any_policy()) {
        let text = demanding() + &policy;
        // Damage may widen what the text says, but not make the demand go away.
        if !policy.contains("192.0.2.0/24") { return Ok(()); }
        let world = World::of(&text);
        prop_assert_ne!(world.ask("GET api.example.com/ 203.0.113.7"), "shop/web:80", "{}", text);
    }

    #[test]
    fn any_text_compiles(
        documents in Just(documents()).prop_shuffle(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, "[ -~\n]{0,8}"), 1..12),
    ) {
        let mut text = documents.concat();
        for (at, length, junk) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.replace_range(at..end, &junk);
        }
        let manifests = manifest::read([("a.yaml".to_owned(), text)]);
        let compiled = compile::compile(&manifests.resources, &settings(), 1);
        for finding in &compiled.findings {
            prop_assert!(manifests.locate(&finding.field).is_some(), "{finding}");
        }
        let world = World { manifests, compiled };
        prop_assert_eq!(answers(&world).len(), REQUESTS.len());
    }
}

#[test]
fn the_documents_of_these_laws_are_not_all_refused() {
    let world = World::of(&documents().concat());
    let answers = answers(&world);
    assert!(
        answers.iter().any(|answer| answer == "shop/web:80" || answer == "other/web:80"),
        "{answers:?}"
    );
}
