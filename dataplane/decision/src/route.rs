//! Which route serves a request (Ingress v1: the host first, then Exact before Prefix, longest path).

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use foldhash::fast::RandomState;

use crate::{
    handshake::Wanted,
    host::{Host, HostPattern},
    options::Options,
    path::segments,
    protection::Posture,
    refs::{FieldRef, ResourceRef, RouteName},
    transport::Transport,
};

/// One path of one rule of an Ingress.
#[derive(Debug)]
pub struct Route {
    /// What it is called.
    pub name: Arc<RouteName>,
    /// How it answers.
    pub posture: Posture,
    /// Where allowed requests go.
    pub backend: Arc<Backend>,
    /// Whether plain HTTP is answered by a redirect to https.
    pub redirect_to_https: bool,
    /// Whether it answers an ACME challenge (RFC 8555 section 8.3). Whoever issues certificates must
    /// be able to ask for it: of a GET or HEAD only `deny` rules are judged, and nothing redirects.
    pub is_challenge: bool,
    /// What its Ingress asks for beyond that; `None` if nothing.
    pub options: Option<Arc<Options>>,
}

/// A port of a Service, or why there is none to forward to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Requests go to the endpoints of this port, and are spoken to like this.
    Service(ServicePort, Transport),
    /// Requests that passed are answered with `BackendMissing`.
    Missing {
        /// The field that names the backend.
        field: FieldRef,
        /// What is wrong with it.
        problem: Arc<str>,
        /// What to do about it: whole sentences.
        remedy: Arc<str>,
    },
}

/// A Service and the number of one of its ports.
///
/// Prints as `shop/api:80`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePort {
    /// The Service.
    pub service: ResourceRef,
    /// The port's number on the Service.
    pub port: u16,
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service.path(), self.port)
    }
}

/// How a path of an Ingress matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// The whole path, a trailing slash included.
    Exact,
    /// The path or anything below it, element by element.
    Prefix,
}

/// A host with its owner and paths, for [`RoutingTable::new`].
#[derive(Debug)]
pub struct HostRoutes {
    /// The host.
    pub host: HostPattern,
    /// The namespace that owns the host.
    pub owner: Arc<str>,
    /// The paths; of equal ones the first wins.
    pub paths: Vec<(PathMatch, Box<str>, Arc<Route>)>,
}

/// All routes, by host and path. The hasher is a fast one: whoever asks cannot fill the tables.
#[derive(Debug, Default)]
pub struct RoutingTable {
    exact: HashMap<Host, Arc<HostEntry>, RandomState>,
    wildcard: HashMap<Host, Arc<HostEntry>, RandomState>,
    any: Option<Arc<HostEntry>>,
    default: Option<(Arc<str>, Arc<Route>)>,
    of_default: Wanted,
    asks: bool,
}

#[derive(Debug)]
struct HostEntry {
    owner: Arc<str>,
    paths: Node,
    authorities: Wanted,
}

/// A path element; the walk through the tree ends where the configuration ends, however long the
/// request's path is.
#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, Node, RandomState>,
    exact: Option<Arc<Route>>,
    exact_directory: Option<Arc<Route>>,
    prefix: Option<Arc<Route>>,
}

impl RoutingTable {
    /// Builds the table. `default` is the route of `defaultBackend`, with its namespace: it serves
    /// what no host and path matches, but nothing of a host that another namespace owns.
    /// A host that is given twice keeps its first owner and the paths of both.
    pub fn new(hosts: Vec<HostRoutes>, default: Option<(Arc<str>, Arc<Route>)>) -> Self {
        let mut entries: HashMap<HostPattern, HostEntry, RandomState> = HashMap::default();
        entries.reserve(hosts.len());
        for HostRoutes { host, owner, paths } in hosts {
            let (paths_of_host, authorities) = (Node::default(), Wanted::default());
            let new = || HostEntry { owner, paths: paths_of_host, authorities };
            let entry = entries.entry(host).or_insert_with(new);
            for (path_match, path, route) in paths {
                entry.authorities.add(&route.posture);
                entry.paths.insert(path_match, &path, route);
            }
        }
        let mut of_default = Wanted::default();
        if let Some((_, route)) = &default {
            of_default.add(&route.posture);
        }
        let asks = !of_default.is_empty() || entries.values().any(|it| !it.authorities.is_empty());
        let mut table = Self { default, of_default, asks, ..Self::default() };
        table.exact.reserve(entries.len());
        for (host, entry) in entries {
            table.insert(host, Arc::new(entry));
        }
        table
    }

