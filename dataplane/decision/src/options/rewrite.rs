//! Other paths for upstreams. Whatever comes out was never judged, so it must be as unambiguous as
//! what went in: a rewriting may not make a `..` out of `/a../b`.

use std::fmt;

use http::uri::PathAndQuery;
use regex::bytes::{Captures, Regex, RegexBuilder};

use crate::{
    path::{self, PathProblem},
    refs::FieldRef,
};

/// Longest path that a rewriting may make, in bytes: 16,384. A template repeats what it captures.
pub const LONGEST: usize = 16 * 1024;

/// Longest path that a pattern is tried on, in bytes: 2,048. A longer one does not match.
pub const LONGEST_MATCHED: usize = 2 * 1024;

/// Longest pattern and longest template, in bytes: 512.
pub const LONGEST_PATTERN: usize = 512;

/// Most places of a template for what was captured.
const MOST_PLACES: usize = 9;

/// Most memory for a compiled pattern, in bytes: 16 KiB. It bounds the steps for each byte of a path,
/// too: one team's pattern must not keep the threads busy that serve all.
const COMPILED: usize = 16 * 1024;

/// Most memory for what a thread finds out about a pattern while it matches, in bytes: 64 KiB.
const FOUND_OUT: usize = 64 * 1024;

/// How the path of a request is made into the upstream's. The query stays as it is.
#[derive(Debug)]
pub struct Rewrite {
    /// The annotation that says so.
    pub field: FieldRef,
    /// What is put in the place of what.
    pub rule: Rule,
}

/// What a rewriting replaces.
#[derive(Debug)]
pub enum Rule {
    /// The segments that the route's own path matched. Canonical, without a slash at its end.
    Prefix(Box<str>),
    /// The whole path, which must match; nothing else of the route is served.
    Pattern(Pattern, Template),
}

/// Why a path was not rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// The pattern does not match it.
    NoMatch,
    /// What came out is not a canonical path.
    Ambiguous(String),
}

impl Rewrite {
    /// The target for the upstream. `route` is the path of the route as the manifest writes it.
    ///
    /// # Errors
    /// [`Unwritten`]; such a request must go nowhere.
    pub fn apply(&self, target: &PathAndQuery, route: &str) -> Result<PathAndQuery, Unwritten> {
        let written = match &self.rule {
            Rule::Prefix(prefix) => replace_prefix(target.path(), route, prefix),
            Rule::Pattern(pattern, template) => {
                let path = Some(target.path()).filter(|path| path.len() <= LONGEST_MATCHED);
                let captures = path.and_then(|path| pattern.0.captures(path.as_bytes()));
                template.fill(&captures.ok_or(Unwritten::NoMatch)?)
            }
        };
        let ambiguous = || Unwritten::Ambiguous(written.clone());
        let canonical = path::canonical(&written).is_ok_and(|canonical| canonical == written);
        if !canonical || written.len() > LONGEST {
            return Err(ambiguous());
        }
        let rebuilt = match target.query() {
            Some(query) => format!("{written}?{query}"),
            None => written.clone(),
        };
        PathAndQuery::try_from(rebuilt).map_err(|_| ambiguous())
    }
}

/// Replaces as many segments as the route's path has: parameters of a segment go with it.
fn replace_prefix(path: &str, route: &str, prefix: &str) -> String {
    let mut rest = path;
    for _ in path::segments(route) {
        let after = rest.strip_prefix('/').and_then(|rest| rest.split_once('/'));
        // What follows keeps its slash.
        rest = after.and_then(|(_, after)| rest.get(rest.len() - after.len() - 1..)).unwrap_or("");
    }
    let written = format!("{prefix}{rest}");
    if written.is_empty() { "/".to_owned() } else { written }
}

/// A pattern for whole paths, which is matched in a time linear in their length.
pub struct Pattern(Regex);

/// Why a text is no pattern: a sentence without a final period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAPattern(pub String);

impl Pattern {
    /// Reads a regular expression of the `regex` crate, without look-around and back-references. It
    /// always stands for the whole path, anchored or not; paths are ASCII.
    ///
    /// # Errors
    /// [`NotAPattern`] for what does not compile, or only into more than 16 KiB.
    pub fn parse(text: &str) -> Result<Self, NotAPattern> {
        if text.len() > LONGEST_PATTERN {
            return Err(NotAPattern(format!("it is longer than {LONGEST_PATTERN} bytes")));
        }
        // By itself first: `a)(b` is a pattern only between our parentheses.
        let problem = |error| NotAPattern(problem(&error));
        builder(text).build().map_err(problem)?;
        builder(&format!("^(?:{text})$")).build().map(Self).map_err(problem)
    }

