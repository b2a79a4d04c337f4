//! `whygate code CODE`: the page of one refusal, or of one reason of findings.

use std::process::ExitCode;

use clap::Args;

use crate::{output, pages};

const EXAMPLES: &str = "\
Examples:
  whygate code
  whygate code AddressNotAllowed";

/// Explain a code of a refusal, or the reason of a finding
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
        if let Some(page) = pages::find(&asked) {
            output::text(&page);
            return ExitCode::SUCCESS;
        }
        output::error(&unknown(&asked));
        ExitCode::FAILURE
    }
}

fn unknown(asked: &str) -> String {
    let shown = decision::escape::quoted(asked, 64);
    match crds::nearest(asked, &pages::names()) {
        Some(name) => format!("{shown} is neither a code nor a reason; did you mean `{name}`?"),
        None => format!("{shown} is neither a code nor a reason; `whygate code` lists all of them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_told_what_was_meant() {
        assert!(unknown("AddressesNotAllowed").ends_with("did you mean `AddressNotAllowed`?"));
        assert!(unknown("SecretsMissing").ends_with("did you mean `SecretMissing`?"));
        assert!(unknown("Teapot").contains("`whygate code`"));
    }
}
