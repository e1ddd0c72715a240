//! Computed fields: texts made of other fields, or conditions on them, told whenever a record is
//! read.
//!
//! They have no column. A compiled module keeps them behind its stored fields, so that values and
//! columns stay aligned.

use serde_json::{Map, Value as Json};

use super::{CompiledModule, FieldSpec, FieldType, Formula, ModuleSpec};
use crate::error::FieldError;
use crate::record::{Field, Filter};
use crate::value::Value;

/// A computed field and how it is made.
#[derive(Debug, Clone)]
pub(super) struct Computed {
    spec: FieldSpec,
    made: Made,
}

/// A formula with the fields in it by position.
#[derive(Debug, Clone)]
enum Made {
    Template(Vec<Piece<usize>>),
    Condition(Filter),
}

/// A part of a template: as it stands, or a field.
#[derive(Debug, Clone, PartialEq)]
enum Piece<F> {
    Text(String),
    Field(F),
}

/// The parts of a template.
fn parse(template: &str) -> Result<Vec<Piece<&str>>, &'static str> {
    let (mut pieces, mut rest) = (Vec::new(), template);
    while !rest.is_empty() {
        let (text, behind) = rest.split_once('{').unwrap_or((rest, ""));
        if text.contains('}') {
            return Err("a `}` stands without its `{`");
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        if text.len() < rest.len() {
            let (name, behind) = behind.split_once('}').ok_or("a `{` has no `}`")?;
            pieces.push(Piece::Field(name));
            rest = behind;
        } else {
            rest = "";
        }
    }
    let is_field = |piece: &Piece<&str>| matches!(piece, Piece::Field(_));
    match pieces.iter().any(is_field) {
        true => Ok(pieces),
        false => Err("it names no field, such as `{name}`"),
    }
}

/// Takes the computed fields out of a declaration.
pub(super) fn take(spec: &mut ModuleSpec) -> Vec<FieldSpec> {
    let (computed, stored) = std::mem::take(&mut spec.fields)
        .into_iter()
        .partition(|field| field.computed.is_some());
    spec.fields = stored;
    computed
}

/// How the field is made of those of a module; `None` for a declaration that [`check`] refuses.
fn compile(module: &CompiledModule, field: FieldSpec) -> Option<Computed> {
    let made = match field.computed.as_ref()? {
        Formula::Template(template) => {
            let pieces = parse(template).ok()?.into_iter();
            let pieces = pieces.map(|piece| match piece {
                Piece::Text(text) => Some(Piece::Text(text)),
                Piece::Field(name) => shown(module, name).map(Piece::Field),
            });
            Made::Template(pieces.collect::<Option<_>>()?)
        }
        Formula::Condition(condition) => {
            Made::Condition(Filter::from_json(module, condition).ok()?)
        }
    };
    Some(Computed { spec: field, made })
}

/// The position of a field that is not write-only: what a tenant's own field is made of, the
/// application may have hidden since.
fn shown(module: &CompiledModule, name: &str) -> Option<usize> {
    let position = module.position(name)?;
    module.is_readable(position).then_some(position)
}

/// What is wrong with the computed fields of a declaration.
pub(super) fn check(spec: &ModuleSpec) -> Vec<FieldError> {
    let mut problems = Vec::new();
    for (position, field) in spec.fields.iter().enumerate() {
        let Some(formula) = &field.computed else {
            continue;
        };
        let mut refuse = |code, message: String| {
            problems.push(FieldError {
                pointer: format!("/fields/{position}/computed"),
                code,
                message,
            });
        };
        let flags = [
            ("required", field.required),
            ("unique", field.unique),
            ("search", field.search),
            ("sort", field.sort),
            ("default", field.default.is_some()),
            ("immutable", field.immutable),
            ("write_only", field.write_only),
            ("ignore_case", field.ignore_case),
            ("copied", field.copied.is_some()),
        ];
        if let Some((flag, _)) = flags.into_iter().find(|(_, set)| *set) {
            let message = format!(
                "`{}` is computed when it is read and not stored; leave out `{flag}`",
                field.name
            );
            refuse("not_supported", message);
        }
        let (fits, word) = match formula {
            Formula::Template(_) => (matches!(field.kind, FieldType::Text { .. }), "text"),
            Formula::Condition(_) => (field.kind == FieldType::Bool, "bool"),
        };
        if !fits {
            let message = format!("`{}` is computed so: its type is {word}", field.name);
            refuse("not_supported", message);
        }
        let Formula::Template(template) = formula else {
            continue;
        };
        let pieces = match parse(template) {
            Ok(pieces) => pieces,
            Err(reason) => {
                refuse("invalid", format!("{template:?} is no template: {reason}"));
                continue;
            }
        };
        for piece in pieces {
            let Piece::Field(name) = piece else { continue };
            let source = spec.fields.iter().find(|field| field.name == *name);
            let reason = match source {
                None => "is not a field of this module",
                Some(source) if source.computed.is_some() => "is computed itself",
                Some(source) if source.write_only => "is write-only",
                Some(source) if !is_plain(&source.kind) => "is no single word or number",
                Some(_) => continue,
            };
            refuse("unknown_field", format!("`{name}` {reason}"));
        }
    }
    problems
}

