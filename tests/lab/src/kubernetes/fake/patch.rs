//! Patches, as far as agents make them: of the conditions of a node, and JSON patches (RFC 6902).

use serde_json::Value;

/// A test of a JSON patch does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TestFailed;

/// Changes the object. A list is a JSON patch; whatever else there is, a strategic merge patch of `status.conditions`.
pub(super) fn apply(object: &mut Value, patch: &Value) -> Result<(), TestFailed> {
    match patch.as_array() {
        Some(operations) => operations.iter().try_for_each(|operation| operate(object, operation)),
        None => {
            merge_conditions(object, &patch["status"]["conditions"]);
            Ok(())
        }
    }
}

fn operate(object: &mut Value, operation: &Value) -> Result<(), TestFailed> {
    let path = operation["path"].as_str().unwrap();
    let (parent, key) = path.rsplit_once('/').unwrap();
    match operation["op"].as_str().unwrap() {
        "test" => {
            let there = object.pointer(path).cloned().unwrap_or_default();
            if there == operation["value"] { Ok(()) } else { Err(TestFailed) }
        }
        "add" => {
            object.pointer_mut(parent).ok_or(TestFailed)?[key] = operation["value"].clone();
            Ok(())
        }
        "remove" => {
            let parent = object.pointer_mut(parent).and_then(Value::as_array_mut).ok_or(TestFailed)?;
            parent.remove(key.parse().unwrap());
            Ok(())
        }
        other => unreachable!("{other}"),
    }
}

/// A list whose key is `type`.
fn merge_conditions(object: &mut Value, conditions: &Value) {
    let mut all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for new in conditions.as_array().unwrap() {
        let at = all.iter().position(|old| old["type"] == new["type"]);
        let mut merged = at.map_or_else(|| Value::Object(serde_json::Map::new()), |at| all.remove(at));
        for (key, value) in new.as_object().unwrap() {
            merged[key] = value.clone();
        }
        all.push(merged);
    }
    object["status"]["conditions"] = all.into();
}
