//! Strict decoding: a manifest becomes a value, or every reason why it cannot.
//!
//! The API server keeps fields that it does not know (see [`crate::manifests`]) and
//! a directory of files has no API server at all, so everything that the schema
//! says is judged here, for all fields and not just the first wrong one.

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    AccessPlanSpec, AccessPolicySpec, AccessSubscriptionSpec,
    nearest::nearest,
    place::Place,
    schema::marked,
    shape::{ListShape, ObjectShape, Shape, Unique},
    text,
};

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Where, spelled like `spec.require[0].ip.cidrs[3]`. A missing field and an
    /// unknown field are named themselves; `manifest` is the whole.
    pub path: String,
    /// What is wrong and what to do about it: one sentence, lower case, without a
    /// final period.
    pub message: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.message)
    }
}

impl std::error::Error for DecodeError {}

/// How many errors are reported; a manifest with more of them is not read by a person.
const MOST: usize = 1000;

const MISSING: &str = "required, but missing";

/// Schemas of the specs by kind.
static SPECS: LazyLock<BTreeMap<&'static str, Shape>> = LazyLock::new(|| {
    BTreeMap::from([
        ("AccessPolicy", Shape::of(&marked::<AccessPolicySpec>())),
        ("AccessPlan", Shape::of(&marked::<AccessPlanSpec>())),
        ("AccessSubscription", Shape::of(&marked::<AccessSubscriptionSpec>())),
    ])
});

/// Decodes a manifest of one of our kinds.
///
/// The `status` is ours to write: one that cannot be read (a newer version wrote
/// it) is left out, and never a reason to refuse the object.
///
/// # Errors
///
/// Every unknown field, missing field, wrong type and broken limit of the schema,
/// up to 1000 of them; never an empty list. What relates several fields, or needs
/// more knowledge of networks than their form, is left to the compiler.
pub fn decode<K>(manifest: &Value) -> Result<K, Vec<DecodeError>>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let errors = errors::<K>(manifest);
    if !errors.is_empty() {
        return Err(errors);
    }
    K::deserialize(manifest).or_else(|_| typed(manifest))
}

fn errors<K: Resource<DynamicType = ()>>(manifest: &Value) -> Vec<DecodeError> {
    let mut walk = Walk::default();
    let Some(object) = manifest.as_object() else {
        walk.report(Place::root(), wrong_type("an object", manifest));
        return walk.errors;
    };
    walk.identity::<K>(object);
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
        walk.report(Place::root().field(&text::shown(name)), unknown(name, &known));
    }
    walk.metadata(object.get("metadata"));
    let root = Place::root();
    let path = root.field("spec");
    match (object.get("spec"), SPECS.get(&*K::kind(&()))) {
        (Some(spec), Some(shape)) => walk.value(path, spec, shape),
        (None, _) => walk.report(path, MISSING.to_owned()),
        (Some(_), None) => walk.report(path, "of a kind that has no schema here".to_owned()),
    }
    walk.errors
}

/// Decodes without the status. What the walk let through and the type refuses has
/// no path of its own.
fn typed<K: DeserializeOwned>(manifest: &Value) -> Result<K, Vec<DecodeError>> {
    let mut manifest = manifest.clone();
    if let Some(object) = manifest.as_object_mut() {
        object.remove("status");
    }
    serde_json::from_value(manifest)
        .map_err(|error| vec![DecodeError { path: "spec".to_owned(), message: error.to_string() }])
}

/// A walk along a value and its schema, collecting what does not fit.
#[derive(Default)]
struct Walk {
    errors: Vec<DecodeError>,
}

impl Walk {
    fn report(&mut self, path: Place<'_>, message: String) {
        if self.errors.len() >= MOST {
            return;
        }
        self.errors.push(DecodeError { path: path.to_string(), message });
    }

    /// Holds group, version and kind against those of the type.
    fn identity<K: Resource<DynamicType = ()>>(&mut self, object: &Map<String, Value>) {
        for (name, expected) in [("apiVersion", K::api_version(&())), ("kind", K::kind(&()))] {
            if object.get(name).and_then(Value::as_str) != Some(&expected) {
                self.report(Place::root().field(name), format!("must be `{expected}`"));
            }
        }
    }

    fn metadata(&mut self, metadata: Option<&Value>) {
        let fault = match metadata.map(ObjectMeta::deserialize) {
            Some(Ok(_)) => return,
            Some(Err(error)) => {
                format!("not the metadata of an object: {}", text::shown(&error.to_string()))
            }
            None => MISSING.to_owned(),
        };
        self.report(Place::root().field("metadata"), fault);
    }

    fn value(&mut self, path: Place<'_>, value: &Value, shape: &Shape) {
        let expected = match (shape, value) {
            (Shape::Text(shape), Value::String(value)) => {
                return text::faults(value, shape)
                    .into_iter()
                    .for_each(|fault| self.report(path, fault));
            }
            (Shape::Scalar(longest), Value::String(value)) => {
                return text::too_long(value, *longest)
                    .into_iter()
                    .for_each(|fault| self.report(path, fault));
            }
            (Shape::List(shape), Value::Array(items)) => return self.list(path, items, shape),
            (Shape::Object(shape), Value::Object(fields)) => {
                return self.object(path, fields, shape);
            }
            (Shape::Map(shape), Value::Object(fields)) => {
                return fields.iter().for_each(|(name, value)| {
                    self.value(path.field(&text::shown(name)), value, shape);
                });
            }
            (Shape::Integer, Value::Number(number)) if number.is_i64() => return,
            (Shape::Boolean, Value::Bool(_))
            | (Shape::Scalar(_), Value::Number(_) | Value::Bool(_))
            | (Shape::Any, _) => return,
            (Shape::Text(_), _) => "a text",
            (Shape::Integer, _) => "a whole number",
            (Shape::Boolean, _) => "`true` or `false`",
            (Shape::Scalar(_), _) => "a text, a number, `true` or `false`",
            (Shape::List(_), _) => "a list",
            (Shape::Object(_) | Shape::Map(_), _) => "an object",
        };
        self.report(path, wrong_type(expected, value));
    }

