//! Custom fields in the database.

use super::CustomField;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::module::{CompiledModule, FieldSpec, Ident, MachineSpec, ModuleSpec};

const COLUMNS: &[ColumnType] = &[
    ColumnType::Text,
    ColumnType::Int,
    ColumnType::Text,
    ColumnType::Bool,
    ColumnType::Instant,
    ColumnType::Instant,
];

fn select() -> Sql {
    Sql::new(
        "SELECT module, number, declaration, indexed, created_at, removed_at \
         FROM custom_fields WHERE ",
    )
    .returns(COLUMNS)
}

/// The fields that the tenant uses, in the order of their numbers.
pub(super) fn in_use(tenant: TenantId) -> Sql {
    let mut sql = select();
    sql.push("tenant_id = ").arg(tenant, ColumnType::Uuid);
    sql.push(" AND removed_at IS NULL ORDER BY number");
    sql
}

/// The fields of one module, removed ones too.
pub(super) fn of_module(tenant: TenantId, module: &Ident) -> Sql {
    let mut sql = select();
    sql.push("tenant_id = ").arg(tenant, ColumnType::Uuid);
    sql.push(" AND module = ")
        .arg(module.as_str(), ColumnType::Text);
    sql.push(" ORDER BY number");
    sql
}

/// The fields of all tenants that a module's table has indexes for.
pub(super) fn indexed(module: &Ident) -> Sql {
    let mut sql = select();
    sql.push("module = ").arg(module.as_str(), ColumnType::Text);
    sql.push(" AND indexed AND removed_at IS NULL");
    sql
}

/// The numbers of the references that the tenant uses.
pub(super) fn references(tenant: TenantId) -> Sql {
    let mut sql = Sql::new("SELECT number FROM custom_fields WHERE tenant_id = ");
    sql.arg(tenant, ColumnType::Uuid);
    sql.push(" AND refers_to IS NOT NULL AND removed_at IS NULL ORDER BY number");
    sql.returns(&[ColumnType::Int])
}

/// A field that the tenant uses by which another module refers to this one.
pub(super) fn referring(tenant: TenantId, module: &Ident) -> Sql {
    let mut sql = Sql::new("SELECT module, name FROM custom_fields WHERE tenant_id = ");
    sql.arg(tenant, ColumnType::Uuid).push(" AND refers_to = ");
    sql.arg(module.as_str(), ColumnType::Text)
        .push(" AND module <> ")
        .arg(module.as_str(), ColumnType::Text);
    sql.push(" AND removed_at IS NULL ORDER BY module, name LIMIT 1");
    sql.returns(&[ColumnType::Text, ColumnType::Text])
}

/// Reads a row, with the module's name first.
pub(super) fn parse(mut row: Row) -> Result<(Ident, CustomField)> {
    let broken = |column: &'static str| Error::Inconsistent {
        table: "custom_fields".into(),
        column: column.into(),
    };
    let module: String = row.text()?;
    let number: i64 = row.int()?;
    let declaration: String = row.text()?;
    let field = CustomField {
        number: u64::try_from(number).map_err(|_| broken("number"))?,
        spec: serde_json::from_str(&declaration).map_err(|_| broken("declaration"))?,
        indexed: row.bool()?,
        created_at: row.instant()?,
        removed_at: row.opt_instant()?,
    };
    Ok((module.parse().map_err(|_| broken("module"))?, field))
}

/// A number that no field of any tenant ever had: made of the epoch of the running change of the
/// tenant's policy, which no other has.
pub(super) async fn new_number(tx: &mut Tx<'_>, tenant: TenantId, position: u64) -> Result<u64> {
    let epoch = Sql::new("SELECT policy_epoch FROM tenants WHERE id = $1")
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Int]);
    let mut row = tx.fetch_optional(epoch).await?.ok_or(Error::NotFound)?;
    let epoch: i64 = row.int()?;
    Ok(epoch.unsigned_abs() * 1_000 + position)
}

