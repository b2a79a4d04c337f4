//! From counted refusals to Events that a person reads: aggregate, then publish.

pub mod aggregate;
pub mod budget;
pub mod collect;
pub mod findings;
pub mod message;
pub mod publish;
pub mod terminal;
