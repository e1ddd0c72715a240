//! What is answered of a record: some of its fields, and the records it refers to.
//!
//! A referred record is read through a permit of its own module, so whoever may not see it finds
//! null in its place. Each expanded reference takes one statement, however long the page is.

use std::collections::HashMap;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{Comparison, Field, Filter, Record, Records};
use crate::error::{FieldError, Result};
use crate::module::{CompiledModule, FieldSpec, FieldType};
use crate::registry::Registry;
use crate::scope::{Permit, Read, Scope};
use crate::value::Value;

/// Most references that one request names to be expanded; a nested one expands two.
pub const MAX_EXPAND: usize = 10;

/// Which part of a record is shown, and which of its references as whole records.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Positions of the fields shown beside `id` and `version`; `None` for all.
    fields: Option<Shown>,
    expand: Vec<Expand>,
}

#[derive(Debug, Clone, Default)]
struct Shown {
    owner_id: bool,
    created_at: bool,
    updated_at: bool,
    declared: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Expand {
    field: usize,
    name: String,
    target: Arc<CompiledModule>,
    nested: Vec<Expand>,
}

impl View {
    /// Whether it shows parts of other records.
    pub fn expands(&self) -> bool {
        !self.expand.is_empty()
    }

    /// Shows these fields, beside `id` and `version`, and no others.
    ///
    /// # Errors
    /// A [`FieldError`] on `fields` for the first name that is none of the module's.
    pub fn show<'n>(
        &mut self,
        module: &CompiledModule,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), FieldError> {
        let mut shown = Shown::default();
        for name in names {
            match Field::named(module, name) {
                Some(Field::Id) => {}
                Some(Field::OwnerId) => shown.owner_id = true,
                Some(Field::CreatedAt) => shown.created_at = true,
                Some(Field::UpdatedAt) => shown.updated_at = true,
                Some(Field::Declared(position)) => shown.declared.push(position),
                None if name == "version" => {}
                None => {
                    let message = format!("{} has no field {name}", module.name());
                    return Err(FieldError::new("fields", "unknown_field", message));
                }
            }
        }
        self.fields = Some(shown);
        Ok(())
    }

    /// Shows the records that these references name: `company_id`, or `deal_id.company_id` for a
    /// reference of the referred record.
    ///
    /// # Errors
    /// A [`FieldError`] on `expand` for what is no reference, for a third level, and for more than
    /// ten references.
    pub fn expand<'n>(
        &mut self,
        registry: &Registry,
        module: &CompiledModule,
        paths: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), FieldError> {
        for (count, path) in paths.into_iter().enumerate() {
            if count == MAX_EXPAND {
                let message = format!("at most {MAX_EXPAND} references are expanded");
                return Err(FieldError::new("expand", "too_many", message));
            }
            match path.split_once('.') {
                None => {
                    add(&mut self.expand, registry, module, path)?;
                }
                Some((first, second)) => {
                    let outer = add(&mut self.expand, registry, module, first)?;
                    let target = outer.target.clone();
                    add(&mut outer.nested, registry, &target, second)?;
                }
            }
        }
        Ok(())
    }
}

/// The expansion of the reference called `name`, added when it is not there yet.
fn add<'e>(
    expand: &'e mut Vec<Expand>,
    registry: &Registry,
    module: &CompiledModule,
    name: &str,
) -> Result<&'e mut Expand, FieldError> {
    let refuse = || {
        let known = module.fields().iter().filter(|field| is_reference(field));
        let known: Vec<_> = known.map(|field| field.name.as_str()).collect();
        let message = match known.is_empty() {
            true => format!("{} has no references to expand", module.name()),
            false => format!("{} can expand: {}", module.name(), known.join(", ")),
        };
        FieldError::new("expand", "unknown_field", message)
    };
    let field = module.position(name).ok_or_else(refuse)?;
    if let Some(position) = expand.iter().position(|one| one.field == field) {
        return Ok(&mut expand[position]);
    }
    let FieldType::Reference { module: target, .. } = &module.fields()[field].kind else {
        return Err(refuse());
    };
    let target = registry.get(target.as_str()).ok_or_else(refuse)?.clone();
    let name = expanded_name(module, &module.fields()[field]);
    expand.push(Expand {
        field,
        name,
        target,
        nested: Vec::new(),
    });
    let last = expand.len() - 1;
    Ok(&mut expand[last])
}