pub(super) async fn count(tx: &mut Tx<'_>, tenant: TenantId) -> Result<i64> {
    let count = Sql::new("SELECT count(*) FROM custom_fields WHERE tenant_id = $1")
        .bind(tenant, ColumnType::Uuid);
    tx.number(count).await
}

/// How many custom fields of all tenants have an index on the module's table.
pub(super) async fn count_indexed(tx: &mut Tx<'_>, module: &CompiledModule) -> Result<i64> {
    let mut sql = Sql::new("SELECT count(*) FROM custom_fields WHERE indexed AND ");
    if module.is_tenants() {
        sql.push("(tenant_id, module) IN (SELECT tenant_id, name FROM custom_modules)");
    } else {
        sql.push("module = ")
            .arg(module.name().as_str(), ColumnType::Text);
    }
    tx.number(sql).await
}

/// Writes a field, in place of the one with its name.
pub(super) async fn put(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    module: &Ident,
    field: &CustomField,
) -> Result<()> {
    let sql = Sql::new(
        "INSERT INTO custom_fields \
         (tenant_id, module, name, number, declaration, indexed, created_at, removed_at, \
         refers_to) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (tenant_id, module, name) DO UPDATE \
         SET declaration = excluded.declaration, indexed = excluded.indexed, \
         removed_at = excluded.removed_at",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(module.as_str(), ColumnType::Text)
    .bind(field.spec.name.as_str(), ColumnType::Text)
    .bind(
        i64::try_from(field.number).map_err(Error::internal)?,
        ColumnType::Int,
    )
    .bind(declaration(&field.spec)?, ColumnType::Text)
    .bind(field.indexed, ColumnType::Bool)
    .bind(field.created_at, ColumnType::Instant)
    .bind(field.removed_at, ColumnType::Instant)
    .bind(
        field.spec.kind.targets().first().map(Ident::as_str),
        ColumnType::Text,
    );
    tx.execute(sql).await?;
    Ok(())
}

pub(super) async fn delete(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    module: &Ident,
    name: &Ident,
) -> Result<()> {
    let sql =
        Sql::new("DELETE FROM custom_fields WHERE tenant_id = $1 AND module = $2 AND name = $3")
            .bind(tenant, ColumnType::Uuid)
            .bind(module.as_str(), ColumnType::Text)
            .bind(name.as_str(), ColumnType::Text);
    tx.execute(sql).await?;
    Ok(())
}

pub(super) fn declaration(spec: &FieldSpec) -> Result<String> {
    serde_json::to_string(spec).map_err(Error::internal)
}

/// The tenant's own modules by name, without their fields.
pub(super) fn modules(tenant: TenantId) -> Sql {
    use ColumnType::{Bool, Text, Uuid};
    Sql::new(
        "SELECT name, singular, description, soft_delete, machines FROM custom_modules \
         WHERE tenant_id = $1 ORDER BY name",
    )
    .bind(tenant, Uuid)
    .returns(&[Text, Text, Text, Bool, Text])
}

pub(super) fn parse_module(mut row: Row) -> Result<ModuleSpec> {
    let broken = |column: &'static str| Error::Inconsistent {
        table: "custom_modules".into(),
        column: column.into(),
    };
    let mut text = || row.text::<String>();
    let (name, singular, description) = (text()?, text()?, text()?);
    let soft_delete: bool = row.bool()?;
    let machines: String = row.text()?;
    let spec = serde_json::json!({
        "name": name, "singular": singular, "description": description,
        "soft_delete": soft_delete, "fields": [],
    });
    let spec = serde_json::from_value(spec).map_err(|_| broken("name"))?;
    // Records must not change against a machine that only another version of this program can read.
    let machines = serde_json::from_str(&machines).map_err(|_| broken("machines"))?;
    Ok(ModuleSpec { machines, ..spec })
}

/// Machines as they are kept.
pub(super) fn machines(machines: &[MachineSpec]) -> Result<String> {
    serde_json::to_string(machines).map_err(Error::internal)
}
