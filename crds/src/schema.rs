//! From Rust types to the schemas of the API: one with our marks, which
//! [`crate::decode`] walks, and one without, which the API server is given.

use kube::core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter};
use schemars::{JsonSchema, generate::SchemaSettings, transform::AddNullable};
use serde_json::{Map, Value, json};

use crate::presence::{PRESENCE, Presence};

/// The key of the mark for "text, number or boolean"; never published.
pub(crate) const SCALAR: &str = "x-whygate-scalar";

/// The schema of a type, with the marks that only this crate reads.
pub(crate) fn marked<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(OptionalIntOrString)
        .into_generator()
        .into_root_schema_for::<T>();
    let mut schema = schema.to_value();
    tidy(&mut schema);
    schema
}

/// The schema of a type as the API server takes it.
///
/// With `keep_unknown` every object keeps the fields that the schema does not
/// know. The API server would drop them in silence, and a typing error in a rule
/// would become a policy without that rule.
pub(crate) fn published<T: JsonSchema>(keep_unknown: bool) -> Value {
    let mut schema = marked::<T>();
    publish(&mut schema, keep_unknown);
    schema
}

/// Removes what a derive adds and the API does not mean.
fn tidy(schema: &mut Value) {
    let Some(node) = schema.as_object_mut() else { return };
    node.remove("title");
    // A field is left out or it has a value; `null` would be a second way to leave it out.
    node.remove("nullable");
    if node.get("default").is_some_and(is_empty) {
        node.remove("default");
    }
    if let Some(format) = node.get_mut("format")
        && format.as_str().is_some_and(|format| format.starts_with("uint"))
    {
        *format = json!("int64");
    }
    if let Some(Value::String(description)) = node.get_mut("description") {
        *description = paragraphs(description);
    }
    if node.contains_key(PRESENCE) && !node.get("properties").is_none_or(has_untyped) {
        // The rewriter's `oneOf` says the same in words that help nobody.
        node.remove("oneOf");
    }
    for_each_child(node, &mut tidy);
}

fn has_untyped(properties: &Value) -> bool {
    properties.as_object().is_some_and(|all| all.values().any(|one| one.get("type").is_none()))
}

fn is_empty(default: &Value) -> bool {
    match default {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Joins the lines of each paragraph: the reader's terminal breaks them.
fn paragraphs(text: &str) -> String {
    let joined = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    text.split("\n\n").map(joined).collect::<Vec<_>>().join("\n\n")
}

fn publish(schema: &mut Value, keep_unknown: bool) {
    let Some(node) = schema.as_object_mut() else { return };
    node.remove(SCALAR);
    publish_presence(node);
    if keep_unknown && node.contains_key("properties") {
        node.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
    }
    for_each_child(node, &mut |child| publish(child, keep_unknown));
}

fn publish_presence(node: &mut Map<String, Value>) {
    let Some(mark) = node.remove(PRESENCE) else { return };
    let Ok(presence) = serde_json::from_value::<Presence>(mark) else { return };
    let Some(properties) = node.get("properties").and_then(Value::as_object) else { return };
    if !presence.is_visible_to_cel(properties) {
        return;
    }
    let rule = json!({ "rule": presence.cel(properties), "message": presence.message });
    let rules = node.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
    if let Some(rules) = rules.as_array_mut() {
        rules.push(rule);
    }
}

fn for_each_child(node: &mut Map<String, Value>, visit: &mut dyn FnMut(&mut Value)) {
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        properties.values_mut().for_each(&mut *visit);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = node.get_mut(key) {
            visit(child);
        }
    }
}
