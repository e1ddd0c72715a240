//! The state machines of modules that tenants declared: what of a machine is not theirs to declare,
//! and what of a field is not to be taken from under one.

use crate::error::{Error, FieldError, Result};
use crate::module::{Ident, MachineSpec, ModuleSpec, Need, check};

/// Most bytes of a module's machines, written as JSON: they are read with every module of the
/// tenant.
const MAX_BYTES: usize = 65_536;

/// What is wrong with machines beyond the rules of every machine; pointers lead into the module.
pub(super) fn problems(spec: &ModuleSpec) -> Vec<FieldError> {
    let mut problems = Vec::new();
    let mut refuse = |pointer: String, code, message: String| {
        problems.push(FieldError {
            pointer,
            code,
            message,
        });
    };
    if serde_json::to_vec(&spec.machines).map_or(0, |json| json.len()) > MAX_BYTES {
        let message = format!("the state machines of a module take at most {MAX_BYTES} bytes");
        refuse("/machines".to_owned(), "too_large", message);
    }
    let is_hidden = |name: &Ident| {
        let mut fields = spec.fields.iter();
        fields.any(|field| field.name == *name && field.write_only)
    };
    for (position, machine) in spec.machines.iter().enumerate() {
        if machine.log.is_some() {
            let message = "only machines that the application declares keep a log; leave it out, for \
                           events and the audit log tell each change of a state";
            let pointer = format!("/machines/{position}/log");
            refuse(pointer, "not_supported", message.to_owned());
        }
        let hidden = machine.needs.values().flatten().find(|need| {
            let compares = matches!(need, Need::Compared { .. });
            compares && is_hidden(need.field())
        });
        if let Some(need) = hidden {
            let message = format!("`{}` is write-only: it is not compared", need.field());
            let pointer = format!("/machines/{position}/needs");
            refuse(pointer, "not_supported", message);
        }
    }
    problems
}

/// Holds the machines of a module against all rules, beside its fields.
pub(super) fn hold(spec: &ModuleSpec) -> Result<()> {
    let mut found = broken(spec)?;
    found.extend(problems(spec));
    match found.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(found)),
    }
}

/// Refuses a change of a field behind which a machine would break a rule that it keeps now.
pub(super) fn refuse_broken(before: &ModuleSpec, after: &ModuleSpec) -> Result<()> {
    let known = broken(before)?;
    let found = broken(after)?.into_iter();
    let mut new = found.filter(|one| !known.contains(one));
    let Some((machine, problem)) = new.find_map(|one| Some((place(after, &one)?, one))) else {
        return Ok(());
    };
    let message = format!(
        "the state machine of {}.{} could not go on: {}; change the machine first",
        after.name, machine.field, problem.message
    );
    Err(Error::conflict("named_by_machine", message))
}

/// Refuses the removal of a field that a machine names.
pub(super) fn refuse_named(spec: &ModuleSpec, field: &Ident) -> Result<()> {
    let named = |machine| Some((machine, part(machine, field)?));
    let Some((machine, part)) = spec.machines.iter().find_map(named) else {
        return Ok(());
    };
    let message = format!(
        "{}.{field} is named by the state machine of {} ({part}); change the machine first",
        spec.name, machine.field
    );
    Err(Error::conflict("named_by_machine", message))
}

/// What is wrong with machines by the rules of every machine.
fn broken(spec: &ModuleSpec) -> Result<Vec<FieldError>> {
    match check(spec) {
        Err(Error::Invalid(mut problems)) => {
            problems.retain(|problem| problem.pointer.starts_with("/machines"));
            Ok(problems)
        }
        checked => checked.map(|()| Vec::new()),
    }
}

/// The machine that a problem is about.
fn place<'s>(spec: &'s ModuleSpec, problem: &FieldError) -> Option<&'s MachineSpec> {
    let position = problem.pointer.split('/').nth(2)?;
    spec.machines.get(position.parse::<usize>().ok()?)
}

/// The part of the machine that names the field, where one does.
pub(super) fn part(machine: &MachineSpec, field: &Ident) -> Option<&'static str> {
    let mut needs = machine.needs.values().flatten();
    let mut sets = machine.sets.values();
    let mut open = machine.open.iter().flatten();
    if machine.field == *field {
        Some("field")
    } else if needs.any(|need| need.field() == field) {
        Some("needs")
    } else if sets.any(|set| set.contains_key(field)) {
        Some("sets")
    } else if open.any(|open| open == field) {
        Some("open")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_answers_for_what_it_breaks_itself() {
        let module = |values: &str| {
            let text = format!(
                "name = 'jobs'\nsingular = 'job'\n[[fields]]\nname = 'stage'\ntype = 'enum'\n\
                 values = {values}\nrequired = true\n[[machines]]\nfield = 'stage'\n\
                 back = 'anyone'\nedges = {{ open = ['shut'] }}\n"
            );
            ModuleSpec::from_toml(&text).unwrap()
        };
        let (whole, less) = (module("['open', 'shut']"), module("['open', 'ajar']"));
        // Nobody goes back without an order: kept since before that was a rule.
        assert!(!broken(&whole).unwrap().is_empty());
        assert!(refuse_broken(&whole, &whole).is_ok());
        let refused = refuse_broken(&whole, &less).unwrap_err();
        assert!(
            refused.to_string().contains("\"shut\" is not a value"),
            "{refused}"
        );
    }
}
