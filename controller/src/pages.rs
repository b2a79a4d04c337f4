//! The documentation of refusals and findings: one page a code or reason, from the catalogue itself.

mod reasons;

use std::fmt::Write;

use compile::finding::Reason;
use decision::code::{Code, Fault};

/// Every word that has a page; some are both a code and a reason.
pub fn names() -> Vec<&'static str> {
    let codes = Code::ALL.iter().map(|code| code.as_str());
    let reasons = reasons::all().map(Reason::as_str);
    codes.chain(reasons).collect()
}

/// The page of a word, in Markdown; upper and lower case do not matter.
pub fn find(name: &str) -> Option<String> {
    let code = Code::ALL.iter().find(|code| code.as_str().eq_ignore_ascii_case(name));
    let reason = || reasons::all().find(|reason| reason.as_str().eq_ignore_ascii_case(name));
    code.map(|code| page(*code)).or_else(|| reason().map(reason_page))
}

/// All codes with their status and all reasons of findings, a line each.
pub fn list() -> String {
    let width = names().iter().map(|name| name.len()).max().unwrap_or_default();
    let line = |code: &Code| {
        format!(
            "{:width$}  {}  {}\n",
            code.as_str(),
            code.status().as_u16(),
            code.client_sentence()
        )
    };
    let mut list: String = Code::ALL.iter().map(line).collect();
    list.push_str("\nReasons of findings, in conditions, in Events and from `whygate check`:\n\n");
    for reason in reasons::all() {
        let meaning = reasons::explained(reason).meaning;
        let first = meaning.split_inclusive(". ").next().unwrap_or(meaning).trim_end();
        // Writing to a String cannot fail.
        let _ = writeln!(list, "{:width$}  {first}", reason.as_str());
    }
    list
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
    if let Some(reason) = reasons::all().find(|reason| reason.as_str() == code.as_str()) {
        let _ = write!(page, "\nAs the reason of a finding: {}", paragraph(reason));
    }
    page
}

/// The page of a reason that is no code.
fn reason_page(reason: Reason) -> String {
    format!("# {}\n\n{}", reason.as_str(), paragraph(reason))
}

fn paragraph(reason: Reason) -> String {
    let reasons::Explained { meaning, remedy } = reasons::explained(reason);
    format!("{meaning} What to do: {remedy}\n")
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
    text.push_str(
        "\n# Findings, reason by reason\n\n\
         A finding is about a manifest and stands in the conditions of the object, in an Event and in\n\
         what `whygate check` prints. Reasons that are codes, too, are explained above.\n",
    );
    let is_code = |reason: &Reason| Code::ALL.iter().any(|code| code.as_str() == reason.as_str());
    for reason in reasons::all().filter(|reason| !is_code(reason)) {
        text.push_str("\n#");
        text.push_str(&reason_page(reason));
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
    fn every_reason_of_a_finding_is_listed_and_has_a_paragraph() {
        let (list, document) = (list(), document());
        for reason in reasons::all() {
            let name = reason.as_str();
            let found = find(&name.to_lowercase()).unwrap();
            let remedy = reasons::explained(reason).remedy;
            assert!(found.contains(remedy) && document.contains(remedy), "{name}: {found}");
            assert!(list.contains(name), "{name}");
        }
        assert_eq!(reasons::all().count(), 15);
        assert_eq!(find("Nonsense"), None);
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
