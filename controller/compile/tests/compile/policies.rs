//! Policies: targets, narrowing, rules, what makes them invalid.

use compile::finding::{Effect, Reason};

use crate::world::{OFFICE, World, api, check, check_findings, policy, targeted};

#[test]
fn a_policy_protects_the_ingress_that_it_names() {
    let text = api() + &policy("office", OFFICE);
    check(
        &text,
        &[
            ("GET api.example.com/ 192.0.2.7", "shop/api:80"),
            ("GET api.example.com/ 203.0.113.7", "AddressNotAllowed"),
        ],
    );
    check_findings(&text, &[]);
}

#[test]
fn policies_only_add() {
    let text = api()
        + &policy("a", OFFICE)
        + &policy("b", "  deny: [{ name: block, ip: { cidrs: [192.0.2.7/32] } }]")
        + &policy("c", "  require: [{ name: read, methods: [GET] }]");
    check(
        &text,
        &[
            ("GET api.example.com/ 192.0.2.8", "shop/api:80"),
            ("GET api.example.com/ 192.0.2.7", "AddressDenied"),
            ("POST api.example.com/ 192.0.2.8", "MethodRefused"),
        ],
    );
}

#[test]
fn a_target_narrows_to_hosts_and_paths() {
    let target = "{ group: networking.k8s.io, kind: Ingress, name: api, hosts: [api.example.com], paths: [/admin] }";
    let text = api() + &targeted("office", target, OFFICE);
    check(
        &text,
        &[
            ("GET api.example.com/", "shop/api:80"),
            ("GET api.example.com/administration", "shop/api:80"),
            ("GET api.example.com/admin/x", "AddressNotAllowed"),
        ],
    );
}

#[test]
fn a_target_that_can_match_nothing_closes_its_ingress() {
    for narrowing in ["hosts: [other.example.com]", "hosts: ['*.example.org']"] {
        let target =
            format!("{{ group: networking.k8s.io, kind: Ingress, name: api, {narrowing} }}");
        let text = api() + &targeted("office", &target, OFFICE);
        check(&text, &[("GET api.example.com/ 192.0.2.7", "PolicyInvalid")]);
        check_findings(
            &text,
            &[
                "AccessPolicy shop/office at spec.targetRefs[0]: no request to Ingress `api` has these hosts and paths",
            ],
        );
    }
}

#[test]
fn a_narrowing_that_is_not_canonical_closes_instead_of_matching_nothing() {
    for path in ["/a/../b", "/a;x", "//a"] {
        let target =
            format!("{{ group: networking.k8s.io, kind: Ingress, name: api, paths: ['{path}'] }}");
        let text = api() + &targeted("office", &target, OFFICE);
        check(&text, &[("GET api.example.com/ 192.0.2.7", "PolicyInvalid")]);
    }
}

#[test]
fn a_narrowing_may_be_written_with_escapes_and_without() {
    for path in ["/@admin", "/%40admin", "/%40%61dmin"] {
        let target =
            format!("{{ group: networking.k8s.io, kind: Ingress, name: api, paths: ['{path}'] }}");
        let text = api() + &targeted("office", &target, OFFICE);
        for request in ["GET api.example.com/@admin", "GET api.example.com/%40admin/x"] {
            check(&text, &[(request, "AddressNotAllowed")]);
        }
        check(&text, &[("GET api.example.com/", "shop/api:80")]);
    }
}

#[test]
fn a_target_that_does_not_exist_is_told_and_the_rest_is_enforced() {
    let targets = "{ group: networking.k8s.io, kind: Ingress, name: nobody }, { group: networking.k8s.io, kind: Ingress, name: api }";
    let text = api() + &targeted("office", targets, OFFICE);
    check(&text, &[("GET api.example.com/", "AddressNotAllowed")]);
    check_findings(
        &text,
        &[
            "AccessPolicy shop/office at spec.targetRefs[0].name: Ingress `shop/nobody` does not exist",
        ],
    );
}

