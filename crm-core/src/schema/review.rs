//! What is in the database against new declarations: records that break their rules, and tenants'
//! own fields and modules that they hide. Looking changes nothing.

use std::sync::Arc;

use super::{CUSTOM_FIELDS, Present, Schema};
use crate::db::ddl::Obstacle;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, FieldError, Result};
use crate::module::{CompiledModule, Ident};
use crate::registry::Registry;

/// What is in the database against new declarations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Review {
    /// What [`Schema::apply`] refuses, each with its module, field and the number of records.
    pub refusals: Vec<FieldError>,
    /// What of tenants is hidden; its values stay, and nobody sees them.
    pub hidden: Vec<Hidden>,
}

/// A field or a module of tenants' own that has the name of a declared one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hidden {
    /// The module.
    pub module: String,
    /// The field; none when the whole module is hidden.
    pub field: Option<String>,
    /// The names of the tenants that have it, a hundred at most.
    pub tenants: Vec<String>,
}

/// Most tenants that are named.
const MOST_TENANTS: u64 = 100;

impl Schema {
    /// What is in the database against these declarations.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn review(&self, registry: &Registry) -> Result<Review> {
        let (present, dialect) = (self.present().await?, self.dialect());
        let mut review = Review::default();
        for module in registry.by_dependency() {
            for obstacle in present.obstacles(module, dialect) {
                let row = self.db()?.fetch_optional(obstacle.count.clone()).await?;
                review.refusals.extend(refusal(&obstacle, row)?);
            }
        }
        if self.has(CUSTOM_FIELDS).await? {
            for module in registry.by_dependency() {
                self.hidden(module, &mut review.hidden).await?;
            }
        }
        Ok(review)
    }

    /// Adds what a module hides.
    async fn hidden(&self, module: &CompiledModule, all: &mut Vec<Hidden>) -> Result<()> {
        let mut add = |field: Option<&Ident>, tenants: Vec<String>| {
            if !tenants.is_empty() {
                all.push(Hidden {
                    module: module.name().to_string(),
                    field: field.map(Ident::to_string),
                    tenants,
                });
            }
        };
        let tenants = self.names(tenants_with_module(module.name())).await?;
        add(None, tenants);
        let fields = hidden_fields(module);
        for name in self.names(fields).await? {
            let Ok(field) = name.parse::<Ident>() else {
                continue;
            };
            let tenants = tenants_with_field(module.name(), &field);
            add(Some(&field), self.names(tenants).await?);
        }
        Ok(())
    }

    async fn names(&self, sql: Sql) -> Result<Vec<String>> {
        let rows = self.db()?.fetch_all(sql).await?;
        rows.into_iter().map(|mut row| row.text()).collect()
    }
}

/// Refuses what records break, all of it at once.
pub(super) async fn refuse_obstacles(
    tx: &mut Tx<'_>,
    present: &Present,
    modules: &[Arc<CompiledModule>],
) -> Result<()> {
    let mut refused = Vec::new();
    for module in modules {
        for obstacle in present.obstacles(module, tx.dialect()) {
            let row = tx.fetch_optional(obstacle.count.clone()).await?;
            refused.extend(refusal(&obstacle, row)?);
        }
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(refused)),
    }
}

fn refusal(obstacle: &Obstacle, row: Option<Row>) -> Result<Option<FieldError>> {
    let count: i64 = row.map_or(Ok(0), |mut row| row.int())?;
    Ok(obstacle.refusal(count))
}

/// The names of the declared fields that tenants have too.
fn hidden_fields(module: &CompiledModule) -> Sql {
    let mut sql =
        Sql::new("SELECT DISTINCT name FROM custom_fields WHERE removed_at IS NULL AND module = ");
    sql.arg(module.name().as_str(), ColumnType::Text)
        .push(" AND name IN (");
    let fields = module.declared_fields().iter();
    let names = fields.map(|field| &field.name);
    let names = names.chain(module.computed().map(|field| &field.name));
    for (position, name) in names.enumerate() {
        sql.push(if position == 0 { "" } else { ", " });
        sql.arg(name.as_str(), ColumnType::Text);
    }
    sql.push(") ORDER BY name");
    sql.returns(&[ColumnType::Text])
}

fn tenants_with_field(module: &Ident, field: &Ident) -> Sql {
    let mut sql = Sql::new(
        "SELECT t.name FROM custom_fields f JOIN tenants t ON t.id = f.tenant_id \
         WHERE f.removed_at IS NULL AND NOT EXISTS (SELECT 1 FROM custom_modules m \
         WHERE m.tenant_id = f.tenant_id AND m.name = f.module) AND f.module = ",
    );
    sql.arg(module.as_str(), ColumnType::Text)
        .push(" AND f.name = ")
        .arg(field.as_str(), ColumnType::Text);
    sql.push(" ORDER BY t.name LIMIT ").number(MOST_TENANTS);
    sql.returns(&[ColumnType::Text])
}

fn tenants_with_module(module: &Ident) -> Sql {
    let mut sql = Sql::new(
        "SELECT t.name FROM custom_modules m JOIN tenants t ON t.id = m.tenant_id \
         WHERE m.name = ",
    );
    sql.arg(module.as_str(), ColumnType::Text);
    sql.push(" ORDER BY t.name LIMIT ").number(MOST_TENANTS);
    sql.returns(&[ColumnType::Text])
}
