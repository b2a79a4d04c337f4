//! The text of a file, cut into documents that are read one by one, so that a broken one takes no
//! other with it.

use std::{collections::BTreeSet, ops::Range, sync::OnceLock};

use serde_saphyr::{MessageFormatter, UserMessageFormatter, from_multiple_with_options, options};

use super::{
    item::Item,
    node::{At, Node},
};

/// What stands between two `---` of a file, read. It is the same wherever the text stands.
#[derive(Debug)]
pub(super) struct Document {
    /// Its objects, in their order.
    pub(super) items: Result<Vec<Item>, Broken>,
    /// The values of the items; they take several times the memory of the text, so they are read
    /// again if somebody asks where something stands.
    nodes: OnceLock<Vec<Node>>,
}

/// Why a document cannot be read, and where in it.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) at: At,
    pub(super) message: String,
}

/// A part of the text of a file.
pub(super) struct Part<'t> {
    /// How many lines stand before it.
    pub(super) before: usize,
    pub(super) range: Range<usize>,
    pub(super) text: &'t str,
}

/// The documents of a file. A line that begins with `---` always ends a document (YAML 1.2.2
/// section 9.1.2).
pub(super) fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut parts = Vec::new();
    let (mut start, mut offset, mut first_line) = (0, 0_usize, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_marker(line) && offset > start {
            parts.push((start..offset, first_line));
            (start, first_line) = (offset, number);
        }
        offset = offset.saturating_add(line.len());
    }
    parts.push((start..text.len(), first_line));
    parts
        .into_iter()
        .filter_map(|(range, before)| Some(Part { before, text: text.get(range.clone())?, range }))
        .filter(|part| !is_empty(part.text))
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Nothing but comments, directives and markers.
fn is_empty(text: &str) -> bool {
    text.lines().map(str::trim_end).all(|line| {
        let is_directive = line.starts_with("%YAML ") || line.starts_with("%TAG ");
        line.is_empty() || ["---", "..."].contains(&line) || line.starts_with('#') || is_directive
    })
}

impl Document {
    /// Reads the text of a document.
    pub(super) fn read(text: &str) -> Self {
        let items = nodes(text).map(|nodes| nodes.iter().map(Item::read).collect());
        Self { items, nodes: OnceLock::new() }
    }

    /// The value of an item; `text` is that of the document.
    pub(super) fn node(&self, item: usize, text: &str) -> Option<&Node> {
        self.nodes.get_or_init(|| nodes(text).unwrap_or_default()).get(item)
    }
}

/// The values of a document, those of lists one by one; more than one value only if they are
/// separated by `...`.
fn nodes(text: &str) -> Result<Vec<Node>, Broken> {
    let options = options! { with_snippet: false };
    let values: Vec<Node> = from_multiple_with_options(text, options).map_err(|error| {
        let at = error.location().map(At::of).unwrap_or_default();
        let message = UserMessageFormatter.format_message(&error).into_owned();
        Broken { at: At { line: at.line.max(1), column: at.column.max(1) }, message }
    })?;
    let mut nodes = Vec::with_capacity(values.len());
    for value in values {
        flatten(value, &mut nodes);
    }
    Ok(nodes)
}

/// The items of a list of objects, which may hold lists; or the value itself.
fn flatten(node: Node, nodes: &mut Vec<Node>) {
    let is_list = node.text("kind").is_some_and(|kind| kind.ends_with("List"));
    match node.get("items").filter(|_| is_list) {
        Some(items) => items.items().iter().for_each(|item| flatten(item.clone(), nodes)),
        None => nodes.push(node),
    }
}

/// The namespaces that a broken document may have protected: by a policy, by a posture, or by an
/// Ingress whose requests would now fall through to a wider route. `None` if it may be any.
///
/// That it names a namespace is certain only where the value of `namespace` is one plain word
/// that is not cut off: what stands in a text that cannot be read, only its writer knows.
pub(super) fn protected_namespaces(text: &str) -> Option<BTreeSet<String>> {
    let named: Option<BTreeSet<_>> = values_of(text, "namespace").collect();
    let mut namespaces = named.filter(|named| !named.is_empty())?;
    if text.contains("whygate.dev/posture") {
        namespaces.extend(values_of(text, "name").flatten());
    }
    Some(namespaces)
}

/// What stands behind a key, wherever the text has that; none where it is no plain word.
fn values_of<'t>(text: &'t str, name: &'static str) -> impl Iterator<Item = Option<String>> + 't {
    text.match_indices(name).filter_map(move |(at, _)| {
        let (before, after) = text.split_at_checked(at)?;
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

/// What ends a plain word that is a value.
const ENDS: [char; 8] = [' ', '\t', '\r', '\n', ',', '}', '"', '\''];

fn is_no_name(character: char) -> bool {
    !character.is_ascii_alphanumeric() && character != '-'
}
