//! Which namespace owns a host. The one place that says so.

use std::collections::{BTreeSet, hash_map::Entry};

use decision::host::{Host, HostPattern};

use crate::{
    ingress::Selected,
    map::{Map, with_room},
    settings::Settings,
};

/// The owners of all hosts that some Ingress names.
pub(crate) struct Owners<'a> {
    by_host: Map<HostPattern, Owner<'a>>,
    shared: Map<HostPattern, BTreeSet<&'a str>>,
    wildcards: Wildcards,
}

/// The wildcards that some Ingress names, by what follows their first label: to look for the one
/// above a host costs nothing where there are none.
#[derive(Default)]
struct Wildcards(Map<Host, HostPattern>);

impl Wildcards {
    fn of<'h>(hosts: impl Iterator<Item = &'h HostPattern>) -> Self {
        let wildcards = hosts.filter_map(|host| match host {
            HostPattern::Wildcard(suffix) => Some((suffix.clone(), host.clone())),
            HostPattern::Exact(_) | HostPattern::Any => None,
        });
        Self(wildcards.collect())
    }

    fn above(&self, host: &HostPattern) -> Option<&HostPattern> {
        let HostPattern::Exact(host) = host else { return None };
        self.0.get(host.parent()?)
    }
}

/// Who owns a host, and by which pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner<'a> {
    namespace: &'a str,
    /// The wildcard above, if the host is owned through it.
    through: Option<HostPattern>,
}

/// The oldest Ingress of each pattern: its place in the order of age, and its namespace.
type Claims<'a> = Map<HostPattern, (usize, &'a str)>;

/// Gives each host to the namespace of its oldest Ingress, or to the one of the settings.
///
/// A name below a wildcard belongs to the wildcard's namespace, unless the name is older: then it
/// stays where it is. `ingresses` stand in the order of their age.
pub(crate) fn owners<'a>(ingresses: &'a [Selected<'a>], settings: &'a Settings) -> Owners<'a> {
    let claims = claims(ingresses);
    let wildcards = Wildcards::of(claims.keys());
    let owners: Map<_, _> = claims
        .iter()
        .map(|(host, claim)| (host.clone(), owner(host, *claim, (&claims, &wildcards), settings)))
        .collect();
    let mut shared: Map<_, BTreeSet<_>> = Map::default();
    for ingress in ingresses.iter().filter(|ingress| !ingress.annotations.shared_with.is_empty()) {
        let owned = |host: &&HostPattern| {
            owners.get(*host).is_some_and(|owner| owner.namespace == ingress.namespace())
        };
        for host in ingress.hosts().filter(owned) {
            let namespaces = ingress.annotations.shared_with.iter().map(String::as_str);
            shared.entry(host.clone()).or_default().extend(namespaces);
        }
    }
    Owners { by_host: owners, shared, wildcards }
}

fn claims<'a>(ingresses: &'a [Selected<'a>]) -> Claims<'a> {
    let mut claims: Claims<'_> = with_room(ingresses.len());
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
    (claims, wildcards): (&Claims<'a>, &Wildcards),
    settings: &'a Settings,
) -> Owner<'a> {
    let assigned = |pattern: &HostPattern| {
        let mut all = settings.host_namespaces.iter();
        all.find(|(assigned, _)| assigned == pattern).map(|(_, namespace)| namespace.as_str())
    };
    if let Some(namespace) = assigned(host) {
        return Owner { namespace, through: None };
    }
    // An assigned wildcard counts without any Ingress that names it.
    if !settings.host_namespaces.is_empty()
        && let Some(wildcard) = wildcard_above(host)
        && let Some(namespace) = assigned(&wildcard)
    {
        return Owner { namespace, through: Some(wildcard) };
    }
    let claimed = wildcards.above(host).and_then(|above| Some((above, claims.get(above)?)));
    match claimed {
        Some((wildcard, (older, owner))) if *older < age => {
            Owner { namespace: owner, through: Some(wildcard.clone()) }
        }
        Some(_) | None => Owner { namespace, through: None },
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
        self.by_host.get(host).map(|owner| owner.namespace)
    }

    /// The hosts that some Ingress names, in a rule or beside a certificate.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &HostPattern> {
        self.by_host.keys()
    }

    /// The wildcard one label above a host, if some Ingress names it.
    pub(crate) fn wildcard_above(&self, host: &HostPattern) -> Option<&HostPattern> {
        self.wildcards.above(host)
    }

    /// Whether Ingresses of a namespace have an effect on a host.
    pub(crate) fn may_use(&self, host: &HostPattern, namespace: &str) -> bool {
        let Some(owner) = self.by_host.get(host) else { return false };
        let shared = |host: &HostPattern| {
            self.shared.get(host).is_some_and(|shared| shared.contains(namespace))
        };
        owner.namespace == namespace || shared(host) || owner.through.as_ref().is_some_and(shared)
    }

    /// Hosts whose requests would fall through to the rules of another namespace, with their owners.
    pub(crate) fn apart(&self) -> impl Iterator<Item = (&HostPattern, &'a str)> {
        let any = self.of(&HostPattern::Any);
        self.by_host
            .iter()
            .filter(move |(host, owner)| {
                let below = self.wildcard_above(host).and_then(|wildcard| self.of(wildcard));
                let below = below.or(any);
                **host != HostPattern::Any && below.is_some_and(|other| other != owner.namespace)
            })
            .map(|(host, owner)| (host, owner.namespace))
    }
}
