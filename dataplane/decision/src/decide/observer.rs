//! Who listens to an evaluation, and what there is to hear.

use crate::{
    check::Outcome,
    policy::{Enforcement, Section},
    refs::{RouteName, Site},
};

/// One step of an evaluation, in the order in which it happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step<'a> {
    /// The route was found.
    Routed(&'a RouteName),
    /// One check was judged.
    Checked {
        /// The check.
        site: &'a Site,
        /// Which list its rule stands in.
        section: Section,
        /// Whether the rule blocks.
        enforcement: Enforcement,
        /// What it found.
        outcome: &'a Outcome,
    },
}

/// Who listens to an evaluation.
pub trait Observer {
    /// Hears one step.
    fn step(&mut self, step: Step<'_>);
}

/// Nobody listens.
impl Observer for () {
    fn step(&mut self, _: Step<'_>) {}
}
