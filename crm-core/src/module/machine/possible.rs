//! Whether a field can have a value at all that compares as a state needs it, as far as its
//! declaration tells.

use std::cmp::Ordering::{Equal, Greater};

use chrono::DateTime;

use crate::clock::Clock;
use crate::module::{FieldSpec, FieldType};
use crate::record::{Comparison, compare};
use crate::value::Value;

/// Comparisons, each with whether it is to hold.
type Comparisons = [(Comparison, bool)];

/// Whether no value of the field meets these.
pub(super) fn is_never(field: &FieldSpec, by: &Comparisons) -> bool {
    let few = values(field, by);
    few.is_some_and(|values| !values.iter().any(|value| meets(field, by, value)))
        || is_empty_range(field, by)
}

/// All values that the field may have beside these comparisons, where they are few.
fn values(field: &FieldSpec, by: &Comparisons) -> Option<Vec<Value>> {
    let named = by.iter().find_map(|one| match one {
        (Comparison::Eq(value), true) => Some(vec![value.clone()]),
        (Comparison::In(values), true) => Some(values.clone()),
        (Comparison::IsNull, true) => Some(Vec::new()),
        _ => None,
    });
    let mut values = match &field.kind {
        FieldType::Enum { values } => values.iter().cloned().map(Value::Text).collect(),
        FieldType::Bool => vec![Value::Bool(false), Value::Bool(true)],
        _ => named?,
    };
    values.retain(|value| field.kind.admit(value.clone()).is_ok());
    if !field.required {
        values.push(Value::Null);
    }
    Some(values)
}

fn meets(field: &FieldSpec, by: &Comparisons, value: &Value) -> bool {
    // Of what the clock tells, nothing is known before it is asked.
    let (clock, _) = Clock::fixed(DateTime::UNIX_EPOCH, 0);
    by.iter().all(|(comparison, holds)| match comparison {
        Comparison::Clock(..) => !value.is_null() || !*holds,
        comparison => compare(value, comparison, field.folds(), &clock) == *holds,
    })
}

/// Whether what it is to be more and less than, with its own bounds, leaves nothing between.
fn is_empty_range(field: &FieldSpec, by: &Comparisons) -> bool {
    if field.folds() {
        return false;
    }
    let (min, max) = field.kind.limits();
    // Each with whether it may be reached.
    let mut lowest: Vec<(Value, bool)> = min.map(|min| (min, true)).into_iter().collect();
    let mut highest: Vec<(Value, bool)> = max.map(|max| (max, true)).into_iter().collect();
    for (comparison, _) in by {
        match comparison {
            Comparison::Gt(value) => lowest.push((value.clone(), false)),
            Comparison::Gte(value) => lowest.push((value.clone(), true)),
            Comparison::Lt(value) => highest.push((value.clone(), false)),
            Comparison::Lte(value) => highest.push((value.clone(), true)),
            _ => {}
        }
    }
    let crossed = |(low, reached): &(Value, bool)| {
        let mut highest = highest.iter();
        highest.any(|(high, also)| match low.order(high) {
            Some(Greater) => true,
            Some(Equal) => !(*reached && *also),
            _ => false,
        })
    };
    lowest.iter().any(crossed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::record::comparisons;

    fn is_never_met(field: &Json, need: &Json) -> bool {
        let mut declared = field.clone();
        declared["name"] = json!("a");
        let field: FieldSpec = serde_json::from_value(declared).unwrap();
        let by = comparisons("a", &field.kind, need.as_object().unwrap());
        is_never(&field, &by.unwrap())
    }

    #[test]
    fn what_no_value_of_a_field_meets_is_known() {
        let size = json!({"type": "integer", "min": 1, "max": 9});
        let stage = json!({"type": "enum", "values": ["a", "b"], "required": true});
        let done = json!({"type": "bool"});
        let day = json!({"type": "date", "max": "2026-01-31"});
        for (field, need) in [
            (&size, json!({"gt": 9})),
            (&size, json!({"lt": 1})),
            (&size, json!({"eq": 10})),
            (&size, json!({"in": [0, 10]})),
            (&size, json!({"in": []})),
            (&size, json!({"gt": 4, "lte": 4})),
            (&size, json!({"eq": 4, "ne": 4})),
            (&size, json!({"is_null": true, "gt": 1})),
            (&stage, json!({"eq": null})),
            (&stage, json!({"nin": ["a", "b"]})),
            (&stage, json!({"eq": "a", "ne": "a"})),
            (&done, json!({"ne": null, "nin": [true, false]})),
            (&day, json!({"gte": "2026-02-01"})),
        ] {
            assert!(is_never_met(field, &need), "{field} {need}");
        }
    }

    #[test]
    fn what_a_value_may_meet_is_not_refused() {
        let size = json!({"type": "integer", "min": 1, "max": 9});
        let stage = json!({"type": "enum", "values": ["a", "b"]});
        let day = json!({"type": "date", "max": "2026-01-31"});
        let text = json!({"type": "text", "max": 9});
        for (field, need) in [
            (&size, json!({"gte": 9})),
            (&size, json!({"ne": 10})),
            (&size, json!({"in": [0, 1]})),
            (&size, json!({"eq": null})),
            (&stage, json!({"nin": ["a", "b"]})),
            (&stage, json!({"eq": null})),
            (&day, json!({"lt": "today"})),
            (&day, json!({"is_null": true, "ne": "today"})),
            (&day, json!({"eq": "2026-01-31", "lt": "today"})),
            (&text, json!({"contains": "a", "ne": "a"})),
        ] {
            assert!(!is_never_met(field, &need), "{field} {need}");
        }
    }
}
