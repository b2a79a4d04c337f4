//! Namespaces with more objects of a kind than one tenant may have compiled.

use std::num::NonZeroUsize;

use compile::{
    Settings,
    conditions::Status,
    finding::{Effect, Reason},
};
use decision::refs::Kind;

use crate::world::{
    OFFICE, SECRET, SERVICES, World, aged, api, check_with, ingress, policy, rule, settings,
    targeted,
};

/// At most `number` objects of a kind in a namespace.
fn capped(number: usize) -> Settings {
    let max_objects_per_namespace = NonZeroUsize::new(number).expect("at least 1");
    Settings { max_objects_per_namespace, ..settings() }
}

/// Makes an object of namespace shop as old as a day of 2025-01.
fn created(day: u8, manifest: &str) -> String {
    manifest.replace(
        "namespace: shop",
        &format!("namespace: shop, creationTimestamp: '2025-01-{day:02}T00:00:00Z'"),
    )
}

/// Reason, object and message of every finding.
fn told(world: &World) -> Vec<String> {
    let findings = world.compiled.findings.iter();
    findings.map(|it| format!("{} {}: {}", it.reason.as_str(), it.field, it.message)).collect()
}

fn status(world: &World, name: &str) -> Status {
    let mut statuses = world.compiled.statuses.iter();
    statuses.find(|status| &*status.resource.name == name).expect("a status").clone()
}

#[test]
fn the_youngest_ingress_beyond_the_cap_is_refused_and_falls_through_to_nothing_wider() {
    let wide = [rule("api.example.com", "/"), rule("*.example.com", "/"), rule("", "/")];
    let narrow = [
        rule("api.example.com", "/admin"),
        rule("b.example.com", "/"),
        rule("c.example.org", "/x"),
        rule("api.example.com", "/(a|b)"),
    ];
    let old = aged("shop/old", 1, "", &wide);
    let young = aged("shop/young", 2, "", &narrow);
    for text in [format!("{SERVICES}{old}{young}"), format!("{SERVICES}{young}{old}")] {
        let expected = [
            ("GET api.example.com/", "shop/web:80"),
            ("GET a.example.com/", "shop/web:80"),
            ("GET www.example.org/", "shop/web:80"),
            ("GET api.example.com/admin/users", "RouteInvalid"),
            ("GET b.example.com/", "RouteInvalid"),
            ("GET c.example.org/x", "RouteInvalid"),
        ];
        check_with(&text, &capped(1), &expected);
    }
    check_with(
        &(SERVICES.to_owned() + &old + &young),
        &capped(2),
        &[("GET api.example.com/admin/users", "shop/web:80")],
    );
}

#[test]
fn a_refusal_because_of_the_cap_says_what_to_do_about_the_namespace() {
    let young = aged("shop/young", 2, "", &[rule("b.example.com", "/")]);
    let world = World::with(
        &(SERVICES.to_owned() + &aged("shop/old", 1, "", &[rule("a.example.com", "/")]) + &young),
        &capped(1),
    );
    let remedy = world.remedy("GET b.example.com/");
    assert!(remedy.starts_with("Delete objects of kind Ingress in the namespace"), "{remedy}");
}

#[test]
fn a_default_backend_beyond_the_cap_is_refused() {
    let default = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: { name: rest, namespace: shop }\nspec: { ingressClassName: whygate, defaultBackend: { service: { name: web, port: { number: 80 } } } }\n---\n";
    let text =
        SERVICES.to_owned() + &aged("shop/old", 1, "", &[rule("a.example.com", "/a")]) + default;
    check_with(&text, &capped(1), &[("GET b.example.com/", "RouteInvalid")]);
}

#[test]
fn every_namespace_and_kind_is_counted_by_itself_and_ingresses_of_others_are_not() {
    let ours = aged("shop/web", 2, "", &[rule("a.example.com", "/")]);
    let other = aged("other/web", 3, "", &[rule("b.example.com", "/")]);
    let foreign = aged("shop/foreign", 1, "", &[]).replace("whygate", "nginx");
    let text = SERVICES.to_owned()
        + &ours
        + &other
        + &foreign
        + &targeted("office", "{ group: networking.k8s.io, kind: Ingress, name: web }", OFFICE);
    check_with(
        &text,
        &capped(1),
        &[("GET a.example.com/ 192.0.2.7", "shop/web:80"), ("GET b.example.com/", "other/web:80")],
    );
    assert_eq!(told(&World::with(&text, &capped(1))), [""; 0]);
}

#[test]
fn an_ingress_beyond_the_cap_keeps_its_hosts_and_whom_it_shares_them_with() {
    let text = SERVICES.to_owned()
        + &aged("shop/a", 1, "", &[rule("a.example.com", "/")])
        + &aged("shop/b", 2, "", &[rule("b.example.com", "/")])
        + &aged("shop/c", 3, "whygate.dev/share-host-with: other", &[rule("c.example.com", "/")])
        + &aged("other/b", 4, "", &[rule("b.example.com", "/x"), rule("c.example.com", "/x")]);
    check_with(
        &text,
        &capped(1),
        &[("GET b.example.com/x", "RouteInvalid"), ("GET c.example.com/x", "other/web:80")],
    );
}

