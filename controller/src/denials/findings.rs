//! Findings on objects that get no Events, as lines of the log: those on Namespaces above all.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use compile::Finding;
use decision::escape::printable;
use tokio::sync::{Mutex, watch};

use crate::{denials::aggregate::has_events, pipeline::Outcome};

/// How many findings on objects of namespaces are told one by one at a change: tenants can make as
/// many as they like, and their objects have a status for it. Findings on Namespaces and classes are
/// all told.
const MOST: usize = 50;

/// The findings that were told and still stand.
pub type Told = BTreeSet<Finding>;

/// Logs findings when they appear and when they clear, for ever.
///
/// # Errors
/// Never: without a source there is nothing more to tell.
pub async fn follow(
    mut outcome: watch::Receiver<Option<Arc<Outcome>>>,
    told: Arc<Mutex<Told>>,
) -> Result<(), Infallible> {
    let mut told = told.lock().await;
    outcome.mark_changed();
    while outcome.changed().await.is_ok() {
        let newest = outcome.borrow_and_update().clone();
        let Some(outcome) = newest else { continue };
        let standing = standing(&outcome.findings);
        let (appeared, left_out) = bounded(standing.difference(&told));
        for Finding { field, reason, message, remedy, .. } in appeared {
            let (resource, reason) = (&field.resource, reason.as_str());
            tracing::info!(%resource, field = %printable(&field.path), reason, error = message, remedy, "Finding appeared");
        }
        if left_out > 0 {
            tracing::info!(
                findings = left_out,
                "More findings appeared; /snapshot has all of them"
            );
        }
        let (cleared, left_out) = bounded(told.difference(&standing));
        for Finding { field, reason, .. } in cleared {
            let (resource, reason) = (&field.resource, reason.as_str());
            tracing::info!(%resource, field = %printable(&field.path), reason, "Finding cleared");
        }
        if left_out > 0 {
            tracing::info!(findings = left_out, "More findings cleared");
        }
        *told = standing;
    }
    std::future::pending().await
}

/// The findings that no Event can tell.
fn standing(findings: &[Finding]) -> Told {
    let silent = |finding: &&Finding| !has_events(finding.field.resource.kind);
    findings.iter().filter(silent).cloned().collect()
}

/// What is told one by one, and how many more there are.
fn bounded<'a>(findings: impl Iterator<Item = &'a Finding>) -> (Vec<&'a Finding>, usize) {
    let of_cluster = |finding: &&Finding| finding.field.resource.namespace.is_empty();
    let (mut told, tenants): (Vec<_>, Vec<_>) = findings.partition(of_cluster);
    let left_out = tenants.len().saturating_sub(MOST);
    told.extend(tenants.into_iter().take(MOST));
    (told, left_out)
}

#[cfg(test)]
mod tests {
    use compile::finding::{Effect, Reason};
    use decision::refs::{FieldRef, Kind, ResourceRef};

    use super::*;

    fn finding(kind: Kind, namespace: &str, name: &str) -> Finding {
        Finding {
            field: FieldRef::new(ResourceRef::new(kind, namespace, name), "metadata.name"),
            reason: Reason::PolicyUnenforceable,
            message: "may not be read".to_owned(),
            remedy: "Grant it.".to_owned(),
            effect: Effect::Closes,
        }
    }

    #[test]
    fn what_events_tell_is_not_logged_again() {
        let told = [
            finding(Kind::Ingress, "shop", "web"),
            finding(Kind::AccessPolicy, "shop", "office"),
            finding(Kind::Namespace, "", "shop"),
            finding(Kind::AccessPlan, "shop", "gold"),
        ];
        let standing = standing(&told);
        let kinds: Vec<_> = standing.iter().map(|it| it.field.resource.kind).collect();
        assert_eq!(kinds, [Kind::AccessPlan, Kind::Namespace]);
    }

    #[test]
    fn however_many_findings_tenants_make_those_on_namespaces_are_told() {
        let plans = (0..1_000).map(|one| finding(Kind::AccessPlan, "shop", &one.to_string()));
        let all: Told = plans.chain([finding(Kind::Namespace, "", "shop")]).collect();
        let (told, left_out) = bounded(all.iter());
        assert_eq!((told.len(), left_out), (MOST + 1, 1_000 - MOST));
        assert_eq!(told.first().map(|it| it.field.resource.kind), Some(Kind::Namespace));
    }
}
