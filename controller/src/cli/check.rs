//! `whygate check`: every problem in manifests, with its place and its remedy.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    process::ExitCode,
};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use clap::Args;
use compile::{Compiled, Finding, Protection, Resources, finding::Effect, manifest::Manifests};
use decision::{escape::quoted, refs::FieldRef};
use k8s_openapi::api::networking::v1::Ingress;

use crate::{
    output,
    settings::{IngressFlags, Surroundings},
    source::directory::{Files, read},
};

const EXAMPLES: &str = "\
Examples:
  whygate check ./manifests
  whygate check ./base ./overlays/production --ingress-class public";

/// Nothing is wrong; findings; cannot be read.
const FINE: u8 = 0;
const FINDINGS: u8 = 1;
const UNREADABLE: u8 = 2;

/// Check manifests without serving them
///
/// Prints every problem with file, line and column, what it costs, and what to do about it.
/// Ends with 0 if nothing is closed or rejected, 1 if something is, 2 if a directory cannot be
/// read. Ingresses that are open because no policy is theirs are told, but are no problem.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(super) struct Check {
    /// Directories of manifests, or files; together they are one installation
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,

    #[command(flatten)]
    ingresses: IngressFlags,
}

impl Check {
    pub(super) fn execute(self) -> ExitCode {
        let mut files = Files::new();
        for directory in &self.directories {
            match read(directory) {
                Ok(more) => files.extend(more),
                Err(error) => {
                    output::error(&error.to_string());
                    return ExitCode::from(UNREADABLE);
                }
            }
        }
        files.sort();
        files.dedup();
        ExitCode::from(report(files, &self.ingresses))
    }
}

/// Prints what is wrong with files.
fn report(files: Files, flags: &IngressFlags) -> u8 {
    let texts: HashMap<String, String> = files.iter().cloned().collect();
    let manifests = compile::manifest::read(files);
    let settings = flags.compile(Surroundings::Directory);
    let compiled = compile::compile(&manifests.resources, &settings, &compile::Before::default());
    let renderer = if output::has_colour() { Renderer::styled() } else { Renderer::plain() };
    for problem in &manifests.problems {
        let at = At { path: &problem.path, line: problem.line, column: problem.column };
        let report = Report {
            level: Level::ERROR,
            title: problem.message.clone(),
            label: "not readable from here on",
            remedy: &problem.remedy,
        };
        output::line(&report.render(Some(&at), &texts, &renderer));
    }
    for finding in &compiled.findings {
        output::line(&render(finding, &manifests, &texts, &renderer));
    }
    for line in open(&compiled, &manifests) {
        output::line(&line);
    }
    if let Some(line) = none_of_ours(&compiled, &manifests.resources, &settings.ingress_class) {
        output::line(&line);
    }
    let closing = compiled.findings.iter().filter(|finding| finding.effect != Effect::Warns);
    let wrong = manifests.problems.len() + closing.count();
    let warnings = compiled.findings.len() + manifests.problems.len() - wrong;
    output::line(&format!(
        "{} files, {} Ingresses of ours, {} routes: {wrong} findings, {warnings} warnings",
        texts.len(),
        compiled.ingresses.len(),
        compiled.routes,
    ));
    if wrong == 0 { FINE } else { FINDINGS }
}

/// The Ingresses that everybody may reach: right for many, but somebody should know.
fn open<'a>(compiled: &'a Compiled, manifests: &'a Manifests) -> impl Iterator<Item = String> + 'a {
    let open = compiled.ingresses.iter().filter_map(|it| match it.protection {
        Protection::Open => Some((it, "no policy")),
        Protection::Counted => Some((it, "its policies only count")),
        Protection::Enforced | Protection::Refused => None,
    });
    open.map(|(ingress, why)| {
        let at = manifests.locate(&FieldRef::new(ingress.resource.clone(), "spec"));
        let at = at.map(|at| format!("{}:{}:{}: ", at.path, at.line, at.column));
        format!("{}{}: open: {why}", at.unwrap_or_default(), ingress.resource)
    })
}

