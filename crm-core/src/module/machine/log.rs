//! The log of a state machine: each change of its field leaves a row in another module, written in
//! the transaction of the change by the application's own right.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::error::FieldError;
use crate::module::{CompiledModule, FieldSpec, FieldType, Ident, ModuleSpec};
use crate::value::Value;

/// Where the changes of a machine's field are written down.
///
/// ```toml
/// [machines.log]
/// module = "activities"
/// reference = "deal_id"       # gets the record's id
/// kind = "type"               # gets the text `status_changed`
/// payload = "payload"         # gets {"from": "new", "to": "won"}
/// created = "deal_created"    # for new records too, with this text
/// ```
///
/// The payload says `"auto": true` where another machine's state set the value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSpec {
    /// The module that gets the rows. Its other fields are optional or have defaults.
    pub module: Ident,
    /// Its reference to this module.
    pub reference: Ident,
    /// Its text or enum field that says what happened.
    pub kind: Ident,
    /// Its JSON field for the two states.
    pub payload: Ident,
    /// What happened when the field changes: its name and `_changed`, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
    /// What happened when a record is made; that leaves no row when this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

impl LogSpec {
    fn changed(&self, field: &Ident) -> String {
        let word = self.changed.clone();
        word.unwrap_or_else(|| format!("{field}_changed"))
    }
}

/// A row to be written.
pub(crate) struct Entry<'m> {
    pub(crate) module: &'m Ident,
    pub(crate) body: Map<String, Json>,
}

/// What is wrong with the logs of a declaration among others.
pub(crate) fn problems(spec: &ModuleSpec, specs: &[ModuleSpec]) -> Vec<FieldError> {
    let mut problems = Vec::new();
    for (position, machine) in spec.machines.iter().enumerate() {
        let Some(log) = &machine.log else { continue };
        let mut refuse = |key: &str, message: String| {
            problems.push(FieldError {
                pointer: format!("/{}/machines/{position}/log/{key}", spec.name),
                code: "invalid",
                message,
            });
        };
        let Some(target) = specs.iter().find(|other| other.name == log.module) else {
            let name = &log.module;
            let message = format!("there is no module `{name}`; declare it or correct the name");
            refuse("module", message);
            continue;
        };
        let field = |name: &Ident| target.fields.iter().find(|field| field.name == *name);
        let texts: Vec<String> = std::iter::once(log.changed(&machine.field))
            .chain(log.created.clone())
            .collect();
        if !field(&log.reference).is_some_and(|field| refers_to(field, &spec.name)) {
            let message = format!("name the reference of {} to {}", target.name, spec.name);
            refuse("reference", message);
        }
        if !field(&log.kind).is_some_and(|field| takes(field, &texts)) {
            let message = format!(
                "name a text or enum field of {} that takes {}",
                target.name,
                texts.join(" and ")
            );
            refuse("kind", message);
        }
        if !field(&log.payload).is_some_and(|field| matches!(field.kind, FieldType::Json { .. })) {
            refuse("payload", format!("name a JSON field of {}", target.name));
        }
        let given = [&log.reference, &log.kind, &log.payload];
        let mut lacking = target.fields.iter();
        if let Some(field) =
            lacking.find(|field| field.required_on_create() && !given.contains(&&field.name))
        {
            let message = format!(
                "{} needs a value of `{}`, which no log gives; make it optional or give it a default",
                target.name, field.name
            );
            refuse("module", message);
        }
    }
    problems
}

fn refers_to(field: &FieldSpec, name: &Ident) -> bool {
    matches!(&field.kind, FieldType::Reference { module, .. } if module == name)
}

fn takes(field: &FieldSpec, texts: &[String]) -> bool {
    texts.iter().all(|text| match &field.kind {
        FieldType::Text { min, max } | FieldType::LongText { min, max } => {
            let fits = *min as usize..=*max as usize;
            text.trim() == text && fits.contains(&text.chars().count())
        }
        FieldType::Enum { values } => values.contains(text),
        _ => false,
    })
}

impl CompiledModule {
    /// Whether changes of its records leave rows in other modules.
    pub(crate) fn is_logged(&self) -> bool {
        self.machines().iter().any(|one| one.spec.log.is_some())
    }

    /// The rows that a change leaves; `forced` are the fields that machines set.
    pub(crate) fn entries(
        &self,
        id: &str,
        before: Option<&[Value]>,
        after: &[Value],
        forced: &[usize],
    ) -> Vec<Entry<'_>> {
        let entries = self.machines().iter().filter_map(|machine| {
            let log = machine.spec.log.as_ref()?;
            let to = machine.state(after);
            let (kind, mut payload) = match before {
                None => (log.created.clone()?, json!({"from": null, "to": to})),
                Some(before) => {
                    let from = machine.state(before);
                    let changed = log.changed(&machine.spec.field);
                    (from != to).then(|| (changed, json!({"from": from, "to": to})))?
                }
            };
            if before.is_some() && forced.contains(&machine.field) {
                payload["auto"] = json!(true);
            }
            let body = [
                (log.reference.to_string(), json!(id)),
                (log.kind.to_string(), json!(kind)),
                (log.payload.to_string(), payload),
            ];
            Some(Entry {
                module: &log.module,
                body: Map::from_iter(body),
            })
        });
        entries.collect()
    }
}
