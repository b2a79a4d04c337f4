//! Where in a manifest a value stands.

use std::fmt;

/// The place of a value, as a chain back to the root.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Entry(usize),
}

impl<'a> Place<'a> {
    /// The whole manifest.
    pub(crate) fn root() -> Self {
        Self { parent: None, step: Step::Root }
    }

    /// A field of the object here.
    pub(crate) fn field(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Field(name) }
    }

    /// An entry of the list here.
    pub(crate) fn entry(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Entry(index) }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else { return formatter.write_str("manifest") };
        if parent.parent.is_some() {
            parent.fmt(formatter)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Entry(index) => write!(formatter, "[{index}]"),
            Step::Field(name) if parent.parent.is_none() => formatter.write_str(name),
            Step::Field(name) => write!(formatter, ".{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_spelled_like_the_path_of_a_field() {
        let root = Place::root();
        let spec = root.field("spec");
        let require = spec.field("require");
        let entry = require.entry(0);
        let places = [root, spec, entry.field("ip")].map(|place| place.to_string());
        assert_eq!(places, ["manifest", "spec", "spec.require[0].ip"]);
    }
}
