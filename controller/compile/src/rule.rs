//! Rules of a policy: checks with the places that refusals point at.

use std::{collections::HashMap, fmt::Write, sync::Arc};

use crds::{Checks, ClaimTest as RawTest, ClaimValue, ClientCertificateCheck, JwtCheck};
use decision::{
    address::{NetworkSet, parse_network},
    check::{
        Check, Demand,
        address::AddressCheck,
        certificate::{CertificateCheck, NamePattern},
        method::MethodCheck,
        subscription::{AcceptedPlan, SubscriptionCheck},
        token::{ClaimDemand, ClaimTest, TokenCheck},
    },
    claims::Json,
    lack::Lack,
    policy::{Alternative, Enforcement, Rule, Section},
    refs::{Kind, ResourceRef, Site},
    token::Provider,
};
use http::Method;

use crate::{
    annotation::meant_name, authorities, finding::Problem, index::Index, map::Map, plan::Plans,
};

/// Places of rules and checks as they are spelled. Most policies have the same few, so they share
/// them.
#[derive(Default)]
pub(crate) struct Fields(Map<(Place, &'static str), Arc<str>>);

/// A rule, or an entry of its `anyOf`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    section: Section,
    rule: usize,
    alternative: Option<usize>,
}

impl Fields {
    /// A check of it, or with an empty name itself.
    fn of(&mut self, place: Place, check: &'static str) -> Arc<str> {
        let spelled = || {
            let Place { section, rule, alternative } = place;
            let list = match section {
                Section::Deny => "deny",
                Section::Require => "require",
            };
            let mut field = format!("spec.{list}[{rule}]");
            if let Some(alternative) = alternative {
                let _ = write!(field, ".anyOf[{alternative}]");
            }
            if !check.is_empty() {
                let _ = write!(field, ".{check}");
            }
            field.into()
        };
        Arc::clone(self.0.entry((place, check)).or_insert_with(spelled))
    }
}

/// What the rules of a policy may refer to, and where their problems are collected.
pub(crate) struct Surroundings<'a> {
    pub(crate) policy: &'a ResourceRef,
    /// What holds for rules that say nothing else.
    pub(crate) enforcement: Enforcement,
    pub(crate) providers: &'a HashMap<String, Arc<Provider>>,
    pub(crate) plans: &'a Plans,
    pub(crate) index: &'a Index<'a>,
    pub(crate) fields: &'a mut Fields,
    /// What makes the policy invalid.
    pub(crate) problems: &'a mut Vec<Problem>,
    /// What makes a check unknown.
    pub(crate) unresolved: &'a mut Vec<Problem>,
}

/// The rules of one list. What is wrong with them is collected in the surroundings.
pub(crate) fn rules(
    rules: &[crds::Rule],
    section: Section,
    surroundings: &mut Surroundings<'_>,
) -> Box<[Rule]> {
    let rules = rules.iter().enumerate();
    let place = |rule| Place { section, rule, alternative: None };
    rules.map(|(index, raw)| rule(raw, place(index), surroundings)).collect()
}

fn rule(raw: &crds::Rule, place: Place, surroundings: &mut Surroundings<'_>) -> Rule {
    let name: Arc<str> = raw.name.as_str().into();
    let alternatives = match raw.demand() {
        crds::Demand::Checks(checks) => {
            vec![alternative(checks, &name, place, surroundings)]
        }
        crds::Demand::AnyOf(all) => {
            if !raw.checks.is_empty() {
                let field = surroundings.fields.of(place, "");
                surroundings.problems.push(Problem::new(
                    &*field,
                    "has checks of its own beside `anyOf`",
                    "Write the checks into each alternative, or make two rules of it.",
                ));
            }
            let all = all.iter().enumerate();
            all.map(|(index, checks)| {
                let place = Place { alternative: Some(index), ..place };
                alternative(checks, &name, place, surroundings)
            })
            .collect()
        }
    };
    Rule {
        name,
        enforcement: match raw.enforcement {
            None => surroundings.enforcement,
            Some(crds::Enforcement::Enforce) => Enforcement::Enforce,
            Some(crds::Enforcement::Shadow) => Enforcement::Shadow,
        },
        alternatives: alternatives.into(),
        hint: raw.respond.as_ref().map(|respond| respond.hint.as_str().into()),
    }
}

