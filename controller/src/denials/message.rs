//! The sentence that stands in an Event: policy, rule, what was observed, what to do, one id.

use std::fmt::Write;

use dataplane::{DenialKey, DenialSample};
use decision::{
    escape::printable,
    refs::{FieldRef, Kind},
};

/// Longest message of an Event in bytes (core/v1 Event validation).
pub const LIMIT: usize = 1024;

/// What one sample adds to the key of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What was observed, without a final period.
    pub observed: String,
    /// What to do.
    pub remedy: String,
    /// The id of the last request that was seen.
    pub id: String,
}

impl Facts {
    /// Of a sample.
    pub fn of_sample(sample: &DenialSample) -> Self {
        Self {
            observed: sample.observed.clone(),
            remedy: sample.remedy.clone(),
            id: sample.id.to_string(),
        }
    }
}

/// The message for the Event of a group on one object. Never longer than [`LIMIT`].
///
/// Without facts, because every sample was dropped, the general words of the code stand in.
pub fn of_denial(key: &DenialKey, facts: Option<&Facts>, object: Kind) -> String {
    let head = head(key);
    let tail = tail(key, facts, object);
    let (observed, remedy) = match facts {
        Some(facts) => (facts.observed.as_str(), facts.remedy.as_str()),
        None => (key.code.meaning(), key.code.remedy()),
    };
    let middle = format!("{} {}", sentence(observed), remedy.trim_end_matches('.'));
    let room = LIMIT.saturating_sub(head.len() + tail.len());
    format!("{head}{}{tail}", cut(&middle, room))
}

/// The message for a problem in a manifest. Never longer than [`LIMIT`].
pub fn of_finding(field: &FieldRef, message: &str, remedy: &str) -> String {
    // What is about the object as a whole needs no place in it.
    let place = match &*field.path {
        "metadata.name" => String::new(),
        path => format!("{path}: "),
    };
    cut(&format!("{place}{} {}", sentence(message), sentence(remedy)), LIMIT)
}

/// `policy shop/office, rule office-or-vpn: `
fn head(key: &DenialKey) -> String {
    let mut head = String::new();
    if key.shadow {
        head.push_str("in shadow, passed: ");
    }
    let Some(policy) = &key.policy else { return head };
    // Writing to a String cannot fail.
    let _ = write!(head, "policy {}", policy.path());
    if let Some(rule) = &key.rule {
        let _ = write!(head, ", rule {rule}");
    }
    head.push_str(": ");
    cut(&head, LIMIT / 4)
}

/// `; route api.example.com/v1; last id 01K3…`
fn tail(key: &DenialKey, facts: Option<&Facts>, object: Kind) -> String {
    let mut tail = String::new();
    if let Some(route) = &key.route {
        let owner = if object == Kind::Ingress {
            String::new()
        } else {
            format!("{} ", route.field.resource)
        };
        tail = cut(&format!("; route {owner}{}{}", route.host, route.path), LIMIT / 4);
    }
    if let Some(facts) = facts {
        let _ = write!(tail, "; last id {}", facts.id);
    }
    tail
}

/// With its final period, and without a second one.
fn sentence(text: &str) -> String {
    compile::finding::sentence(text.trim_end_matches('.')).to_string()
}

/// At most `limit` bytes of a text, in printable characters; `…` shows that it was cut.
fn cut(text: &str, limit: usize) -> String {
    const MARK: char = '…';
    let clean = printable(text).to_string();
    if clean.len() <= limit {
        return clean;
    }
    let room = limit.saturating_sub(MARK.len_utf8());
    let mut short = String::with_capacity(limit);
    for character in clean.chars() {
        if short.len() + character.len_utf8() > room {
            break;
        }
        short.push(character);
    }
    short.push(MARK);
    short
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use decision::{
        code::Code,
        refs::{ResourceRef, RouteName},
    };

    use super::*;

    fn key() -> DenialKey {
        let ingress = ResourceRef::new(Kind::Ingress, "shop", "web");
        let policy = ResourceRef::new(Kind::AccessPolicy, "shop", "office");
        let field = FieldRef::new(ingress, "spec.rules[0].http.paths[0]");
        DenialKey {
            code: Code::AddressNotAllowed,
            route: Some(Arc::new(RouteName {
                field,
                host: "api.example.com".into(),
                path: "/v1".into(),
            })),
            policy: Some(policy.clone()),
            rule: Some("office-or-vpn".into()),
            field: Some(FieldRef::new(policy, "spec.require[0].ip.cidrs")),
            shadow: false,
            rest_of: None,
        }
    }

    fn facts(observed: String) -> Facts {
        Facts { observed, remedy: "Add it.".to_owned(), id: "01K3".to_owned() }
    }

    #[test]
    fn an_event_names_policy_rule_fact_remedy_and_id() {
        let facts = facts("203.0.113.9 is in none of 2 networks".to_owned());
        assert_eq!(
            of_denial(&key(), Some(&facts), Kind::Ingress),
            "policy shop/office, rule office-or-vpn: 203.0.113.9 is in none of 2 networks. Add it; \
             route api.example.com/v1; last id 01K3"
        );
        let on_policy = of_denial(&key(), Some(&facts), Kind::AccessPolicy);
        assert!(on_policy.contains("route Ingress shop/web api.example.com/v1"), "{on_policy}");
    }

    #[test]
    fn a_finding_on_the_whole_object_names_no_field() {
        let at = |path: &str| FieldRef::new(ResourceRef::new(Kind::Ingress, "shop", "web"), path);
        assert_eq!(
            of_finding(&at("metadata.name"), "it is open", "Close it."),
            "it is open. Close it."
        );
        assert_eq!(
            of_finding(&at("spec.tls"), "it is empty", "Fill it"),
            "spec.tls: it is empty. Fill it."
        );
        assert_eq!(
            of_finding(&at("spec.tl"), "did you mean `tls`?", "Correct it"),
            "spec.tl: did you mean `tls`? Correct it."
        );
    }

    #[test]
    fn the_longest_message_fits_and_keeps_its_id() {
        let message = of_denial(&key(), Some(&facts("é\u{1b}".repeat(2_000))), Kind::Ingress);
        assert!(message.len() <= LIMIT, "{}", message.len());
        assert!(message.ends_with("last id 01K3"), "{message}");
        assert!(!message.contains('\u{1b}'));
    }

    #[test]
    fn nothing_that_a_manifest_holds_turns_or_breaks_a_message() {
        let evil = "a\u{202e}\u{200b}\u{2066}\n\u{1b}[31mb";
        let policy = ResourceRef::new(Kind::AccessPolicy, evil, evil);
        let field = FieldRef::new(policy.clone(), evil);
        let name = RouteName { field: field.clone(), host: evil.into(), path: evil.into() };
        let key = DenialKey {
            route: Some(Arc::new(name)),
            policy: Some(policy),
            rule: Some(evil.into()),
            ..key()
        };
        let facts = facts(evil.to_owned());
        for message in [
            of_finding(&field, evil, evil),
            of_denial(&key, Some(&facts), Kind::Ingress),
            of_denial(&key, Some(&facts), Kind::AccessPolicy),
        ] {
            assert!(message.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{message:?}");
        }
    }

    #[test]
    fn a_group_without_a_sample_still_says_what_to_do() {
        let message = of_denial(&key(), None, Kind::Ingress);
        assert!(message.contains("Add the address with /32"), "{message}");
    }
}
