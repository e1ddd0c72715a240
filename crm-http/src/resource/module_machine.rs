//! State machines as they are declared for a tenant's own module.

use std::collections::BTreeMap;

use crm_core::module::MachineSpec;
use crm_core::{Error, FieldError};
use poem_openapi::types::{Any, MaybeUndefined, ToJSON as _};
use poem_openapi::{Enum, Object, Union};
use serde_json::Value;

/// The schema of [`MachineBody`].
pub(crate) const MACHINE: &str = "ModuleMachine";

/// A state machine of an enum field: what follows what, who may go back, and what a state needs and
/// brings with it. Every write obeys it, those of imports and plugins too.
#[derive(Debug, Object)]
#[oai(
    rename = "ModuleMachine",
    deny_unknown_fields,
    skip_serializing_if_is_none
)]
pub(super) struct MachineBody {
    /// The required enum field whose values are the states.
    #[oai(validator(max_length = 48))]
    field: String,
    /// The states that a record may begin in, the field's default among them; every one when left out or
    /// empty.
    #[oai(validator(max_items = 250))]
    initial: Option<Vec<String>>,
    /// The states that may follow each one. A state without any is final. When no edge is declared,
    /// every state may follow every other.
    edges: Option<BTreeMap<String, Vec<String>>>,
    /// Whether the order of the enum's values is a direction, forward without leave.
    ordered: Option<bool>,
    /// Who may go against the order of an ordered machine; nobody when left out.
    back: Option<BackForm>,
    /// What a record must have in a state, judged after the whole change: a field by its name must have
    /// a value, an object a value that compares so.
    needs: Option<BTreeMap<String, Vec<NeedForm>>>,
    /// Values that other fields get when a record changes to a state; one that begins in it says them.
    sets: Option<BTreeMap<String, BTreeMap<String, Any<Value>>>>,
    /// The fields that may still change in a final state, beside the owner; every one when left out.
    #[oai(validator(max_items = 100))]
    open: Option<Vec<String>>,
}

/// Who may go against the order of a state machine: one of these, or whoever has a permission.
#[derive(Debug, Union)]
#[oai(rename = "ModuleMachineBack")]
enum BackForm {
    Word(BackWord),
    Permission(BackPermission),
}

/// Nobody, whoever may change all records of the module, or whoever may change the record.
#[derive(Debug, Enum)]
#[oai(rename = "ModuleMachineBackWord", rename_all = "snake_case")]
enum BackWord {
    Never,
    AllRows,
    Anyone,
}

/// Whoever may do this, too, with all records of the module; others are forbidden to.
#[derive(Debug, Object)]
#[oai(rename = "ModuleMachineBackPermission", deny_unknown_fields)]
struct BackPermission {
    /// An action of modules, such as `purge`.
    #[oai(validator(max_length = 48))]
    permission: String,
}

/// A field that must have a value in a state, or one that must compare so.
#[derive(Debug, Union)]
#[oai(rename = "ModuleMachineNeed")]
enum NeedForm {
    Field(String),
    Compared(Box<Compared>),
}

/// A field that must compare so in a state, by the operators of the query language, all of them.
// Null reaches the library, which knows what it means to each operator.
#[derive(Debug, Object)]
#[oai(rename = "ModuleMachineComparison", deny_unknown_fields)]
struct Compared {
    /// The field.
    #[oai(validator(max_length = 48))]
    field: String,
    /// Equal to this; null for no value.
    #[oai(nullable)]
    eq: MaybeUndefined<Any<Value>>,
    /// Not equal to this; null for any value.
    #[oai(nullable)]
    ne: MaybeUndefined<Any<Value>>,
    /// Less than this, or before it.
    lt: MaybeUndefined<Any<Value>>,
    /// This at most.
    lte: MaybeUndefined<Any<Value>>,
    /// More than this, or after it.
    gt: MaybeUndefined<Any<Value>>,
    /// This at least.
    gte: MaybeUndefined<Any<Value>>,
    /// One of these.
    #[oai(rename = "in", validator(max_items = 100))]
    one_of: MaybeUndefined<Vec<Any<Value>>>,
    /// None of these.
    #[oai(validator(max_items = 100))]
    nin: MaybeUndefined<Vec<Any<Value>>>,
    /// A text with this in it.
    contains: MaybeUndefined<String>,
    /// A text that starts so.
    starts: MaybeUndefined<String>,
    /// Whether it has no value.
    is_null: MaybeUndefined<bool>,
    /// Tags with this one among them.
    has: MaybeUndefined<String>,
    /// Tags with one of these among them.
    #[oai(validator(max_items = 100))]
    has_any: MaybeUndefined<Vec<String>>,
    /// Tags with all of these among them.
    #[oai(validator(max_items = 100))]
    has_all: MaybeUndefined<Vec<String>>,
}

