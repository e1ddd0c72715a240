//! What is answered of a record: some of its fields, and the records it refers to.
//!
//! A referred record is read through a permit of its own module, so whoever may not see it finds
//! null in its place. Each expanded reference takes one statement, however long the page is.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::reference::split;
use super::{Comparison, Field, Filter, Record, Records};
use crate::error::{Error, FieldError, Result};
use crate::module::{CompiledModule, FieldSpec};
use crate::scope::{Permit, Read, Scope};
use crate::value::Value;

/// Most references that one request names to be expanded; a nested one expands those before it.
pub const MAX_EXPAND: usize = 10;
/// Most references behind each other.
pub const MAX_EXPAND_DEPTH: usize = 3;
/// Most records that one reference is expanded to.
const MAX_EXPANDED: usize = 10_000;

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
    name: Arc<str>,
    /// The modules that the records are of: one, unless the reference is to any of several.
    targets: Vec<Target>,
}

#[derive(Debug, Clone)]
struct Target {
    module: Arc<CompiledModule>,
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
                None if module.computed_at(name).is_some() => {
                    shown.declared.extend(module.computed_at(name));
                }
                None => {
                    let message = module.lacks(name);
                    return Err(FieldError::new("fields", "unknown_field", message));
                }
            }
        }
        self.fields = Some(shown);
        Ok(())
    }

    /// Shows the records that these references name: `company_id`, `deal_id.company_id` for a
    /// reference of the referred record, and one level further.
    ///
    /// # Errors
    /// A [`FieldError`] on `expand` for what is no reference, for a fourth level, and for more than
    /// ten references.
    pub fn expand<'n>(
        &mut self,
        scope: &Scope,
        module: &CompiledModule,
        paths: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), FieldError> {
        for (count, path) in paths.into_iter().enumerate() {
            if count == MAX_EXPAND {
                let message = format!("at most {MAX_EXPAND} references are expanded");
                return Err(FieldError::new("expand", "too_many", message));
            }
            let steps: Vec<&str> = path.split('.').collect();
            if steps.len() > MAX_EXPAND_DEPTH {
                let message = format!("{path} leads over more than {MAX_EXPAND_DEPTH} references");
                return Err(FieldError::new("expand", "too_deep", message));
            }
            add(&mut self.expand, scope, module, &steps)?;
        }
        Ok(())
    }
}

/// Adds the expansion of the reference that the first step names, and of those behind it.
fn add(
    expand: &mut Vec<Expand>,
    scope: &Scope,
    module: &CompiledModule,
    steps: &[&str],
) -> Result<(), FieldError> {
    let Some((name, rest)) = steps.split_first() else {
        return Ok(());
    };
    let found = module.position(name);
    let shown = |at: &usize| module.fields()[*at].kind.is_reference() && module.is_readable(*at);
    let Some(field) = found.filter(shown) else {
        return Err(no_reference(module));
    };
    let known = expand.iter().position(|one| one.field == field);
    let at = known.unwrap_or_else(|| {
        let targets = module.fields()[field].kind.targets().iter();
        let targets = targets.filter_map(|name| scope.module(name.as_str()));
        expand.push(Expand {
            field,
            name: expanded_name(module, &module.fields()[field]).into(),
            targets: targets
                .map(|module| Target {
                    module: module.clone(),
                    nested: Vec::new(),
                })
                .collect(),
        });
        expand.len() - 1
    });
    let Some(next) = rest.first() else {
        return Ok(());
    };
    let (mut followed, mut refused) = (false, None);
    for target in &mut expand[at].targets {
        let has = |field: &FieldSpec| field.name.as_str() == *next && field.kind.is_reference();
        if !target.module.fields().iter().any(has) {
            refused = Some(no_reference(&target.module));
            continue;
        }
        let module = target.module.clone();
        add(&mut target.nested, scope, &module, rest)?;
        followed = true;
    }
    match refused {
        Some(refused) if !followed => Err(refused),
        _ => Ok(()),
    }
}

fn no_reference(module: &CompiledModule) -> FieldError {
    let known = module
        .fields()
        .iter()
        .filter(|field| field.kind.is_reference() && !field.write_only);
    let known: Vec<_> = known.map(|field| field.name.as_str()).collect();
    let message = match known.is_empty() {
        true => format!("{} has no references to expand", module.name()),
        false => format!("{} can expand: {}", module.name(), known.join(", ")),
    };
    FieldError::new("expand", "unknown_field", message)
}

/// The member under which the record stands that `field` refers to: its name without `_id`, or
/// with `_expanded` behind it where that is no name or another field's.
pub fn expanded_name(module: &CompiledModule, field: &FieldSpec) -> String {
    let name = field.name.as_str();
    match name.strip_suffix("_id") {
        Some(short) if !short.is_empty() && short != "version" && is_free(module, short) => {
            short.to_owned()
        }
        _ => {
            let mut long = format!("{name}_expanded");
            while !is_free(module, &long) {
                long.push('_');
            }
            long
        }
    }
}