fn alternative(
    raw: &Checks,
    rule: &Arc<str>,
    place: Place,
    surroundings: &mut Surroundings<'_>,
) -> Alternative {
    let own = surroundings.fields.of(place, "");
    if raw.is_empty() {
        surroundings.problems.push(Problem::new(
            &*own,
            "has no check, so it would hold for everybody",
            "Give at least one of `ip`, `jwt`, `subscription`, `clientCertificate`, `methods`.",
        ));
    }
    let policy = surroundings.policy.clone();
    let site =
        |field: Arc<str>| Arc::new(Site { policy: policy.clone(), rule: Arc::clone(rule), field });
    let mut checks = Vec::new();
    let mut add = |field: Arc<str>, demand: Option<Demand>| {
        checks.reserve_exact(1);
        checks.extend(demand.map(|demand| Check { site: site(field), demand }));
    };
    if let Some(ip) = &raw.ip {
        let field = surroundings.fields.of(place, "ip");
        let demand = address(ip, &field, surroundings);
        add(field, Some(demand));
    }
    if !raw.methods.is_empty() {
        let field = surroundings.fields.of(place, "methods");
        let demand = methods(&raw.methods, &field, surroundings);
        add(field, Some(demand));
    }
    if let Some(subscription) = &raw.subscription {
        let field = surroundings.fields.of(place, "subscription");
        let demand = plans(subscription, &field, surroundings);
        add(field, Some(demand));
    }
    if let Some(raw) = &raw.client_certificate {
        let field = surroundings.fields.of(place, "clientCertificate");
        let demand = certificate(raw, &field, surroundings);
        add(field, Some(demand));
    }
    if let Some(jwt) = &raw.jwt {
        let field = surroundings.fields.of(place, "jwt");
        let demand = token(jwt, &field, surroundings);
        add(field, demand);
    }
    Alternative::new(site(own), checks)
}

fn address(raw: &crds::IpCheck, field: &str, surroundings: &mut Surroundings<'_>) -> Demand {
    let mut networks = Vec::with_capacity(raw.cidrs.len());
    for (index, text) in raw.cidrs.iter().enumerate() {
        match parse_network(text) {
            Ok(network) => networks.push(network),
            Err(problem) => surroundings.problems.push(Problem::new(
                format!("{field}.cidrs[{index}]"),
                format!("`{text}` is not a network: {problem}"),
                "Correct the entry; the routes of this policy stay closed until then.",
            )),
        }
    }
    let networks = NetworkSet::new(networks);
    Demand::Address(AddressCheck { networks, infrastructure: raw.infrastructure })
}

fn methods(raw: &[String], field: &str, surroundings: &mut Surroundings<'_>) -> Demand {
    let mut methods = Vec::with_capacity(raw.len());
    for (index, text) in raw.iter().enumerate() {
        match Method::from_bytes(text.as_bytes()) {
            Ok(method) => methods.push(method),
            Err(_) => surroundings.problems.push(Problem::new(
                format!("{field}[{index}]"),
                format!("`{text}` is not a method"),
                "Write a method in upper-case letters, such as `GET`.",
            )),
        }
    }
    Demand::Method(MethodCheck { methods: methods.into() })
}

