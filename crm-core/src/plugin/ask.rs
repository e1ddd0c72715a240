//! What a manifest asks for, held against what the tenant has: modules, fields and filters. It
//! refuses before anything is stored; what the tenant changes later makes an upload ask in vain,
//! never more.

use std::fmt::Display;

use serde_json::{Map, Value as Json};

use super::manifest::invalid;
use super::sight::NOT_YET;
use super::{
    ActionTrigger, BeforeTrigger, EventTrigger, GrantAction, Manifest, PlannedChange, Trigger,
    input,
};
use crate::error::{Error, Result};
use crate::module::{CompiledModule, Ident};
use crate::record::Filter;
use crate::registry::Registry;
use crate::scope::Scope;

/// What is shown with any right to read, whichever fields a grant names.
const ALWAYS: [&str; 3] = ["id", "created_at", "updated_at"];

/// The modules of a tenant.
type Modules<'m> = [&'m CompiledModule];

impl Manifest {
    /// Refuses what a tenant would refuse at upload that has these modules and none of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] `invalid_manifest` for a trigger or grant on a module or field that there
    /// is not, and for what no plugin gets.
    pub fn check_against(&self, modules: &Registry) -> Result<()> {
        let modules: Vec<_> = modules.iter().map(AsRef::as_ref).collect();
        check_all(&modules, self)
    }
}

/// Refuses a manifest that the tenant's modules cannot satisfy.
pub(super) fn check(scope: &Scope, manifest: &Manifest) -> Result<()> {
    let modules: Vec<_> = scope.modules().map(AsRef::as_ref).collect();
    check_all(&modules, manifest)
}

fn check_all(modules: &Modules, manifest: &Manifest) -> Result<()> {
    for grant in &manifest.grants {
        let module = called(modules, &grant.module)?;
        for field in grant.fields.iter().flatten() {
            known(module, field)?;
        }
    }
    for trigger in &manifest.triggers {
        match trigger {
            Trigger::Event(event) => on(modules, manifest, event)?,
            Trigger::Custom(_) | Trigger::Cron(_) | Trigger::Webhook(_) => {}
            Trigger::Before(before) => ahead(modules, manifest, before)?,
            Trigger::Action(action) => by_hand(modules, action)?,
        }
    }
    Ok(())
}

/// An event of a module there is, on fields that the manifest asks to read.
fn on(modules: &Modules, manifest: &Manifest, event: &EventTrigger) -> Result<()> {
    let module = named(modules, &event.subject)?;
    let what = format!("on {}.{}", event.subject, event.change);
    let compared = compared(module, &event.fields, event.filter.as_ref(), &what)?;
    looks_at(manifest, module, &compared, &what)
}

/// Changes of modules there are, on fields that the manifest asks to read.
fn ahead(modules: &Modules, manifest: &Manifest, before: &BeforeTrigger) -> Result<()> {
    for (subject, change) in &before.changes {
        let module = named(modules, subject)?;
        let what = format!("before {subject}.{}", change.as_str());
        let compared = compared(module, &before.fields, before.filter.as_ref(), &what)?;
        let mut not_yet = compared.iter();
        let not_yet = not_yet.find(|field| NOT_YET.contains(&field.as_str()));
        if let (PlannedChange::Create, Some(field)) = (change, not_yet) {
            return Err(invalid(format_args!(
                "the trigger {what} looks at {field}, which a new record has not yet"
            )));
        }
        looks_at(manifest, module, &compared, &what)?;
    }
    Ok(())
}

/// The fields of the module that a trigger looks at.
fn compared(
    module: &CompiledModule,
    fields: &[Ident],
    filter: Option<&Map<String, Json>>,
    what: &str,
) -> Result<Vec<Ident>> {
    for field in fields {
        known(module, field)?;
    }
    let Some(filter) = filter else {
        return Ok(fields.to_vec());
    };
    let filter = Filter::from_json(module, filter).map_err(|errors| {
        let first = errors.first();
        let (at, why) = first.map_or(("", ""), |one| (one.pointer.as_str(), one.message.as_str()));
        invalid(format_args!(
            "the filter of the trigger {what} does not hold at {at}: {why}"
        ))
    })?;
    let filtered = filter.fields().into_iter();
    let filtered = filtered.filter_map(|field| field.name(module).parse().ok());
    Ok(fields.iter().cloned().chain(filtered).collect())
}

/// Refuses a trigger that looks at what the manifest does not ask to read.
fn looks_at(
    manifest: &Manifest,
    module: &CompiledModule,
    compared: &[Ident],
    what: &str,
) -> Result<()> {
    if compared.is_empty() {
        return Ok(());
    }
    let mut grants = manifest.grants.iter();
    let read = grants
        .find(|grant| grant.module == *module.name() && grant.actions.contains(&GrantAction::Read));
    let Some(read) = read else {
        return Err(invalid(format_args!(
            "the trigger {what} looks at fields, which takes a grant to read {}",
            module.name()
        )));
    };
    let granted = |field: &Ident| {
        ALWAYS.contains(&field.as_str())
            || read
                .fields
                .as_ref()
                .is_none_or(|fields| fields.contains(field))
    };
    match compared.iter().find(|field| !granted(field)) {
        Some(field) => Err(invalid(format_args!(
            "the trigger {what} looks at {field}, which the grant on {} leaves out",
            module.name()
        ))),
        None => Ok(()),
    }
}

/// An action on a module there is, with an input that can be shown.
fn by_hand(modules: &Modules, action: &ActionTrigger) -> Result<()> {
    let name = &action.name;
    let Some(module) = &action.module else {
        return Err(invalid(format_args!(
            "the action {name} names no `module` on whose records it is offered"
        )));
    };
    called(modules, module)?;
    match action.input.as_ref().map(input::check) {
        Some(Err(problem)) => Err(invalid(format_args!("the action {name}: {problem}"))),
        _ => Ok(()),
    }
}

/// The module of this name.
fn called<'m>(modules: &Modules<'m>, name: &Ident) -> Result<&'m CompiledModule> {
    let mut modules = modules.iter();
    let module = modules.find(|module| module.name() == name);
    module
        .copied()
        .ok_or_else(|| missing(format_args!("module {name}")))
}

/// The module whose records are called so.
fn named<'m>(modules: &Modules<'m>, subject: &Ident) -> Result<&'m CompiledModule> {
    let mut modules = modules.iter();
    let module = modules.find(|module| module.singular() == subject);
    module
        .copied()
        .ok_or_else(|| missing(format_args!("module whose records are called {subject}")))
}

fn known(module: &CompiledModule, field: &Ident) -> Result<()> {
    let declared = module.has_field(field.as_str()) || field.as_str() == "owner_id";
    match declared {
        true => Ok(()),
        false => Err(missing(format_args!("field {field} of {}", module.name()))),
    }
}

fn missing(what: impl Display) -> Error {
    invalid(format_args!("there is no {what} here"))
}
