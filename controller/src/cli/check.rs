//! `whygate check`: every problem in manifests, with its place and its remedy.

mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    process::ExitCode,
};

use annotate_snippets::{Level, Renderer};
use clap::Args;
use compile::{
    Compiled, Finding, Protection, Resources,
    finding::Effect,
    manifest::{Manifests, Problem},
    reference,
};
use decision::{
    escape::quoted,
    refs::{FieldRef, Kind},
};
use k8s_openapi::api::networking::v1::Ingress;

use self::report::{At, Report, Texts};
use crate::{
    output::{self, counted},
    settings::{IngressFlags, Surroundings},
    source::directory::{
        Files,
        endpoints::{Missing, missing},
        read,
    },
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
        let (mut files, mut empty) = (Files::new(), Vec::new());
        for directory in &self.directories {
            match read(directory) {
                Ok(more) if more.is_empty() => empty.push(directory.display().to_string()),
                Ok(more) => files.extend(more),
                Err(error) => {
                    output::error(&error.to_string());
                    return ExitCode::from(UNREADABLE);
                }
            }
        }
        files.sort();
        files.dedup();
        ExitCode::from(report(&files, &empty, &self.ingresses))
    }
}

/// Prints what is wrong with files; `empty` are directories without any.
fn report(files: &Files, empty: &[String], flags: &IngressFlags) -> u8 {
    let texts = Texts::of(files);
    let manifests = compile::manifest::read(files.clone());
    let settings = flags.compile(Surroundings::Directory);
    let compiled = compile::compile(&manifests.resources, &settings, &compile::Before::default());
    let (findings, of_cluster) = findings(&compiled, &manifests);
    let closing = findings.iter().filter(|finding| finding.effect != Effect::Warns).count();
    let wrong = manifests.problems.len() + closing;
    let warnings = findings.len() - closing + empty.len();
    let passed_over = passed_over(&compiled, &manifests.resources, &settings.ingress_class);
    let mut lines: Vec<_> =
        open(&compiled, &manifests).chain(of_cluster).chain(passed_over).collect();
    lines.push(format!(
        "{}, {} of ours, {}: {}, {}",
        counted(texts.len(), "file", "files"),
        counted(compiled.ingresses.len(), "Ingress", "Ingresses"),
        counted(compiled.routes, "route", "routes"),
        counted(wrong, "finding", "findings"),
        counted(warnings, "warning", "warnings"),
    ));
    // An error only says that nobody reads any more.
    let _ = tell(&texts, empty, &manifests, &findings, &lines);
    if wrong == 0 { FINE } else { FINDINGS }
}

/// Prints the directories without files, what is wrong, and the last lines.
fn tell(
    texts: &Texts<'_>,
    empty: &[String],
    manifests: &Manifests,
    findings: &[Finding],
    lines: &[String],
) -> io::Result<()> {
    let renderer = if output::has_colour() { Renderer::styled() } else { Renderer::plain() };
    for directory in empty {
        let report = Report {
            level: Level::WARNING,
            title: format!("no file *.yaml or *.yml stands below {}", quoted(directory, 256)),
            label: "",
            remedy: "Correct the path.",
        };
        output::result(&report.render(None, texts, &renderer))?;
    }
    for problem in &manifests.problems {
        let at = At { path: &problem.path, line: problem.line, column: problem.column };
        output::result(&unreadable(problem).render(Some(&at), texts, &renderer))?;
    }
    for finding in findings {
        output::result(&render(finding, manifests, texts, &renderer))?;
    }
    lines.iter().try_for_each(|line| output::result(line))
}

/// A text that is no manifest as it should be.
fn unreadable(problem: &Problem) -> Report<'_> {
    let is_second =
        problem.message.contains(" stands in ") && problem.message.ends_with(" already");
    Report {
        level: Level::ERROR,
        title: problem.message.clone(),
        label: if is_second { "the second one" } else { "not readable from here on" },
        remedy: &problem.remedy,
    }
}

