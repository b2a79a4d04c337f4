//! Refusals and findings as lines in the terminal, as `kubectl describe` would show them.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use compile::{Finding, finding::Effect};
use decision::refs::{Kind, ResourceRef};
use jiff::Timestamp;
use tokio::sync::{Mutex, watch};

use crate::{
    denials::{aggregate::Note, collect::Collector},
    output::{self, Style, styled},
    pipeline::Outcome,
    source::directory::Places,
};

/// Prints refusals, for ever.
///
/// # Errors
/// Never.
pub async fn refusals(collector: Arc<Mutex<Collector>>) -> Result<(), Infallible> {
    loop {
        let mut collector = collector.lock().await;
        collector.collect(None).await;
        print(&mut collector);
    }
}

/// Prints what is left when the program ends.
pub async fn last_refusals(collector: &Mutex<Collector>) {
    let mut collector = collector.lock().await;
    collector.close();
    print(&mut collector);
}

fn print(collector: &mut Collector) {
    // One line a refusal: the policy stands in the message.
    while let Some(note) = collector.next(|object| object.kind == Kind::Ingress) {
        output::line(&event_line(&note));
        collector.written(&note);
    }
}

/// `Warning  AddressNotAllowed  ingress/shop/web  (x3 over 12s)  policy shop/office, rule …`
fn event_line(note: &Note) -> String {
    let kind = if note.warning { "Warning" } else { "Normal " };
    let kind = styled(kind, if note.warning { Style::Warning } else { Style::Faint });
    let reason = styled(note.reason, Style::Strong);
    let object = object(&note.id.object);
    let times = times(note.count, note.first, note.last);
    format!("{kind}  {reason}  {object}{times}  {}", note.message)
}

fn object(object: &ResourceRef) -> String {
    format!("{}/{}", object.kind.as_str().to_lowercase(), object.path())
}

/// `  (x3 over 12s)`, nothing for a single refusal.
fn times(count: u64, first: Timestamp, last: Timestamp) -> String {
    if count < 2 {
        return String::new();
    }
    let seconds = last.duration_since(first).as_secs().max(0);
    let span = match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3_600),
    };
    format!("  (x{count} over {span})")
}

/// Prints findings when they appear and when they clear, for ever.
///
/// # Errors
/// Never: without a source there is nothing more to print.
pub async fn findings(
    mut outcome: watch::Receiver<Option<Arc<Outcome>>>,
    places: watch::Receiver<Option<Arc<Places>>>,
    shown: Arc<Mutex<BTreeSet<String>>>,
) -> Result<(), Infallible> {
    let mut shown = shown.lock().await;
    outcome.mark_changed();
    while outcome.changed().await.is_ok() {
        let newest = outcome.borrow_and_update().clone();
        let places = places.borrow().clone();
        let Some(outcome) = newest else { continue };
        let standing = standing(&outcome, places.as_deref());
        for line in standing.difference(&shown) {
            output::line(&format!("{}  {line}", styled("Finding", Style::Warning)));
        }
        for line in shown.difference(&standing) {
            output::line(&format!("{}  {line}", styled("Cleared", Style::Good)));
        }
        *shown = standing;
    }
    std::future::pending().await
}

/// The findings of the newest resources, each a line.
fn standing(outcome: &Outcome, places: Option<&Places>) -> BTreeSet<String> {
    let places = places.filter(|places| Arc::ptr_eq(&places.resources, &outcome.resources));
    let at = |finding: &Finding| places.and_then(|places| places.of(finding));
    let findings = outcome.findings.iter().map(|finding| finding_line(finding, at(finding)));
    let problems = places.into_iter().flat_map(Places::problems);
    findings.chain(problems).collect()
}

fn finding_line(finding: &Finding, at: Option<String>) -> String {
    let at = at.map(|at| format!("{at}: ")).unwrap_or_default();
    let effect = match finding.effect {
        Effect::Closes => " Requests are refused until then.",
        Effect::Rejects => " This part has no effect until then.",
        Effect::Warns => "",
    };
    format!("{at}{finding}{effect}")
}