/// What is wrong with the conditions in a declaration that is right otherwise.
pub(super) fn check_conditions(spec: &ModuleSpec) -> Vec<FieldError> {
    let mut stored = spec.clone();
    take(&mut stored);
    let module = CompiledModule::compile(stored, 0);
    let fields = spec.fields.iter().enumerate();
    let conditions = fields.filter_map(|(position, field)| match &field.computed {
        Some(Formula::Condition(condition)) => Some((position, condition)),
        _ => None,
    });
    let problems = conditions.flat_map(|(position, condition)| {
        let at = format!("/fields/{position}");
        let problems = condition_problems(&module, condition).into_iter();
        problems.map(move |problem| problem.under(&at))
    });
    problems.collect()
}

/// What is wrong with a condition on the stored fields of a module that a computed field tells.
pub(crate) fn condition_problems(
    module: &CompiledModule,
    condition: &Map<String, Json>,
) -> Vec<FieldError> {
    let bare = module.clone().computing(Vec::new());
    let stored = |field: &Field| matches!(field, Field::Declared(_));
    match Filter::from_json(&bare, condition) {
        Ok(filter) if filter.fields().iter().all(stored) && !condition.is_empty() => Vec::new(),
        Ok(_) => {
            let message = "a computed field is made of declared fields alone";
            vec![FieldError::new("computed", "not_supported", message)]
        }
        Err(refused) => {
            let refused = refused.into_iter();
            refused.map(|one| one.under("/computed")).collect()
        }
    }
}

fn is_plain(kind: &FieldType) -> bool {
    !matches!(kind, FieldType::Tags { .. } | FieldType::Json { .. }) && kind.targets().is_empty()
}

impl Computed {
    /// The positions of the fields that it is made of.
    pub(super) fn sources(&self) -> Vec<usize> {
        match &self.made {
            Made::Template(pieces) => {
                let fields = pieces.iter().filter_map(|piece| match piece {
                    Piece::Text(_) => None,
                    Piece::Field(position) => Some(*position),
                });
                fields.collect()
            }
            Made::Condition(filter) => {
                let fields = filter.fields().into_iter().filter_map(|field| match field {
                    Field::Declared(position) => Some(position),
                    _ => None,
                });
                fields.collect()
            }
        }
    }

    pub(super) fn spec_mut(&mut self) -> &mut FieldSpec {
        &mut self.spec
    }

    /// Whether it is not for the reader.
    pub(super) fn is_hidden(&self) -> bool {
        self.spec.write_only
    }

    /// What it is where the stored fields have these values.
    fn of(&self, module: &CompiledModule, values: &[Value]) -> Value {
        match &self.made {
            Made::Template(pieces) => text(pieces, values),
            Made::Condition(filter) => Value::Bool(filter.meets(module, &|field| match field {
                Field::Declared(position) => values.get(position).cloned().unwrap_or_default(),
                _ => Value::Null,
            })),
        }
    }
}

/// The text of these values. What stands before an absent part goes with it, but for the beginning;
/// null when all parts are absent.
fn text(pieces: &[Piece<usize>], values: &[Value]) -> Value {
    let (mut made, mut before, mut present) = (String::new(), "", false);
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Text(text) => before = text,
            Piece::Field(position) => {
                let text = values.get(*position).and_then(plain);
                present = text.is_some();
                if let Some(text) = text {
                    if !made.is_empty() || at <= 1 {
                        made.push_str(before);
                    }
                    made.push_str(&text);
                }
                before = "";
            }
        }
    }
    match made.is_empty() {
        true => Value::Null,
        false if present => Value::Text(made + before),
        false => Value::Text(made),
    }
}

