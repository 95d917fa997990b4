//! What settings that are there say otherwise than those that are wanted.

use serde::Serialize;
use serde_json::Value;

/// One line for each value that differs, by its path in the TOML.
pub fn differences<T: Serialize>(there: &T, wanted: &T) -> Vec<String> {
    let tree = |settings: &T| serde_json::to_value(settings).unwrap_or_default();
    let mut differences = Vec::new();
    compare(String::new(), Some(&tree(there)), Some(&tree(wanted)), &mut differences);
    differences
}

fn compare(key: String, is: Option<&Value>, wanted: Option<&Value>, differences: &mut Vec<String>) {
    match (is, wanted) {
        (Some(Value::Object(is)), Some(Value::Object(wanted))) => {
            let keys = is.keys().chain(wanted.keys().filter(|key| !is.contains_key(*key)));
            for inner in keys {
                let path = if key.is_empty() { inner.clone() } else { format!("{key}.{inner}") };
                compare(path, is.get(inner), wanted.get(inner), differences);
            }
        }
        (Some(Value::Array(is)), Some(Value::Array(wanted))) if is.iter().chain(wanted).any(Value::is_object) => {
            for place in 0..is.len().max(wanted.len()) {
                compare(format!("{key}[{place}]"), is.get(place), wanted.get(place), differences);
            }
        }
        (Some(is), Some(wanted)) if is != wanted => differences.push(format!("{key} is {is}, not {wanted}")),
        (Some(_), None) => differences.push(format!("{key} is there, and is not wanted")),
        (None, Some(_)) => differences.push(format!("{key} is not there")),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_value_that_differs_is_named_with_its_place() {
        let there =
            json!({ "site": "a", "meter": [{ "scale": 1 }, { "scale": 2 }], "phases": ["L1"], "old": { "x": 1 } });
        let wanted =
            json!({ "site": "a", "meter": [{ "scale": 1 }, { "scale": 3 }], "phases": ["L2"], "new": { "x": 1 } });
        let mut found = differences(&there, &wanted);
        found.sort();
        let expected = [
            "meter[1].scale is 2, not 3",
            "new is not there",
            "old is there, and is not wanted",
            "phases is [\"L1\"], not [\"L2\"]",
        ];
        assert_eq!(found, expected);
        assert!(differences(&there, &there).is_empty());
    }
}
