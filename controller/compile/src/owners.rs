//! Which namespace owns a host. The one place that says so.

use std::collections::{BTreeSet, HashMap, hash_map::Entry};

use decision::host::{Host, HostPattern};

use crate::{ingress::Selected, settings::Settings};

/// The owners of all hosts that some Ingress names.
pub(crate) struct Owners<'a> {
    owners: HashMap<HostPattern, Owner<'a>>,
    shared: HashMap<HostPattern, BTreeSet<&'a str>>,
}

/// Who owns a host, and by which pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner<'a> {
    namespace: &'a str,
    /// The wildcard above, if the host is owned through it.
    through: Option<HostPattern>,
}

/// The oldest Ingress of each pattern: its place in the order of age, and its namespace.
type Claims<'a> = HashMap<HostPattern, (usize, &'a str)>;

/// Gives each host to the namespace of its oldest Ingress, or to the one of the settings.
///
/// A name below a wildcard belongs to the wildcard's namespace, unless the name is older: then it
/// stays where it is. `ingresses` stand in the order of their age.
pub(crate) fn owners<'a>(ingresses: &'a [Selected<'a>], settings: &'a Settings) -> Owners<'a> {
    let claims = claims(ingresses);
    let owners: HashMap<_, _> = claims
        .iter()
        .map(|(host, claim)| (host.clone(), owner(host, *claim, &claims, settings)))
        .collect();
    let mut shared: HashMap<_, BTreeSet<_>> = HashMap::new();
    for ingress in ingresses.iter().filter(|ingress| !ingress.annotations.shared_with.is_empty()) {
        let owned = |host: &&HostPattern| {
            owners.get(*host).is_some_and(|owner| owner.namespace == ingress.namespace())
        };
        for host in ingress.hosts().filter(owned) {
            let namespaces = ingress.annotations.shared_with.iter().map(String::as_str);
            shared.entry(host.clone()).or_default().extend(namespaces);
        }
    }
    Owners { owners, shared }
}

fn claims<'a>(ingresses: &'a [Selected<'a>]) -> Claims<'a> {
    let mut claims = Claims::new();
    for (place, ingress) in ingresses.iter().enumerate() {
        for host in ingress.hosts() {
            if let Entry::Vacant(entry) = claims.entry(host.clone()) {
                entry.insert((place, ingress.namespace()));
            }
        }
    }
    claims
}

fn owner<'a>(
    host: &HostPattern,
    (age, namespace): (usize, &'a str),
    claims: &Claims<'a>,
    settings: &'a Settings,
) -> Owner<'a> {
    let wildcard = wildcard_above(host);
    let assigned = |pattern: &HostPattern| {
        let mut all = settings.host_namespaces.iter();
        all.find(|(assigned, _)| assigned == pattern).map(|(_, namespace)| namespace.as_str())
    };
    if let Some(namespace) = assigned(host) {
        return Owner { namespace, through: None };
    }
    let Some(wildcard) = wildcard else { return Owner { namespace, through: None } };
    if let Some(namespace) = assigned(&wildcard) {
        return Owner { namespace, through: Some(wildcard) };
    }
    match claims.get(&wildcard) {
        Some((older, owner)) if *older < age => Owner { namespace: owner, through: Some(wildcard) },
        _ => Owner { namespace, through: None },
    }
}

/// `*.example.com` of `api.example.com`.
pub(crate) fn wildcard_above(host: &HostPattern) -> Option<HostPattern> {
    match host {
        HostPattern::Exact(host) => Host::parse(host.parent()?).ok().map(HostPattern::Wildcard),
        HostPattern::Wildcard(_) | HostPattern::Any => None,
    }
}

impl<'a> Owners<'a> {
    /// The namespace that owns a host that some Ingress names.
    pub(crate) fn of(&self, host: &HostPattern) -> Option<&'a str> {
        self.owners.get(host).map(|owner| owner.namespace)
    }

    /// The hosts that some Ingress names, in a rule or beside a certificate.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &HostPattern> {
        self.owners.keys()
    }

    /// Whether Ingresses of a namespace have an effect on a host.
    pub(crate) fn may_use(&self, host: &HostPattern, namespace: &str) -> bool {
        let Some(owner) = self.owners.get(host) else { return false };
        let shared = |host: &HostPattern| {
            self.shared.get(host).is_some_and(|shared| shared.contains(namespace))
        };
        owner.namespace == namespace || shared(host) || owner.through.as_ref().is_some_and(shared)
    }

    /// Hosts whose requests would fall through to the rules of another namespace, with their owners.
    pub(crate) fn apart(&self) -> impl Iterator<Item = (&HostPattern, &'a str)> {
        self.owners
            .iter()
            .filter(|(host, owner)| {
                let below = wildcard_above(host).and_then(|wildcard| self.of(&wildcard));
                let below = below.or_else(|| self.of(&HostPattern::Any));
                **host != HostPattern::Any && below.is_some_and(|other| other != owner.namespace)
            })
            .map(|(host, owner)| (host, owner.namespace))
    }
}