fn plans(
    raw: &crds::SubscriptionCheck,
    field: &str,
    surroundings: &mut Surroundings<'_>,
) -> Demand {
    let namespace = &surroundings.policy.namespace;
    let mut plans = Vec::with_capacity(raw.plans.len());
    for (index, name) in raw.plans.iter().enumerate() {
        let plan = ResourceRef::new(Kind::AccessPlan, Arc::clone(namespace), name.as_str());
        let lack = surroundings.plans.problem(&plan).map(|problem| {
            let remedy = "Create or correct the plan, or correct the name; the check cannot be judged until then.";
            let field = format!("{field}.plans[{index}]");
            let message = format!("{plan}: {problem}");
            surroundings.unresolved.push(Problem::new(field, message, remedy));
            Lack { problem: problem.into(), remedy: remedy.into() }
        });
        plans.push(AcceptedPlan { plan, lack });
    }
    Demand::Subscription(SubscriptionCheck { plans: plans.into() })
}

/// How an entry of a list of names is read.
type Parse = fn(&str) -> Result<NamePattern, &'static str>;

fn certificate(
    raw: &ClientCertificateCheck,
    field: &str,
    surroundings: &mut Surroundings<'_>,
) -> Demand {
    let secret = ResourceRef::new(
        Kind::Secret,
        Arc::clone(&surroundings.policy.namespace),
        raw.ca_secret_ref.name.as_str(),
    );
    let authorities = authorities::read(&secret, surroundings.index).map(Arc::new);
    if let Err(lack) = &authorities {
        let (field, message) =
            (format!("{field}.caSecretRef"), format!("{secret}: {}", lack.problem));
        surroundings.unresolved.push(Problem::new(field, message, &*lack.remedy));
    }
    let names = raw.subject_alt_names.clone().unwrap_or_default();
    let lists: [(&str, &[String], Parse); 3] = [
        ("uris", &names.uris, NamePattern::uri),
        ("dnsNames", &names.dns_names, NamePattern::dns),
        ("emails", &names.emails, NamePattern::email),
    ];
    let mut patterns = Vec::new();
    for (list, texts, parse) in lists {
        for (index, text) in texts.iter().enumerate() {
            match parse(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(problem) => surroundings.problems.push(Problem::new(
                    format!("{field}.subjectAltNames.{list}[{index}]"),
                    format!("`{text}` is not a name that can be asked for: {problem}"),
                    "Correct the entry; the routes of this policy stay closed until then.",
                )),
            }
        }
    }
    Demand::Certificate(CertificateCheck { secret, authorities, names: patterns.into() })
}

fn token(raw: &JwtCheck, field: &str, surroundings: &mut Surroundings<'_>) -> Option<Demand> {
    let Some(provider) = surroundings.providers.get(&raw.provider) else {
        let known: Vec<_> = surroundings.providers.keys().map(String::as_str).collect();
        surroundings.problems.push(Problem::new(
            format!("{field}.provider"),
            format!("`{}` is not a provider of this policy", raw.provider),
            meant_name(&raw.provider, &known, "Add an entry of that name to `spec.jwtProviders`."),
        ));
        return None;
    };
    let texts = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
    let scopes = raw.scopes.clone().unwrap_or_default();
    let claims = raw
        .claims
        .iter()
        .map(|claim| ClaimDemand { path: claim.path.as_str().into(), test: test(&claim.test) });
    Some(Demand::Token(TokenCheck {
        provider: Arc::clone(provider),
        scopes_all: texts(&scopes.all),
        scopes_any: texts(&scopes.any),
        claims: claims.collect(),
    }))
}

fn test(raw: &RawTest) -> ClaimTest {
    match raw {
        RawTest::Equals(ClaimValue::Boolean(value)) => ClaimTest::Equals(Json::Bool(*value)),
        RawTest::Equals(ClaimValue::Number(number)) => {
            ClaimTest::Equals(Json::Number(number.clone()))
        }
        RawTest::Equals(ClaimValue::Text(text)) => {
            ClaimTest::Equals(Json::String(text.as_str().into()))
        }
        RawTest::Contains(text) => ClaimTest::Contains(text.as_str().into()),
        RawTest::OneOf(texts) => {
            ClaimTest::OneOf(texts.iter().map(|text| text.as_str().into()).collect())
        }
    }
}
