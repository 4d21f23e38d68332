//! The JSON schema of the manifest, made from its types; `schemas/manifest.schema.json` is its copy.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::manifest::Manifest;

/// The schema as a JSON document (JSON Schema 2020-12).
#[must_use]
pub fn manifest_schema() -> Value {
    let mut schema = schemars::schema_for!(Manifest);
    schema.insert("title".into(), "Mentat agent manifest".into());
    sorted(schema.to_value())
}

/// With the keys of every object in order, whichever way the maps of this build keep them.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let keys: BTreeMap<String, Value> = map.into_iter().collect();
            keys.into_iter().map(|(key, value)| (key, sorted(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_is_what_the_types_make() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/manifest.schema.json");
        let made = serde_json::to_string_pretty(&manifest_schema()).unwrap() + "\n";
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            made == committed,
            "schemas/manifest.schema.json is stale; run the tests with UPDATE_EXPECT=1"
        );
    }
}
