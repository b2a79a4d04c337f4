//! Flags of the access log.

use std::{num::NonZeroU32, path::PathBuf};

use clap::{ArgAction, Args, ValueEnum};

use super::parse::from_one;

/// What the access log looks like, and where it goes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Access log")]
pub struct AccessLogFlags {
    /// A line for each exchange that has ended: `off`, or in which form
    #[arg(
        long,
        value_enum,
        value_name = "FORM",
        env = "WHYGATE_ACCESS_LOG",
        default_value = "off"
    )]
    pub access_log: AccessLogForm,

    /// Tell one of so many exchanges that went well; what was refused, failed or broke off is told
    /// always, up to a hundred a second of each thread
    #[arg(long, value_name = "N", env = "WHYGATE_ACCESS_LOG_ONE_IN", value_parser = from_one::<NonZeroU32>, default_value = "1")]
    pub access_log_one_in: NonZeroU32,

    /// The file to append it to. Default: standard output
    #[arg(long, value_name = "FILE", env = "WHYGATE_ACCESS_LOG_FILE")]
    pub access_log_file: Option<PathBuf>,

    /// Tell queries, too, which may hold secrets
    #[arg(long, env = "WHYGATE_ACCESS_LOG_QUERIES", action = ArgAction::SetTrue)]
    pub access_log_queries: bool,
}

/// The value of `--access-log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessLogForm {
    /// No line at all.
    Off,
    /// For programs: one object a line.
    Json,
    /// For people.
    Text,
}

impl AccessLogFlags {
    /// Of how many exchanges that went well one is told; `None` if none is.
    pub fn one_in(&self) -> Option<NonZeroU32> {
        (self.access_log != AccessLogForm::Off).then_some(self.access_log_one_in)
    }
}
