//! State machines: which values of an enum field follow which, who may go back, and what a state
//! needs and brings with it. Declared with the module, enforced by every write of its records.

mod log;
mod need;
mod possible;
mod writer;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{CompiledModule, FieldSpec, FieldType, Ident, ModuleSpec, rule};
use crate::error::{Error, FieldError, Result};
use crate::value::Value;

pub use log::LogSpec;
pub(crate) use log::problems as log_problems;
pub use need::Need;
pub use writer::Back;
pub(crate) use writer::Writer;

use need::Needed;

/// The state of a record that has none: no value of an enum is empty.
const NO_STATE: &str = "";

/// The state machine of one required enum field.
///
/// ```toml
/// [[machines]]
/// field = "status"
/// initial = ["new"]
/// edges = { new = ["in_progress"], in_progress = ["won", "lost"] }
/// needs = { won = ["reason", { field = "amount", gt = 0 }] }
/// sets = { won = { stage = "closed" }, lost = { stage = "closed" } }
/// open = ["title"]
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// The enum field whose values are the states.
    pub field: Ident,
    /// The states a record may begin in, that of a record that leaves the field out among them;
    /// every one when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initial: Vec<String>,
    /// The states that may follow each one. A state without any is final. When no edge is declared,
    /// every state may follow every other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub edges: BTreeMap<String, Vec<String>>,
    /// Whether the order of the enum's values is a direction, forward without leave.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ordered: bool,
    /// Who may go against the order; said of an ordered machine only.
    #[serde(default, skip_serializing_if = "Back::is_never")]
    pub back: Back,
    /// Fields that must have a value in a state, or one that compares so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needs: BTreeMap<String, Vec<Need>>,
    /// Values that other fields get when a record changes to a state; one that begins in it says
    /// them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, BTreeMap<Ident, serde_json::Value>>,
    /// The fields that may still change in a final state, beside the owner; every one when left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Vec<Ident>>,
    /// Where changes of the field are written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogSpec>,
}

/// A machine with names turned into positions.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    field: usize,
    states: Vec<String>,
    spec: MachineSpec,
    needs: BTreeMap<String, Vec<Needed>>,
    sets: BTreeMap<String, Vec<(usize, Value)>>,
    open: Option<Vec<usize>>,
}

/// Finds what is wrong with the machines of a declaration.
pub(super) fn check(spec: &ModuleSpec) -> Vec<FieldError> {
    let machines = spec.machines.iter().enumerate();
    let problems = machines.flat_map(|(position, machine)| {
        let place = format!("/machines/{position}");
        let found = problems(spec, &spec.machines[..position], machine).into_iter();
        found.map(move |problem| problem.under(&place))
    });
    problems.collect()
}

/// What is wrong with a machine that stands behind these.
fn problems(spec: &ModuleSpec, earlier: &[MachineSpec], machine: &MachineSpec) -> Vec<FieldError> {
    let known = |name: &Ident| spec.fields.iter().find(|field| field.name == *name);
    let field = known(&machine.field);
    let Some((FieldType::Enum { values: states }, true)) =
        field.map(|field| (&field.kind, field.required))
    else {
        let message = "a state machine names a required enum field of its module";
        return vec![FieldError::new("field", "invalid", message)];
    };
    let mut problems = Vec::new();
    if earlier.iter().any(|other| other.field == machine.field) {
        let message = "a field has one state machine";
        problems.push(FieldError::new("field", "duplicate", message));
    }
    let targets = machine.edges.values().flatten();
    let named = [
        ("initial", machine.initial.iter().collect::<Vec<_>>()),
        ("edges", machine.edges.keys().chain(targets).collect()),
        ("needs", machine.needs.keys().collect()),
        ("sets", machine.sets.keys().collect()),
    ];
    for (key, used) in named {
        for state in used.into_iter().filter(|state| !states.contains(state)) {
            let message = format!("{state:?} is not a value of the field");
            problems.push(FieldError::new(key, "unknown_state", message));
        }
    }
    let set = machine.sets.values().flat_map(BTreeMap::keys);
    let needed = machine.needs.values().flatten();
    let used = [
        ("needs", needed.clone().map(Need::field).collect::<Vec<_>>()),
        ("sets", set.collect()),
        ("open", machine.open.iter().flatten().collect()),
    ];
    for (key, names) in used {
        for name in names {
            let (code, message) = match known(name) {
                None => {
                    let message = format!("`{name}` is not a declared field of {}", spec.name);
                    ("unknown_field", message)
                }
                Some(field) if key != "open" && field.is_derived() => {
                    let message = format!("`{name}` follows from other fields; name those");
                    ("not_supported", message)
                }
                Some(_) => continue,
            };
            problems.push(FieldError::new(key, code, message));
        }
    }
    for need in needed {
        let unfit = known(need.field()).and_then(|field| need.problem(field));
        problems.extend(unfit.map(|(code, message)| FieldError::new("needs", code, message)));
    }
    problems.extend(machine.unfit_back());
    problems.extend(field.and_then(|field| machine.unfit_default(field, states)));
    for (name, json) in machine.sets.values().flatten() {
        let unfit = known(name).and_then(|target| machine.unfit(target, json));
        problems.extend(unfit);
    }
    problems
}

