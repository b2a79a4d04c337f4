//! What an error comes down to.

use std::error::Error;

use kube::core::Status;

/// The innermost cause, which is what a person can act on.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The verb that the API server says we may not use, if that is what it says:
/// `… User "…" cannot VERB resource "…" in API group "…" …`.
pub(crate) fn missing_verb(status: &Status) -> Option<&str> {
    let (_, rest) = (status.code == 403).then(|| status.message.split_once(" cannot "))??;
    rest.split_once(" resource ").map(|(verb, _)| verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_is_missing_only_if_the_api_server_says_so() {
        let said = r#"events is forbidden: User "system:serviceaccount:whygate:a" cannot create resource "events" in API group "" in the namespace "shop""#;
        let status = |code, message: &str| {
            let message = message.to_owned();
            Status { code, message, ..Status::default() }
        };
        assert_eq!(missing_verb(&status(403, said)), Some("create"));
        assert_eq!(missing_verb(&status(409, said)), None);
        assert_eq!(missing_verb(&status(403, "exceeded quota: cannot have more")), None);
    }
}
