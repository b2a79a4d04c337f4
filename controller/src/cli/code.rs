//! `whygate code CODE`: the page of one refusal.

use std::process::ExitCode;

use clap::Args;
use decision::code::Code as Refusal;

use crate::{output, pages};

const EXAMPLES: &str = "\
Examples:
  whygate code
  whygate code AddressNotAllowed";

/// Explain a code of a refusal
///
/// Without a code: lists all of them.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(super) struct Code {
    /// The code, as in the header whygate-denial-code or the reason of an Event
    code: Option<String>,
}

impl Code {
    pub(super) fn execute(self) -> ExitCode {
        let Some(asked) = self.code else {
            output::text(&pages::list());
            return ExitCode::SUCCESS;
        };
        let is_asked = |code: &&Refusal| code.as_str().eq_ignore_ascii_case(&asked);
        if let Some(code) = Refusal::ALL.iter().find(is_asked) {
            output::text(&pages::page(*code));
            return ExitCode::SUCCESS;
        }
        let shown = decision::escape::quoted(&asked, 64);
        output::error(&format!("{shown} is no code; `whygate code` lists all of them"));
        ExitCode::FAILURE
    }
}