/// Why the declaration of a machine has no such member.
pub(crate) fn unknown_of_machine(member: &str) -> Option<(&'static str, &'static str)> {
    let message = "Only machines that the application declares keep a log: leave it out; events and the \
                   audit log tell each change of a state.";
    (member == "log").then_some(("not_supported", message))
}

/// The bodies as the declarations they are.
///
/// # Errors
/// [`Error::Invalid`] with each member that cannot be read, by its place (`/machines/0/field`).
pub(super) fn machine_specs(bodies: Vec<MachineBody>) -> Result<Vec<MachineSpec>, Error> {
    let mut machines = Vec::with_capacity(bodies.len());
    let mut refused: Vec<FieldError> = Vec::new();
    for (position, body) in bodies.into_iter().enumerate() {
        let Some(Value::Object(members)) = body.to_json() else {
            return Err(Error::internal("a machine's declaration is an object"));
        };
        let spec = MachineSpec::of_tenant(members);
        match spec.map_err(|error| error.under(&format!("/machines/{position}"))) {
            Ok(machine) => machines.push(machine),
            Err(Error::Invalid(errors)) => refused.extend(errors),
            Err(error) => return Err(error),
        }
    }
    match refused.is_empty() {
        true => Ok(machines),
        false => Err(Error::Invalid(refused)),
    }
}

/// The machines that take the place of others; none where nothing is said of them.
///
/// # Errors
/// [`Error::Invalid`] for null, which might mean either, and those of [`machine_specs`].
pub(super) fn other_machines(
    bodies: MaybeUndefined<Vec<MachineBody>>,
) -> Result<Option<Vec<MachineSpec>>, Error> {
    match bodies {
        MaybeUndefined::Undefined => Ok(None),
        MaybeUndefined::Null => {
            let message = "This must be a list: leave it out to keep the state machines, [] takes them \
                           away.";
            Err(Error::invalid("machines", "wrong_type", message))
        }
        MaybeUndefined::Value(bodies) => machine_specs(bodies).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crm_core::module::default_modules;
    use crm_core::record::operators;
    use poem_openapi::registry::Registry;
    use poem_openapi::types::{ParseFromJSON as _, Type as _};
    use serde_json::json;

    use super::*;

    fn members(schema: &str) -> BTreeSet<&'static str> {
        let mut registry = Registry::new();
        MachineBody::register(&mut registry);
        let schema = &registry.schemas[schema];
        schema.properties.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn a_body_takes_every_key_of_a_machine_but_its_log() {
        // Serde lists what it knows.
        let refused = serde_json::from_value::<MachineSpec>(json!({"?": 1})).unwrap_err();
        let text = refused.to_string();
        let mut known: BTreeSet<&str> = text.split('`').skip(3).step_by(2).collect();
        assert!(known.remove("log"), "{text}");
        assert_eq!(members(MACHINE), known);
    }

    #[test]
    fn a_need_takes_every_operator_of_the_query_language() {
        let modules = default_modules();
        let fields = modules.iter().flat_map(|module| &module.fields);
        let mut known: BTreeSet<&str> = fields.flat_map(|field| operators(&field.kind)).collect();
        known.insert("field");
        assert_eq!(members("ModuleMachineComparison"), known);
    }

    #[test]
    fn a_body_is_the_machine_that_it_says() {
        let body = json!({
            "field": "stage", "initial": ["new"], "edges": {"new": ["won"]}, "ordered": true,
            "back": {"permission": "purge"}, "open": [],
            "needs": {"won": [
                "title", {"field": "amount", "gt": 0, "in": [1, 2]},
                {"field": "note", "eq": null}, {"field": "size", "ne": null, "lt": 9},
            ]},
            "sets": {"won": {"closed": true, "note": null}},
        });
        let parsed = MachineBody::parse_from_json(Some(body.clone())).unwrap();
        let machines = machine_specs(vec![parsed]).unwrap();
        assert_eq!(json!(machines), json!([body]));
        let words = MachineBody::parse_from_json(Some(json!({"field": "a b", "back": "all_rows"})));
        let Err(Error::Invalid(refused)) = machine_specs(vec![words.unwrap()]) else {
            panic!("a name with a blank");
        };
        assert_eq!(refused[0].pointer, "/machines/0/field");
    }
}
