//! Which handshakes ask clients for a certificate: it follows from the policies of a host's routes.

use std::collections::BTreeSet;

use crate::{
    check::{Demand, certificate::CertificateCheck},
    host::{Host, HostPattern},
    policy::{Attachment, Policy, Rule, Section},
    protection::Posture,
    refs::ResourceRef,
};

/// The authorities whose certificates requests for a host may need, by the Secrets that hold them.
#[derive(Debug, Default)]
pub(crate) struct Wanted(Vec<Asked>);

#[derive(Debug, PartialEq, Eq)]
struct Asked {
    secret: ResourceRef,
    /// Only for these hosts; empty for all.
    hosts: Box<[HostPattern]>,
}

impl Wanted {
    /// Adds what a route asks for. Rules in shadow count: they can judge only what was shown.
    pub(crate) fn add(&mut self, posture: &Posture) {
        let Posture::Enforce(protection) = posture else { return };
        for attachment in protection.attachments() {
            let Ok(policy) = &attachment.policy else { continue };
            for check in checks(policy) {
                self.insert(&check.secret, attachment);
            }
        }
    }

    fn insert(&mut self, secret: &ResourceRef, attachment: &Attachment) {
        let every = attachment.narrowings.iter().any(|narrowing| narrowing.hosts.is_empty());
        let hosts = attachment.narrowings.iter().flat_map(|narrowing| narrowing.hosts.iter());
        let hosts = if every { [].into() } else { hosts.cloned().collect() };
        let asked = Asked { secret: secret.clone(), hosts };
        if !self.0.contains(&asked) {
            self.0.push(asked);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those for one host; without one those that may be needed for any.
    pub(crate) fn of(&self, host: Option<&Host>) -> BTreeSet<&ResourceRef> {
        let concerns = |asked: &&Asked| match host {
            Some(host) if !asked.hosts.is_empty() => {
                asked.hosts.iter().any(|pattern| pattern.matches(host))
            }
            Some(_) | None => true,
        };
        self.0.iter().filter(concerns).map(|asked| &asked.secret).collect()
    }
}

fn checks(policy: &Policy) -> impl Iterator<Item = &CertificateCheck> {
    let rules = [Section::Deny, Section::Require].into_iter();
    let rules = rules.flat_map(|section| policy.rules(section));
    rules.flat_map(Rule::checks).filter_map(|check| match &check.demand {
        Demand::Certificate(check) => Some(check),
        Demand::Address(_) | Demand::Method(_) | Demand::Token(_) | Demand::Subscription(_) => None,
    })
}
