//! One problem as `check` shows it: title, the line in question, what to do.

use std::collections::HashMap;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

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
        texts: &HashMap<String, String>,
        renderer: &Renderer,
    ) -> String {
        let remedy = Level::HELP.message(self.remedy);
        let title = self.level.primary_title(self.title);
        let excerpt = at.and_then(|at| {
            // A Secret is not shown: this output ends up in the logs of pipelines.
            let text = texts.get(at.path).filter(|text| !is_of_secret(text, at.line))?;
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

/// Whether the document around a line may be a Secret, or a list with one in it.
fn is_of_secret(text: &str, line: usize) -> bool {
    let is_mark = |line: &str| line.split_whitespace().next() == Some("---");
    let marks =
        text.lines().enumerate().filter(|(_, line)| line.starts_with("---") && is_mark(line));
    let (mut begin, mut end) = (0, usize::MAX);
    for (mark, _) in marks {
        // Lines are counted from 1, so the mark itself counts to what it begins.
        if mark < line {
            begin = mark;
        } else {
            end = mark;
            break;
        }
    }
    let document = text.lines().take(end).skip(begin);
    document
        .map(without_comment)
        .any(|line| line.split(|it: char| !it.is_alphanumeric()).any(|word| word == "Secret"))
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
        let held_back: Vec<_> =
            (1..=FILE.lines().count()).filter(|line| is_of_secret(FILE, *line)).collect();
        assert_eq!(held_back, [3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_line_of_a_policy_is_shown_though_a_comment_speaks_of_a_secret() {
        let texts = HashMap::from([("a.yaml".to_owned(), FILE.to_owned())]);
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
