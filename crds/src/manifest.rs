//! The custom resource definitions, as the files that are installed.

use kube::CustomResourceExt;
use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::{
    AccessPlan, AccessPlanSpec, AccessPlanStatus, AccessPolicy, AccessPolicySpec,
    AccessPolicyStatus, AccessSubscription, AccessSubscriptionSpec, AccessSubscriptionStatus,
    schema::published,
};

/// Number of the schema that these types describe; the installed definitions carry
/// it in the annotation [`SCHEMA_ANNOTATION`]. It grows with every field.
pub const SCHEMA: u32 = 4;

/// Annotation of a definition that holds its schema number.
pub const SCHEMA_ANNOTATION: &str = "whygate.dev/schema";

/// A file begins a document of its own, because Helm puts nothing between them.
const HEADER: &str = "---\n# Generated from the types in crds/src: change those, then run\n# `UPDATE=1 cargo test -p crds`.\n";

/// The definitions of all kinds: name of the file and its YAML.
pub fn manifests() -> Vec<(&'static str, String)> {
    definitions().into_iter().map(|(file, definition)| (file, yaml(&definition))).collect()
}

fn definitions() -> Vec<(&'static str, Value)> {
    vec![
        ("accesspolicies.yaml", definition::<AccessPolicy, AccessPolicySpec, AccessPolicyStatus>()),
        ("accessplans.yaml", definition::<AccessPlan, AccessPlanSpec, AccessPlanStatus>()),
        (
            "accesssubscriptions.yaml",
            definition::<AccessSubscription, AccessSubscriptionSpec, AccessSubscriptionStatus>(),
        ),
    ]
}

/// What kube derives, with our schemas in the place of its own.
fn definition<K: CustomResourceExt, Spec: JsonSchema, Status: JsonSchema>() -> Value {
    let mut definition = json!(K::crd());
    if let Some(metadata) = definition.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("annotations".to_owned(), json!({ SCHEMA_ANNOTATION: SCHEMA.to_string() }));
    }
    let root = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties");
    if let Some(properties) = root.and_then(Value::as_object_mut) {
        properties.insert("spec".to_owned(), published::<Spec>(true));
        properties.insert("status".to_owned(), published::<Status>(false));
    }
    definition
}

/// YAML of a JSON value. JSON values have no part that YAML cannot write.
fn yaml(definition: &Value) -> String {
    let text = serde_saphyr::to_string(definition).unwrap_or_default();
    format!("{HEADER}{text}")
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

    use super::*;
    use crate::pattern;

    /// Calls `judge` with every schema below the `spec` of every kind.
    fn for_each_schema(judge: &mut dyn FnMut(&str, &Value)) {
        for (file, definition) in definitions() {
            let properties = "/spec/versions/0/schema/openAPIV3Schema/properties";
            let spec = definition.pointer(&format!("{properties}/spec")).unwrap();
            visit(&format!("{file} spec"), spec, judge);
        }
    }

    fn visit(place: &str, schema: &Value, judge: &mut dyn FnMut(&str, &Value)) {
        judge(place, schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            visit(&format!("{place}.{name}"), property, judge);
        }
        for key in ["items", "additionalProperties"] {
            if let Some(child) = schema.get(key) {
                visit(&format!("{place}.{key}"), child, judge);
            }
        }
    }

    /// Demands that no schema below a `spec` is at fault; `fault` picks those that are.
    #[track_caller]
    fn check_no_schema(fault: impl Fn(&Value) -> bool) {
        let mut found = Vec::new();
        for_each_schema(&mut |place, schema| {
            if fault(schema) {
                found.push(place.to_owned());
            }
        });
        assert_eq!(found, Vec::<String>::new());
    }

    /// Where the definitions lie: for kubectl, and for Helm.
    const FOLDERS: [&str; 2] = ["yaml", "../charts/whygate/crds"];

    #[test]
    fn generated_files_are_current() {
        for folder in FOLDERS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            let mut files = Vec::new();
            for (file, expected) in manifests() {
                let path = folder.join(file);
                if env::var_os("UPDATE").is_some() {
                    fs::write(&path, &expected).unwrap();
                }
                let found = fs::read_to_string(&path).unwrap_or_default();
                let path = path.display();
                assert!(found == expected, "{path} is stale: run `UPDATE=1 cargo test -p crds`");
                files.push(file.to_owned());
            }
            let found = fs::read_dir(&folder).unwrap();
            let mut found: Vec<_> =
                found.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
            files.sort();
            found.sort();
            assert_eq!(found, files, "{} holds what nobody generates", folder.display());
        }
    }

    #[test]
    fn generated_yaml_reads_back_as_the_definition_it_was_made_from() {
        for ((file, text), (_, definition)) in manifests().into_iter().zip(definitions()) {
            let read: CustomResourceDefinition = serde_saphyr::from_str(&text).unwrap();
            let made: CustomResourceDefinition = serde_json::from_value(definition).unwrap();
            assert_eq!(read, made, "{file}");
        }
    }

    #[test]
    fn every_object_below_spec_keeps_unknown_fields_and_no_map_does() {
        check_no_schema(|schema| {
            let keeps = schema["x-kubernetes-preserve-unknown-fields"] == json!(true);
            match schema["type"].as_str() {
                Some("object") => keeps == schema.get("additionalProperties").is_some(),
                Some(_) => keeps,
                None => !keeps,
            }
        });
    }

    #[test]
    fn every_text_and_list_below_spec_has_a_limit() {
        check_no_schema(|schema| match schema["type"].as_str() {
            Some("array") => schema.get("maxItems").is_none(),
            Some("string") => {
                ["maxLength", "enum"].iter().all(|limit| schema.get(limit).is_none())
                    && schema["format"] != "date-time"
            }
            _ => false,
        });
    }

    #[test]
    fn every_field_has_a_description() {
        check_no_schema(|schema| {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties.into_iter().any(|(_, field)| field["description"].as_str().is_none())
        });
    }

    #[test]
    fn every_pattern_is_explained_in_words() {
        check_no_schema(|schema| {
            schema["pattern"].as_str().is_some_and(|pattern| pattern::form(pattern) == pattern)
        });
    }

    #[test]
    fn no_mark_of_ours_is_published() {
        assert!(manifests().iter().all(|(_, text)| !text.contains("x-whygate")));
    }
}