#[test]
fn an_invalid_policy_closes_its_targets_and_no_other_route() {
    let other = api()
        .replace("name: api, namespace: shop, ", "name: web, namespace: shop, ")
        .replace("api.example.com", "web.example.com");
    for spec in [
        "  require: [{ name: office, ip: { cidrs: [10.0.0.1/8] } }]",
        "  require: [{ name: office, ip: { cidrs: [10.0.0.0/33] } }]",
        "  require: [{ name: office, ips: { cidrs: [10.0.0.0/8] } }]",
        "  requires: [{ name: office, ip: { cidrs: [10.0.0.0/8] } }]",
        "  require: [{ name: office }]",
        "  require: office",
        "  require: [{ name: a, jwt: { provider: nobody } }]",
        "  require: [{ name: a, methods: [GET], anyOf: [{ methods: [GET] }] }]",
        "  deny: [{ name: a, methods: [GET] }]\n  require: [{ name: a, methods: [GET] }]",
        "  require: [{ name: a, jwt: { provider: k } }]\n  jwtProviders: [{ name: k, issuer: i, audiences: [a], jwks: { inline: 'no' } }]",
        "  require: [{ name: a, jwt: { provider: k } }]\n  jwtProviders: [{ name: k, issuer: i, jwks: { inline: '{}' } }]",
        "  enforcement: Enforced\n  require: [{ name: a, methods: [GET] }]",
    ] {
        let text = api() + &other + &policy("office", spec);
        check(
            &text,
            &[
                ("GET api.example.com/ 10.0.0.1", "PolicyInvalid"),
                ("GET web.example.com/ 10.0.0.1", "shop/api:80"),
            ],
        );
    }
}

#[test]
fn an_undecodable_policy_closes_what_its_raw_targets_name() {
    let text = api() + &targeted("office", "{ kind: Ingres, name: api, host: [a] }", OFFICE);
    check(&text, &[("GET api.example.com/ 192.0.2.7", "PolicyInvalid")]);
}

#[test]
fn a_policy_whose_targets_cannot_be_read_closes_its_namespace() {
    for target in ["{ group: networking.k8s.io, kind: Ingress, nam: api }", "", "7"] {
        let text = api() + &targeted("office", target, OFFICE);
        check(&text, &[("GET api.example.com/ 192.0.2.7", "PolicyInvalid")]);
    }
    let text = api() + &policy("office", OFFICE).replace("targetRefs", "targetRef");
    check(&text, &[("GET api.example.com/ 192.0.2.7", "PolicyInvalid")]);
    let elsewhere = text.replace("name: office, namespace: shop", "name: office, namespace: other");
    check(&elsewhere, &[("GET api.example.com/", "shop/api:80")]);
}

#[test]
fn a_shadow_policy_never_blocks_not_even_when_it_is_invalid() {
    let valid = policy("office", &format!("  enforcement: Shadow\n{OFFICE}"));
    check(&(api() + &valid), &[("GET api.example.com/", "shop/api:80")]);
    for invalid in [
        valid.replace("192.0.2.0/24", "192.0.2.1/24"),
        valid.replace("require", "requires"),
        valid.replace("targetRefs", "targetRef"),
    ] {
        check(&(api() + &invalid), &[("GET api.example.com/", "shop/api:80")]);
        assert!(!World::of(&(api() + &invalid)).findings().is_empty());
    }
}

#[test]
fn an_invalid_shadow_policy_with_an_enforced_rule_closes() {
    let spec = "  enforcement: Shadow\n  require: [{ name: a, enforcement: Enforce, ips: {} }]";
    check(&(api() + &policy("office", spec)), &[("GET api.example.com/", "PolicyInvalid")]);
}

#[test]
fn a_typing_error_is_told_with_the_name_that_was_meant() {
    let text = api() + &policy("office", &OFFICE.replace("cidrs", "cidr"));
    let found = World::of(&text).findings();
    assert!(
        found.iter().any(|finding| finding
            .starts_with("AccessPolicy shop/office at spec.require[0].ip.cidr: ")
            && finding.contains("`cidrs`")),
        "{found:#?}"
    );
}

