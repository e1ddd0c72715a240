//! Which column of a file is which field of the module, and the ready mappings of other programs.

use serde_json::{Map, Value as Json};

use super::options::{Format, MappingOption};
use super::{cell, fault, is_target};
use crate::error::FieldError;
use crate::module::CompiledModule;

/// How a column gives its field a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Joined by a space with the others of this rule.
    Join,
    /// Only while the field has no value; of several values in the cell, the first.
    Else,
}

/// A ready mapping: its columns in the order they are asked.
pub(super) struct Preset(&'static [(&'static str, &'static str, Rule)]);

/// Google Contacts' export, in its form since 2023 and the one before.
const GOOGLE: Preset = Preset(&[
    ("First Name", "name", Rule::Join),
    ("Middle Name", "name", Rule::Join),
    ("Last Name", "name", Rule::Join),
    ("Name", "name", Rule::Else),
    ("File As", "name", Rule::Else),
    ("Nickname", "name", Rule::Else),
    ("Organization Name", "name", Rule::Else),
    ("Organization 1 - Name", "name", Rule::Else),
    ("E-mail 1 - Value", "name", Rule::Else),
    ("E-mail 1 - Value", "email", Rule::Else),
    ("E-mail 2 - Value", "email", Rule::Else),
    ("Phone 1 - Value", "phone", Rule::Else),
    ("Phone 2 - Value", "phone", Rule::Else),
    ("Organization Name", "company", Rule::Else),
    ("Organization 1 - Name", "company", Rule::Else),
    ("Organization Title", "job_title", Rule::Else),
    ("Organization 1 - Title", "job_title", Rule::Else),
    ("Labels", "tags", Rule::Join),
    ("Group Membership", "tags", Rule::Join),
    ("Notes", "notes", Rule::Join),
]);

/// Outlook's export as "Comma Separated Values".
const OUTLOOK: Preset = Preset(&[
    ("First Name", "name", Rule::Join),
    ("Middle Name", "name", Rule::Join),
    ("Last Name", "name", Rule::Join),
    ("Suffix", "name", Rule::Join),
    ("E-mail Display Name", "name", Rule::Else),
    ("Company", "name", Rule::Else),
    ("E-mail Address", "name", Rule::Else),
    ("E-mail Address", "email", Rule::Else),
    ("E-mail 2 Address", "email", Rule::Else),
    ("Mobile Phone", "phone", Rule::Else),
    ("Primary Phone", "phone", Rule::Else),
    ("Business Phone", "phone", Rule::Else),
    ("Home Phone", "phone", Rule::Else),
    ("Company", "company", Rule::Else),
    ("Job Title", "job_title", Rule::Else),
    ("Categories", "tags", Rule::Join),
    ("Notes", "notes", Rule::Join),
]);

/// The columns of [`vcard`](super::vcard).
const VCARD: Preset = Preset(&[
    ("FN", "name", Rule::Else),
    ("N", "name", Rule::Else),
    ("ORG", "name", Rule::Else),
    ("EMAIL", "email", Rule::Else),
    ("TEL", "phone", Rule::Else),
    ("ORG", "company", Rule::Else),
    ("TITLE", "job_title", Rule::Else),
    ("NOTE", "notes", Rule::Join),
    ("CATEGORIES", "tags", Rule::Join),
]);

impl Preset {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        match name {
            "google_contacts" => Some(&GOOGLE),
            "outlook" => Some(&OUTLOOK),
            _ => None,
        }
    }
}

/// The mapping of one file: which cell goes where.
#[derive(Debug)]
pub(super) struct Mapping(Vec<(usize, String, Rule)>);

impl Mapping {
    /// The mapping of a file with this header.
    ///
    /// # Errors
    /// Each column that is no field and that the mapping does not name; a field without any column
    /// is no error here.
    pub(super) fn new(
        module: &CompiledModule,
        format: Format,
        option: Option<&MappingOption>,
        header: &[String],
    ) -> Result<Self, FieldError> {
        let preset = match option {
            Some(MappingOption::Ready(name)) => Preset::named(name),
            None if format == Format::Vcard => Some(&VCARD),
            _ => None,
        };
        if let Some(Preset(columns)) = preset {
            let known = |&(column, field, rule): &(&str, &str, Rule)| {
                let at = header
                    .iter()
                    .position(|name| name.trim().eq_ignore_ascii_case(column))?;
                is_target(module, field).then(|| (at, field.to_owned(), rule))
            };
            let columns: Vec<_> = columns.iter().filter_map(known).collect();
            return match columns.is_empty() {
                true => Err(unknown("the file has none of the columns of this mapping")),
                false => Ok(Self(columns)),
            };
        }
        let given = match option {
            Some(MappingOption::Columns(columns)) => Some(columns),
            _ => None,
        };
        let (mut columns, mut strange) = (Vec::new(), Vec::new());
        for (at, name) in header.iter().enumerate() {
            let name = name.trim();
            match given.and_then(|columns| columns.get(name)) {
                Some(Some(field)) => columns.push((at, field.clone(), Rule::Join)),
                Some(None) => {}
                None if name.is_empty() => {}
                None => {
                    let field = as_field(name);
                    match is_target(module, &field) {
                        true => columns.push((at, field, Rule::Join)),
                        false => strange.push(format!("{name:?}")),
                    }
                }
            }
        }
        if !strange.is_empty() {
            let list = strange.join(", ");
            let hint = "name them in the mapping, with null to leave them out";
            return Err(unknown(&format!(
                "{} has no field for: {list}; {hint}",
                module.name()
            )));
        }
        Ok(Self(columns))
    }

    /// The cells as the body of a create.
    pub(super) fn body(&self, module: &CompiledModule, cells: &[String]) -> Map<String, Json> {
        let mut texts: Vec<(&str, String)> = Vec::with_capacity(self.0.len());
        for (at, field, rule) in &self.0 {
            let Some(text) = cells.get(*at).map(|text| text.trim()) else {
                continue;
            };
            if text.is_empty() {
                continue;
            }
            let known = texts.iter_mut().find(|(name, _)| name == field);
            match (known, rule) {
                (Some((_, known)), Rule::Join) => {
                    known.push(' ');
                    known.push_str(text);
                }
                (Some(_), Rule::Else) => {}
                (None, Rule::Join) => texts.push((field, text.to_owned())),
                (None, Rule::Else) => {
                    let first = text.split(" ::: ").next().unwrap_or(text);
                    texts.push((field, first.to_owned()));
                }
            }
        }
        let mut body = Map::new();
        for (field, text) in texts {
            let kind = module.field(field).map(|field| &field.kind);
            if let Some(json) = cell::to_json(kind, &text) {
                body.insert(field.to_owned(), json);
            }
        }
        body
    }
}

/// The object with its members called as the mapping says.
pub(super) fn renamed(
    option: Option<&MappingOption>,
    object: Map<String, Json>,
) -> Map<String, Json> {
    let Some(MappingOption::Columns(columns)) = option else {
        return object;
    };
    let mut body = Map::new();
    for (name, json) in object {
        match columns.get(&name) {
            Some(Some(field)) => body.insert(field.clone(), json),
            Some(None) => None,
            None => body.insert(name, json),
        };
    }
    body
}

/// `Job Title` as `job_title`.
fn as_field(name: &str) -> String {
    name.to_lowercase().replace([' ', '-'], "_")
}

fn unknown(message: &str) -> FieldError {
    fault("unknown_column", message)
}