    /// How many groups it captures.
    pub fn groups(&self) -> usize {
        self.0.captures_len().saturating_sub(1)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.0.as_str()).finish()
    }
}

fn builder(text: &str) -> RegexBuilder {
    let mut builder = RegexBuilder::new(text);
    builder.unicode(false).size_limit(COMPILED).dfa_size_limit(FOUND_OUT).nest_limit(16);
    builder
}

/// The last line of the crate's text, which says what is wrong; the lines above it draw arrows.
fn problem(error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(limit) = error {
        return format!("it needs more than {limit} bytes of memory");
    }
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

/// A path with places for what a pattern captured: `/v2/$1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Box<[Part]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Group(usize),
}

impl Template {
    /// Reads a path in which `$1` to `$9` stand for the groups of a pattern that has `groups` of
    /// them, and `$$` for a dollar sign. At most [`LONGEST_PATTERN`] bytes and 9 such places.
    ///
    /// # Errors
    /// What is wrong: a sentence without a final period.
    pub fn parse(text: &str, groups: usize) -> Result<Self, String> {
        let places = text.matches('$').count();
        if text.len() > LONGEST_PATTERN || places > MOST_PLACES {
            return Err(format!(
                "it is longer than {LONGEST_PATTERN} bytes, or has more than {MOST_PLACES} `$`"
            ));
        }
        let mut parts = Vec::new();
        let mut pieces = text.split('$');
        let mut literal = pieces.next().unwrap_or_default().to_owned();
        while let Some(piece) = pieces.next() {
            let digit = piece.chars().next().and_then(|first| first.to_digit(10));
            match digit.and_then(|digit| usize::try_from(digit).ok()).filter(|digit| *digit > 0) {
                Some(group) if group <= groups => {
                    parts.push(Part::Text(std::mem::take(&mut literal).into()));
                    parts.push(Part::Group(group));
                    literal.push_str(piece.get(1..).unwrap_or_default());
                }
                Some(group) => {
                    return Err(format!(
                        "`${group}` is none of the {groups} groups of the pattern"
                    ));
                }
                None if piece.is_empty() => {
                    literal.push('$');
                    literal.push_str(pieces.next().unwrap_or_default());
                }
                None => return Err("a `$` stands before what is no group".to_owned()),
            }
        }
        parts.push(Part::Text(literal.into()));
        let template = Self(parts.into());
        let sample = template.with(|_| "x");
        match path::canonical(&sample) {
            Ok(canonical) if canonical == sample => Ok(template),
            Ok(_) => Err("it is not a path as requests are compared with".to_owned()),
            Err(PathProblem::NotAbsolute) => Err("it does not begin with a slash".to_owned()),
            Err(problem) => Err(format!("it is not a path: {}", problem.as_str())),
        }
    }

    fn fill(&self, captures: &Captures<'_>) -> String {
        // Canonical paths are ASCII, so every part of one is text; a group that took no part in the
        // match is empty.
        let group = |group| captures.get(group).and_then(|it| str::from_utf8(it.as_bytes()).ok());
        self.with(|number| group(number).unwrap_or_default())
    }