#[test]
fn a_policy_beyond_the_cap_is_not_compiled_and_closes_what_it_names() {
    let old = "{ group: networking.k8s.io, kind: Ingress, name: nobody }";
    let old = created(1, &targeted("old", old, OFFICE));
    let young = |target: &str, spec: &str| created(2, &targeted("young", target, spec));
    let api_and = |young: &str| api() + &old + young;
    let target = "{ group: networking.k8s.io, kind: Ingress, name: api }";
    let closed = [("GET api.example.com/ 192.0.2.7", "PolicyInvalid")];
    check_with(&api_and(&young(target, OFFICE)), &capped(1), &closed);
    check_with(&api_and(&young("{ name: 7 }", OFFICE)), &capped(1), &closed);
    let shadow = young(target, &format!("  enforcement: Shadow\n{OFFICE}"));
    check_with(&api_and(&shadow), &capped(1), &[("GET api.example.com/", "shop/api:80")]);
    let admin = target.replace("api }", "api, paths: [/admin] }");
    let narrowed = [
        ("GET api.example.com/ 192.0.2.7", "shop/api:80"),
        ("GET api.example.com/admin 192.0.2.7", "PolicyInvalid"),
    ];
    check_with(&api_and(&young(&admin, OFFICE)), &capped(1), &narrowed);
    let unknown = admin.replace("paths:", "path: [/], paths:");
    check_with(&api_and(&young(&unknown, OFFICE)), &capped(1), &closed);
    let world = World::with(&api_and(&young(target, OFFICE)), &capped(1));
    let mut young = status(&world, "young");
    let accepted = young.conditions.remove(0);
    // Nobody has looked whether what it names is there.
    assert_eq!(young.conditions, []);
    assert!(!accepted.status && accepted.reason == "Invalid", "{accepted:?}");
    assert!(accepted.message.contains("over its cap of 1 AccessPolicies"), "{accepted:?}");
}

/// A plan of shop, or a subscription to plan gold with the key of its name.
fn plan(name: &str) -> String {
    format!(
        "apiVersion: whygate.dev/v1alpha1\nkind: AccessPlan\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ approval: Automatic }}\n---\n"
    )
}

fn subscription(id: &str) -> String {
    let digest = decision::subscription::KeyDigest::of(key(id).as_bytes()).0;
    let digest: Vec<_> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "apiVersion: whygate.dev/v1alpha1\nkind: AccessSubscription\nmetadata: {{ name: {id}, namespace: shop }}\nspec: {{ planRef: {{ name: gold }}, credentials: [{{ apiKey: {{ id: {id}, sha256: {} }} }}] }}\n---\n",
        digest.concat()
    )
}

fn key(id: &str) -> String {
    format!("wg_{id}_{SECRET}")
}

fn asking(id: &str) -> String {
    format!("GET api.example.com/ x-api-key={}", key(id))
}

#[test]
fn plans_and_subscriptions_beyond_the_cap_open_nothing() {
    let needs_gold =
        api() + &policy("plans", "  require: [{ name: a, subscription: { plans: [gold] } }]");
    let two = created(1, &subscription("aaaaaaaa")) + &created(2, &subscription("bbbbbbbb"));
    let (first, second) = (asking("aaaaaaaa"), asking("bbbbbbbb"));
    let text = needs_gold.clone() + &plan("gold") + &two;
    check_with(&text, &capped(1), &[(&first, "shop/api:80"), (&second, "SubscriptionInvalid")]);
    check_with(&text, &capped(2), &[(&first, "shop/api:80"), (&second, "shop/api:80")]);
    let active = status(&World::with(&text, &capped(1)), "bbbbbbbb").conditions.remove(0);
    assert!(!active.status && active.reason == "Invalid", "{active:?}");
    let young_plan = needs_gold + &created(1, &plan("a")) + &created(2, &plan("gold")) + &two;
    check_with(&young_plan, &capped(1), &[(&first, "CredentialStoreUnavailable")]);
    let accepted = status(&World::with(&young_plan, &capped(1)), "gold").conditions.remove(0);
    assert!(!accepted.status && accepted.reason == "Invalid", "{accepted:?}");
}

/// A Secret of shop with fields in flow style.
fn secret(name: &str, day: u8, type_: &str, labels: &str, data: &str) -> String {
    created(
        day,
        &format!(
            "apiVersion: v1\nkind: Secret\ntype: {type_}\nmetadata: {{ name: {name}, namespace: shop, labels: {{ {labels} }} }}\nstringData: {{ {data} }}\n---\n"
        ),
    )
}

