//! What a custom field may be, beyond the rules of every field.

use crate::db::custom::is_storable;
use crate::error::{Error, FieldError, Result};
use crate::module::words::not_tenants;
use crate::module::{Bounds, CompiledModule, FieldSpec, FieldType, Ident, ModuleSpec, OnDelete};
use crate::record::expanded_name;
use crate::scope::{Read, Scope};

use super::{MAX_FIELDS, MAX_FIELDS_OF_TENANT};

/// Most characters of a module's description.
const MAX_DESCRIPTION: usize = 1_000;

/// What is wrong with what a module says of itself.
pub(super) fn description(text: &str) -> Option<FieldError> {
    let message = format!("use at most {MAX_DESCRIPTION} characters");
    let is_long = text.chars().nth(MAX_DESCRIPTION).is_some();
    is_long.then(|| FieldError::new("description", "too_long", message))
}

/// Holds a declaration against the rules; pointers lead into the field. It may be made of the
/// application's fields and of `others` of the tenant's.
pub(crate) fn declaration(
    module: &CompiledModule,
    others: &[FieldSpec],
    spec: &FieldSpec,
) -> Result<()> {
    let mut whole = module.spec().clone();
    whole.fields = module.declared_fields().to_vec();
    if spec.computed.is_some() || spec.copied.is_some() {
        let others = others.iter().filter(|other| other.name != spec.name);
        whole.fields.extend(others.cloned());
    }
    let place = format!("/fields/{}", whole.fields.len());
    whole.fields.push(spec.clone());
    // The application's fields do not count against the tenant's.
    let checked = match crate::module::check(&whole) {
        Err(Error::Invalid(mut problems)) => {
            problems.retain_mut(|problem| {
                let rest = problem.pointer.strip_prefix(&place).map(str::to_owned);
                problem.pointer = rest.clone().unwrap_or_default();
                rest.is_some()
            });
            problems
        }
        checked => {
            checked?;
            Vec::new()
        }
    };
    let mut problems = checked;
    let mut refuse = |field: &str, code, message: String| {
        problems.push(FieldError::new(field, code, message));
    };
    let name = &spec.name;
    let word = match spec.serial {
        true => "serial",
        false => spec.kind.name(),
    };
    let several = spec.kind.is_reference() && !matches!(spec.kind, FieldType::Reference { .. });
    if spec.serial || several || !is_storable(spec.kind.column()) {
        refuse("type", "not_supported", not_tenants(word));
    }
    if module.computed().any(|field| field.name == *name) {
        let message = format!("the name `{name}` is taken by a computed field");
        refuse("name", "duplicate", message);
    }
    let shows = |field: &&FieldSpec| {
        field.kind.is_reference() && expanded_name(module, field) == name.as_str()
    };
    if let Some(field) = module.fields().iter().find(shows) {
        let message = format!("`{name}` is what `{}` is expanded as", field.name);
        refuse("name", "reserved", message);
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(problems)),
    }
}

/// What a check says of a field that has its name already, which may have been reserved since.
pub(super) fn beside_name(checked: Result<()>) -> Result<()> {
    let Err(Error::Invalid(mut problems)) = checked else {
        return checked;
    };
    problems.retain(|problem| (problem.pointer.as_str(), problem.code) != ("/name", "reserved"));
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(problems)),
    }
}

/// Refuses a reference to what is no module that the scope may read, and one that could not be
/// followed when what it refers to is deleted.
pub(super) fn target(scope: &Scope, module: &ModuleSpec, spec: &FieldSpec) -> Result<()> {
    let FieldType::Reference {
        module: target,
        on_delete,
    } = &spec.kind
    else {
        return Ok(());
    };
    if *target == module.name {
        return Ok(());
    }
    let permit = scope.permit::<Read>(target.as_str());
    let permit = permit.map_err(|_| unknown_module(target))?;
    let known = permit.module().map_err(|_| unknown_module(target))?;
    if *on_delete == OnDelete::Cascade && module.soft_delete && !known.spec().soft_delete {
        let message = format!(
            "{} has a trash and {target} has none: what goes to the trash cannot refer to what is \
             gone; say restrict or set_null",
            module.name
        );
        return Err(Error::invalid("on_delete", "not_supported", message));
    }
    Ok(())
}

/// The refusal of a reference to a module that is not there, or not for the scope to read.
pub(super) fn unknown_module(name: &Ident) -> Error {
    let message = format!("there is no module `{name}` that you may read; correct the name");
    Error::invalid("module", "unknown_module", message)
}

/// Refuses one field too many.
pub(super) fn room(of_module: usize, of_tenant: i64) -> Result<()> {
    let most = match usize::try_from(of_tenant) {
        _ if of_module >= MAX_FIELDS => {
            format!("a module takes at most {MAX_FIELDS} custom fields")
        }
        Ok(count) if count < MAX_FIELDS_OF_TENANT => return Ok(()),
        _ => format!("a tenant has at most {MAX_FIELDS_OF_TENANT} custom fields"),
    };
    let message = format!("{most}, removed ones included; remove and purge one first");
    Err(Error::conflict("too_many_fields", message))
}

/// Refuses to bring back a field whose values are no values of the new declaration.
pub(super) fn returns(old: &FieldSpec, new: &FieldSpec) -> Result<()> {
    if old.computed.is_some() {
        return Ok(());
    }
    if old.kind.is_reference() {
        let message = format!(
            "records may refer by the removed field `{}` to what is gone since; purge it first",
            new.name
        );
        return Err(Error::conflict("field_not_purged", message));
    }
    let is_made_anew = new.computed.is_some() || (new.copied.is_some() && new.copied != old.copied);
    if holds(&old.kind, &new.kind) && !is_made_anew {
        return Ok(());
    }
    let message = format!(
        "a removed field `{}` of type {} could have values that do not fit this declaration; purge \
         it first, or declare it as it was",
        new.name,
        old.kind.name()
    );
    Err(Error::conflict("field_not_purged", message))
}

/// Whether every value of `old` is one of `new`, kept in the same way.
fn holds(old: &FieldType, new: &FieldType) -> bool {
    match (old, new) {
        (
            FieldType::Text { min, max } | FieldType::LongText { min, max },
            FieldType::Text {
                min: new_min,
                max: new_max,
            }
            | FieldType::LongText {
                min: new_min,
                max: new_max,
            },
        ) => new_min <= min && max <= new_max,
        (
            FieldType::Integer { min, max },
            FieldType::Integer {
                min: new_min,
                max: new_max,
            },
        ) => new_min <= min && max <= new_max,
        (
            FieldType::Decimal {
                precision,
                scale,
                bounds,
            },
            FieldType::Decimal {
                precision: new_precision,
                scale: new_scale,
                bounds: new_bounds,
            },
        ) => {
            let wider = bounds == new_bounds || *new_bounds == Bounds::NONE;
            scale == new_scale && precision <= new_precision && wider
        }
        (FieldType::Enum { values }, FieldType::Enum { values: new }) => {
            values.iter().all(|value| new.contains(value))
        }
        (old, new) => old == new,
    }
}

/// Refuses values of an enum that lack one of before.
pub(super) fn extends(old: &[String], new: &[String]) -> Result<()> {
    match old.iter().find(|value| !new.contains(value)) {
        None => Ok(()),
        Some(lost) => {
            let message = format!("must keep {lost:?}, which records may have; add further values");
            Err(Error::invalid("values", "narrowed", message))
        }
    }
}
