//! What a manifest asks for, held against what the tenant has: modules, fields and filters. It refuses before anything is stored; what the tenant changes later makes an upload
//! ask in vain, never more.

use std::fmt::Display;

use super::manifest::invalid;
use super::{ActionTrigger, EventTrigger, GrantAction, Manifest, Trigger, input};
use crate::error::{Error, Result};
use crate::module::{CompiledModule, Ident};
use crate::record::{Field, Filter};
use crate::scope::Scope;

/// Refuses a manifest that the tenant's modules cannot satisfy.
pub(super) fn check(scope: &Scope, manifest: &Manifest) -> Result<()> {
    for grant in &manifest.grants {
        let Some(module) = scope.module(grant.module.as_str()) else {
            return Err(missing(format_args!("module {}", grant.module)));
        };
        for field in grant.fields.iter().flatten() {
            known(module, field)?;
        }
    }
    for trigger in &manifest.triggers {
        match trigger {
            Trigger::Event(event) => on(scope, manifest, event)?,
            Trigger::Custom(_) | Trigger::Cron(_) | Trigger::Webhook(_) => {}
            Trigger::Before(before) => {
                for (subject, _) in &before.changes {
                    named(scope, subject)?;
                }
            }
            Trigger::Action(action) => by_hand(scope, action)?,
        }
    }
    Ok(())
}

/// An event of a module there is, on fields that the manifest asks to read.
fn on(scope: &Scope, manifest: &Manifest, event: &EventTrigger) -> Result<()> {
    let module = named(scope, &event.subject)?;
    for field in &event.fields {
        known(module, field)?;
    }
    let mut compared = event.fields.clone();
    if let Some(filter) = &event.filter {
        let filter = Filter::from_json(module, filter).map_err(|errors| {
            let subject = &event.subject;
            let first = errors.first();
            let (at, why) =
                first.map_or(("", ""), |one| (one.pointer.as_str(), one.message.as_str()));
            invalid(format_args!(
                "the filter on {subject} does not hold at {at}: {why}"
            ))
        })?;
        let fields = filter
            .fields()
            .into_iter()
            .filter(|field| matches!(field, Field::OwnerId | Field::Declared(_)));
        let names = fields.map(|field| field.name(module).parse());
        compared.extend(names.filter_map(Result::ok));
    }
    if event.fields.is_empty() && event.filter.is_none() {
        return Ok(());
    }
    let mut grants = manifest.grants.iter();
    let read = grants
        .find(|grant| grant.module == *module.name() && grant.actions.contains(&GrantAction::Read));
    let Some(read) = read else {
        return Err(invalid(format_args!(
            "the trigger on {}.{} looks at fields, which takes a grant to read {}",
            event.subject,
            event.change,
            module.name()
        )));
    };
    let granted = |field: &Ident| {
        read.fields
            .as_ref()
            .is_none_or(|fields| fields.contains(field))
    };
    match compared.iter().find(|field| !granted(field)) {
        Some(field) => Err(invalid(format_args!(
            "the trigger on {}.{} looks at {field}, which the grant on {} leaves out",
            event.subject,
            event.change,
            module.name()
        ))),
        None => Ok(()),
    }
}

/// An action on a module there is, with an input that can be shown.
fn by_hand(scope: &Scope, action: &ActionTrigger) -> Result<()> {
    let name = &action.name;
    let Some(module) = &action.module else {
        return Err(invalid(format_args!(
            "the action {name} names no `module` on whose records it is offered"
        )));
    };
    if scope.module(module.as_str()).is_none() {
        return Err(missing(format_args!("module {module}")));
    }
    match action.input.as_ref().map(input::check) {
        Some(Err(problem)) => Err(invalid(format_args!("the action {name}: {problem}"))),
        _ => Ok(()),
    }
}

/// The module whose records are called so.
fn named<'s>(scope: &'s Scope, subject: &Ident) -> Result<&'s CompiledModule> {
    let mut modules = scope.modules();
    let module = modules.find(|module| module.singular() == subject);
    module
        .map(AsRef::as_ref)
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
