//! What one object may cost: long lists in one manifest, and many policies for one Ingress.

use std::sync::Arc;

use compile::{
    conditions::{Details, PolicyStatus},
    finding::Effect,
};
use decision::{disclosure::Disclosure, host::Host, protection::Posture};

use crate::world::{OFFICE, SERVICES, World, aged, api, ingress, policy, rule, targeted};

/// Reason, object and message of every finding.
fn told(world: &World) -> Vec<String> {
    let findings = world.compiled.findings.iter();
    findings.map(|it| format!("{} {}: {}", it.reason.as_str(), it.field, it.message)).collect()
}

/// How far a policy reaches, as its status says.
fn reach(world: &World, name: &str) -> PolicyStatus {
    let mut statuses = world.compiled.statuses.iter();
    let status = statuses.find(|status| &*status.resource.name == name).expect("a status");
    let Details::Policy(reach) = status.details else { return PolicyStatus::default() };
    reach
}

#[test]
fn a_list_in_an_annotation_counts_each_name_once_and_closes_beyond_its_bound() {
    let names = |count: usize| (0..count).map(|number| format!("n{number}")).collect::<Vec<_>>();
    let text = |key: &str, names: &[String]| {
        ingress(
            &format!("annotations: {{ whygate.dev/{key}: '{}' }}", names.join(",")),
            &format!("rules: [{}]", rule("api.example.com", "/")),
        ) + &names.iter().take(17).map(|name| policy(name, OFFICE)).collect::<String>()
    };
    let request = "GET api.example.com/ 192.0.2.7";
    for (key, most) in [("require-policy", 16), ("share-host-with", 64), ("ignore-annotations", 64)]
    {
        let repeated = [names(most), names(most)].concat();
        let fine = World::of(&text(key, &names(most)).replace(
            &format!("'{}'", names(most).join(",")),
            &format!("'{}'", repeated.join(",")),
        ));
        assert_eq!(fine.ask(request), "shop/web:80", "{key}: {:#?}", fine.findings());
        let over = World::of(&text(key, &names(most + 1)));
        assert_eq!(over.ask(request), "RouteInvalid", "{key}");
        let expected = format!("it has {} different names, and at most {most} count", most + 1);
        let told = over.findings();
        let told = told.iter().find(|told| told.ends_with(&expected)).expect("a finding");
        assert!(told.contains(&format!("annotations['whygate.dev/{key}']")), "{told}");
    }
}

#[test]
fn all_paths_of_an_ingress_share_what_protects_them() {
    let paths: Vec<_> =
        (0..3).map(|number| rule("api.example.com", &format!("/{number}"))).collect();
    let required = ingress(
        "annotations: { whygate.dev/require-policy: 'office,office,office' }",
        &format!("rules: [{}]", paths.join(", ")),
    );
    let world = World::of(&(required + &policy("office", OFFICE)));
    let host = Host::parse("api.example.com").expect("a host");
    let protection = |path: &str| {
        let route = world.compiled.snapshot.routes.find(&host, path).expect("a route");
        let Posture::Enforce(protection) = &route.posture else { panic!("{:?}", route.posture) };
        Arc::clone(protection)
    };
    assert!(Arc::ptr_eq(&protection("/0"), &protection("/2")));
    assert_eq!(protection("/0").required().len(), 1);
}

#[test]
fn all_hosts_with_tls_below_a_wildcard_share_its_routes() {
    let hosts = "hosts: [a.example.com, b.example.com, c.example.com]";
    let text = ingress(
        "",
        &format!("tls: [{{ {hosts}, secretName: none }}], rules: [{}]", rule("*.example.com", "/")),
    );
    let world = World::of(&text);
    let route = |host: &str| {
        let host = Host::parse(host).expect("a host");
        Arc::clone(world.compiled.snapshot.routes.find(&host, "/").expect("a route"))
    };
    assert!(Arc::ptr_eq(&route("a.example.com"), &route("b.example.com")));
    assert!(Arc::ptr_eq(&route("a.example.com"), &route("c.example.com")));
    assert!(!Arc::ptr_eq(&route("a.example.com"), &route("d.example.com")));
    for (host, answer) in
        [("a", "308"), ("b", "308"), ("c", "308"), ("d", "shop/web:80"), ("e", "shop/web:80")]
    {
        assert_eq!(world.ask(&format!("GET http://{host}.example.com/")), answer, "{host}");
    }
}

#[test]
fn an_object_with_very_many_problems_has_few_findings_and_the_worst_of_them() {
    let typing_errors =
        (0..500).map(|number| format!("no-{number}")).collect::<Vec<_>>().join(", ");
    let bad_hosts: Vec<_> = (0..500).map(|number| rule(&format!("b..{number}"), "/")).collect();
    let bad_path = rule("a.example.com", "/a b");
    let rules = [bad_hosts.as_slice(), &[bad_path]].concat();
    let annotations = format!("whygate.dev/ignore-annotations: '{typing_errors}'");
    let world = World::of(&(SERVICES.to_owned() + &aged("shop/a", 1, &annotations, &rules)));
    let told = told(&world);
    assert_eq!(told.len(), 21, "{told:#?}");
    let findings = &world.compiled.findings;
    let closing = findings.iter().filter(|finding| finding.effect == Effect::Closes);
    let closing: Vec<_> = closing.map(|finding| finding.field.path.to_string()).collect();
    assert!(closing.contains(&"spec.rules[500].http.paths[0].path".to_owned()), "{closing:?}");
    assert!(told.iter().any(|line| line.contains(" more problems of it")), "{told:#?}");
    assert!(findings.iter().all(|finding| finding.effect != Effect::Warns), "{told:#?}");
}

