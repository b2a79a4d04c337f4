//! A schema, read once, in the form in which values are held against it.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use crate::{
    presence::{PRESENCE, Presence},
    schema::SCALAR,
};

/// What a value must be.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A text.
    Text(TextShape),
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Text of at most this many characters, a number or a boolean.
    Scalar(u64),
    /// A list.
    List(ListShape),
    /// An object with known fields.
    Object(ObjectShape),
    /// An object with any names and values of one shape.
    Map(Box<Shape>),
    /// Anything: the schema says nothing that we could judge.
    Any,
}

/// Limits of a text; lengths in characters.
#[derive(Debug)]
pub(crate) struct TextShape {
    pub(crate) shortest: u64,
    pub(crate) longest: Option<u64>,
    pub(crate) pattern: Option<Regex>,
    /// Every allowed text; empty if there is no such list.
    pub(crate) choices: Vec<String>,
    pub(crate) format: Option<Format>,
}

/// Formats that a text can have besides a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Cidr,
    DateTime,
}

/// Limits of a list.
#[derive(Debug)]
pub(crate) struct ListShape {
    pub(crate) item: Box<Shape>,
    pub(crate) fewest: u64,
    pub(crate) most: Option<u64>,
    pub(crate) unique: Unique,
}

/// What may not occur twice in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unique {
    Nothing,
    /// The entries themselves.
    Entries,
    /// This field of the entries.
    Key(String),
}

/// Fields of an object.
#[derive(Debug)]
pub(crate) struct ObjectShape {
    pub(crate) fields: BTreeMap<String, Shape>,
    pub(crate) required: Vec<String>,
    pub(crate) presence: Option<Presence>,
}

impl Shape {
    /// The shape that a marked schema describes.
    pub(crate) fn of(schema: &Value) -> Self {
        if let Some(limits) = schema.get(SCALAR) {
            return Self::Scalar(number(limits, "maxLength").unwrap_or(u64::MAX));
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => Self::Text(TextShape::of(schema)),
            Some("integer") => Self::Integer,
            Some("boolean") => Self::Boolean,
            Some("array") => Self::List(ListShape::of(schema)),
            Some("object") => object(schema),
            _ => Self::Any,
        }
    }
}

fn object(schema: &Value) -> Shape {
    if let Some(values) = schema.get("additionalProperties") {
        return Shape::Map(Box::new(Shape::of(values)));
    }
    schema.get("properties").and_then(Value::as_object).map_or(Shape::Any, |properties| {
        Shape::Object(ObjectShape {
            fields: fields(properties),
            required: texts(schema, "required"),
            presence: schema
                .get(PRESENCE)
                .and_then(|mark| serde_json::from_value(mark.clone()).ok()),
        })
    })
}

fn fields(properties: &Map<String, Value>) -> BTreeMap<String, Shape> {
    properties.iter().map(|(name, schema)| (name.clone(), Shape::of(schema))).collect()
}

impl TextShape {
    fn of(schema: &Value) -> Self {
        let text = |key| schema.get(key).and_then(Value::as_str);
        Self {
            shortest: number(schema, "minLength").unwrap_or(0),
            longest: number(schema, "maxLength"),
            pattern: text("pattern").and_then(|pattern| Regex::new(pattern).ok()),
            choices: texts(schema, "enum"),
            format: match text("format") {
                Some("cidr") => Some(Format::Cidr),
                Some("date-time") => Some(Format::DateTime),
                _ => None,
            },
        }
    }
}

impl ListShape {
    fn of(schema: &Value) -> Self {
        Self {
            item: Box::new(schema.get("items").map_or(Shape::Any, Shape::of)),
            fewest: number(schema, "minItems").unwrap_or(0),
            most: number(schema, "maxItems"),
            unique: unique(schema),
        }
    }
}

fn unique(schema: &Value) -> Unique {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => Unique::Entries,
        Some("map") => texts(schema, "x-kubernetes-list-map-keys")
            .into_iter()
            .next()
            .map_or(Unique::Nothing, Unique::Key),
        _ => Unique::Nothing,
    }
}

fn number(schema: &Value, key: &str) -> Option<u64> {
    schema.get(key).and_then(Value::as_u64)
}

fn texts(schema: &Value, key: &str) -> Vec<String> {
    let items = schema.get(key).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AccessPlanSpec, AccessPolicySpec, AccessSubscriptionSpec, schema::marked};

    /// Whether nothing in the shape is left unjudged.
    fn is_judged(shape: &Shape) -> bool {
        match shape {
            Shape::Any => false,
            Shape::List(list) => is_judged(&list.item),
            Shape::Map(values) => is_judged(values),
            Shape::Object(object) => object.fields.values().all(is_judged),
            Shape::Text(_) | Shape::Integer | Shape::Boolean | Shape::Scalar(_) => true,
        }
    }

    #[test]
    fn no_part_of_a_spec_is_left_unjudged() {
        let specs = [
            marked::<AccessPolicySpec>(),
            marked::<AccessPlanSpec>(),
            marked::<AccessSubscriptionSpec>(),
        ];
        assert_eq!(specs.map(|schema| is_judged(&Shape::of(&schema))), [true; 3]);
    }

    /// Counts keywords of a schema and what became of them in its shape.
    #[test]
    fn every_pattern_and_presence_of_a_policy_is_read() {
        fn count(shape: &Shape) -> usize {
            match shape {
                Shape::Text(text) => usize::from(text.pattern.is_some()),
                Shape::List(list) => count(&list.item),
                Shape::Map(values) => count(values),
                Shape::Object(object) => {
                    let fields: usize = object.fields.values().map(count).sum();
                    fields + usize::from(object.presence.is_some())
                }
                Shape::Any | Shape::Integer | Shape::Boolean | Shape::Scalar(_) => 0,
            }
        }
        let schema = marked::<AccessPolicySpec>();
        let text = schema.to_string();
        let keywords = text.matches("\"pattern\":").count() + text.matches(PRESENCE).count();
        assert_eq!(count(&Shape::of(&schema)), keywords);
    }
}