impl MachineSpec {
    /// What is wrong with who may go back.
    fn unfit_back(&self) -> Option<FieldError> {
        if let Some(message) = self.back.problem() {
            return Some(FieldError::new("back", "unknown_action", message));
        }
        let message = "says who may go against an order, and this machine has none: say `ordered`, or \
                       leave it out";
        let is_idle = !self.ordered && !self.back.is_never();
        is_idle.then(|| FieldError::new("back", "not_supported", message))
    }

    /// Why no record could be made that leaves its field of these states out.
    fn unfit_default(&self, field: &FieldSpec, states: &[String]) -> Option<FieldError> {
        let default = field.default_value();
        let default = default.as_text()?;
        let begins = |state: &String| state == default;
        let is_told = self.initial.iter().any(|state| !states.contains(state));
        if is_told || self.initial.is_empty() || self.initial.iter().any(begins) {
            return None;
        }
        let message = format!(
            "records that leave `{}` out would begin as {default}, and no record begins so",
            field.name
        );
        Some(FieldError::new("initial", "default_not_initial", message))
    }

    /// Why a state does not set this field to this value.
    fn unfit(&self, target: &FieldSpec, json: &serde_json::Value) -> Option<FieldError> {
        let name = &target.name;
        let (code, message) = match rule::from_json(&target.kind, json.clone()) {
            Ok(Value::Null) if target.required => ("required", format!("`{name}` needs a value")),
            Ok(_) if self.field == *name => {
                ("invalid", "a state does not set its own field".to_owned())
            }
            Ok(_) => return None,
            Err(refusal) => (refusal.code, format!("`{name}` {}", refusal.message)),
        };
        Some(FieldError::new("sets", code, message))
    }
}

/// Turns the names of checked machines into positions.
pub(super) fn compile(spec: &ModuleSpec) -> Vec<Machine> {
    let position = |name: &Ident| spec.fields.iter().position(|field| field.name == *name);
    let value = |at: usize, json: &serde_json::Value| {
        let ruled = rule::from_json(&spec.fields[at].kind, json.clone());
        ruled.ok().map(|value| (at, value))
    };
    let machine = |machine: &MachineSpec| {
        let field = position(&machine.field)?;
        let FieldType::Enum { values } = &spec.fields[field].kind else {
            return None;
        };
        let positions = |names: &Vec<Ident>| names.iter().filter_map(position).collect();
        let needs = machine.needs.iter();
        let sets = machine.sets.iter();
        Some(Machine {
            field,
            states: values.clone(),
            needs: needs
                .map(|(state, needs)| {
                    let needs = needs.iter().filter_map(|need| {
                        let at = position(need.field())?;
                        need.compile(at, &spec.fields[at])
                    });
                    (state.clone(), needs.collect())
                })
                .collect(),
            sets: sets
                .map(|(state, set)| {
                    let set = set
                        .iter()
                        .filter_map(|(name, json)| value(position(name)?, json));
                    (state.clone(), set.collect())
                })
                .collect(),
            open: machine.open.as_ref().map(positions),
            spec: machine.clone(),
        })
    };
    spec.machines.iter().filter_map(machine).collect()
}

/// Judges the values of a new record.
///
/// # Errors
/// [`Error::Invalid`] for a state that no record begins in, and for what the state needs.
pub(crate) fn begin(module: &CompiledModule, values: &[Value]) -> Result<()> {
    for machine in module.machines() {
        let state = machine.state(values);
        machine.begins(module, state)?;
        machine.needed(module, state, values)?;
    }
    Ok(())
}

/// Judges a change of a record, and adds what its new states bring with them; answers the positions
/// of the fields that got their value so.
///
/// `sent` is what the caller sent. A record of before a tenant declared the field has no state: its
/// first one is one that records begin in.
///
/// # Errors
/// [`Error::Conflict`] `invalid_transition` or `final_state`, [`Error::Forbidden`] for who may not go
/// back, [`Error::Invalid`] for what a state needs, and for a field that the state sets to something
/// else.
pub(crate) fn proceed(
    module: &CompiledModule,
    writer: Writer<'_>,
    before: &[Value],
    after: &mut [Value],
    sent: &[(usize, Value)],
) -> Result<Vec<usize>> {
    let mut forced = Vec::new();
    for machine in module.machines() {
        let (from, to) = (machine.state(before), machine.state(after).to_owned());
        if machine.is_final(from)
            && let Some(open) = &machine.open
        {
            let changed = |at: &usize| before[*at] != after[*at] && !open.contains(at);
            if let Some(at) = (0..after.len()).find(changed) {
                let field = &module.fields()[at].name;
                let message = format!("{from} is final: {field} cannot change any more");
                return Err(Error::conflict("final_state", message));
            }
        }
        if from == to || forced.contains(&machine.field) {
            continue;
        }
        match from {
            NO_STATE => machine.begins(module, &to)?,
            from => machine.allows(module, writer, from, &to)?,
        }
        for (at, value) in machine.sets.get(&to).into_iter().flatten() {
            if sent
                .iter()
                .any(|(sent, other)| sent == at && other != value)
            {
                let field = module.fields()[*at].name.as_str();
                let message = format!("is set by the state {to}; leave it out");
                return Err(Error::invalid(field, "set_by_state", message));
            }
            after[*at] = value.clone();
            forced.push(*at);
        }
    }
    for machine in module.machines() {
        machine.needed(module, machine.state(after), after)?;
    }
    Ok(forced)
}

