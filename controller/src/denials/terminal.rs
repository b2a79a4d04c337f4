//! Refusals and findings as lines in the terminal, as `kubectl describe` would show them.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use compile::{Finding, IngressSummary, Protection, Resources, finding::Effect};
use decision::refs::{Kind, ResourceRef};
use jiff::Timestamp;
use tokio::sync::{Mutex, watch};

use crate::{
    denials::{aggregate::Note, collect::Collector},
    output::{self, Style, counted, styled},
    pipeline::Outcome,
    source::directory::{Places, endpoints},
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

/// What was printed of the newest manifests.
#[derive(Debug, Default)]
pub struct Shown {
    /// The findings that stand, each with the line that says that it has cleared.
    findings: BTreeMap<String, String>,
    /// The resources that it was about.
    of: Option<Arc<Resources>>,
}

/// Prints findings when they appear and when they clear, and what a directory holds whenever it was
/// read again, for ever.
///
/// # Errors
/// Never: without a source there is nothing more to print.
pub async fn findings(
    mut outcome: watch::Receiver<Option<Arc<Outcome>>>,
    places: watch::Receiver<Option<Arc<Places>>>,
    shown: Arc<Mutex<Shown>>,
) -> Result<(), Infallible> {
    let mut shown = shown.lock().await;
    outcome.mark_changed();
    while outcome.changed().await.is_ok() {
        let newest = outcome.borrow_and_update().clone();
        let places = places.borrow().clone();
        let Some(outcome) = newest else { continue };
        for line in shown.news(&outcome, places.as_deref()) {
            output::line(&line);
        }
    }
    std::future::pending().await
}

impl Shown {
    /// The lines that tell what became of manifests.
    fn news(&mut self, outcome: &Outcome, places: Option<&Places>) -> Vec<String> {
        let standing = standing(outcome, places);
        let appeared = standing.keys().filter(|line| !self.findings.contains_key(*line));
        let finding = styled("Finding", Style::Warning);
        let mut lines: Vec<_> = appeared.map(|line| format!("{finding}  {line}")).collect();
        let cleared = self.findings.iter().filter(|(line, _)| !standing.contains_key(*line));
        let good = styled("Cleared", Style::Good);
        lines.extend(cleared.map(|(_, short)| format!("{good}  {short}")));
        // The same ones are compiled again when names of the DNS lead somewhere else.
        let again = self.of.as_ref().is_some_and(|of| !Arc::ptr_eq(of, &outcome.resources));
        if again {
            lines.push(format!("Read again: {}", counts(&outcome.ingresses, outcome.routes)));
        }
        *self = Self { findings: standing, of: Some(Arc::clone(&outcome.resources)) };
        lines
    }
}

/// `2 Ingresses (1 is open), 3 routes`.
pub fn counts(ingresses: &[IngressSummary], routes: usize) -> String {
    let is_open = |ingress: &&IngressSummary| match ingress.protection {
        Protection::Open | Protection::Counted => true,
        Protection::Enforced | Protection::Refused => false,
    };
    let open = match ingresses.iter().filter(is_open).count() {
        0 => String::new(),
        open => format!(" ({})", counted(open, "is open", "are open")),
    };
    let all = counted(ingresses.len(), "Ingress", "Ingresses");
    format!("{all}{open}, {}", counted(routes, "route", "routes"))
}

/// The findings of the newest resources, each a line, and the line that says that it has cleared.
fn standing(outcome: &Outcome, places: Option<&Places>) -> BTreeMap<String, String> {
    let places = places.filter(|places| Arc::ptr_eq(&places.resources, &outcome.resources));
    let mut findings = outcome.findings.clone();
    if let Some(Places { resources, slices, .. }) = places {
        let missing = endpoints::missing(&outcome.ingresses, resources, slices);
        findings.extend(missing.iter().map(endpoints::Missing::finding));
    }
    let findings = findings.iter().map(|finding| {
        let at = places.and_then(|places| places.of(finding));
        let at = at.map(|at| format!("{at}: ")).unwrap_or_default();
        (finding_line(finding, &at), format!("{at}{}: {}", finding.field, finding.message))
    });
    let problems = places.into_iter().flat_map(Places::problems);
    findings.chain(problems.map(|problem| (problem.clone(), problem))).collect()
}

fn finding_line(finding: &Finding, at: &str) -> String {
    let effect = match finding.effect {
        Effect::Closes => " Requests are refused until then.",
        Effect::Rejects => " This part has no effect until then.",
        Effect::Warns => "",
    };
    format!("{at}{finding}{effect}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::directory::Directory;

    const INGRESS: &str = "apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
        metadata: { name: web, namespace: shop }\n\
        spec: { ingressClassName: whygate, defaultBackend: { service: { name: a, port: { number: 1 } } } }\n";

    const SERVICE: &str = "---\n{ apiVersion: v1, kind: Service, metadata: { name: a, namespace: shop }, spec: { ports: [{ port: 1 }] } }\n";

    fn news(shown: &mut Shown, text: &str) -> Vec<String> {
        let directory = Directory::fixed(vec![("a.yaml".to_owned(), text.to_owned())]);
        let places = directory.places().borrow().clone().unwrap();
        let settings =
            compile::Settings { namespaces_are_known: true, ..compile::Settings::default() };
        let (outcome, _) = Outcome::of(Arc::clone(&places.resources), &settings, None);
        shown.news(&outcome, Some(&places))
    }

    #[test]
    fn each_reading_after_the_first_is_told_and_a_finding_clears_without_its_remedy() {
        let mut shown = Shown::default();
        let first = news(&mut shown, INGRESS);
        assert!(first.iter().all(|line| line.starts_with("Finding  a.yaml:")), "{first:#?}");
        let remedy = first.iter().find_map(|line| line.split(". ").nth(1)).unwrap();
        let second = news(&mut shown, &format!("{INGRESS}{SERVICE}"));
        let cleared: Vec<_> = second.iter().filter(|it| it.starts_with("Cleared")).collect();
        let told_again = cleared.iter().any(|it| it.contains(remedy));
        assert!(!cleared.is_empty() && !told_again, "{second:#?}");
        assert!(second.iter().any(|it| it.contains("no EndpointSlice names")), "{second:#?}");
        let last = second.last().map(String::as_str);
        assert_eq!(last, Some("Read again: 1 Ingress (1 is open), 1 route"));
    }
}
