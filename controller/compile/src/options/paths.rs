//! Other paths for upstreams.

use decision::{
    options::rewrite::{Pattern, Rewrite, Rule, Template, Unwritten},
    path::{self, PathProblem},
    route::PathMatch,
};
use http::uri::PathAndQuery;

use super::reader::{Reader, Wrong};
use crate::finding::Problem;

pub(super) const PREFIX: &str = "whygate.dev/rewrite-prefix";
pub(super) const REGEX: &str = "whygate.dev/rewrite-regex";
const TO: &str = "whygate.dev/rewrite-to";

pub(super) const KEYS: [&str; 3] = [PREFIX, REGEX, TO];

pub(super) fn rewrite(reader: &mut Reader<'_>) -> Option<Rewrite> {
    reader.without(PREFIX, REGEX);
    reader.only_with(REGEX, TO);
    reader.only_with(TO, REGEX);
    if let Some(prefix) = reader.read(PREFIX, prefix) {
        return Some(Rewrite { field: reader.field(PREFIX), rule: Rule::Prefix(prefix) });
    }
    let pattern = reader.read(REGEX, pattern)?;
    let groups = pattern.groups();
    let template = reader.read(TO, |text| template(text, groups))?;
    Some(Rewrite { field: reader.field(REGEX), rule: Rule::Pattern(pattern, template) })
}

/// What is wrong with a pattern that makes an ambiguous path of a plain one: of the path of a rule, or
/// of one below it. Every client of it is refused, and nothing else tells so.
pub(crate) fn trap<'a>(
    rewrite: &Rewrite,
    mut paths: impl Iterator<Item = (PathMatch, &'a str)>,
) -> Option<Problem> {
    let (sent, written) = paths.find_map(|(path_match, path)| {
        let sent = match path_match {
            PathMatch::Exact => path.to_owned(),
            PathMatch::Prefix => format!("{}/a", path.trim_end_matches('/')),
        };
        let target = PathAndQuery::try_from(&*sent).ok()?;
        match rewrite.apply(&target, path) {
            Err(Unwritten::Ambiguous(written)) => Some((sent, written)),
            Ok(_) | Err(Unwritten::NoMatch) => None,
        }
    })?;
    Some(Problem::new(
        &*rewrite.field.path,
        format!("it makes `{written}` of `{sent}`, which could be read in two ways and is refused"),
        "Let groups begin and end at slashes, as in `/files(/.*)?` with `/new$1`.",
    ))
}

fn prefix(text: &str) -> Result<Box<str>, Wrong> {
    match path::written(text) {
        Ok(path) if text.len() > 1 && text.ends_with('/') => Err(Wrong::new(
            format!("`{text}` ends in a slash, and what follows the prefix begins with one"),
            format!("Write `{}`.", path.trim_end_matches('/')),
        )),
        Ok(path) => Ok(path.trim_end_matches('/').into()),
        Err(Ok(canonical)) if canonical == text => Err(Wrong::new(
            format!("`{text}` has parameters, which are no part of a prefix"),
            "Write plain segments, as in `/v2`.",
        )),
        Err(Ok(canonical)) => Err(Wrong::new(
            format!("`{text}` is not a path as requests are compared with"),
            format!("Write `{canonical}`."),
        )),
        Err(Err(PathProblem::NotAbsolute)) => Err(Wrong::new(
            format!("`{text}` does not begin with a slash"),
            "Write an absolute path of plain segments, as in `/v2`.",
        )),
        Err(Err(problem)) => Err(Wrong::new(
            format!("`{text}` is not a path: {}", problem.as_str()),
            "Write an absolute path of plain segments, as in `/v2`.",
        )),
    }
}

fn pattern(text: &str) -> Result<Pattern, Wrong> {
    Pattern::parse(text).map_err(|error| {
        Wrong::new(
            format!("it is not a regular expression: {}", error.0),
            "Write one for the whole path, without look-around and back-references, as in `/api/v(\\d+)(/.*)?`.",
        )
    })
}

fn template(text: &str, groups: usize) -> Result<Template, Wrong> {
    Template::parse(text, groups).map_err(|problem| {
        Wrong::new(
            format!("`{text}` is not a path to rewrite to: {problem}"),
            "Write an absolute path without a query, in which `$1` stands for the first group of the pattern, as in `/v2/$1`.",
        )
    })
}
