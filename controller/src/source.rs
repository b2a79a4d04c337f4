//! Where resources come from. Every source gives nothing before it has read everything once.

pub mod cluster;
pub mod directory;