impl Machine {
    fn state<'v>(&self, values: &'v [Value]) -> &'v str {
        values[self.field].as_text().unwrap_or(NO_STATE)
    }

    fn is_final(&self, state: &str) -> bool {
        let leads_on = self
            .spec
            .edges
            .get(state)
            .is_some_and(|next| !next.is_empty());
        !self.spec.edges.is_empty() && state != NO_STATE && !leads_on
    }

    /// Refuses a first state that no record begins in.
    fn begins(&self, module: &CompiledModule, state: &str) -> Result<()> {
        let initial = &self.spec.initial;
        if initial.is_empty() || initial.iter().any(|known| known == state) {
            return Ok(());
        }
        let field = module.fields()[self.field].name.as_str();
        let message = format!("must be {} at first", initial.join(" or "));
        Err(Error::invalid(field, "invalid_initial_state", message))
    }

    fn allows(
        &self,
        module: &CompiledModule,
        writer: Writer<'_>,
        from: &str,
        to: &str,
    ) -> Result<()> {
        let next = self.spec.edges.get(from);
        let joined = self.spec.edges.is_empty()
            || next.is_some_and(|next| next.iter().any(|state| state == to));
        let place = |state: &str| self.states.iter().position(|known| known == state);
        let back = self.spec.ordered && place(to) < place(from);
        if joined && (!back || writer.goes_back(module, &self.spec.back)?) {
            return Ok(());
        }
        let field = &module.fields()[self.field].name;
        let message = match next {
            _ if joined => format!("{field} cannot go back from {from} to {to}"),
            Some(next) if !next.is_empty() => {
                let next = next.join(" or ");
                format!("{field} cannot change from {from} to {to}, only to {next}")
            }
            _ => format!("{field} cannot change from {from} to {to}: {from} is final"),
        };
        Err(Error::conflict("invalid_transition", message))
    }

    fn needed(&self, module: &CompiledModule, state: &str, values: &[Value]) -> Result<()> {
        let needs = self.needs.get(state).into_iter().flatten();
        let unmet = needs.filter_map(|need| need.unmet(module, state, values));
        let unmet: Vec<_> = unmet.collect();
        if unmet.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid(unmet))
        }
    }
}

impl MachineSpec {
    /// Reads the declaration of a machine of a tenant's own module from JSON. That it breaks no
    /// rule is for the [module](crate::custom::CustomModules) to say.
    ///
    /// # Errors
    /// [`Error::Invalid`] with each member that cannot be read.
    pub fn of_tenant(declaration: Map<String, Json>) -> Result<Self> {
        let mut refused = Vec::new();
        if !declaration.contains_key("field") {
            refused.push(FieldError::new("field", "required", "is required"));
        }
        for (key, value) in &declaration {
            // Beside a field that can be read, for that alone is required.
            let mut one = Map::from_iter([("field".to_owned(), Json::from("state"))]);
            one.insert(key.clone(), value.clone());
            if let Err(error) = serde_json::from_value::<Self>(Json::Object(one)) {
                refused.push(FieldError::new(key, "invalid", error.to_string()));
            }
        }
        if !refused.is_empty() {
            return Err(Error::Invalid(refused));
        }
        serde_json::from_value(Json::Object(declaration)).map_err(Error::internal)
    }

    /// The machine in words, for the documentation.
    pub fn words(&self) -> String {
        let edges = self.edges.iter().filter(|(_, next)| !next.is_empty());
        let edges = edges.map(|(from, next)| format!("{from} → {}", next.join(", ")));
        let edges: Vec<_> = edges.collect();
        let mut words = Vec::new();
        if !self.initial.is_empty() {
            words.push(format!("Begins as {}.", self.initial.join(" or ")));
        }
        if !edges.is_empty() {
            words.push(format!("Changes: {}.", edges.join("; ")));
        }
        for (state, needs) in &self.needs {
            let needs: Vec<_> = needs.iter().map(Need::words).collect();
            words.push(format!("In {state} it needs {}.", needs.join(", ")));
        }
        if self.ordered {
            words.push(self.back.words());
        }
        if let Some(log) = &self.log {
            words.push(format!("Each change leaves a record in {}.", log.module));
        }
        words.join(" ")
    }
}

#[cfg(test)]
mod tests;
