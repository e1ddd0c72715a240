//! The end of a removed field's values, a bounded number of records at a time.

use std::sync::Arc;

use serde_json::json;

use super::{CustomField, CustomFields, OBJECT, Write, rows, state};
use crate::db::{Keep, Tx};
use crate::error::{Error, Result};
use crate::id::RecordId;
use crate::journal;
use crate::module::CompiledModule;
use crate::schema::DataLoss;
use crate::scope::{Delete, Permit};

/// Records of one transaction.
const BATCH: u32 = 1_000;

impl CustomFields {
    /// Removes the values of a removed field for good, and then what is left of the field; answers
    /// how many records had one.
    ///
    /// Values go in transactions of 1,000 records. What is interrupted is finished by another call.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the module never had such a custom field; [`Error::Conflict`]
    /// `field_in_use` for one that is not removed.
    pub async fn purge(&self, permit: &Permit<Delete>, module: &str, name: &str) -> Result<u64> {
        let (write, field) = self.removed(permit, module, name).await?;
        let tenant = write.tenant();
        let purged = self
            .purge_values(&write, &field, DataLoss::Accepted)
            .await?;
        let end = self
            .core
            .policy
            .write(tenant, move |tx| Box::pin(write.forget(tx, field, purged)));
        end.await?;
        Ok(purged)
    }

    /// How many records a [`purge`](Self::purge) would take a value from; it takes none.
    ///
    /// # Errors
    /// Those of the purge.
    pub async fn purgeable(
        &self,
        permit: &Permit<Delete>,
        module: &str,
        name: &str,
    ) -> Result<u64> {
        let (write, field) = self.removed(permit, module, name).await?;
        self.purge_values(&write, &field, DataLoss::Refused).await
    }

    async fn removed(
        &self,
        permit: &Permit<Delete>,
        module: &str,
        name: &str,
    ) -> Result<(Write, CustomField)> {
        let scope = permit.on(OBJECT)?.clone();
        let module = scope.module(module).ok_or(Error::NotFound)?.clone();
        let rows = rows::of_module(scope.tenant(), module.name());
        let mut found = None;
        for row in self.core.db.fetch_all(rows).await? {
            let (_, field) = rows::parse(row)?;
            found = found.or((field.spec.name.as_str() == name).then_some(field));
        }
        Ok((Write { scope, module }, removed(found)?))
    }

    /// Takes the values out, and puts them back where their loss is refused; answers how many.
    async fn purge_values(
        &self,
        write: &Write,
        field: &CustomField,
        loss: DataLoss,
    ) -> Result<u64> {
        if field.spec.computed.is_some() {
            return Ok(0);
        }
        let (tenant, fields) = (write.tenant(), std::slice::from_ref(field));
        let with = write.module.extended(fields, self.core.db.dialect());
        let (mut after, mut purged) = (RecordId(uuid::Uuid::nil()), 0);
        let keep = match loss {
            DataLoss::Accepted => Keep::Everything,
            DataLoss::Refused => Keep::Nothing,
        };
        loop {
            let with = with.clone();
            let batch = self.core.db.write(move |tx| {
                Box::pin(async move {
                    tx.begin_step().await?;
                    let done = purge(tx, &with, tenant, after).await?;
                    tx.end_step(keep).await?;
                    Ok(done)
                })
            });
            let (count, last) = batch.await?;
            purged += count;
            match last {
                Some(last) => after = last,
                None => return Ok(purged),
            }
        }
    }
}

impl Write {
    async fn forget(self, tx: &mut Tx<'_>, field: CustomField, purged: u64) -> Result<()> {
        // Somebody may have brought it back meanwhile: it is in use again, without these values.
        let now = self.fields(tx).await?;
        let name = &field.spec.name;
        let now = removed(now.into_iter().find(|field| field.spec.name == *name))?;
        rows::delete(tx, self.tenant(), self.name(), name).await?;
        let entity = (OBJECT, Some(format!("{}.{name}", self.name())));
        let after = json!({"purged_records": purged});
        journal::audit(
            tx,
            &self.scope,
            "modules.delete",
            entity,
            Some(state(&now)),
            Some(after),
        )
        .await
    }
}

fn removed(field: Option<CustomField>) -> Result<CustomField> {
    let field = field.ok_or(Error::NotFound)?;
    if field.removed_at.is_none() {
        return Err(Error::conflict(
            "field_in_use",
            "the field is in use; remove it first",
        ));
    }
    Ok(field)
}

/// Purges the records behind `after`; answers how many had a value, and where to go on.
async fn purge(
    tx: &mut Tx<'_>,
    module: &Arc<CompiledModule>,
    tenant: crate::id::TenantId,
    after: RecordId,
) -> Result<(u64, Option<RecordId>)> {
    let Some(statements) = module.statements() else {
        return Ok((0, None));
    };
    let statements = statements.with_trash();
    let last = statements.last_of(tenant, after, BATCH);
    let last = match tx.fetch_optional(last).await? {
        Some(mut row) => Some(row.uuid()?),
        None => None,
    };
    let count = tx.execute(statements.purge(tenant, after, last)).await?;
    Ok((count, last))
}
