//! What the annotations of an Ingress say; one that is not understood closes the Ingress.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, LazyLock},
};

use decision::{
    denial::DenialReason,
    options::Options,
    refs::{FieldRef, ResourceRef},
};

use crate::{
    finding::{Effect, Findings, Problem, Reason},
    foreign::{self, Foreigner},
    metadata::annotation_path as path,
    options, transport,
};

/// What our annotations begin with.
pub(crate) const PREFIX: &str = "whygate.dev/";
pub(crate) const REQUIRE_POLICY: &str = "whygate.dev/require-policy";
pub(crate) const SHARE_HOST: &str = "whygate.dev/share-host-with";
const SSL_REDIRECT: &str = "whygate.dev/ssl-redirect";
const IGNORE: &str = "whygate.dev/ignore-annotations";
pub(crate) const POSTURE: &str = "whygate.dev/posture";

const OF_INGRESSES: [&str; 4] = [REQUIRE_POLICY, SHARE_HOST, SSL_REDIRECT, IGNORE];

/// Every annotation of ours that Ingresses have.
static KNOWN: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let known = OF_INGRESSES.iter().chain(options::keys()).chain(transport::KEYS);
    known.copied().collect()
});

/// The annotations of an Ingress, read.
#[derive(Debug)]
pub(crate) struct Annotations {
    /// Names of the policies that must cover each request.
    pub(crate) required: Vec<String>,
    /// Namespaces that may use the hosts of this Ingress, too.
    pub(crate) shared_with: BTreeSet<String>,
    /// Whether a host with TLS redirects plain HTTP.
    pub(crate) redirects: bool,
    /// What its routes are asked for beyond that.
    pub(crate) options: Option<Arc<Options>>,
    /// How its endpoints are to be spoken to.
    pub(crate) transport: transport::Wish,
    /// Why the whole Ingress is closed.
    pub(crate) refusal: Option<DenialReason>,
}

/// How many different names a list of ours may have. Every demanded policy is looked for at each
/// request, and each namespace is kept for each host.
const NAMES: [(&str, usize); 3] = [(REQUIRE_POLICY, 16), (SHARE_HOST, 64), (IGNORE, 64)];

type Raw = BTreeMap<String, String>;

/// Reads the annotations of an Ingress.
pub(crate) fn read(
    resource: &ResourceRef,
    annotations: Option<&Raw>,
    findings: &mut Findings,
) -> Annotations {
    let empty = Raw::new();
    let annotations = annotations.unwrap_or(&empty);
    let list = |(key, most): (&str, usize)| {
        let names = annotations.get(key).into_iter().flat_map(|text| split(text));
        names.take(most).map(str::to_owned).collect::<Vec<_>>()
    };
    let [required, shared_with, ignored] = NAMES.map(list);
    let options::Read { options, mut problems, warnings } = options::read(resource, annotations);
    let transport = transport::read(annotations, &mut problems);
    let mut read = Annotations {
        required,
        shared_with: shared_with.into_iter().collect(),
        redirects: annotations.get(SSL_REDIRECT).map(String::as_str) != Some("false"),
        options,
        transport,
        refusal: None,
    };
    for (key, value) in annotations {
        let foreigner = foreign::read(key, value).filter(|_| !ignored.contains(key));
        if let Some(Foreigner::Serves(instead)) = foreigner {
            findings.add(resource, Reason::RouteInvalid, Effect::Warns, unserved(key, instead));
        }
        let closing = unknown(key).or_else(|| unenforced(key, foreigner?));
        let closing = closing.map(|problem| unenforceable(resource, problem, findings));
        let closing = closing.or_else(|| {
            invalid(key, value).map(|problem| self::invalid_route(resource, problem, findings))
        });
        read.refusal = read.refusal.or(closing);
    }
    for problem in problems {
        let closing = invalid_route(resource, problem, findings);
        read.refusal.get_or_insert(closing);
    }
    for warning in warnings {
        findings.add(resource, Reason::RouteInvalid, Effect::Warns, warning);
    }
    for key in ignored.iter().filter(|key| !annotations.contains_key(*key)) {
        let message = format!("`{key}` is not an annotation of this Ingress");
        let problem = Problem::new(path(IGNORE), message, format!("Remove `{key}` from the list."));
        findings.add(resource, Reason::RouteInvalid, Effect::Warns, problem);
    }
    read
}

/// Whether Ingresses have an annotation of ours.
#[cfg(test)]
pub(crate) fn is_known(key: &str) -> bool {
    KNOWN.contains(&key)
}

/// Names between commas, each once; empty ones left out.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut seen = HashSet::new();
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.filter(move |name| seen.insert(*name))
}

