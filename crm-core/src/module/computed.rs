//! Computed fields: texts made of other fields of a record whenever it is read.
//!
//! They have no column. A compiled module keeps them behind its stored fields, so that values and
//! columns stay aligned.

use super::{CompiledModule, FieldSpec, FieldType, ModuleSpec};
use crate::error::FieldError;
use crate::value::Value;

/// A computed field with its template, the fields in it by position.
#[derive(Debug, Clone)]
pub(super) struct Computed {
    spec: FieldSpec,
    pieces: Vec<Piece<usize>>,
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

/// Takes the computed fields out of a declaration that [`check`] passed.
pub(super) fn take(spec: &mut ModuleSpec) -> Vec<Computed> {
    let (computed, stored) = std::mem::take(&mut spec.fields)
        .into_iter()
        .partition::<Vec<_>, _>(|field| field.computed.is_some());
    spec.fields = stored;
    let position = |name: &str| spec.fields.iter().position(|field| field.name == *name);
    let compile = |field: FieldSpec| {
        let pieces = parse(field.computed.as_deref()?).ok()?.into_iter();
        let pieces = pieces.map(|piece| match piece {
            Piece::Text(text) => Some(Piece::Text(text)),
            Piece::Field(name) => position(name).map(Piece::Field),
        });
        Some(Computed {
            pieces: pieces.collect::<Option<_>>()?,
            spec: field,
        })
    };
    computed.into_iter().filter_map(compile).collect()
}

/// What is wrong with the computed fields of a declaration.
pub(super) fn check(spec: &ModuleSpec) -> Vec<FieldError> {
    let mut problems = Vec::new();
    for (position, field) in spec.fields.iter().enumerate() {
        let Some(template) = &field.computed else {
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
        if !matches!(field.kind, FieldType::Text { .. }) {
            let message = format!("`{}` is computed: its type is text", field.name);
            refuse("not_supported", message);
        }
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

fn is_plain(kind: &FieldType) -> bool {
    !matches!(kind, FieldType::Tags { .. } | FieldType::Json { .. }) && kind.targets().is_empty()
}

impl Computed {
    /// The positions of the fields that it is made of.
    pub(super) fn sources(&self) -> impl Iterator<Item = usize> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Field(position) => Some(*position),
        })
    }

    pub(super) fn spec_mut(&mut self) -> &mut FieldSpec {
        &mut self.spec
    }

    /// Whether it is not for the reader.
    pub(super) fn is_hidden(&self) -> bool {
        self.spec.write_only
    }

    /// The text of these values. What stands before an absent part goes with it, but for the
    /// beginning; null when all parts are absent.
    fn of(&self, values: &[Value]) -> Value {
        let (mut made, mut before, mut present) = (String::new(), "", false);
        for (at, piece) in self.pieces.iter().enumerate() {
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
        Some((&computed.spec, computed.of(values)))
    }

    /// How many fields a record shows at most, stored and computed.
    pub(crate) fn width(&self) -> usize {
        self.fields().len() + self.computed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::Ident;

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
            let name = Ident::from_static("made");
            let computed = Computed {
                spec: FieldSpec::new(name, FieldType::Bool),
                pieces: pieces.collect(),
            };
            let values = values.map(|text| match text {
                "" => Value::Null,
                text => Value::Text(text.to_owned()),
            });
            let value = computed.of(&values);
            assert_eq!(value.as_text().unwrap_or_default(), made, "{template}");
        }
        for odd in ["", "plain", "{a", "a}", "{a}}"] {
            assert!(parse(odd).is_err(), "{odd}");
        }
    }
}