    fn object(&mut self, path: Place<'_>, object: &Map<String, Value>, shape: &ObjectShape) {
        let before = self.errors.len();
        for (name, value) in object {
            match shape.fields.get(name) {
                Some(shape) => self.value(path.field(name), value, shape),
                None => self.report(path.field(&text::shown(name)), unknown(name, &names(shape))),
            }
        }
        // Beside a misspelt name this would repeat, in vaguer words, what was said.
        if let Some(presence) = &shape.presence
            && before == self.errors.len()
            && !presence.holds(object)
        {
            self.report(path, presence.message.clone());
        }
        // Last: the first error explains a refusal, and a misspelt name explains what is missing.
        for name in shape.required.iter().filter(|name| !object.contains_key(*name)) {
            self.report(path.field(name), MISSING.to_owned());
        }
    }

    fn list(&mut self, path: Place<'_>, items: &[Value], shape: &ListShape) {
        let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
        if count < shape.fewest {
            self.report(path, format!("has {count} entries: give at least {}", shape.fewest));
        }
        if let Some(most) = shape.most.filter(|most| count > *most) {
            self.report(path, format!("has {count} entries: at most {most} are allowed"));
        }
        for (index, item) in items.iter().enumerate() {
            self.value(path.entry(index), item, &shape.item);
        }
        self.duplicates(path, items, &shape.unique);
    }

    fn duplicates(&mut self, path: Place<'_>, items: &[Value], unique: &Unique) {
        if items.len() < 2 {
            return;
        }
        let mut seen = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let identity = match unique {
                Unique::Nothing => return,
                Unique::Entries => item.as_str(),
                Unique::Key(key) => item.get(key).and_then(Value::as_str),
            };
            let Some(identity) = identity else { continue };
            let Some(first) = seen.insert(identity, index) else { continue };
            seen.insert(identity, first);
            let entry = path.entry(index);
            let place = if let Unique::Key(key) = unique { entry.field(key) } else { entry };
            let shown = text::shown(identity);
            self.report(place, format!("`{shown}` stands at [{first}] already: it must be unique"));
        }
    }
}

fn names(shape: &ObjectShape) -> Vec<&str> {
    shape.fields.keys().map(String::as_str).collect()
}

fn wrong_type(expected: &str, value: &Value) -> String {
    let found = match value {
        Value::Null => return format!("has no value: give {expected}, or leave the field out"),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => format!("the number `{number}`"),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    format!("must be {expected}, not {found}")
}

fn unknown(name: &str, known: &[&str]) -> String {
    let shown = text::shown(name);
    match nearest(name, known) {
        Some(nearest) => format!("unknown field `{shown}`: did you mean `{nearest}`?"),
        None => format!("unknown field `{shown}`: the fields here are `{}`", known.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::AccessPolicy;

    /// Fields and texts of policies, so that random values often fit in part.
    const WORDS: [&str; 22] = [
        "name",
        "ip",
        "cidrs",
        "jwt",
        "provider",
        "claims",
        "path",
        "equals",
        "oneOf",
        "anyOf",
        "methods",
        "subscription",
        "plans",
        "scopes",
        "all",
        "jwks",
        "inline",
        "secretRef",
        "GET",
        "60s",
        "Shadow",
        "10.0.0.0/8",
    ];

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            prop::sample::select(&WORDS[..]).prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 48, 6, |inner| {
            let name = prop::sample::select(&WORDS[..]).prop_map(str::to_owned);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// A valid policy with one part replaced by a random value.
    fn any_policy() -> impl Strategy<Value = Value> {
        let fields = [
            "/jwtProviders",
            "/require/0/jwt/claims",
            "/require/0/jwt",
            "/require",
            "/require/0/ip",
            "/onDeny",
            "/jwtProviders/0/jwks",
            "/require/0/jwt/claims/0",
        ];
        (prop::sample::select(fields.to_vec()), any_value()).prop_map(|(pointer, value)| {
            let mut spec = json!({
                "targetRefs": [{ "group": "networking.k8s.io", "kind": "Ingress", "name": "api" }],
                "require": [{ "name": "a", "ip": { "cidrs": [] }, "jwt": { "provider": "a", "claims": [{ "path": "sub", "equals": 1 }] } }],
                "jwtProviders": [{ "name": "a", "issuer": "a", "anyAudience": true, "jwks": { "inline": "{}" } }],
                "onDeny": {},
            });
            if let Some(place) = spec.pointer_mut(pointer) {
                *place = value;
            }
            json!({
                "apiVersion": "whygate.dev/v1alpha1", "kind": "AccessPolicy",
                "metadata": { "name": "a" }, "spec": spec,
            })
        })
    }

    proptest! {
        /// Otherwise the finding would have no path, and the user no place to look.
        #[test]
        fn what_the_schema_lets_through_the_type_accepts(manifest in any_policy()) {
            if errors::<AccessPolicy>(&manifest).is_empty() {
                let decoded = AccessPolicy::deserialize(&manifest);
                prop_assert!(decoded.is_ok(), "{decoded:?}");
            }
        }
    }
}
