//! The routing table: every path of every Ingress, with what protects it.

use std::{
    collections::{BTreeMap, hash_map::Entry},
    sync::Arc,
};

use decision::{
    host::HostPattern,
    protection::Posture,
    refs::{FieldRef, ResourceRef, RouteName},
    route::{Backend, HostRoutes, PathMatch, Route, RoutingTable},
};
use k8s_openapi::api::networking::v1::IngressBackend;

use crate::{
    annotation::invalid_route,
    backend::backend,
    bypass::Way,
    certificate::Served,
    finding::{Effect, Findings, Problem, Reason},
    index::Index,
    ingress::{Path, Place, Selected},
    map::{Map, Set, with_room},
    owners::Owners,
};

/// What building routes looks at.
pub(crate) struct Surroundings<'s, 'a> {
    pub(crate) owners: &'s Owners<'a>,
    pub(crate) served: &'s Served,
    pub(crate) index: &'s Index<'a>,
}

/// The table while it grows.
#[derive(Default)]
pub(crate) struct Table<'i> {
    hosts: Map<HostPattern, Host<'i>>,
    default: Option<(Arc<str>, Arc<Route>)>,
    routes: usize,
    ways: Vec<Way<'i>>,
    /// Ingresses that redirect where there is TLS.
    redirecting: Set<&'i ResourceRef>,
    /// Hosts that are served as another one is.
    alike: Vec<(HostPattern, Vec<HostPattern>)>,
}

/// How and where a route stands.
type Stands = (PathMatch, Box<str>, Arc<Route>);

#[derive(Default)]
struct Host<'i> {
    paths: Vec<Stands>,
    /// Refusals of paths that cannot be placed, after all others.
    stand_ins: Vec<Stands>,
    /// Which Ingress has a path.
    taken: Map<(PathMatch, &'i str), &'i ResourceRef>,
}

impl<'i> Table<'i> {
    /// A table without routes, with room for those of so many Ingresses.
    pub(crate) fn new(ingresses: usize) -> Self {
        Self { hosts: with_room(ingresses), ..Self::default() }
    }

    /// Adds the routes of one Ingress; the older Ingresses come first. Returns how many it has.
    pub(crate) fn add(
        &mut self,
        ingress: &'i Selected<'_>,
        posture: &Posture,
        surroundings: &Surroundings<'_, '_>,
        findings: &mut Findings,
    ) -> usize {
        let before = self.routes;
        if ingress.annotations.redirects {
            self.redirecting.insert(&ingress.resource);
        }
        for rule in &ingress.rules {
            let field = || format!("spec.rules[{}].host", rule.index);
            if !is_ours(&rule.host, ingress, surroundings.owners, field, findings)
                || rule.paths.is_empty()
            {
                continue;
            }
            let host = (&rule.host, rule.host.spelled());
            let entry = self.hosts.entry(rule.host.clone()).or_default();
            for path in &rule.paths {
                if entry.is_free(path, &rule.host, &ingress.resource, findings) {
                    let posture = posture_of(path, ingress, posture, findings);
                    let route = route(ingress, path, &host, posture, surroundings, findings);
                    self.ways.extend(Way::through(&route, &rule.host, &path.place));
                    entry.add(&path.place, route);
                    self.routes = self.routes.saturating_add(1);
                }
            }
        }
        if let Some(backend) = ingress.default {
            self.add_default(ingress, backend, posture, surroundings, findings);
        }
        for tls in &ingress.tls {
            for host in &tls.hosts {
                let field = || format!("spec.tls[{}]", tls.index);
                is_ours(host, ingress, surroundings.owners, field, findings);
            }
        }
        self.routes.saturating_sub(before)
    }

    fn add_default(
        &mut self,
        ingress: &Selected<'_>,
        backend: &IngressBackend,
        posture: &Posture,
        surroundings: &Surroundings<'_, '_>,
        findings: &mut Findings,
    ) {
        let field = "spec.defaultBackend";
        let spelled = || field.to_owned();
        if !is_ours(&HostPattern::Any, ingress, surroundings.owners, spelled, findings) {
            return;
        }
        if let Some((_, older)) = &self.default {
            let message = format!("{} has a default backend already", older.name.field.resource);
            let remedy = "Keep one default backend, or write a rule without host.";
            let problem = Problem::new(field, message, remedy);
            findings.add(&ingress.resource, Reason::HostConflict, Effect::Rejects, problem);
            return;
        }
        let place = Place::WHOLE;
        let path = Path { field: field.into(), written: "/", place, problem: None, backend };
        let posture = posture.clone();
        let host = (&HostPattern::Any, HostPattern::Any.spelled());
        let route = route(ingress, &path, &host, posture, surroundings, findings);
        self.ways.extend(Way::through(&route, &HostPattern::Any, &Place::WHOLE));
        self.default = Some((Arc::clone(&ingress.resource.namespace), route));
        self.routes = self.routes.saturating_add(1);
    }

