//! Who may set a field, who sees it, and what is said of those who may not.

use crate::error::{Error, FieldError, Result};
use crate::module::{CompiledModule, FieldSpec};
use crate::value::Value;

impl CompiledModule {
    /// The fields whose values are shown, in their order.
    pub fn readable(&self) -> impl Iterator<Item = &FieldSpec> {
        self.fields().iter().filter(|field| !field.write_only)
    }

    /// The fields that conditions may be about.
    pub fn comparable(&self) -> impl Iterator<Item = &FieldSpec> {
        self.readable().chain(self.conditions())
    }

    /// The fields that clients set, in their order.
    pub fn writable(&self) -> impl Iterator<Item = &FieldSpec> {
        self.fields().iter().filter(|field| !field.is_read_only())
    }

    /// Whether the value of the field at `position` is shown.
    pub(crate) fn is_readable(&self, position: usize) -> bool {
        self.fields()
            .get(position)
            .is_some_and(|field| !field.write_only)
    }

    /// Why nothing is found, ordered or shown by the name `name`.
    pub(crate) fn lacks(&self, name: &str) -> String {
        match self.field(name) {
            Some(field) if field.write_only && !self.masks(name) => {
                format!("{name} is write-only: it is neither shown nor compared")
            }
            None if self.computed_at(name).is_some() && !self.masks(name) => {
                format!("{name} is computed when it is read: use the fields that it is made of")
            }
            _ => format!("{} has no field {name}", self.name()),
        }
    }

    /// Whether a field, stored or computed, has this name.
    pub(crate) fn has_field(&self, name: &str) -> bool {
        self.position(name).is_some() || self.computed_at(name).is_some()
    }

    /// Refuses other values of immutable fields.
    ///
    /// # Errors
    /// [`Error::Invalid`] with each of them, as `immutable`.
    pub(crate) fn keeps(&self, before: &[Value], sent: &[(usize, Value)]) -> Result<()> {
        let fixed = sent.iter().filter_map(|(position, value)| {
            let field = self.fields().get(*position)?;
            (field.immutable && before.get(*position) != Some(value)).then_some(field)
        });
        let refused = fixed.map(|field| {
            let message = "cannot change once the record is made; leave it out";
            FieldError::new(field.name.as_str(), "immutable", message)
        });
        let refused: Vec<_> = refused.collect();
        match refused.is_empty() {
            true => Ok(()),
            false => Err(Error::Invalid(refused)),
        }
    }
}
