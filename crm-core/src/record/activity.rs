//! The rows that a change of a record leaves in other modules by declaration: automatic activities
//! (SA-97).

use futures::future::BoxFuture;

use super::Record;
use super::write::{checked_create, create_in};
use crate::crm::Core;
use crate::db::Tx;
use crate::error::Result;
use crate::module::CompiledModule;
use crate::module::input::CreateInput;
use crate::scope::{Create, Permit, Scope};

/// Whether a write of this module's records is more than its own row and traces.
pub(super) fn has_effects(tx: &Tx<'_>, core: &Core, module: &CompiledModule) -> bool {
    core.hooks.watch(module) || module.is_logged() || tx.hearing().watches(module)
}

/// Writes the rows that follow from a change: by the application's right, in the caller's name.
pub(super) async fn write(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    before: Option<&Record>,
    after: &Record,
    forced: &[usize],
) -> Result<()> {
    let module = after.module();
    if !module.is_logged() {
        return Ok(());
    }
    let (id, old) = (after.id.to_string(), before.map(Record::values));
    let system = scope.elevated();
    for entry in module.entries(&id, old, after.values(), forced) {
        let permit = system.permit::<Create>(entry.module.as_str())?;
        let (permit, sent) = checked_create(&permit, entry.body)?;
        let mut tx = tx.nested()?;
        create(&mut tx, core, &permit, &sent).await?;
    }
    Ok(())
}

/// A create inside a write: boxed, for it may contain others.
fn create<'a>(
    tx: &'a mut Tx<'_>,
    core: &'a Core,
    permit: &'a Permit<Create>,
    sent: &'a CreateInput,
) -> BoxFuture<'a, Result<Record>> {
    Box::pin(create_in(tx, core, permit, sent))
}
