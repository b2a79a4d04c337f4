//! Classes, hosts, paths and backends.

use compile::{
    Settings,
    settings::{ExternalNames, NameProblem, NameProblems},
};

use crate::world::{
    SERVICES, World, aged, api, check, check_findings, check_with, ingress, rule, settings,
};

fn path(path: &str, path_type: &str, backend: &str) -> String {
    format!(
        "rules: [{{ host: api.example.com, http: {{ paths: [{{ path: '{path}', pathType: {path_type}, backend: {{ {backend} }} }}] }} }}]"
    )
}

const API: &str = "service: { name: api, port: { number: 80 } }";

#[test]
fn an_ingress_of_our_class_is_served_and_without_policy_open() {
    check(&api(), &[("GET api.example.com/x", "shop/api:80"), ("GET other.example.com/", "404")]);
    check_findings(&api(), &[]);
}

#[test]
fn an_ingress_of_another_class_is_ignored() {
    let text = api().replace("ingressClassName: whygate", "ingressClassName: nginx");
    check(&text, &[("GET api.example.com/", "404")]);
}

#[test]
fn a_class_is_ours_by_its_controller_by_default_and_by_annotation() {
    let class = |metadata: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{ name: edge{metadata} }}\nspec: {{ controller: whygate.dev/ingress-controller }}\n---\n"
        )
    };
    let served = [("GET api.example.com/", "shop/api:80")];
    let ignored = [("GET api.example.com/", "404")];
    let edge = api().replace("ingressClassName: whygate", "ingressClassName: edge");
    check(&format!("{edge}{}", class("")), &served);
    check(&edge, &ignored);

    let none = api().replace("ingressClassName: whygate, ", "");
    let default = ", annotations: { ingressclass.kubernetes.io/is-default-class: 'true' }";
    check(&none, &ignored);
    check(&format!("{none}{}", class("")), &ignored);
    check(&format!("{none}{}", class(default)), &served);
    check_with(&none, &Settings { watch_ingress_without_class: true, ..settings() }, &served);

    let legacy = none.replace(
        "name: api, namespace: shop, ",
        "name: api, namespace: shop, annotations: { kubernetes.io/ingress.class: whygate }",
    );
    check(&legacy, &served);
}

#[test]
fn a_port_is_found_by_number_and_by_name() {
    for (port, expected) in [("number: 8080", "shop/api:8080"), ("name: admin", "shop/api:8080")] {
        let backend = format!("service: {{ name: api, port: {{ {port} }} }}");
        let text = ingress("", &path("/", "Prefix", &backend));
        check(&text, &[("GET api.example.com/", expected)]);
    }
}

#[test]
fn a_backend_that_does_not_exist_is_told_and_leads_nowhere() {
    let backend = "service: { name: nobody, port: { number: 80 } }";
    let text = ingress("", &path("/", "Prefix", backend));
    let problem = "Service `shop/nobody` does not exist";
    check(&text, &[("GET api.example.com/", &format!("BackendMissing: {problem}"))]);
    let field = "Ingress shop/api at spec.rules[0].http.paths[0].backend.service.name";
    check_findings(&text, &[&format!("{field}: {problem}")]);

    let text = ingress("", &path("/", "Prefix", "service: { name: api, port: { number: 81 } }"));
    check_findings(
        &text,
        &[
            "Ingress shop/api at spec.rules[0].http.paths[0].backend.service.port: Service `shop/api` has no TCP port 81",
        ],
    );
    let world = World::of(&text);
    let remedies = [
        world.remedy("GET api.example.com/"),
        world.compiled.findings.first().expect("a finding").remedy.clone(),
    ];
    assert_eq!(remedies, ["Name one of its ports: 80, 8080."; 2]);
}

/// An Ingress whose Service is a name.
fn external(name: &str) -> String {
    let spec = format!("spec: {{ type: ExternalName, externalName: {name}, ports");
    api().replacen("spec: { ports", &spec, 1)
}

/// The same, served, with what is known of names.
fn served(text: &str, problems: NameProblems) -> World {
    let external_names = ExternalNames::Allowed(problems.into());
    World::with(text, &Settings { external_names, ..settings() })
}

#[test]
fn a_name_stands_for_endpoints_and_its_problem_is_that_of_its_routes() {
    let request = "GET api.example.com/";
    let world = served(&external("api.partner.example"), NameProblems::new());
    assert_eq!((world.ask(request).as_str(), world.findings().len()), ("shop/api:80", 0));
    let names: Vec<_> = world.compiled.external_names.iter().collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let is = |(port, name): &(_, _)| format!("{port} {name}") == "shop/api:80 api.partner.example";
    assert!(names.iter().all(is), "{names:?}");
    let field = "Ingress shop/api at spec.rules[0].http.paths[0].backend.service.name";
    for (closes, expected) in [(true, "BackendMissing: "), (false, "shop/api:80")] {
        let problem = NameProblem {
            message: "does not exist in the DNS".to_owned(),
            remedy: "Correct `externalName`.".to_owned(),
            closes,
        };
        let problems = NameProblems::from([("api.partner.example".into(), problem)]);
        let world = served(&external("api.partner.example"), problems);
        let told =
            "Service `shop/api` leads to `api.partner.example`, which does not exist in the DNS";
        let answer = world.ask(request);
        assert!(answer.starts_with(expected), "{answer}");
        assert!(!closes || answer.ends_with(told), "{answer}");
        assert_eq!(world.findings(), [format!("{field}: {told}")]);
        assert_eq!(world.compiled.external_names.len(), 1, "it is asked for again");
    }
    for name in ["169.254.169.254", "kubernetes.default.svc.cluster.local"] {
        let world = served(&external(name), NameProblems::new());
        let answer = world.ask(request);
        let expected = format!(
            "BackendMissing: Service `shop/api` leads nowhere: its `externalName` `{name}` is "
        );
        assert!(answer.starts_with(&expected), "{answer}");
        assert!(world.compiled.external_names.is_empty());
    }
}