#[test]
fn a_key_set_in_a_secret_beyond_the_cap_counts_as_missing() {
    let jwks = |name, day| secret(name, day, "Opaque", "whygate.dev/use: jwks", "keys: '{}'");
    let text = api()
        + &policy(
            "jwt",
            "  require: [{ name: a, jwt: { provider: k } }]\n  jwtProviders: [{ name: k, issuer: i, audiences: [a], jwks: { secretRef: { name: keys, key: keys } } }]",
        )
        + &jwks("a", 1)
        + &jwks("keys", 2);
    let missing = |most| {
        let over = "Secret shop/keys: namespace `shop` is over its cap of 1 Secrets";
        told(&World::with(&text, &capped(most))).iter().any(|line| line.contains(over))
    };
    assert!(missing(1));
    assert!(!missing(2));
}

#[test]
fn a_certificate_beyond_the_cap_is_served_to_nobody() {
    let made = rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).expect("a key");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let data = format!("tls.crt: {certificate:?}, tls.key: {key:?}");
    let tls = |name, day| secret(name, day, "kubernetes.io/tls", "", &data);
    let rules = format!(
        "tls: [{{ hosts: [a.example.com], secretName: young }}], rules: [{}]",
        rule("a.example.com", "/")
    );
    let text = ingress("", &rules) + &tls("old", 1) + &tls("young", 2);
    let served = |most| {
        let world = World::with(&text, &capped(most));
        let findings = world.compiled.findings.iter();
        let over = findings.filter(|it| it.field.path.as_ref() == "spec.tls[0].secretName");
        let over = over.filter(|it| it.message.contains("over its cap of 1 Secrets")).count();
        let certificates = &world.compiled.certificates;
        (certificates.hosts.len(), certificates.refused.len(), over)
    };
    assert_eq!(served(2), (1, 0, 0));
    assert_eq!(served(1), (0, 1, 1));
}

#[test]
fn however_many_objects_are_beyond_the_cap_few_findings_tell_of_them() {
    let web = |number: u16| {
        let name = format!("shop/web-{number:03}");
        // Each would have several findings of its own.
        aged(&name, 1, "whygate.dev/typo: a", &[rule("a.example.com", "/a b"), rule("b..", "/")])
    };
    let policies = |number: u16| policy(&format!("p-{number:03}"), "  requires: []");
    let text: String = (0..100).map(|number| web(number) + &policies(number)).collect();
    let world = World::with(&(SERVICES.to_owned() + &text), &capped(1));
    let told = told(&world);
    let count = |start: &str| told.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("RouteInvalid Ingress shop/web-0"), 20 + 2, "{told:#?}");
    assert_eq!(count("PolicyInvalid AccessPolicy shop/p-0"), 20 + 1, "{told:#?}");
    let namespace: Vec<_> = told.iter().filter(|line| line.contains("Namespace shop")).collect();
    assert_eq!(
        namespace,
        [
            "PolicyInvalid Namespace shop at metadata.name: the namespace has 100 AccessPolicies, 99 more than its cap of 1",
            "RouteInvalid Namespace shop at metadata.name: the namespace has 100 Ingresses of ours, 99 more than its cap of 1",
        ]
    );
    assert!(told.len() < 60, "{told:#?}");
}

#[test]
fn a_finding_beyond_the_cap_says_what_to_do_and_what_it_costs() {
    let text = SERVICES.to_owned()
        + &aged("shop/a", 1, "", &[rule("a.example.com", "/")])
        + &aged("shop/b", 2, "", &[rule("b.example.com", "/")]);
    let world = World::with(&text, &capped(1));
    let finding = &world.compiled.findings[0];
    assert_eq!((finding.reason, finding.effect), (Reason::RouteInvalid, Effect::Closes));
    assert_eq!(finding.field.resource.kind, Kind::Ingress);
    assert!(finding.remedy.contains("`--max-objects-per-namespace`"), "{}", finding.remedy);
    assert!(finding.remedy.contains("routes of the youngest are refused"), "{}", finding.remedy);
}

#[test]
fn further_objects_give_the_statuses_of_a_surplus_no_other_words() {
    let policies =
        |number: u8| (1..=number).map(|day| created(day, &policy(&format!("p{day}"), OFFICE)));
    let world = |number| World::with(&(api() + &policies(number).collect::<String>()), &capped(1));
    assert_eq!(status(&world(2), "p2"), status(&world(9), "p2"));
}

#[test]
fn the_order_of_the_objects_does_not_tell_which_are_beyond_the_cap() {
    let text: String =
        (1..10).map(|day| created(day, &policy(&format!("p{day}"), OFFICE))).collect();
    let mut world = World::with(&(api() + &text), &capped(4));
    let (findings, statuses) = (world.compiled.findings.clone(), world.compiled.statuses.clone());
    world.manifests.resources.access_policies.reverse();
    let again =
        compile::compile(&world.manifests.resources, &capped(4), &compile::Before::default());
    assert_eq!((again.findings, again.statuses), (findings, statuses));
}