/// The value as it stands in JSON, without quotes.
fn plain(value: &Value) -> Option<String> {
    match serde_json::to_value(value).ok()? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

impl CompiledModule {
    /// The fields that are computed when a record is read, in their order.
    pub fn computed(&self) -> impl Iterator<Item = &FieldSpec> {
        let shown = self
            .computed
            .iter()
            .filter(|computed| !computed.is_hidden());
        shown.map(|computed| &computed.spec)
    }

    /// The module with these computed fields behind its own.
    pub(super) fn computing(mut self, fields: Vec<FieldSpec>) -> Self {
        let made = fields.into_iter().filter_map(|field| compile(&self, field));
        self.computed = made.collect();
        self
    }

    /// The condition that the computed field called `name` tells, where it is shown.
    pub(crate) fn condition(&self, name: &str) -> Option<&Filter> {
        match &self.computed[self.place_of(name)?] {
            Computed {
                made: Made::Condition(filter),
                spec,
            } if !spec.write_only => Some(filter),
            _ => None,
        }
    }

    /// The computed fields that are made of the stored one called `name`.
    pub(super) fn computed_of(&self, name: &str) -> impl Iterator<Item = &FieldSpec> {
        let position = self.position(name);
        let made_of = move |one: &&Computed| position.is_some_and(|at| one.sources().contains(&at));
        self.computed.iter().filter(made_of).map(|one| &one.spec)
    }

    /// The fields that are computed as conditions.
    pub(super) fn conditions(&self) -> impl Iterator<Item = &FieldSpec> {
        let told = |field: &&FieldSpec| matches!(field.computed, Some(Formula::Condition(_)));
        self.computed().filter(told)
    }

    /// Which of the computed fields has this name, whether it is shown or not.
    pub(super) fn place_of(&self, name: &str) -> Option<usize> {
        let mut computed = self.computed.iter();
        computed.position(|computed| computed.spec.name == *name)
    }

    /// The place of the computed field called `name`, counted on behind the stored fields.
    pub(crate) fn computed_at(&self, name: &str) -> Option<usize> {
        let at = self.place_of(name)?;
        (!self.computed[at].is_hidden()).then_some(self.fields().len() + at)
    }

    /// The computed field at this place, and its value where the stored ones are `values`.
    pub(crate) fn compute(&self, place: usize, values: &[Value]) -> Option<(&FieldSpec, Value)> {
        let at = place.checked_sub(self.fields().len())?;
        let computed = self
            .computed
            .get(at)
            .filter(|computed| !computed.is_hidden())?;
        Some((&computed.spec, computed.of(self, values)))
    }

    /// How many fields a record shows at most, stored and computed.
    pub(crate) fn width(&self) -> usize {
        self.fields().len() + self.computed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_parts_take_what_stands_before_them_along() {
        for (template, values, made) in [
            ("{a} {b} {c}", ["Ada", "King", "Noel"], "Ada King Noel"),
            ("{a} {b} {c}", ["Ada", "", "Noel"], "Ada Noel"),
            ("{a} {b} {c}", ["", "King", ""], "King"),
            ("{a} {b} {c}", ["", "", ""], ""),
            ("{b}, {a}", ["", "King", ""], "King"),
            ("{b}, {a}", ["Ada", "", ""], "Ada"),
            ("No. {a} ({b})", ["1", "x", ""], "No. 1 (x)"),
            ("No. {a} ({b})", ["1", "", ""], "No. 1"),
        ] {
            let pieces = parse(template).unwrap().into_iter();
            let pieces = pieces.map(|piece| match piece {
                Piece::Text(text) => Piece::Text(text),
                Piece::Field(name) => Piece::Field("abc".find(name).unwrap()),
            });
            let pieces: Vec<_> = pieces.collect();
            let values = values.map(|text| match text {
                "" => Value::Null,
                text => Value::Text(text.to_owned()),
            });
            let value = text(&pieces, &values);
            assert_eq!(value.as_text().unwrap_or_default(), made, "{template}");
        }
        for odd in ["", "plain", "{a", "a}", "{a}}"] {
            assert!(parse(odd).is_err(), "{odd}");
        }
    }
}