#[test]
fn a_service_with_an_external_name_is_not_served_unless_a_flag_says_so() {
    let text = external("evil.example");
    check(
        &text,
        &[(
            "GET api.example.com/",
            "BackendMissing: Service `shop/api` is of type ExternalName, which is not served",
        )],
    );
}

#[test]
fn a_resource_backend_is_refused() {
    let backend = "resource: { apiGroup: a, kind: Bucket, name: b }";
    let text = ingress("", &path("/", "Prefix", backend));
    check(&text, &[("GET api.example.com/", "RouteInvalid")]);
    check_findings(
        &text,
        &[
            "Ingress shop/api at spec.rules[0].http.paths[0].backend.resource: a `resource` backend is not served",
        ],
    );
}

#[test]
fn an_invalid_path_does_not_fall_through_to_a_wider_one() {
    for (written, request) in [
        ("/a/../b", "/b/x"),
        ("/b;v=1", "/b/x"),
        ("//b", "/b"),
        ("/b/%zz", "/b/x"),
        ("b", "/b"),
        ("/b/%2e%2e/%2e%2e", "/b/x"),
    ] {
        let rules = format!(
            "rules: [{}, {}]",
            rule("api.example.com", "/"),
            rule("api.example.com", written)
        );
        let text = ingress("", &rules);
        let request = format!("GET api.example.com{request}");
        check(&text, &[(&request, "RouteInvalid"), ("GET api.example.com/other", "shop/web:80")]);
    }
}

#[test]
fn a_path_may_be_written_with_escapes_and_without() {
    for written in ["/@b", "/%40b", "/%40%62/"] {
        let rules = format!(
            "rules: [{}, {}]",
            rule("api.example.com", "/"),
            rule("api.example.com", written).replace("name: web", "name: api")
        );
        let text = ingress("", &rules);
        for request in ["GET api.example.com/@b", "GET api.example.com/%40b/x"] {
            check(&text, &[(request, "shop/api:80"), ("GET api.example.com/b", "shop/web:80")]);
        }
        check_findings(&text, &[]);
    }
}

#[test]
fn two_spellings_of_a_path_are_one_path_that_the_older_ingress_keeps() {
    let text = [
        SERVICES.to_owned(),
        aged("shop/old", 1, "", &[rule("a.example.com", "/@b")]),
        aged("shop/young", 2, "", &[rule("a.example.com", "/%40b")]),
    ];
    check_findings(
        &text.concat(),
        &[
            "Ingress shop/young at spec.rules[0].http.paths[0].path: Ingress shop/old has `a.example.com` with path `/%40b` already",
        ],
    );
}

#[test]
fn a_pattern_is_refused_where_its_plain_beginning_leads() {
    for written in ["/b(/|$)(.*)", "/b/(.*)", "/b/*"] {
        let pattern = rule("api.example.com", written).replace("Prefix", "ImplementationSpecific");
        let text = ingress("", &format!("rules: [{}, {pattern}]", rule("api.example.com", "/")));
        check(
            &text,
            &[
                ("GET api.example.com/b/x", "RouteInvalid"),
                ("GET api.example.com/other", "shop/web:80"),
            ],
        );
    }
}

#[test]
fn an_unknown_path_type_is_refused_and_named() {
    let text = ingress("", &path("/v1", "Regex", API));
    check(&text, &[("GET api.example.com/v1", "RouteInvalid")]);
    check_findings(
        &text,
        &[
            "Ingress shop/api at spec.rules[0].http.paths[0].pathType: `Regex` is not a type of path",
        ],
    );
}

#[test]
fn an_exact_path_is_only_itself_and_implementation_specific_is_a_prefix() {
    let exact = ingress("", &path("/v1", "Exact", API));
    check(
        &exact,
        &[("GET api.example.com/v1", "shop/api:80"), ("GET api.example.com/v1/x", "404")],
    );
    let prefix = ingress("", &path("/v1", "ImplementationSpecific", API));
    check(&prefix, &[("GET api.example.com/v1/x", "shop/api:80")]);
}

#[test]
fn a_default_backend_serves_what_no_rule_matches() {
    let backend = format!("defaultBackend: {{ {API} }}");
    check(&ingress("", &backend), &[("GET any.example.com/x", "shop/api:80")]);
}

#[test]
fn a_host_that_is_none_is_told() {
    check_findings(
        &ingress("", &format!("rules: [{}]", rule("exa mple.com", "/"))),
        &["Ingress shop/api at spec.rules[0].host: `exa mple.com` is not a host"],
    );
}

#[test]
fn an_undecodable_ingress_is_refused_where_it_can_be_read() {
    let text = api().replace("number: 80 } } } }] } }]", "number: eighty } } } }] } }]");
    let world = World::of(&text);
    assert_eq!(world.ask("GET api.example.com/x"), "RouteInvalid", "{:#?}", world.findings());
    assert!(
        world.findings()[0].starts_with("Ingress shop/api at spec: "),
        "{:?}",
        world.findings()
    );
}

#[test]
fn a_summary_says_how_each_ingress_answers() {
    let world = World::of(&api());
    let summary = &world.compiled.ingresses[0];
    assert_eq!(
        (summary.routes, summary.protection, world.compiled.routes),
        (1, compile::Protection::Open, 1)
    );
}
