//! Resources in, snapshot and findings out: pure and total.
//!
//! [`compile`] never fails: what is wrong with a manifest becomes a [`finding::Finding`], and what
//! it would have protected is closed. Nothing here knows a client, a task or the time.

mod access_policy;
mod annotation;
mod attach;
mod authorities;
mod backend;
mod bypass;
pub mod certificate;
mod challenge;
pub mod class;
pub mod conditions;
pub mod endpoints;
mod external;
pub mod finding;
mod foreign;
mod index;
mod ingress;
pub mod kept;
pub mod keys;
pub mod manifest;
mod map;
mod metadata;
mod options;
mod owners;
mod places;
mod plan;
mod posture;
pub mod resources;
mod routes;
mod rule;
pub mod settings;
mod subscription;
mod surplus;
mod transport;
mod withdrawn;

use std::{collections::BTreeMap, sync::Arc};

use decision::{protection::Posture, refs::ResourceRef, route::ServicePort, snapshot::Snapshot};

use crate::{
    attach::Ingresses, finding::Findings, index::Index, plan::Plans, posture::Postures,
    routes::Table,
};
pub use crate::{
    certificate::Certificates, conditions::Status, endpoints::endpoints, finding::Finding,
    metadata::reference, resources::Resources, settings::Settings,
};

/// Everything that follows from the resources.
#[derive(Debug, Default)]
pub struct Compiled {
    /// What requests are judged by.
    pub snapshot: Snapshot,
    /// What handshakes are answered with.
    pub certificates: Certificates,
    /// What is wrong with the manifests, in the order of objects and fields, each problem once.
    pub findings: Vec<Finding>,
    /// The desired status of policies, plans and subscriptions, in the order of their names.
    pub statuses: Vec<Status>,
    /// The Ingresses of ours, in the order of their names.
    pub ingresses: Vec<IngressSummary>,
    /// How many routes the snapshot has.
    pub routes: usize,
    /// The ports that lead to a name of the DNS, whatever is wrong with it, and the name of each.
    pub external_names: BTreeMap<ServicePort, Arc<str>>,
    /// What the next compilation has to know.
    pub next: Before,
}

/// What a compilation leaves to the one after it.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The generation of the snapshot; 0 if there is none yet.
    pub generation: u64,
    /// The certificates in use, which outlive their Secrets.
    pub certificates: certificate::InUse,
    /// What was enforced, so that somebody hears when it is not any more.
    pub enforced: withdrawn::Enforced,
    /// Policies that are compiled already. Without them the result is the same, and takes longer.
    pub policies: kept::Kept,
}

/// An Ingress of ours, for its status, its Events and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressSummary {
    /// Which Ingress.
    pub resource: ResourceRef,
    /// How many routes it has in the snapshot.
    pub routes: usize,
    /// How they answer, as a whole.
    pub protection: Protection,
}

/// How an Ingress answers, single paths that are invalid left aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Policies, required policies or a closed posture decide.
    Enforced,
    /// It is open: no policy, and nothing says that such routes are closed.
    Open,
    /// It is open: its policies only count.
    Counted,
    /// Something that it needs is not resolved: every request is refused.
    Refused,
}

/// Compiles all resources.
///
/// Total: there is no input for which it fails. Equal resources in any order give equal results.
/// `before` is what the compilation before this one left as [`Compiled::next`]; the first has the
/// default. Of all that is served, only certificates outlive what they were made of.
pub fn compile(resources: &Resources, settings: &Settings, before: &Before) -> Compiled {
    let generation = before.generation + 1;
    let mut findings = Findings::default();
    let index = Index::new(resources, settings);
    index.tell(&mut findings);
    class::tell(&index, settings, &mut findings);
    let undecodable = ingress::salvage(&resources.undecodable_ingresses);
    let ingresses = ingress::select(resources, &undecodable, &index, settings, &mut findings);
    let by_name = Ingresses::new(&ingresses);
    let owners = owners::owners(&ingresses, settings);
    let external_names = external::names(&ingresses, &index);
    let plans = Plans::read(&resources.access_plans, &resources.unreadable, &index, &mut findings);
    let objects = &resources.access_policies;
    let (policies, kept) =
        kept::compile_all(objects, &index, &plans, &before.policies, &mut findings);
    let others = ingress::others(resources, &undecodable, &index, settings);
    let not_ours = |name: (&str, &str)| ingress::not_ours(name, &others, settings);
    let is_elsewhere = |name: (&str, &str)| ingress::is_elsewhere(name, &others, &index);
    let attached = attach::attach(&policies, &by_name, not_ours, is_elsewhere, &mut findings);
    let postures = Postures::read(resources, settings, &mut findings);
    let known = &before.certificates;
    let (served, in_use) =
        certificate::serve(&ingresses, &owners, &index, settings, known, &mut findings);
    let surroundings = routes::Surroundings { owners: &owners, served: &served, index: &index };
    let mut table = Table::new(ingresses.len());
    let mut summaries = Vec::with_capacity(ingresses.len());
    for ingress in &ingresses {
        let posture = attached.posture(ingress, &index, &postures, &mut findings);
        let routes = table.add(ingress, &posture, &surroundings, &mut findings);
        let (resource, protection) = (ingress.resource.clone(), protection(&posture));
        summaries.push(IngressSummary { resource, routes, protection });
    }
    bypass::warn(table.ways(), &policies, &mut findings);
    summaries.sort_by(|one, two| one.resource.cmp(&two.resource));
    let enforced =
        withdrawn::tell(&before.enforced, &policies, &by_name, &summaries, &mut findings);
    let next = Before { generation, certificates: in_use, enforced, policies: kept };
    let (subscriptions, subscribed) =
        subscription::compile(&resources.access_subscriptions, &plans, &index, &mut findings);
    let statuses = conditions::statuses(&policies, &by_name, not_ours, &plans, &subscribed);
    let routes = table.len();
    let snapshot = Snapshot { generation, routes: table.finish(&owners, &served), subscriptions };
    Compiled {
        snapshot,
        certificates: served.certificates,
        findings: findings.into_sorted(),
        statuses,
        ingresses: summaries,
        routes,
        external_names,
        next,
    }
}

fn protection(posture: &Posture) -> Protection {
    match posture {
        Posture::Enforce(protection) if protection.blocks() => Protection::Enforced,
        Posture::Enforce(_) => Protection::Counted,
        Posture::Open(_) => Protection::Open,
        Posture::Refuse(_) => Protection::Refused,
    }
}
