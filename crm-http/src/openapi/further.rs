//! What an operation needs beside its permission, said in its words and repeated for programs:
//! "Also needs `deals.read` and `deals.delete`.", "Also needs `deals.update` when `mode` is `upsert`."

use serde_json::{Map, Value, json};

/// The member of an operation.
const NAME: &str = "x-further-permissions";
/// What a sentence about it begins with.
const BEGIN: &str = "Also needs `";

/// Repeats what the words of an operation say that it also needs: a list of objects with a
/// `permission`, and `when` it is needed unless that is always.
pub(super) fn declare(operation: &mut Map<String, Value>) {
    let words = operation.get("description").and_then(Value::as_str);
    let further = further_in(words.unwrap_or_default());
    if !further.is_empty() {
        operation.insert(NAME.into(), Value::Array(further));
    }
}

fn further_in(words: &str) -> Vec<Value> {
    // Words of handlers are wrapped.
    let words: Vec<&str> = words.split_whitespace().collect();
    let words = words.join(" ");
    let mut further = Vec::new();
    for (at, _) in words.match_indices(BEGIN) {
        let rest = &words[at + BEGIN.len() - 1..];
        let sentence = rest.split(". ").next().unwrap_or_default();
        let sentence = sentence.trim_end_matches('.');
        let (permissions, when) = match sentence.split_once(" when ") {
            Some((permissions, when)) => (permissions, Some(when)),
            None => (sentence, None),
        };
        further.extend(permissions.split('`').skip(1).step_by(2).map(|permission| {
            let mut one = json!({ "permission": permission });
            if let Some(when) = when {
                one["when"] = json!(when);
            }
            one
        }));
    }
    further
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_also_needed_is_read_from_the_words() {
        assert!(further_in("A list. Permission: `deals.read`.").is_empty());
        assert_eq!(
            further_in("Also needs `a.read` and\n`a.delete`. Permission: `a.update`."),
            [
                json!({"permission": "a.read"}),
                json!({"permission": "a.delete"})
            ]
        );
        assert_eq!(
            further_in(
                "Also needs `*.*`. It is so. Also needs `a.update` when `mode` is `upsert`."
            ),
            [
                json!({"permission": "*.*"}),
                json!({"permission": "a.update", "when": "`mode` is `upsert`"}),
            ]
        );
    }
}