    fn with<'a>(&'a self, group: impl Fn(usize) -> &'a str) -> String {
        let text = |part: &'a Part| match part {
            Part::Text(text) => text,
            Part::Group(number) => group(*number),
        };
        self.0.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refs::{Kind, ResourceRef};

    fn rewrite(rule: Rule) -> Rewrite {
        let field = FieldRef::new(ResourceRef::new(Kind::Ingress, "shop", "web"), "x");
        Rewrite { field, rule }
    }

    fn by_pattern(pattern: &str, template: &str) -> Rewrite {
        let pattern = Pattern::parse(pattern).unwrap();
        let template = Template::parse(template, pattern.groups()).unwrap();
        rewrite(Rule::Pattern(pattern, template))
    }

    fn applied(rewrite: &Rewrite, target: &str, route: &str) -> Result<String, Unwritten> {
        let target = PathAndQuery::try_from(target).unwrap();
        rewrite.apply(&target, route).map(|target| target.to_string())
    }

    #[test]
    fn a_prefix_is_replaced_segment_by_segment() {
        for (to, route, request, expected) in [
            ("/v2", "/v1", "/v1", "/v2"),
            ("/v2", "/v1", "/v1/", "/v2/"),
            ("/v2", "/v1", "/v1/a/b?q=/v1", "/v2/a/b?q=/v1"),
            ("/v2", "/v1/", "/v1/a", "/v2/a"),
            ("", "/v1", "/v1", "/"),
            ("", "/v1", "/v1/a", "/a"),
            ("/v2", "/", "/a", "/v2/a"),
            ("/v2", "/", "/", "/v2/"),
            ("", "/a/b", "/a/b/c/", "/c/"),
            ("/v2", "/v1", "/v1;x=1/a", "/v2/a"),
            ("/x/y", "/a/b", "/a;p/b%3Bq/c;r", "/x/y/c;r"),
            ("/v2", "/v1", "/v1?", "/v2?"),
        ] {
            let rewrite = rewrite(Rule::Prefix(to.into()));
            assert_eq!(applied(&rewrite, request, route).as_deref(), Ok(expected), "{request}");
        }
    }

    #[test]
    fn a_pattern_stands_for_the_whole_path_and_groups_for_their_part() {
        let api = by_pattern(r"/api/v(\d+)(/.*)?", "/$1/api$2");
        assert_eq!(applied(&api, "/api/v2/a/b?x=$1", "/").as_deref(), Ok("/2/api/a/b?x=$1"));
        assert_eq!(applied(&api, "/api/v2", "/").as_deref(), Ok("/2/api"));
        for other in ["/x/api/v2", "/api/v2x", "/api/vx", "/API/v2", "/"] {
            assert_eq!(applied(&api, other, "/"), Err(Unwritten::NoMatch), "{other}");
        }
        let either = by_pattern("/a|/b(.*)", "/c$1");
        assert_eq!(applied(&either, "/a", "/").as_deref(), Ok("/c"));
        assert_eq!(applied(&either, "/ax", "/"), Err(Unwritten::NoMatch), "anchored as a whole");
        assert_eq!(applied(&by_pattern("/a", "/$$x"), "/a", "/").as_deref(), Ok("/$x"));
    }

    #[test]
    fn no_request_makes_a_path_that_could_be_read_in_two_ways() {
        let ambiguous = |pattern, template, request: &str| {
            matches!(
                applied(&by_pattern(pattern, template), request, "/"),
                Err(Unwritten::Ambiguous(_))
            )
        };
        // `/a../secret` is canonical, and what follows `/a` climbs.
        assert!(ambiguous("/a(.*)", "/files/$1", "/a../secret"));
        assert!(ambiguous("/a(.*)", "/files/$1", "/a./x"));
        assert!(ambiguous("/a(.*)b", "/files/$1/x", "/a..b"));
        assert!(ambiguous("/a(.*)", "/files/$1", "/a/b"), "two slashes");
        assert!(ambiguous("/a(.*)", "/files/.$1", "/a."));
        assert!(ambiguous("/a/(..)", "/%25$1", "/a/2e"), "an escape of an escape");
        assert!(ambiguous("/(.*)", "/$1$1$1$1$1$1$1$1$1", &format!("/{}", "x".repeat(2_000))));
    }

    #[test]
    fn what_is_no_pattern_is_told_and_none_takes_much_memory() {
        for text in ["(", "a)(b", "[", "a{2", r"(?=x)", r"\1", "*", "(?P<n", r"\p{Greek}"] {
            let told = Pattern::parse(text).unwrap_err().0;
            assert!(!told.is_empty() && !told.contains('\n'), "{text}: {told}");
        }
        for text in ["(a{1000}){1000}", "((a{50}){50}){50}", &"a|".repeat(400), &"(".repeat(40)] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_that_kills_others_is_matched_in_linear_time() {
        let evil = by_pattern("/(a+)+(a|aa)*(.*a){12}$", "/x");
        let long = |length| format!("/{}", "a".repeat(length));
        let copy = by_pattern("/(a*)", "/$1");
        assert!(applied(&copy, &long(LONGEST_MATCHED - 1), "/").is_ok());
        assert_eq!(applied(&copy, &long(LONGEST_MATCHED), "/"), Err(Unwritten::NoMatch));
        let request = format!("/{}!", "a".repeat(2_000));
        assert_eq!(applied(&evil, &request, "/"), Err(Unwritten::NoMatch));
    }

    #[test]
    fn a_template_is_a_canonical_path_with_groups_that_exist() {
        for text in ["/", "/v2/$1", "/$1$2", "/a$$b", "/%C3%A9/$1"] {
            assert!(Template::parse(text, 2).is_ok(), "{text}");
        }
        for text in [
            "",
            "v2",
            "/$3",
            "/$0",
            "/$x",
            "/a?b=$1",
            "/a#b",
            "/a//b",
            "/../a",
            "/a b",
            "/%$1/",
            "/%2e",
            "https://x/$1",
            "//x",
        ] {
            assert!(Template::parse(text, 2).is_err(), "{text}");
        }
    }
}
