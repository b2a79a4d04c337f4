//! Demands on which fields of an object are given, declared once for both readers:
//! the API server (as CEL) and [`crate::decode`].

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The key under which a schema carries its [`Presence`]; never published.
pub(crate) const PRESENCE: &str = "x-whygate-presence";

/// Which fields of an object must be given.
///
/// A list counts as given if it is not empty, a boolean if it is `true`.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub(crate) struct Presence {
    /// How many of the groups must be given.
    pub(crate) demand: Count,
    /// Fields; a group is given if one of its fields is.
    pub(crate) groups: Vec<Vec<String>>,
    /// What is wrong and what to do about it, for both readers.
    pub(crate) message: String,
}

/// How many groups must be given.
#[derive(Serialize, Deserialize, Debug, Clone, Copy)]
pub(crate) enum Count {
    /// One or more.
    AtLeastOne,
    /// One, no more.
    ExactlyOne,
}

/// Demands one or more of the fields.
pub(crate) fn at_least_one(fields: &[&str], message: &str) -> Presence {
    presence(Count::AtLeastOne, &[fields], message)
}

/// Demands fields of one group, and of no other.
pub(crate) fn exactly_one(groups: &[&[&str]], message: &str) -> Presence {
    presence(Count::ExactlyOne, groups, message)
}

fn presence(demand: Count, groups: &[&[&str]], message: &str) -> Presence {
    let owned = |group: &&[&str]| group.iter().map(|field| (*field).to_owned()).collect();
    Presence { demand, groups: groups.iter().map(owned).collect(), message: message.to_owned() }
}

impl Presence {
    /// Whether the object gives what is demanded.
    pub(crate) fn holds(&self, object: &Map<String, Value>) -> bool {
        let given = |group: &&Vec<String>| group.iter().any(|field| is_given(object.get(field)));
        let count = self.groups.iter().filter(given).count();
        match self.demand {
            Count::AtLeastOne => count > 0,
            Count::ExactlyOne => count == 1,
        }
    }

    /// The demand as a CEL expression over an object with these properties.
    pub(crate) fn cel(&self, properties: &Map<String, Value>) -> String {
        let group = |fields: &Vec<String>| {
            let terms: Vec<_> = fields.iter().map(|name| term(name, properties)).collect();
            terms.join(" || ")
        };
        let groups: Vec<_> = self.groups.iter().map(group).collect();
        match self.demand {
            Count::AtLeastOne => groups.join(" || "),
            Count::ExactlyOne => format!("[{}].exists_one(given, given)", groups.join(", ")),
        }
    }

    /// Whether CEL can see every field: it has no notion of one without a type.
    pub(crate) fn is_visible_to_cel(&self, properties: &Map<String, Value>) -> bool {
        let typed =
            |field| properties.get(field).is_some_and(|schema| schema.get("type").is_some());
        self.groups.iter().flatten().all(typed)
    }
}

fn is_given(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Bool(true) | Value::Number(_) | Value::String(_) | Value::Object(_)) => true,
    }
}

fn term(name: &str, properties: &Map<String, Value>) -> String {
    let kind = properties.get(name).and_then(|schema| schema.get("type")).and_then(Value::as_str);
    match kind {
        Some("array") => format!("(has(self.{name}) && size(self.{name}) > 0)"),
        Some("boolean") => format!("(has(self.{name}) && self.{name})"),
        _ => format!("has(self.{name})"),
    }
}
