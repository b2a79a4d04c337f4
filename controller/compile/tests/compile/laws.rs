//! Laws that hold for any manifests.

use std::num::NonZeroUsize;

use compile::{Settings, manifest, settings::Posture};
use decision::subscription::KeyDigest;
use proptest::prelude::*;

use crate::world::{
    OFFICE, SECRET, SERVICES, World, aged, api, ingress, policy, rule, settings, targeted,
};

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
    result_of(&World::of(&documents.concat()))
}

fn result_of(world: &World) -> (Vec<String>, Vec<String>, String) {
    let findings = world.compiled.findings.iter().map(ToString::to_string).collect();
    let rest = format!("{:?} {:?}", world.compiled.statuses, world.compiled.ingresses);
    (answers(world), findings, rest)
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

/// One protected shop: every kind that takes part in judging its requests, an object each.
fn shop(annotations: &str) -> Vec<String> {
    let web = format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{ name: web, namespace: shop{annotations} }}\nspec: {{ ingressClassName: ours, rules: [{}] }}\n---\n",
        rule("api.example.com", "/")
    );
    let named = "{ group: networking.k8s.io, kind: Ingress, name: web }";
    let anywhere = "  deny: [{ name: lab, ip: { cidrs: [203.0.113.128/25] } }]";
    let partner = "  require: [{ name: partner, anyOf: [{ jwt: { provider: p } }, { subscription: { plans: [gold] } }] }]\n  jwtProviders: [{ name: p, issuer: a, anyAudience: true, jwks: { secretRef: { name: keys } } }]";
    let mut objects = vec![
        web,
        targeted("office", named, "  require: [{ name: office, ip: { cidrs: [203.0.113.0/24] } }]"),
        targeted("lab", named, anywhere),
        targeted("partner", named, partner),
    ];
    objects.extend([
        "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: { name: ours }\nspec: { controller: whygate.dev/ingress-controller }\n---\n".to_owned(),
        "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { partner: yes } }\n---\n".to_owned(),
        "apiVersion: v1\nkind: Secret\nmetadata: { name: keys, namespace: shop, labels: { whygate.dev/use: jwks } }\nstringData: { jwks.json: '{\"keys\":[]}' }\n---\n".to_owned(),
        "apiVersion: whygate.dev/v1alpha1\nkind: AccessPlan\nmetadata: { name: gold, namespace: shop }\nspec: { approval: Automatic }\n---\n".to_owned(),
        format!("apiVersion: whygate.dev/v1alpha1\nkind: AccessSubscription\nmetadata: {{ name: a, namespace: shop }}\nspec: {{ planRef: {{ name: gold }}, credentials: [{{ apiKey: {{ id: aaaaaaaa, sha256: {} }} }}] }}\n---\n", key_digest()),
    ]);
    objects.extend(SERVICES.split("---\n").map(|one| format!("{one}---\n")));
    objects
}

/// SHA-256 of the API key that the shop admits.
fn key_digest() -> String {
    let digest = KeyDigest::of(format!("wg_aaaaaaaa_{SECRET}").as_bytes());
    digest.0.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Requests that the whole shop refuses, each for another reason.
const REFUSED: [&str; 3] = [
    "GET api.example.com/ 198.51.100.7 x-api-key=KEY",
    "GET api.example.com/ 203.0.113.200 x-api-key=KEY",
    "GET api.example.com/ 203.0.113.7",
];

/// Some of the objects in any order: what a program that starts may have seen at some moment.
fn seen(objects: Vec<String>) -> impl Strategy<Value = String> {
    let count = objects.len();
    prop::sample::subsequence(objects, 0..=count).prop_shuffle().prop_map(|seen| seen.concat())
}

const DEMAND: &str = ", annotations: { whygate.dev/require-policy: \"office,lab,partner\" }";

fn opened(text: &str, default_posture: Posture) -> Option<&'static str> {
    let settings = Settings { default_posture, ..Settings::default() };
    let world = World::with(text, &settings);
    let key = format!("wg_aaaaaaaa_{SECRET}");
    REFUSED
        .into_iter()
        .find(|request| world.ask(&request.replace("KEY", &key)).starts_with("shop/"))
}

