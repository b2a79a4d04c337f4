//! Annotations while options are taken from them, and what is wrong with those that cannot be.

use std::collections::BTreeMap;

use decision::refs::{FieldRef, ResourceRef};

use crate::{finding::Problem, metadata::annotation_path};

/// What is wrong with a value, and what to write instead.
pub(super) struct Wrong {
    message: String,
    remedy: String,
}

/// Longest message in characters: annotations may have hundreds of kilobytes, and every refusal of
/// their routes repeats what is wrong.
const LONGEST: usize = 300;

impl Wrong {
    pub(super) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(LONGEST) {
            message.truncate(end);
            message.push('…');
        }
        Self { message, remedy: remedy.into() }
    }
}

/// What is wrong with a value of several entries; of each entry at most one thing.
pub(super) struct Wrongs(Vec<Wrong>);

/// How many wrong entries of a value are told: more than are listed of a whole object.
const MOST: usize = 32;

impl From<Wrong> for Wrongs {
    fn from(wrong: Wrong) -> Self {
        Self(vec![wrong])
    }
}

/// All entries of a value, or what is wrong with each that cannot be read.
pub(super) fn all<T>(entries: impl Iterator<Item = Result<T, Wrong>>) -> Result<Vec<T>, Wrongs> {
    let (mut read, mut wrong) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            Ok(entry) => read.push(entry),
            Err(problem) => wrong.push(problem),
        }
        if wrong.len() == MOST {
            break;
        }
    }
    if wrong.is_empty() { Ok(read) } else { Err(Wrongs(wrong)) }
}

/// The annotations while options are taken from them.
pub(super) struct Reader<'a> {
    resource: &'a ResourceRef,
    annotations: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        resource: &'a ResourceRef,
        annotations: &'a BTreeMap<String, String>,
    ) -> Self {
        Self { resource, annotations, problems: Vec::new(), warnings: Vec::new() }
    }

    /// What was wrong, and what is read but probably not what was meant.
    pub(super) fn into_problems(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.problems, self.warnings)
    }
}

impl Reader<'_> {
    /// The value of an annotation; a problem if it cannot be read.
    pub(super) fn read<T, E: Into<Wrongs>>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(self.annotations.get(key)?.trim()) {
            Ok(value) => Some(value),
            Err(wrong) => {
                wrong.into().0.iter().for_each(|wrong| self.refuse(key, wrong));
                None
            }
        }
    }

    /// Warns of what other servers would fill in, and we send as it is written.
    pub(super) fn warn_of_variables(&mut self, key: &str, remedy: &str) {
        let Some(variable) = self.annotations.get(key).and_then(|text| variable(text)) else {
            return;
        };
        let Wrong { message, remedy } =
            Wrong::new(format!("`{variable}` in it is not filled in, but sent as it is"), remedy);
        self.warnings.push(Problem::new(annotation_path(key), message, remedy));
    }

    /// Whether there is such an annotation.
    pub(super) fn has(&self, key: &str) -> bool {
        self.annotations.contains_key(key)
    }

    fn refuse(&mut self, key: &str, Wrong { message, remedy }: &Wrong) {
        self.problems.push(Problem::new(annotation_path(key), message, remedy));
    }

    /// An annotation that says nothing without another one.
    pub(super) fn only_with(&mut self, key: &str, other: &str) {
        if self.has(key) && !self.has(other) {
            let message = format!("it says nothing without `{other}`");
            self.refuse(key, &Wrong::new(message, format!("Write `{other}`, too, or remove it.")));
        }
    }

    /// An annotation that contradicts another one.
    pub(super) fn without(&mut self, key: &str, other: &str) {
        if self.has(key) && self.has(other) {
            let message = format!("it cannot stand beside `{other}`");
            self.refuse(key, &Wrong::new(message, "Keep one of the two."));
        }
    }

    pub(super) fn field(&self, key: &str) -> FieldRef {
        FieldRef::new(self.resource.clone(), annotation_path(key))
    }
}

/// The first thing in a text that looks like a variable: `$1`, `$host`, `${x}`.
fn variable(text: &str) -> Option<&str> {
    text.match_indices('$').find_map(|(at, _)| {
        let variable = text.get(at..)?;
        let name = variable.get(1..)?;
        if let Some(braced) = name.strip_prefix('{') {
            return variable.get(..braced.find('}')? + 3);
        }
        let of_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let length = name.find(|character| !of_name(character)).unwrap_or(name.len());
        let begins =
            name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
        begins.then(|| variable.get(..=length)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn a_dollar_sign_before_a_name_looks_like_a_variable() {
        for (text, expected) in [
            ("https://a.test/$1", Some("$1")),
            ("x: $host", Some("$host")),
            ("$request_uri;$b", Some("$request_uri")),
            ("a ${b} c", Some("${b}")),
            ("$$x", Some("$x")),
            ("$", None),
            ("$$", None),
            ("a$ b", None),
            ("US$", None),
            ("${", None),
            ("$\u{e9}", None),
        ] {
            assert_eq!(variable(text), expected, "{text}");
        }
    }
}