#[test]
fn a_network_with_host_bits_is_told_with_what_was_meant() {
    let text = api() + &policy("office", &OFFICE.replace("192.0.2.0/24", "192.0.2.1/24"));
    check_findings(
        &text,
        &[
            "AccessPolicy shop/office at spec.require[0].ip.cidrs[0]: `192.0.2.1/24` is not a network: it has bits set behind its prefix; write 192.0.2.0/24",
        ],
    );
}

#[test]
fn the_disclosure_of_an_invalid_policy_counts_if_it_can_be_read() {
    let spec = "  onDeny: { disclosure: Reason, hint: ask }\n  requires: []";
    let world = World::of(&(api() + &policy("office", spec)));
    let found = world
        .compiled
        .snapshot
        .routes
        .find(&decision::host::Host::parse("api.example.com").expect("a host"), "/");
    let route = found.expect("a route");
    let decision::protection::Posture::Enforce(protection) = &route.posture else {
        panic!("{:?}", route.posture)
    };
    let on_deny = protection.attachments()[0].on_deny();
    assert_eq!(on_deny.disclosure, decision::disclosure::Disclosure::Reason);
}

#[test]
fn an_ingress_of_another_class_is_told_from_one_that_does_not_exist() {
    for (class, expected) in [
        (
            "ingressClassName: whygat,",
            "Ingress `shop/api` has the class `whygat`, ours is `whygate`",
        ),
        ("", "Ingress `shop/api` has no class, ours is `whygate`"),
    ] {
        let text = api().replace("ingressClassName: whygate,", class) + &policy("office", OFFICE);
        let world = World::of(&text);
        let finding = world.compiled.findings.first().expect("a finding");
        assert_eq!(finding.message, expected);
        assert!(finding.remedy.contains("`spec.ingressClassName: whygate`"), "{}", finding.remedy);
        let resolved = world.compiled.statuses[0].conditions[1].message.clone();
        assert_eq!(resolved, format!("spec.targetRefs[0]: {expected}"));
    }
    let text = api() + &policy("office", OFFICE).replace("name: api", "name: apy");
    let missing =
        "AccessPolicy shop/office at spec.targetRefs[0].name: Ingress `shop/apy` does not exist";
    check_findings(&text, &[missing]);
}

#[test]
fn an_ingress_that_another_controller_serves_on_purpose_is_worth_no_event() {
    let text = api().replace("ingressClassName: whygate,", "ingressClassName: inner,")
        + &policy("office", OFFICE);
    let class = "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: { name: inner }\nspec: { controller: example.com/inner }\n";
    for (text, effect) in [(text.clone(), Effect::Rejects), (text + class, Effect::Warns)] {
        let world = World::of(&text);
        let findings = world.compiled.findings.iter();
        let effects: Vec<_> = findings.map(|finding| (finding.reason, finding.effect)).collect();
        assert_eq!(effects, [(Reason::TargetNotFound, effect)], "{text}");
        assert_eq!(world.compiled.statuses[0].conditions[1].reason, "TargetNotFound");
    }
}

#[test]
fn a_key_set_that_is_missing_closes_only_a_rule_without_another_way_to_meet_it() {
    let providers = "  jwtProviders: [{ name: k, issuer: i, anyAudience: true, jwks: { secretRef: { name: gone, key: jwks } } }]\n";
    for (rule, effect) in [
        ("jwt: { provider: k }", Effect::Closes),
        ("anyOf: [{ jwt: { provider: k } }, { methods: [GET] }]", Effect::Rejects),
    ] {
        let rules = format!("  require: [{{ name: a, {rule} }}]\n");
        let world = World::of(&(api() + &policy("a", &format!("{providers}{rules}"))));
        let finding = world.compiled.findings.first().expect("a finding");
        assert_eq!((finding.reason, finding.effect), (Reason::SecretMissing, effect), "{rule}");
    }
}

#[test]
fn a_question_needs_no_period() {
    let text = api() + &policy("office", &OFFICE.replace("cidrs", "cidr"));
    let told =
        World::of(&text).compiled.findings.iter().map(ToString::to_string).collect::<String>();
    assert!(told.contains("did you mean `cidrs`? Correct the field"), "{told}");
}