fn unknown(key: &str) -> Option<Problem> {
    if !key.starts_with(PREFIX) {
        return None;
    }
    if KNOWN.contains(&key) {
        return None;
    }
    let message = format!("`{key}` is not an annotation that Ingresses have");
    let elsewhere = foreign::of_nginx(key.strip_prefix(PREFIX).unwrap_or_default());
    let remedy = elsewhere
        .map_or_else(|| meant(key, &KNOWN), |instead| format!("Remove `{key}`. {instead}."));
    Some(Problem::new(path(key), message, remedy))
}

/// What to write in the place of an unknown key.
pub(crate) fn meant(key: &str, known: &[&'static str]) -> String {
    // All of them begin alike, which says nothing about what was meant.
    let own = |key: &'static str| key.strip_prefix(PREFIX).unwrap_or(key);
    let names: Vec<_> = known.iter().copied().map(own).collect();
    match crds::nearest(key.strip_prefix(PREFIX).unwrap_or(key), &names) {
        Some(name) => format!("Write `{PREFIX}{name}`, or remove it."),
        None => format!("Remove it; what may follow `{PREFIX}` here: `{}`.", names.join("`, `")),
    }
}

fn unenforced(key: &str, foreigner: Foreigner) -> Option<Problem> {
    let Foreigner::Protects(replacement) = foreigner else { return None };
    let keep = match replacement {
        Some(replacement) => format!("To keep the protection, {replacement}"),
        None => "No field replaces it: protect the route before or behind the gateway".to_owned(),
    };
    Some(Problem::new(
        path(key),
        format!("`{key}` protects this route under another controller and has no effect here"),
        format!("{keep}; then remove the annotation, or accept its loss with `{IGNORE}: {key}`."),
    ))
}

/// An annotation of another controller that closes nothing, and is not what its owner gets.
fn unserved(key: &str, instead: &str) -> Problem {
    let remedy = format!("{instead}. Then remove the annotation, or list it in `{IGNORE}`.");
    Problem::new(path(key), format!("`{key}` has no effect here"), remedy)
}

fn invalid(key: &str, value: &str) -> Option<Problem> {
    let remedy = match key {
        SSL_REDIRECT if !matches!(value, "true" | "false") => "Write `\"true\"` or `\"false\"`.",
        REQUIRE_POLICY if split(value).next().is_none() => {
            "Name the AccessPolicies that must cover this Ingress, separated by commas, or remove the annotation."
        }
        SHARE_HOST if split(value).next().is_none() => {
            "Name the namespaces that may use the hosts of this Ingress, separated by commas, or remove the annotation."
        }
        _ => return surplus(key, value),
    };
    Some(Problem::new(path(key), format!("`{value}` is not a value of `{key}`"), remedy))
}

/// What is wrong with a list that has more names than it may have.
fn surplus(key: &str, value: &str) -> Option<Problem> {
    let (_, most) = NAMES.into_iter().find(|(list, _)| *list == key)?;
    let count = split(value).count();
    (count > most).then(|| {
        let message = format!("it has {count} different names, and at most {most} count");
        Problem::new(path(key), message, format!("Leave {} of them out.", count - most))
    })
}

/// Records a protection that cannot be enforced, and the refusal that follows.
pub(crate) fn unenforceable(
    resource: &ResourceRef,
    problem: Problem,
    findings: &mut Findings,
) -> DenialReason {
    let reason = DenialReason::PolicyUnenforceable {
        field: problem.field(resource),
        problem: problem.message.as_str().into(),
        remedy: problem.remedy.as_str().into(),
    };
    findings.add(resource, Reason::PolicyUnenforceable, Effect::Closes, problem);
    reason
}

/// Records an invalid part of an Ingress, and the refusal that follows.
pub(crate) fn invalid_route(
    resource: &ResourceRef,
    problem: Problem,
    findings: &mut Findings,
) -> DenialReason {
    let field: FieldRef = problem.field(resource);
    let (message, remedy) = (problem.message.as_str().into(), problem.remedy_of_object());
    let reason = DenialReason::RouteInvalid { field, problem: message, remedy };
    findings.add(resource, Reason::RouteInvalid, Effect::Closes, problem);
    reason
}

/// What to write in the place of an unknown name, or what else to do.
pub(crate) fn meant_name(name: &str, known: &[&str], otherwise: &str) -> String {
    match crds::nearest(name, known) {
        Some(nearest) => {
            let mut otherwise = otherwise.chars();
            let first: String = otherwise.next().into_iter().flat_map(char::to_lowercase).collect();
            format!("Write `{nearest}`, or {first}{}", otherwise.as_str())
        }
        None => otherwise.to_owned(),
    }
}
