//! The text of a file, cut into documents that are read one by one, so that a broken one takes no
//! other with it.

use std::collections::BTreeSet;

use serde_saphyr::{MessageFormatter, UserMessageFormatter, from_multiple_with_options, options};

use super::node::{At, Node};

/// A part of a file between two `---`.
pub(super) struct Document<'t> {
    /// How many lines stand before it.
    pub(super) before: usize,
    text: &'t str,
}

/// Why a document cannot be read.
pub(super) struct Broken {
    pub(super) at: At,
    pub(super) message: String,
}

/// The documents of a file. A line that begins with `---` always ends a document (YAML 1.2.2
/// section 9.1.2).
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut offset, mut first_line) = (0, 0_usize, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line) && offset > start {
            documents.push((start..offset, first_line));
            (start, first_line) = (offset, number);
        }
        offset = offset.saturating_add(line.len());
    }
    documents.push((start..text.len(), first_line));
    let documents = documents.into_iter();
    documents
        .filter_map(|(range, before)| Some(Document { before, text: text.get(range)? }))
        .filter(|document| !document.is_empty())
        .collect()
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

impl Document<'_> {
    /// Nothing but comments, directives and markers.
    fn is_empty(&self) -> bool {
        self.text.lines().map(str::trim_end).all(|line| {
            let is_directive = line.starts_with("%YAML ") || line.starts_with("%TAG ");
            line.is_empty()
                || ["---", "..."].contains(&line)
                || line.starts_with('#')
                || is_directive
        })
    }

    /// The values of the document; more than one only if they are separated by `...`.
    pub(super) fn read(&self) -> Result<Vec<Node>, Broken> {
        let options = options! { with_snippet: false };
        from_multiple_with_options(self.text, options).map_err(|error| {
            let at = error.location().map(At::of).unwrap_or_default();
            let message = UserMessageFormatter.format_message(&error).into_owned();
            let at = At { line: at.line.max(1), column: at.column.max(1) };
            Broken { at: self.place(at), message }
        })
    }

    /// A place of the document as a place of the file.
    pub(super) fn place(&self, at: At) -> At {
        At { line: at.line.saturating_add(self.before), ..at }
    }

    /// The namespaces that a broken document may have protected: by a policy, by a posture, or by an
    /// Ingress whose requests would now fall through to a wider route. `None` if it may be any.
    ///
    /// That it names a namespace is certain only where the value of `namespace` is one plain word
    /// that is not cut off: what stands in a text that cannot be read, only its writer knows.
    pub(super) fn protected_namespaces(&self) -> Option<BTreeSet<String>> {
        let named: Option<BTreeSet<_>> = self.values_of("namespace").collect();
        let mut namespaces = named.filter(|named| !named.is_empty())?;
        if self.text.contains("whygate.dev/posture") {
            namespaces.extend(self.values_of("name").flatten());
        }
        Some(namespaces)
    }

    /// What stands behind a key, wherever the text has that; none where it is no plain word.
    fn values_of(&self, name: &'static str) -> impl Iterator<Item = Option<String>> {
        self.text.match_indices(name).filter_map(move |(at, _)| {
            let (before, after) = self.text.split_at_checked(at)?;
            if before.ends_with(|character| !is_no_name(character)) {
                return None;
            }
            let after = after.strip_prefix(name)?.trim_start_matches(['"', '\'', ' ']);
            let after = after.strip_prefix(':')?.trim_start_matches(['"', '\'', ' ']);
            let (value, rest) = after.split_at(after.find(is_no_name).unwrap_or(after.len()));
            let is_whole = !value.is_empty() && rest.starts_with(ENDS);
            Some(is_whole.then(|| value.to_owned()))
        })
    }
}

/// What ends a plain word that is a value.
const ENDS: [char; 8] = [' ', '\t', '\r', '\n', ',', '}', '"', '\''];

fn is_no_name(character: char) -> bool {
    !character.is_ascii_alphanumeric() && character != '-'
}
