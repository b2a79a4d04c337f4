//! Hosts and paths of an Ingress, so that a narrowing is compared with few of them: an Ingress may
//! have thousands of paths, and a namespace tens of thousands of narrowings.

use std::{
    cell::OnceCell,
    collections::{BTreeSet, HashMap, HashSet},
    ops::{Bound, Deref},
    rc::Rc,
};

use decision::{host::HostPattern, path::segments, policy::Narrowing, route::PathMatch};

use crate::{
    ingress::{Place, Selected},
    owners::wildcard_above,
};

/// An Ingress of ours that policies may name.
pub(crate) struct Ours<'a> {
    ingress: &'a Selected<'a>,
    /// How many paths it has.
    paths: usize,
    places: OnceCell<Places>,
}

impl<'a> Deref for Ours<'a> {
    type Target = Selected<'a>;

    fn deref(&self) -> &Selected<'a> {
        self.ingress
    }
}

impl<'a> Ours<'a> {
    pub(crate) fn new(ingress: &'a Selected<'a>) -> Self {
        Self { ingress, paths: ingress.places().count(), places: OnceCell::new() }
    }

    /// How many steps it takes to compare each of its paths with a narrowing.
    pub(crate) fn steps(&self, narrowing: &Narrowing) -> usize {
        self.paths.saturating_mul(steps(narrowing))
    }

    /// Whether some request of this Ingress matches a narrowing.
    pub(crate) fn overlaps(&self, narrowing: &Narrowing) -> bool {
        is_empty(narrowing)
            || self.ingress.default.is_some()
            || self.places.get_or_init(|| Places::of(self.ingress.places())).overlaps(narrowing)
    }
}

/// Whether a narrowing leaves out no request.
pub(crate) fn is_empty(Narrowing { hosts, paths }: &Narrowing) -> bool {
    hosts.is_empty() && paths.is_empty()
}

/// How many steps it takes to compare one path with a narrowing.
pub(crate) fn steps(Narrowing { hosts, paths }: &Narrowing) -> usize {
    hosts.len().saturating_add(paths.len()).saturating_add(1)
}

/// The paths of an Ingress by host.
#[derive(Default)]
struct Places {
    all: Paths,
    hosts: HashMap<HostPattern, Paths>,
    /// The paths of exact hosts by the wildcard above them.
    below: HashMap<HostPattern, Paths>,
}

impl Places {
    fn of<'p>(places: impl Iterator<Item = (&'p HostPattern, &'p Place<'p>)>) -> Self {
        let mut all = Self::default();
        for (host, place) in places {
            let path = path(&place.path);
            let is_prefix = place.path_match == PathMatch::Prefix;
            all.all.add(&path, is_prefix);
            all.hosts.entry(host.clone()).or_default().add(&path, is_prefix);
            if let Some(wildcard) = wildcard_above(host) {
                all.below.entry(wildcard).or_default().add(&path, is_prefix);
            }
        }
        all
    }

    /// As [`Place::overlaps`] of any of them.
    fn overlaps(&self, narrowing: &Narrowing) -> bool {
        let wanted: Vec<_> = narrowing.paths.iter().map(|wanted| path(wanted)).collect();
        let overlap =
            |paths: &Paths| wanted.is_empty() || wanted.iter().any(|wanted| paths.overlap(wanted));
        if narrowing.hosts.is_empty() {
            return overlap(&self.all);
        }
        narrowing.hosts.iter().any(|host| self.at(host).into_iter().flatten().any(overlap))
    }

    /// The paths of every host that overlaps with another one.
    fn at(&self, host: &HostPattern) -> [Option<&Paths>; 3] {
        let [own, any] = [host, &HostPattern::Any].map(|host| self.hosts.get(host));
        match host {
            HostPattern::Any => [Some(&self.all), None, None],
            HostPattern::Wildcard(_) => [own, self.below.get(host), any],
            HostPattern::Exact(_) => {
                let wildcard = wildcard_above(host);
                [own, wildcard.and_then(|wildcard| self.hosts.get(&wildcard)), any]
            }
        }
    }
}

/// Paths, as [`path`] writes them.
#[derive(Default)]
struct Paths {
    all: BTreeSet<Rc<str>>,
    prefixes: HashSet<Rc<str>>,
}

impl Paths {
    fn add(&mut self, path: &Rc<str>, is_prefix: bool) {
        self.all.insert(Rc::clone(path));
        if is_prefix {
            self.prefixes.insert(Rc::clone(path));
        }
    }

    /// Whether one of them lies within the wanted path, or is a prefix that the wanted one lies
    /// within.
    fn overlap(&self, wanted: &str) -> bool {
        let within = || {
            let below = if wanted.is_empty() { String::new() } else { format!("{wanted}/") };
            let from = (Bound::Included(below.as_str()), Bound::Unbounded);
            let next = self.all.range::<str, _>(from).next();
            next.is_some_and(|next| next.starts_with(&below))
        };
        let mut above = wanted.match_indices('/').filter_map(|(end, _)| wanted.get(..end));
        self.all.contains(wanted)
            || within()
            || self.prefixes.contains("")
            || above.any(|above| self.prefixes.contains(above))
    }
}

/// The elements of a path, of which each ends where the next slash stands.
fn path(text: &str) -> Rc<str> {
    segments(text).collect::<Vec<_>>().join("/").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: [&str; 6] =
        ["", "*.example.com", "a.example.com", "b.example.com", "example.com", "*.a.example.com"];
    const PATHS: [&str; 9] = ["/", "/v1", "/v1/", "/v1/a", "/v1-a", "/v10", "/v1/a/b", "/x", "/v"];

    #[test]
    fn the_index_finds_what_comparing_every_path_finds() {
        let pairs = || HOSTS.iter().flat_map(|host| PATHS.iter().map(move |path| (host, path)));
        let mut found = 0;
        for (host, text) in pairs() {
            for path_match in [PathMatch::Exact, PathMatch::Prefix] {
                let host = HostPattern::parse(host).unwrap();
                let place = Place { path_match, path: (*text).into(), stands_in: false };
                let index = Places::of([(&host, &place)].into_iter());
                for (wanted_host, wanted_path) in pairs() {
                    let hosts = Box::new([HostPattern::parse(wanted_host).unwrap()]);
                    let paths = Box::new([(*wanted_path).into()]);
                    let [of_host, of_path] = [
                        Narrowing { hosts: hosts.clone(), paths: Box::default() },
                        Narrowing { hosts: Box::default(), paths: paths.clone() },
                    ];
                    for narrowing in [of_host, of_path, Narrowing { hosts, paths }] {
                        let expected = place.overlaps(&host, &narrowing);
                        assert_eq!(index.overlaps(&narrowing), expected, "{place:?} {narrowing:?}");
                        found += usize::from(expected);
                    }
                }
            }
        }
        assert!(found > 1000, "{found}");
    }
}
