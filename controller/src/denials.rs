//! From counted refusals to what a person reads: aggregate, then publish as Events; and the last hour
//! of each policy, summed over the replicas, for its status.

pub mod aggregate;
pub mod budget;
pub mod collect;
pub mod digest;
pub mod exchange;
pub mod findings;
pub mod hour;
pub mod message;
pub mod page;
pub mod publish;
pub mod recorder;
pub mod terminal;