    /// Serves other hosts as `host` is served, with its owner and the very same routes: however many
    /// they are, each costs no more than its name. Nothing changes if there is no such host; one of
    /// `others` that has an entry of its own loses it.
    pub fn share(&mut self, host: &HostPattern, others: impl IntoIterator<Item = HostPattern>) {
        let entry = match host {
            HostPattern::Exact(host) => self.exact.get(host),
            HostPattern::Wildcard(suffix) => self.wildcard.get(suffix),
            HostPattern::Any => self.any.as_ref(),
        };
        if let Some(entry) = entry.cloned() {
            others.into_iter().for_each(|other| self.insert(other, Arc::clone(&entry)));
        }
    }

    fn insert(&mut self, host: HostPattern, entry: Arc<HostEntry>) {
        match host {
            HostPattern::Exact(host) => _ = self.exact.insert(host, entry),
            HostPattern::Wildcard(suffix) => _ = self.wildcard.insert(suffix, entry),
            HostPattern::Any => self.any = Some(entry),
        }
    }

    /// The route for a host and a canonical path.
    pub fn find(&self, host: &Host, path: &str) -> Option<&Arc<Route>> {
        let entry = self.entry(host);
        let route = entry.and_then(|entry| entry.paths.find(path));
        route.or_else(|| self.default_for(entry))
    }

    /// The route of `defaultBackend`: of what no host and path matches.
    pub fn default_route(&self) -> Option<&Arc<Route>> {
        self.default.as_ref().map(|(_, route)| route)
    }

    /// Every route, in no order.
    pub fn routes(&self) -> Vec<&Arc<Route>> {
        let hosts = self.exact.values().chain(self.wildcard.values()).chain(&self.any);
        let mut nodes: Vec<&Node> = hosts.map(|host| &host.paths).collect();
        let mut routes: Vec<_> = self.default_route().into_iter().collect();
        while let Some(node) = nodes.pop() {
            nodes.extend(node.children.values());
            routes.extend([&node.exact, &node.exact_directory, &node.prefix].into_iter().flatten());
        }
        routes
    }

    /// The namespace that owns a host, if some Ingress names it.
    pub fn owner(&self, host: &Host) -> Option<&Arc<str>> {
        self.entry(host).map(|entry| &entry.owner)
    }

    /// Whether there is a host at all whose handshakes ask clients for a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        self.asks
    }

    /// The Secrets of the authorities whose certificates requests for a host may need: none if its
    /// handshakes do not ask for one. Without a host those of routes that serve whatever host.
    pub fn certificate_authorities(&self, host: Option<&Host>) -> BTreeSet<&ResourceRef> {
        let entry = host.map_or(self.any.as_ref(), |host| self.entry(host));
        let own = entry.map(|entry| entry.authorities.of(host)).unwrap_or_default();
        match self.default_for(entry) {
            Some(_) => own.into_iter().chain(self.of_default.of(host)).collect(),
            None => own,
        }
    }

    /// An exact host, else a wildcard one label above it, else the routes without a host.
    fn entry(&self, host: &Host) -> Option<&Arc<HostEntry>> {
        let wildcard = || host.parent().and_then(|parent| self.wildcard.get(parent));
        self.exact.get(host).or_else(wildcard).or(self.any.as_ref())
    }

    fn default_for(&self, entry: Option<&Arc<HostEntry>>) -> Option<&Arc<Route>> {
        let (namespace, route) = self.default.as_ref()?;
        entry.is_none_or(|entry| entry.owner == *namespace).then_some(route)
    }
}

impl Node {
    fn insert(&mut self, path_match: PathMatch, path: &str, route: Arc<Route>) {
        let mut node = self;
        for segment in segments(path) {
            node = node.children.entry(segment.into()).or_default();
        }
        let slot = match path_match {
            PathMatch::Prefix => &mut node.prefix,
            PathMatch::Exact if path.len() > 1 && path.ends_with('/') => &mut node.exact_directory,
            PathMatch::Exact => &mut node.exact,
        };
        slot.get_or_insert(route);
    }

    fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let mut node = self;
        let mut longest = node.prefix.as_ref();
        for segment in segments(path) {
            let Some(child) = node.children.get(segment) else { return longest };
            node = child;
            longest = node.prefix.as_ref().or(longest);
        }
        let directory = path.len() > 1 && path.ends_with('/');
        let exact = if directory { &node.exact_directory } else { &node.exact };
        exact.as_ref().or(longest)
    }
}
