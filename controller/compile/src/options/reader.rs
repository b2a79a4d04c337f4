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

/// The annotations while options are taken from them.
pub(super) struct Reader<'a> {
    resource: &'a ResourceRef,
    annotations: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        resource: &'a ResourceRef,
        annotations: &'a BTreeMap<String, String>,
    ) -> Self {
        Self { resource, annotations, problems: Vec::new() }
    }

    /// What was wrong.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

impl Reader<'_> {
    /// The value of an annotation; a problem if it cannot be read.
    pub(super) fn read<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        match parse(self.annotations.get(key)?.trim()) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.refuse(key, &wrong);
                None
            }
        }
    }

    fn refuse(&mut self, key: &str, Wrong { message, remedy }: &Wrong) {
        self.problems.push(Problem::new(annotation_path(key), message, remedy));
    }

    /// An annotation that says nothing without another one.
    pub(super) fn only_with(&mut self, key: &str, other: &str) {
        if self.annotations.contains_key(key) && !self.annotations.contains_key(other) {
            let message = format!("it says nothing without `{other}`");
            self.refuse(key, &Wrong::new(message, format!("Write `{other}`, too, or remove it.")));
        }
    }

    /// An annotation that contradicts another one.
    pub(super) fn without(&mut self, key: &str, other: &str) {
        if self.annotations.contains_key(key) && self.annotations.contains_key(other) {
            let message = format!("it cannot stand beside `{other}`");
            self.refuse(key, &Wrong::new(message, "Keep one of the two."));
        }
    }

    pub(super) fn field(&self, key: &str) -> FieldRef {
        FieldRef::new(self.resource.clone(), annotation_path(key))
    }
}