/// What is wrong, in the order of objects; and in one line the Services whose endpoints a cluster
/// would find by itself, so that manifests for a cluster are not full of warnings.
fn findings(compiled: &Compiled, manifests: &Manifests) -> (Vec<Finding>, Option<String>) {
    let Manifests { resources, endpoint_slices, .. } = manifests;
    let missing = missing(&compiled.ingresses, resources, endpoint_slices);
    let (selected, bare): (Vec<_>, Vec<_>) = missing.iter().partition(|it| it.has_selector);
    let mut findings = compiled.findings.clone();
    findings.extend(bare.into_iter().map(Missing::finding));
    findings.sort();
    let names: Vec<_> = selected.iter().map(|it| it.service.path().to_string()).collect();
    let line = (!names.is_empty()).then(|| {
        format!(
            "without an EndpointSlice: {}; a cluster makes one of the selector, `whygate serve` does not",
            names.join(", "),
        )
    });
    (findings, line)
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

/// Says which Ingresses were passed over: one with a misspelt class must not look like one that is
/// fine.
fn passed_over(compiled: &Compiled, resources: &Resources, ours: &str) -> Option<String> {
    let known: BTreeSet<_> = compiled.ingresses.iter().map(|it| &it.resource).collect();
    let mut seen: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for ingress in &resources.ingresses {
        let class = class(ingress);
        // One of our class that is not served is a finding of its own.
        if class != Some(ours) && !known.contains(&reference(Kind::Ingress, &ingress.metadata)) {
            *seen.entry(class).or_default() += 1;
        }
    }
    if seen.is_empty() {
        return None;
    }
    let meant = |class: &str| match crds::nearest(class, &[ours]) {
        Some(ours) => format!(" (did you mean `{ours}`?)"),
        None => String::new(),
    };
    let seen = seen.iter().map(|(class, count)| match class {
        Some(class) => {
            let verb = if *count == 1 { "has" } else { "have" };
            format!("{count} {verb} the class {}{}", quoted(class, 64), meant(class))
        }
        None => counted(*count, "has no class", "have no class"),
    });
    let seen: Vec<_> = seen.collect();
    Some(format!(
        "Ingresses that were passed over, for ours have the class `{ours}`: {}; choose with --ingress-class or --watch-ingress-without-class",
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
    texts: &Texts<'_>,
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
        let none = passed_over(&compiled, &manifests.resources, &settings.ingress_class);
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
    fn classes_that_are_passed_over_are_told() {
        let (open, none) = lines(&[]);
        assert_eq!(open, [""; 0]);
        let none = none.unwrap();
        assert!(none.contains("`whygate`: 1 has the class `public`; choose"), "{none}");
        let none = lines(&["--ingress-class", "publik"]).1.unwrap();
        assert!(none.contains("`public` (did you mean `publik`?)"), "{none}");
    }

    #[test]
    fn an_ingress_beside_one_of_ours_is_told_when_its_class_is_misspelt() {
        let ours = INGRESS.replace("public", "whygate");
        let other = INGRESS.replace("public", "whygat").replace("name: web", "name: other");
        let none = INGRESS.replace("ingressClassName: public, ", "").replace("web", "none");
        let text = format!("{ours}---\n{other}---\n{none}");
        let manifests = compile::manifest::read(vec![("a.yaml".to_owned(), text)]);
        let settings = compile::Settings::default();
        let compiled =
            compile::compile(&manifests.resources, &settings, &compile::Before::default());
        let line = passed_over(&compiled, &manifests.resources, "whygate").unwrap();
        assert!(
            line.contains("1 has no class, 1 has the class `whygat` (did you mean `whygate`?)"),
            "{line}"
        );
    }

    #[test]
    fn a_service_that_a_cluster_would_serve_is_one_line_and_another_a_warning() {
        let service = |spec: &str| {
            format!(
                "---\n{{ apiVersion: v1, kind: Service, metadata: {{ name: a, namespace: shop }}, spec: {spec} }}\n"
            )
        };
        let told = |spec: &str| {
            let text = format!("{}{}", INGRESS.replace("public", "whygate"), service(spec));
            let manifests = compile::manifest::read(vec![("a.yaml".to_owned(), text)]);
            let settings = compile::Settings::default();
            let compiled =
                compile::compile(&manifests.resources, &settings, &compile::Before::default());
            let (all, line) = findings(&compiled, &manifests);
            (all.len() - compiled.findings.len(), line)
        };
        let (warnings, line) = told("{ selector: { app: a }, ports: [{ port: 1 }] }");
        assert_eq!(warnings, 0);
        assert!(line.is_some_and(|line| line.starts_with("without an EndpointSlice: shop/a;")));
        assert_eq!(told("{ ports: [{ port: 1 }] }"), (1, None));
    }

    #[test]
    fn a_second_copy_is_not_called_unreadable() {
        let manifests = compile::manifest::read(vec![(
            "a.yaml".to_owned(),
            format!("{INGRESS}---\n{INGRESS}"),
        )]);
        let labels: Vec<_> = manifests.problems.iter().map(|it| unreadable(it).label).collect();
        assert_eq!(labels, ["the second one"]);
    }

    #[test]
    fn the_manifests_of_the_readme_are_those_of_a_shop_that_works() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = |path| std::fs::read_to_string(root.join(path)).unwrap();
        let readme = text("../README.md");
        let blocks = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let rules = blocks.collect::<Vec<_>>().join("---\n");
        let files = [("rules.yaml", rules), ("shop.yaml", text("docs/shop.yaml"))];
        let files = files.map(|(name, text)| (name.to_owned(), text));
        let manifests = compile::manifest::read(files);
        let settings =
            compile::Settings { namespaces_are_known: true, ..compile::Settings::default() };
        let compiled =
            compile::compile(&manifests.resources, &settings, &compile::Before::default());
        assert_eq!(manifests.problems, []);
        let (findings, of_cluster) = findings(&compiled, &manifests);
        // Nobody can hand out a certificate for it beforehand.
        let others = findings.iter().filter(|it| it.reason.as_str() != "CertificateInvalid");
        assert_eq!((others.collect::<Vec<_>>(), of_cluster), (Vec::new(), None));
        assert_eq!(manifests.resources.access_subscriptions.len(), 2);
        assert!(compiled.ingresses.iter().all(|it| it.protection == Protection::Enforced));
    }
}