    /// The paths that lead to Services.
    pub(crate) fn ways(&self) -> &[Way<'i>] {
        &self.ways
    }

    /// How many routes there are.
    pub(crate) fn len(&self) -> usize {
        self.routes
    }

    /// The finished table.
    pub(crate) fn finish(mut self, owners: &Owners<'_>, served: &Served) -> RoutingTable {
        self.redirect_below(owners, served);
        // A host without any path still keeps the rules of other namespaces away.
        for (host, _) in owners.apart() {
            self.hosts.entry(host.clone()).or_default();
        }
        // One that only stands beside a certificate tells for whom handshakes with its name are.
        let bare = owners.hosts().filter(|host| !self.serves(host, owners));
        let bare: Vec<_> = bare.cloned().collect();
        self.hosts.extend(bare.into_iter().map(|host| (host, Host::default())));
        let hosts = self.hosts.into_iter().map(|(host, entry)| {
            let owner = owners.of(&host).unwrap_or_default().into();
            let paths = entry.paths.into_iter().chain(entry.stand_ins).collect();
            HostRoutes { host, owner, paths }
        });
        let mut table = RoutingTable::new(hosts.collect(), self.default);
        for (host, others) in self.alike {
            table.share(&host, others);
        }
        table
    }
}

impl Table<'_> {
    /// Whether requests for a host find some entry. A default backend needs none.
    fn serves(&self, host: &HostPattern, owners: &Owners<'_>) -> bool {
        let above = || {
            let above = owners.wildcard_above(host);
            above.is_some_and(|above| self.hosts.contains_key(above))
        };
        *host == HostPattern::Any
            || self.hosts.contains_key(host)
            || self.hosts.contains_key(&HostPattern::Any)
            || above()
    }

    /// A host with TLS that only a wildcard or a rule without host serves gets routes of its own,
    /// because what falls through to those is not redirected. All hosts below one wildcard have the
    /// same routes: copies for each would grow with the product of hosts and paths.
    fn redirect_below(&mut self, owners: &Owners<'_>, served: &Served) {
        let mut all: BTreeMap<HostPattern, Vec<&HostPattern>> = BTreeMap::new();
        for host in served.hosts().filter(|host| **host != HostPattern::Any) {
            if self.hosts.contains_key(host) {
                continue;
            }
            let wildcard = owners.wildcard_above(host);
            let wildcard = wildcard.filter(|above| self.hosts.contains_key(*above));
            let below = wildcard.unwrap_or(&HostPattern::Any);
            if owners.of(below) == owners.of(host) {
                all.entry(below.clone()).or_default().push(host);
            }
        }
        let mut copies = Vec::with_capacity(all.len());
        for (below, hosts) in all {
            let Some(entry) = self.hosts.get(&below) else { continue };
            let mut hosts = hosts.into_iter().cloned();
            let Some(first) = hosts.next() else { continue };
            let redirecting = |(path_match, path, route): &Stands| {
                (*path_match, path.clone(), self.redirecting_route(route))
            };
            let copy = Host {
                paths: entry.paths.iter().map(redirecting).collect(),
                stand_ins: entry.stand_ins.iter().map(redirecting).collect(),
                taken: Map::default(),
            };
            copies.push((first.clone(), copy));
            self.alike.push((first, hosts.collect()));
        }
        self.hosts.extend(copies);
    }

    fn redirecting_route(&self, route: &Arc<Route>) -> Arc<Route> {
        if !self.redirecting.contains(&route.name.field.resource) {
            return Arc::clone(route);
        }
        Arc::new(Route {
            name: Arc::clone(&route.name),
            posture: route.posture.clone(),
            backend: Arc::clone(&route.backend),
            redirect_to_https: true,
            is_challenge: route.is_challenge,
            options: route.options.clone(),
        })
    }
}