#[test]
fn the_whole_shop_admits_who_meets_everything() {
    for (objects, posture) in [(shop(DEMAND), Posture::Open), (shop(""), Posture::Closed)] {
        let text = objects.concat();
        let settings = Settings { default_posture: posture, ..Settings::default() };
        let request = format!("GET api.example.com/ 203.0.113.7 x-api-key=wg_aaaaaaaa_{SECRET}");
        let world = World::with(&text, &settings);
        assert_eq!(world.ask(&request), "shop/web:80", "{:#?}", world.findings());
        assert_eq!(opened(&text, posture), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_moment_of_a_start_opens_a_route_that_demands_its_policies(text in seen(shop(DEMAND))) {
        prop_assert_eq!(opened(&text, Posture::Open), None, "{}", text);
    }

    /// Under posture Closed a route needs one policy that requires something: which others there
    /// are only the whole list tells, so policies are listed at once, and everything else in any order.
    #[test]
    fn no_moment_of_a_start_opens_a_closed_route(
        rest in seen(shop("").into_iter().filter(|one| !one.contains("kind: AccessPolicy")).collect()),
        with_policies: bool,
    ) {
        let policies = shop("").into_iter().filter(|one| with_policies && one.contains("kind: AccessPolicy"));
        let text = policies.collect::<String>() + &rest;
        prop_assert_eq!(opened(&text, Posture::Closed), None, "{}", text);
    }
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
    fn what_was_read_before_changes_nothing(
        documents in Just(documents()).prop_shuffle(),
        kept in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        junk in "[ -~\n]{0,8}",
    ) {
        let text = |documents: &[String]| documents.concat();
        let first = text(&documents);
        let (before, after) = documents.split_at(kept.index(documents.len()));
        // Others come first, so that lines move; one is damaged; and a file is new.
        let mut second = text(after) + &text(before);
        second.insert_str(at.index(second.len()), &junk);
        let files = |text: &str| [("a.yaml".to_owned(), text.to_owned()), ("b.yaml".to_owned(), first.clone())];
        let known = manifest::read([("a.yaml".to_owned(), first.clone())]);
        let texts = files(&second).map(|(path, text)| (path, text.into()));
        let again = manifest::read_again(texts, &known);
        let fresh = manifest::read(files(&second));
        prop_assert_eq!(&again.problems, &fresh.problems);
        prop_assert_eq!(format!("{:?}", again.resources), format!("{:?}", fresh.resources));
        prop_assert_eq!(&again.endpoint_slices, &fresh.endpoint_slices);
        let compiled = compile::compile(&fresh.resources, &settings(), &compile::Before::default());
        for finding in &compiled.findings {
            prop_assert_eq!(again.locate(&finding.field), fresh.locate(&finding.field));
        }
    }

    /// Objects of unchanged documents are the very same ones, and only then is anything kept.
    #[test]
    fn what_is_kept_of_the_compilation_before_changes_nothing(
        steps in prop::collection::vec(
            (prop::sample::subsequence(documents(), 0..=documents().len()), "[ -~]{0,2}", any::<prop::sample::Index>(), 1..5_usize),
            2..5,
        ),
    ) {
        let (mut known, mut before) = (manifest::Manifests::default(), compile::Before::default());
        for (documents, junk, at, most) in steps {
            let mut text = documents.concat();
            text.insert_str(at.index(text.len().max(1)).min(text.len()), &junk);
            let manifests = manifest::read_again([("a.yaml".to_owned(), text.into())], &known);
            let most = NonZeroUsize::new(most).unwrap();
            let settings = Settings { max_objects_per_namespace: most, ..settings() };
            let anew = compile::Before { policies: compile::kept::Kept::default(), ..before.clone() };
            let compile = |before| compile::compile(&manifests.resources, &settings, before);
            let (anew, again) = (compile(&anew), compile(&before));
            before = again.next.clone();
            let anew = World { manifests, compiled: anew };
            let result = result_of(&anew);
            let again = World { manifests: anew.manifests, compiled: again };
            prop_assert_eq!(result_of(&again), result);
            known = again.manifests;
        }
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
        let compiled = compile::compile(&manifests.resources, &settings(), &compile::Before::default());
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