fn is_reference(field: &FieldSpec) -> bool {
    matches!(field.kind, FieldType::Reference { .. })
}

/// The member under which the record stands that `field` refers to: its name without `_id`, or
/// with `_expanded` behind it where that is no name or another field's.
pub fn expanded_name(module: &CompiledModule, field: &FieldSpec) -> String {
    let name = field.name.as_str();
    match name.strip_suffix("_id") {
        Some(short)
            if !short.is_empty() && short != "version" && Field::named(module, short).is_none() =>
        {
            short.to_owned()
        }
        _ => {
            let mut long = format!("{name}_expanded");
            while Field::named(module, &long).is_some() {
                long.push('_');
            }
            long
        }
    }
}

/// A record as a [`View`] shows it.
#[derive(Debug, Clone)]
pub struct Viewed {
    record: Record,
    fields: Option<Arc<Shown>>,
    expanded: Vec<(Arc<str>, Option<Arc<Viewed>>)>,
}

impl Viewed {
    /// The whole record.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

impl Serialize for Viewed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.fields {
            None => self
                .record
                .write(&mut map, |_| true, 0..self.record.values.len())?,
            Some(shown) => self.record.write(
                &mut map,
                |field| match field {
                    Field::OwnerId => shown.owner_id,
                    Field::CreatedAt => shown.created_at,
                    Field::UpdatedAt => shown.updated_at,
                    Field::Id | Field::Declared(_) => true,
                },
                shown.declared.iter().copied(),
            )?,
        }
        for (name, record) in &self.expanded {
            map.serialize_entry(&**name, record)?;
        }
        map.end()
    }
}

impl Records {
    /// The records as the view shows them: one statement for each expanded reference.
    ///
    /// # Errors
    /// Only those of the database: a reference that the scope may not follow shows as null.
    pub async fn view(
        &self,
        permit: &Permit<Read>,
        records: Vec<Record>,
        view: &View,
    ) -> Result<Vec<Viewed>> {
        let mut viewed = whole(records);
        if let Some(shown) = &view.fields {
            let mut shown = shown.clone();
            shown.declared.sort_unstable();
            shown.declared.dedup();
            let shown = Arc::new(shown);
            for one in &mut viewed {
                one.fields = Some(shown.clone());
            }
        }
        for expand in &view.expand {
            let mut found = self.referred(permit.scope(), &viewed, expand).await?;
            for nested in &expand.nested {
                let further = self.referred(permit.scope(), &found, nested).await?;
                attach(&mut found, nested, further);
            }
            attach(&mut viewed, expand, found);
        }
        Ok(viewed)
    }

    /// The records that `expand` finds behind these, as far as the scope may read them.
    async fn referred(
        &self,
        scope: &Scope,
        records: &[Viewed],
        expand: &Expand,
    ) -> Result<Vec<Viewed>> {
        let Ok(permit) = scope.permit::<Read>(expand.target.name().as_str()) else {
            return Ok(Vec::new());
        };
        let mut ids: Vec<Uuid> = records
            .iter()
            .filter_map(|one| referred_id(&one.record, expand))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let Some(last) = ids.last().copied() else {
            return Ok(Vec::new());
        };
        // A handful of lengths makes a handful of prepared statements.
        ids.resize(ids.len().next_power_of_two(), last);
        let ids = ids.into_iter().map(Value::Uuid).collect();
        let filter = Filter::Compare(Field::Id, Comparison::In(ids));
        Ok(whole(self.matching(&permit, &filter).await?))
    }
}

fn whole(records: Vec<Record>) -> Vec<Viewed> {
    let viewed = records.into_iter().map(|record| Viewed {
        record,
        fields: None,
        expanded: Vec::new(),
    });
    viewed.collect()
}

fn referred_id(record: &Record, expand: &Expand) -> Option<Uuid> {
    match record.values().get(expand.field) {
        Some(Value::Uuid(id)) => Some(*id),
        _ => None,
    }
}

/// Puts each found record under those that refer to it, and null where there is none.
fn attach(records: &mut [Viewed], expand: &Expand, found: Vec<Viewed>) {
    let found: HashMap<Uuid, Arc<Viewed>> = found
        .into_iter()
        .map(|one| (one.record.id.0, Arc::new(one)))
        .collect();
    let name: Arc<str> = expand.name.as_str().into();
    for one in records {
        let target = referred_id(&one.record, expand).and_then(|id| found.get(&id).cloned());
        one.expanded.push((name.clone(), target));
    }
}