impl<'i> Host<'i> {
    /// Whether no older Ingress, and no earlier path, has the same place.
    fn is_free(
        &mut self,
        path: &'i Path<'_>,
        host: &HostPattern,
        ingress: &'i ResourceRef,
        findings: &mut Findings,
    ) -> bool {
        if path.place.stands_in {
            return true;
        }
        let Place { path_match, path: text, .. } = &path.place;
        let text = match path_match {
            PathMatch::Prefix => text.trim_end_matches('/'),
            PathMatch::Exact => text,
        };
        let older = match self.taken.entry((*path_match, text)) {
            Entry::Vacant(place) => {
                place.insert(ingress);
                return true;
            }
            Entry::Occupied(older) => *older.get(),
        };
        let problem = Problem::new(
            format!("{}.path", path.field),
            format!("{older} has `{host}` with path `{}` already", path.written),
            "Keep the path in one Ingress; the oldest one is served.",
        );
        findings.add(ingress, Reason::HostConflict, Effect::Rejects, problem);
        false
    }

    fn add(&mut self, place: &Place<'_>, route: Arc<Route>) {
        let list = if place.stands_in { &mut self.stand_ins } else { &mut self.paths };
        list.push((place.path_match, (&*place.path).into(), route));
    }
}

/// Whether the Ingress has an effect on a host; a finding if not.
fn is_ours(
    host: &HostPattern,
    ingress: &Selected<'_>,
    owners: &Owners<'_>,
    field: impl FnOnce() -> String,
    findings: &mut Findings,
) -> bool {
    let ours = owners.may_use(host, ingress.namespace());
    if !ours {
        let owner = owners.of(host).unwrap_or_default();
        let problem = Problem::new(
            field(),
            format!("host `{host}` belongs to namespace `{owner}`, so this has no effect"),
            format!(
                "Use another host, or ask the owner of `{owner}` for `whygate.dev/share-host-with: {}` on an Ingress of the host.",
                ingress.namespace()
            ),
        );
        findings.add(&ingress.resource, Reason::HostConflict, Effect::Rejects, problem);
    }
    ours
}

/// The posture of the Ingress, unless the path is invalid by itself.
fn posture_of(
    path: &Path<'_>,
    ingress: &Selected<'_>,
    posture: &Posture,
    findings: &mut Findings,
) -> Posture {
    // A clone shares what the posture holds.
    match path.problem.clone() {
        None => posture.clone(),
        Some(problem) => {
            let reason = invalid_route(&ingress.resource, problem, findings);
            posture.closed(reason)
        }
    }
}

fn route(
    ingress: &Selected<'_>,
    path: &Path<'_>,
    (host, spelled): &(&HostPattern, Arc<str>),
    posture: Posture,
    surroundings: &Surroundings<'_, '_>,
    findings: &mut Findings,
) -> Arc<Route> {
    let Surroundings { owners, served, index } = surroundings;
    let field = || match &*path.field {
        "spec.defaultBackend" => "spec.defaultBackend".to_owned(),
        field => format!("{field}.backend"),
    };
    let found = if ingress.problem.is_some() {
        Err(None)
    } else {
        let wish = &ingress.annotations.transport;
        backend((&ingress.resource, wish), field, path.backend, index, findings).map_err(Some)
    };
    let (posture, backend) = match found {
        Ok(backend) => (posture, backend),
        Err(problem) => {
            let name = FieldRef::new(ingress.resource.clone(), field());
            let missing = Backend::Missing {
                problem: "it cannot be read".into(),
                remedy: format!("Correct {name}.").into(),
                field: name,
            };
            let posture = match problem {
                Some(problem) => {
                    let reason = invalid_route(&ingress.resource, problem, findings);
                    posture.closed(reason)
                }
                None => posture,
            };
            (posture, missing)
        }
    };
    let name = RouteName {
        field: FieldRef::new(ingress.resource.clone(), Arc::clone(&path.field)),
        host: Arc::clone(spelled),
        path: path.written.into(),
    };
    Arc::new(Route {
        name: Arc::new(name),
        posture,
        backend: Arc::new(backend),
        redirect_to_https: ingress.annotations.redirects && served.has(host, owners),
        // Whoever passes a challenge gets a certificate for the host: that is its owner's alone.
        is_challenge: ingress.is_challenge && owners.of(host) == Some(ingress.namespace()),
        options: ingress.annotations.options.clone(),
    })
}
