//! The tables: the library's own by migrations, the modules' by their declarations.

use crate::clock::Clock;
use crate::db::ddl::{self, Step};
use crate::db::migrate::MigrationStatus;
use crate::db::{ColumnType, DatabaseOptions, Db, Sql, Tx};
use crate::error::{Error, Result};
use crate::module::{CompiledModule, ModuleSpec};
use crate::registry::Registry;

/// An open database whose tables may still have to be made.
#[derive(Debug, Clone)]
pub struct Schema {
    db: Db,
    clock: Clock,
}

impl Schema {
    /// Opens the database.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a URL of neither database, [`Error::Unavailable`] when it
    /// cannot be reached.
    pub async fn open(url: &str, options: &DatabaseOptions, clock: Clock) -> Result<Self> {
        Ok(Self {
            db: Db::open(url, options).await?,
            clock,
        })
    }

    pub(crate) fn into_db(self) -> Db {
        self.db
    }

    /// The library's migrations and whether each is applied.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the database is newer than this program.
    pub async fn status(&self) -> Result<Vec<MigrationStatus>> {
        self.db.migration_status().await
    }

    /// Applies the pending migrations and answers them. Processes that start together migrate once.
    ///
    /// # Errors
    /// Those of [`status`](Self::status).
    pub async fn migrate(&self) -> Result<Vec<MigrationStatus>> {
        self.db.migrate_up(&self.clock).await
    }

    /// Reverts the newest migration and answers it. The modules' tables must be gone before the
    /// first one is.
    ///
    /// # Errors
    /// [`Error::Conflict`] while tables of modules refer to the library's.
    pub async fn revert(&self) -> Result<Option<MigrationStatus>> {
        self.db.migrate_down().await
    }

    /// What applying the declarations would do to the modules' tables.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a change that this version cannot make.
    pub async fn plan(&self, registry: &Registry) -> Result<Vec<Step>> {
        let migrated = self
            .status()
            .await?
            .iter()
            .all(|row| row.applied_at.is_some());
        let present = if migrated {
            read(self.db.fetch_all(stored()).await?)?
        } else {
            Vec::new()
        };
        let mut steps = Vec::new();
        for module in registry.by_dependency() {
            steps.extend(difference(&present, module, self.db.dialect())?);
        }
        Ok(steps)
    }

    /// Makes and changes the modules' tables; answers what was done.
    ///
    /// Tables of modules that are no longer declared stay as they are.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a change that would destroy data, naming it.
    pub async fn apply(&self, registry: &Registry) -> Result<Vec<Step>> {
        let modules: Vec<_> = registry.by_dependency().cloned().collect();
        let now = self.clock.now();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    tx.lock_schema().await?;
                    let present = read(tx.fetch_all(stored()).await?)?;
                    let mut done = Vec::new();
                    for module in modules {
                        let steps = difference(&present, &module, tx.dialect())?;
                        if let Some(step) = steps.iter().find(|step| step.destructive) {
                            return Err(Error::Configuration(
                                format!(
                                    "module {}: {} would destroy data; see `crm migrate plan`",
                                    module.name(),
                                    step.summary
                                )
                                .into(),
                            ));
                        }
                        if !present.contains(module.spec()) {
                            for step in &steps {
                                tx.run_script(step.sql.clone()).await?;
                            }
                            remember(tx, module.spec(), now).await?;
                        }
                        done.extend(steps);
                    }
                    Ok(done)
                })
            })
            .await
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.db.close().await;
    }
}

fn difference(
    present: &[ModuleSpec],
    module: &CompiledModule,
    dialect: crate::db::Dialect,
) -> Result<Vec<Step>> {
    let old = present.iter().find(|spec| spec.name == *module.name());
    ddl::plan(old, Some(module.spec()), dialect)
}

fn stored() -> Sql {
    Sql::new("SELECT spec FROM modules ORDER BY name").returns(&[ColumnType::Text])
}

fn read(rows: Vec<crate::db::Row>) -> Result<Vec<ModuleSpec>> {
    rows.into_iter()
        .map(|mut row| {
            let text: String = row.text()?;
            serde_json::from_str(&text).map_err(|_| Error::Inconsistent {
                table: "modules".into(),
                column: "spec".into(),
            })
        })
        .collect()
}

async fn remember(
    tx: &mut Tx<'_>,
    spec: &ModuleSpec,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<()> {
    let text = serde_json::to_string(spec).map_err(Error::internal)?;
    tx.execute(
        Sql::new(
            "INSERT INTO modules (name, spec, applied_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, applied_at = excluded.applied_at",
        )
        .bind(spec.name.as_str(), ColumnType::Text)
        .bind(text, ColumnType::Text)
        .bind(now, ColumnType::Instant),
    )
    .await?;
    Ok(())
}