fn is_free(module: &CompiledModule, name: &str) -> bool {
    Field::named(module, name).is_none() && !module.has_field(name)
}

/// A record as a [`View`] shows it.
#[derive(Debug, Clone)]
pub struct Viewed {
    record: Record,
    fields: Option<Arc<Shown>>,
    expanded: Vec<(Arc<str>, Expanded)>,
}

/// What stands for an expanded reference: the record if the caller may see it, or those of a list.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum Expanded {
    One(Option<Arc<Viewed>>),
    Many(Vec<Arc<Viewed>>),
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
                .write(&mut map, |_| true, 0..self.record.module.width())?,
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
    /// The records as the view shows them: one statement for each expanded reference and module.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `expand` for lists of more than 10,000 records in all; otherwise only
    /// those of the database: a reference that the scope may not follow shows as null.
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
        self.expanded(permit.scope(), &mut viewed, &view.expand)
            .await?;
        Ok(viewed)
    }

    /// Puts under each record those that it refers to, level by level.
    fn expanded<'v>(
        &'v self,
        scope: &'v Scope,
        records: &'v mut [Viewed],
        expand: &'v [Expand],
    ) -> BoxFuture<'v, Result<()>> {
        Box::pin(async move {
            for one in expand {
                let mut found = HashMap::new();
                for (place, target) in one.targets.iter().enumerate() {
                    let mut behind = self.referred(scope, records, one, place).await?;
                    self.expanded(scope, &mut behind, &target.nested).await?;
                    let behind = behind.into_iter();
                    found.extend(behind.map(|one| ((place, one.record.id.0), Arc::new(one))));
                }
                for record in records.iter_mut() {
                    record.attach(one, &found);
                }
            }
            Ok(())
        })
    }

    /// The records of one module that `expand` finds behind these, as far as the scope may read
    /// them.
    async fn referred(
        &self,
        scope: &Scope,
        records: &[Viewed],
        expand: &Expand,
        place: usize,
    ) -> Result<Vec<Viewed>> {
        let target = expand.targets.get(place);
        let permit = target.map(|target| scope.permit::<Read>(target.module.name().as_str()));
        let Some(Ok(permit)) = permit else {
            return Ok(Vec::new());
        };
        let mut ids = Vec::new();
        for record in records {
            let referred = referred_ids(&record.record, expand).into_iter();
            let of_target = referred.filter(|(of, _)| *of == place);
            ids.extend(of_target.map(|(_, id)| id));
        }
        ids.sort_unstable();
        ids.dedup();
        let Some(last) = ids.last().copied() else {
            return Ok(Vec::new());
        };
        if ids.len() > MAX_EXPANDED {
            let message = format!(
                "{} stands for more than {MAX_EXPANDED} records; ask for a smaller page",
                expand.name
            );
            return Err(Error::invalid("expand", "too_many", message));
        }
        // A handful of lengths makes a handful of prepared statements.
        ids.resize(ids.len().next_power_of_two(), last);
        let ids = ids.into_iter().map(Value::Uuid).collect();
        let filter = Filter::Compare(Field::Id, Comparison::In(ids));
        Ok(whole(self.matching(&permit, &filter).await?))
    }
}

impl Viewed {
    /// Adds what an expansion found for this record, and null or nothing where it found none.
    fn attach(&mut self, expand: &Expand, found: &HashMap<(usize, Uuid), Arc<Viewed>>) {
        if !self.record.module.is_readable(expand.field) {
            return;
        }
        let ids = referred_ids(&self.record, expand);
        let mut found = ids.iter().filter_map(|key| found.get(key).cloned());
        let kind = &self.record.module.fields()[expand.field].kind;
        let expanded = match kind.is_linked() {
            true => Expanded::Many(found.collect()),
            false => Expanded::One(found.next()),
        };
        self.expanded.push((expand.name.clone(), expanded));
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

/// The records that a value refers to, each with its module's place among the targets.
fn referred_ids(record: &Record, expand: &Expand) -> Vec<(usize, Uuid)> {
    if !record.module.is_readable(expand.field) {
        return Vec::new();
    }
    match record.values().get(expand.field) {
        Some(Value::Uuid(id)) => vec![(0, *id)],
        Some(Value::Tags(ids)) => {
            let ids = ids.iter().filter_map(|id| id.parse().ok());
            ids.map(|id| (0, id)).collect()
        }
        Some(Value::Text(text)) => {
            let named = split(text).and_then(|(name, id)| {
                let mut targets = expand.targets.iter();
                let place = targets.position(|target| target.module.name().as_str() == name)?;
                Some((place, id))
            });
            named.into_iter().collect()
        }
        _ => Vec::new(),
    }
}