/// Policies for the Ingress api, with a part of `targetRefs`.
fn policies(numbers: std::ops::Range<usize>, narrowing: &str, spec: &str) -> String {
    let target = format!("{{ group: networking.k8s.io, kind: Ingress, name: api{narrowing} }}");
    let all = numbers.map(|number| targeted(&format!("p{number:03}"), &target, spec));
    all.collect::<Vec<_>>().concat()
}

#[test]
fn an_ingress_that_too_many_policies_name_is_closed_and_says_how_many() {
    let inside = "GET api.example.com/ 192.0.2.7";
    let fits = World::of(&(api() + &policies(0..64, "", OFFICE)));
    assert_eq!((fits.ask(inside), told(&fits)), ("shop/api:80".to_owned(), vec![]));
    let strict = format!("  onDeny: {{ disclosure: None }}\n{OFFICE}");
    let over = api() + &policies(0..69, "", OFFICE) + &policies(69..70, ", paths: [/x]", &strict);
    let over = World::of(&over);
    assert_eq!(over.ask(inside), "RouteInvalid");
    assert_eq!(over.disclosure(inside), Some(Disclosure::None));
    assert_eq!(
        told(&over),
        [
            "RouteInvalid Ingress shop/api at metadata.name: 70 policies name it in their `targetRefs`, and at most 64 may"
        ]
    );
}

#[test]
fn an_ingress_whose_policies_have_too_many_checks_and_paths_is_closed() {
    let paths: Vec<_> = (0..64).map(|number| format!("/{number}")).collect();
    let target = format!(
        "{{ group: networking.k8s.io, kind: Ingress, name: api, paths: [{}] }}",
        paths.join(", ")
    );
    let long = |number: usize| {
        let rules: Vec<_> =
            (0..64).map(|rule| format!("{{ name: r{rule}, methods: [GET] }}")).collect();
        let rules = format!("  require: [{}]", rules.join(", "));
        targeted(&format!("p{number:03}"), &[target.as_str(); 16].join(", "), &rules)
    };
    let text = |count: usize| api() + &(0..count).map(long).collect::<Vec<_>>().concat();
    let request = "GET api.example.com/1";
    assert_eq!(World::of(&text(7)).ask(request), "shop/api:80");
    let over = World::of(&text(8));
    assert_eq!(over.ask(request), "RouteInvalid");
    let expected = "have more than 8192 checks, hosts and paths together";
    assert!(told(&over)[0].ends_with(expected), "{:#?}", told(&over));
    let shadow = text(8).replace("targetRefs", "enforcement: Shadow\n  targetRefs");
    let shadow = World::of(&shadow);
    assert_eq!(shadow.ask("POST api.example.com/1"), "shop/api:80");
    assert!(told(&shadow)[0].contains("1 of those that only count"), "{:#?}", told(&shadow));
}

#[test]
fn policies_that_only_count_never_close_however_many_they_are() {
    let shadow = format!("  enforcement: Shadow\n{OFFICE}");
    let text = api() + &policies(0..100, "", &shadow) + &policies(100..101, "", OFFICE);
    let world = World::of(&text);
    assert_eq!(world.ask("GET api.example.com/ 192.0.2.7"), "shop/api:80");
    assert_eq!(world.ask("GET api.example.com/"), "AddressNotAllowed");
    let told = told(&world);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].ends_with("; 37 of those that only count are left out"), "{told:#?}");
}

#[test]
fn many_policies_whose_targets_cannot_be_read_refuse_as_the_strictest_of_them_says() {
    let broken =
        |disclosure: &str| format!("  onDeny: {{ disclosure: {disclosure} }}\n  requires: []");
    let text =
        api() + &policies(0..70, "", &broken("Code")) + &policies(70..71, "", &broken("None"));
    let world = World::of(&text.replace("targetRefs", "targets"));
    let request = "GET api.example.com/ 192.0.2.7";
    assert_eq!(world.ask(request), "PolicyInvalid");
    assert_eq!(world.disclosure(request), Some(Disclosure::None));
}

#[test]
fn ways_around_policies_are_not_looked_for_where_that_takes_too_long() {
    let paths: Vec<_> =
        (0..500).map(|number| rule("api.example.com", &format!("/{number}"))).collect();
    let other = aged("other/web", 1, "", &[rule("b.example.com", "/")]);
    let text = ingress("", &format!("rules: [{}]", paths.join(", "))) + &other;
    let narrow: Vec<_> = (0..64).map(|number| format!("/{number}")).collect();
    let narrow = format!(", paths: [{}]", narrow.join(", "));
    let few = World::of(&(text.clone() + &policies(0..1, &narrow, OFFICE)));
    assert!(told(&few)[0].contains("outside of these hosts and paths"), "{:?}", told(&few));
    let first = reach(&few, "p000");
    assert_eq!((first.hosts, first.paths), (1, 64));
    let many = World::of(&(text + &policies(0..64, &narrow, OFFICE)));
    assert_eq!(
        told(&many),
        [
            "PolicyBypassed Namespace shop at metadata.name: its policies name too many hosts and paths: nobody looked for ways around them"
        ]
    );
    assert_eq!(many.ask("GET api.example.com/1"), "AddressNotAllowed");
    assert_eq!(many.ask("GET api.example.com/100"), "shop/web:80");
    let last = reach(&many, "p063");
    assert_eq!((last.matched, last.hosts, last.paths), (1, 0, 0));
}
