//! Modules as those see them who may read some of their fields only: what is not theirs to read is
//! neither shown nor compared, as if it were declared write-only, and nothing says that it is
//! there.

use std::sync::Arc;

use super::CompiledModule;
use crate::policy::Fields;

/// What belongs to every stored record that is seen.
const ALWAYS: [&str; 6] = [
    "id",
    "version",
    "created_at",
    "updated_at",
    "deleted_at",
    "merged_into",
];

/// What a reader sees of a module.
#[derive(Debug, Clone)]
pub(super) struct FieldMask {
    /// The module without it.
    base: Arc<CompiledModule>,
    fields: Fields,
}

impl CompiledModule {
    /// The module for a reader of these fields only. A computed field that is not named as one of
    /// the only fields is read by those who read all that it is made of.
    pub(crate) fn masked(self: &Arc<Self>, fields: &Fields) -> Arc<Self> {
        let base = self.base().clone();
        let mut module = Self::clone(&base);
        for field in &mut module.spec.fields {
            field.write_only |= !fields.include(field.name.as_str());
        }
        let named = fields.listed().is_some();
        let hidden = |at: usize| module.spec.fields.get(at).is_some_and(|one| one.write_only);
        for computed in &mut module.computed {
            let made_of_hidden = !named && computed.sources().into_iter().any(hidden);
            let spec = computed.spec_mut();
            spec.write_only = made_of_hidden || !fields.include(spec.name.as_str());
        }
        let fields = fields.clone();
        module.mask = Some(FieldMask { base, fields });
        Arc::new(module)
    }

    /// The module without the limits of a reader.
    pub(crate) fn base(self: &Arc<Self>) -> &Arc<Self> {
        match &self.mask {
            Some(mask) => &mask.base,
            None => self,
        }
    }

    /// Whether a reader of some fields only sees it so.
    pub(crate) fn is_masked(&self) -> bool {
        self.mask.is_some()
    }

    /// Whether the field called `name` is there, but not for the reader.
    pub(crate) fn masks(&self, name: &str) -> bool {
        let Some(mask) = &self.mask else { return false };
        match name {
            "owner_id" => !mask.fields.include(name),
            _ => match (self.position(name), self.place_of(name)) {
                (Some(_), _) => !mask.fields.include(name),
                (None, Some(at)) => self.computed[at].is_hidden(),
                (None, None) => false,
            },
        }
    }

    /// Whether the owner of its records is shown.
    pub(crate) fn shows_owner(&self) -> bool {
        !self.masks("owner_id")
    }

    /// The stored record without the fields that are not for the reader. What was a field when the
    /// record was stored and is none now is for those whose list names it.
    pub(crate) fn cut(&self, record: &mut serde_json::Value) {
        let (Some(mask), Some(members)) = (&self.mask, record.as_object_mut()) else {
            return;
        };
        members.retain(|name, _| match name.as_str() {
            name if ALWAYS.contains(&name) => true,
            name if name == "owner_id" || self.has_field(name) => !self.masks(name),
            name => mask.fields.listed().is_some() && mask.fields.include(name),
        });
    }
}
