//! The documentation of refusals: one page a code, from the catalogue itself.

use std::fmt::Write;

use decision::code::{Code, Fault};

/// All codes with their status, a line each.
pub fn list() -> String {
    let width = Code::ALL.iter().map(|code| code.as_str().len()).max().unwrap_or_default();
    let line = |code: &Code| {
        format!(
            "{:width$}  {}  {}\n",
            code.as_str(),
            code.status().as_u16(),
            code.client_sentence()
        )
    };
    Code::ALL.iter().map(line).collect()
}

/// The page of one code, in Markdown.
pub fn page(code: Code) -> String {
    let mut page = format!("# {code}\n\n");
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "{}\n\n- Status: {}\n- {}\n- The client may hear: \"{}\"\n\nWhat to do: {}\n",
        code.meaning(),
        status(code),
        fault(code.fault()),
        code.client_sentence(),
        code.remedy(),
    );
    page
}

/// Every page as one document.
pub fn document() -> String {
    let mut text = String::from(
        "<!-- Generated from the catalogue of codes: `UPDATE=1 cargo test -p controller`. -->\n\n\
         # Refusals, code by code\n\n\
         A response that is not the upstream's carries its code in `whygate-denial-code`, as far as the\n\
         policy discloses it. The same word is the reason of Events, the field of log lines and the\n\
         label of metrics. `whygate code CODE` prints one of these pages.\n",
    );
    for code in Code::ALL {
        text.push('\n');
        text.push('#');
        text.push_str(&page(*code));
    }
    text
}

fn status(code: Code) -> String {
    let status = code.status();
    let reason = status.canonical_reason().unwrap_or_default();
    format!("{} {reason}", status.as_u16())
}

fn fault(fault: Fault) -> &'static str {
    match fault {
        Fault::Client => "Who can act: the client, or the owner of the policy",
        Fault::Upstream => "Who can act: the owner of the service behind the route",
        Fault::Us => "Who can act: the owner of the manifests, or the operator of the gateway",
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    #[test]
    fn the_document_of_all_codes_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/codes.md");
        let expected = document();
        if env::var_os("UPDATE").is_some() {
            fs::write(&path, &expected).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "run `UPDATE=1 cargo test -p controller`");
    }

    #[test]
    fn every_code_is_listed_and_has_a_page() {
        let list = list();
        for code in Code::ALL {
            assert!(list.contains(code.as_str()), "{code}");
            assert!(page(*code).contains(code.remedy()), "{code}");
        }
    }
}
