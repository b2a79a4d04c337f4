//! `whygate check`: every problem in manifests, with its place and its remedy.

use std::{collections::HashMap, path::PathBuf, process::ExitCode};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use clap::Args;
use compile::{Finding, finding::Effect, manifest::Manifests};

use crate::{
    output,
    source::directory::{Files, read},
};

const EXAMPLES: &str = "\
Examples:
  whygate check ./manifests
  whygate check ./base ./overlays/production";

/// Nothing is wrong; findings; cannot be read.
const FINE: u8 = 0;
const FINDINGS: u8 = 1;
const UNREADABLE: u8 = 2;

/// Check manifests without serving them
///
/// Prints every problem with file, line and column, what it costs, and what to do about it.
/// Ends with 0 if nothing is closed or rejected, 1 if something is, 2 if a directory cannot be
/// read.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(super) struct Check {
    /// Directories of manifests, or files; together they are one installation
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
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
        ExitCode::from(report(files))
    }
}

/// Prints what is wrong with files.
fn report(files: Files) -> u8 {
    let texts: HashMap<String, String> = files.iter().cloned().collect();
    let manifests = compile::manifest::read(files);
    let settings = compile::Settings { namespaces_are_known: true, ..compile::Settings::default() };
    let compiled = compile::compile(&manifests.resources, &settings, 1);
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
            let text = texts.get(at.path)?;
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