/// Says which classes there are when none is ours: a check of nothing must not look like success.
fn none_of_ours(compiled: &Compiled, resources: &Resources, ours: &str) -> Option<String> {
    if !compiled.ingresses.is_empty() || resources.ingresses.is_empty() {
        return None;
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for ingress in &resources.ingresses {
        let class =
            class(ingress).map_or_else(|| "no class".to_owned(), |it| quoted(it, 64).to_string());
        *seen.entry(class).or_default() += 1;
    }
    let seen: Vec<_> = seen.iter().map(|(class, count)| format!("{class} ({count})")).collect();
    Some(format!(
        "none of {} Ingresses is ours, whose class is `{ours}`; there are {}; choose with --ingress-class or --watch-ingress-without-class",
        resources.ingresses.len(),
        seen.join(", "),
    ))
}

/// The class that an Ingress names in its field, or else in the annotation of old.
fn class(ingress: &Ingress) -> Option<&str> {
    let field = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    let annotations = ingress.metadata.annotations.as_ref();
    let annotation = annotations.and_then(|it| it.get("kubernetes.io/ingress.class"));
    field.or(annotation.map(String::as_str))
}

fn render(
    finding: &Finding,
    manifests: &Manifests,
    texts: &HashMap<String, String>,
    renderer: &Renderer,
) -> String {
    let (level, label) = match finding.effect {
        Effect::Closes => (Level::ERROR, "requests are refused until this is corrected"),
        Effect::Rejects => (Level::ERROR, "has no effect until this is corrected"),
        Effect::Warns => (Level::WARNING, "probably not what was meant"),
    };
    let position = manifests.locate(&finding.field);
    let at = position.as_ref().map(|at| At { path: &at.path, line: at.line, column: at.column });
    let reason = finding.reason.as_str();
    let title = format!("{reason}: {}: {}", finding.field, finding.message);
    Report { level, title, label, remedy: &finding.remedy }.render(at.as_ref(), texts, renderer)
}

/// A place in a file.
struct At<'a> {
    path: &'a str,
    line: usize,
    column: usize,
}

/// What is shown of one problem.
struct Report<'a> {
    level: Level<'static>,
    title: String,
    label: &'a str,
    remedy: &'a str,
}

impl Report<'_> {
    fn render(
        self,
        at: Option<&At<'_>>,
        texts: &HashMap<String, String>,
        renderer: &Renderer,
    ) -> String {
        let remedy = Level::HELP.message(self.remedy);
        let title = self.level.primary_title(self.title);
        let excerpt = at.and_then(|at| {
            // A file that may hold a Secret is not shown: this output ends up in the logs of pipelines.
            let text = texts.get(at.path).filter(|text| !text.contains("Secret"))?;
            let line = text.lines().nth(at.line.checked_sub(1)?)?;
            let start = line.char_indices().nth(at.column.checked_sub(1)?)?.0;
            let end = line.trim_end().len().max(start + 1);
            let label = AnnotationKind::Primary.span(start..end).label(self.label);
            Some(Snippet::source(line).path(at.path).line_start(at.line).annotation(label))
        });
        let report = match excerpt {
            Some(excerpt) => title.element(excerpt).element(remedy),
            None => title.element(remedy),
        };
        let text = renderer.render(&[report]);
        match at {
            // Whoever has no excerpt still has the place.
            Some(At { path, line, column }) if !text.contains("-->") => {
                format!("{path}:{line}:{column}: {text}\n")
            }
            Some(_) | None => format!("{text}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        check: Check,
    }

    const INGRESS: &str = "apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
        metadata: { name: web, namespace: shop }\n\
        spec: { ingressClassName: public, defaultBackend: { service: { name: a, port: { number: 1 } } } }\n";

    fn lines(flags: &[&str]) -> (Vec<String>, Option<String>) {
        let line = Line::try_parse_from([&["check", "."], flags].concat()).unwrap();
        let settings = line.check.ingresses.compile(Surroundings::Directory);
        let manifests = compile::manifest::read(vec![("a.yaml".to_owned(), INGRESS.to_owned())]);
        let compiled =
            compile::compile(&manifests.resources, &settings, &compile::Before::default());
        let none = none_of_ours(&compiled, &manifests.resources, &settings.ingress_class);
        (open(&compiled, &manifests).collect(), none)
    }

    #[test]
    fn an_ingress_of_ours_without_a_policy_is_told() {
        let (open, none) = lines(&["--ingress-class", "public"]);
        assert_eq!(open, ["a.yaml:4:1: Ingress shop/web: open: no policy"]);
        assert_eq!(none, None);
        let closed = ["--ingress-class", "public", "--default-posture", "closed"];
        assert_eq!(lines(&closed), (Vec::new(), None));
    }

    #[test]
    fn classes_are_told_when_no_ingress_is_ours() {
        let (open, none) = lines(&[]);
        assert_eq!(open, [""; 0]);
        let none = none.unwrap();
        assert!(none.contains("`whygate`") && none.contains("`public` (1)"), "{none}");
    }
}
