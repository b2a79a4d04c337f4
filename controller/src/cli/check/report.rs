//! One problem as `check` shows it: title, the line in question, what to do.

use std::{cell::OnceCell, collections::HashMap};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::source::directory::Files;

/// A place in a file.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) path: &'a str,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What is shown of one problem.
pub(super) struct Report<'a> {
    pub(super) level: Level<'static>,
    pub(super) title: String,
    pub(super) label: &'a str,
    pub(super) remedy: &'a str,
}

impl Report<'_> {
    pub(super) fn render(
        self,
        at: Option<&At<'_>>,
        texts: &Texts<'_>,
        renderer: &Renderer,
    ) -> String {
        let remedy = Level::HELP.message(self.remedy);
        let title = self.level.primary_title(self.title);
        let excerpt = at.and_then(|at| {
            let line = texts.line(at.path, at.line)?;
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

/// The files by their paths, each cut into lines when the first of them is shown.
pub(super) struct Texts<'t>(HashMap<&'t str, Text<'t>>);

struct Text<'t> {
    text: &'t str,
    lines: OnceCell<Vec<Option<&'t str>>>,
}

impl<'t> Texts<'t> {
    pub(super) fn of(files: &'t Files) -> Self {
        let text = |text| Text { text, lines: OnceCell::new() };
        Self(files.iter().map(|(path, content)| (path.as_str(), text(content))).collect())
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A line, from 1, unless it is one of a Secret: this output ends up in the logs of pipelines.
    fn line(&self, path: &str, line: usize) -> Option<&'t str> {
        let Text { text, lines } = self.0.get(path)?;
        let lines = lines.get_or_init(|| shown(text));
        *lines.get(line.checked_sub(1)?)?
    }
}

/// Every line of a file, but none of a document that may be a Secret, or a list with one in it.
fn shown(text: &str) -> Vec<Option<&str>> {
    let is_mark =
        |line: &str| line.starts_with("---") && line.split_whitespace().next() == Some("---");
    let lines: Vec<_> = text.lines().collect();
    // A mark belongs to what it begins.
    let documents = lines.chunk_by(|_, next| !is_mark(next));
    let mut shown = Vec::with_capacity(lines.len());
    for document in documents {
        let is_of_secret = document.iter().any(|line| is_of_secret(line));
        shown.extend(document.iter().map(|line| (!is_of_secret).then_some(*line)));
    }
    shown
}

fn is_of_secret(line: &str) -> bool {
    let mut words = without_comment(line).split(|it: char| !it.is_alphanumeric());
    words.any(|word| word == "Secret")
}

/// A line without its comment, as far as that is certain: in quotes `#` means nothing.
fn without_comment(line: &str) -> &str {
    let comment = if line.trim_start().starts_with('#') { Some(0) } else { line.find(" #") };
    let before = comment.and_then(|at| line.split_at_checked(at)).map(|(before, _)| before);
    before.filter(|before| !before.contains(['"', '\''])).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "kind: AccessPolicy   # a Secret with the label\n\
        hint: ask\n\
        --- # next\n\
        kind: Secret\n\
        stringData:\n\
        \x20 key: abc\n\
        ---\n\
        kind: List\n\
        items: [{stringData: {a: \"x # y\"}, \"kind\": \"Secret\"}]\n\
        ---\n\
        kind: Ingress\n\
        secretName: tls\n";

    #[test]
    fn only_lines_in_the_document_of_a_secret_are_held_back() {
        let files = vec![("a.yaml".to_owned(), FILE.to_owned())];
        let texts = Texts::of(&files);
        let held_back: Vec<_> = (1..=FILE.lines().count())
            .filter(|line| texts.line("a.yaml", *line).is_none())
            .collect();
        assert_eq!(held_back, [3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_line_of_a_policy_is_shown_though_a_comment_speaks_of_a_secret() {
        let files = vec![("a.yaml".to_owned(), FILE.to_owned())];
        let texts = Texts::of(&files);
        let shown = |line| {
            let report = Report {
                level: Level::ERROR,
                title: "wrong".to_owned(),
                label: "here",
                remedy: "Correct it.",
            };
            let at = At { path: "a.yaml", line, column: 1 };
            report.render(Some(&at), &texts, &Renderer::plain())
        };
        assert!(shown(2).contains("hint: ask"), "{}", shown(2));
        let secret = shown(6);
        assert!(!secret.contains("abc") && secret.contains("a.yaml:6:1"), "{secret}");
    }
}
