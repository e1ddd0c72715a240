//! The tables: the library's own by migrations, the modules' by their declarations.

mod review;

use std::collections::HashSet;

use crate::clock::Clock;
use crate::count::told;
use crate::custom;
use crate::db::ddl::{self, Step};
use crate::db::migrate::{self, MigrationStatus, all_pending};
use crate::db::{ColumnType, DatabaseOptions, Db, Dialect, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::module::{CompiledModule, Ident, ModuleSpec};
use crate::registry::Registry;

pub use review::{Hidden, Review};

/// Whether what tables hold may be lost with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataLoss {
    /// Then nothing is done.
    Refused,
    /// It is meant.
    Accepted,
}

/// An open database whose tables may still have to be made.
#[derive(Debug, Clone)]
pub struct Schema {
    /// None when there is no database yet, and none is to be made.
    db: Option<Db>,
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
            db: Some(Db::open(url, options).await?),
            clock,
        })
    }

    /// Whether there is a database to open: a file on SQLite, and always on PostgreSQL, where
    /// opening makes none. Nothing is made or opened.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a URL of neither database.
    pub fn exists(url: &str) -> Result<bool> {
        Db::exists(url)
    }

    /// Opens the database for looking at its tables. A file that is not there is not made: it reads
    /// as a database in which everything is still to be done.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn open_present(url: &str, options: &DatabaseOptions, clock: Clock) -> Result<Self> {
        match Self::exists(url)? {
            true => Self::open(url, options, clock).await,
            false => Ok(Self { db: None, clock }),
        }
    }

    pub(crate) fn into_db(self) -> Result<Db> {
        self.db.ok_or_else(absent)
    }

    fn db(&self) -> Result<&Db> {
        self.db.as_ref().ok_or_else(absent)
    }

    fn dialect(&self) -> Dialect {
        self.db.as_ref().map_or(Dialect::Sqlite, Db::dialect)
    }

    /// The library's migrations and whether each is applied.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the database is newer than this program.
    pub async fn status(&self) -> Result<Vec<MigrationStatus>> {
        match &self.db {
            Some(db) => db.migration_status().await,
            None => all_pending(self.dialect()),
        }
    }

    /// Applies the pending migrations and answers them. Processes that start together migrate once.
    ///
    /// # Errors
    /// Those of [`status`](Self::status).
    pub async fn migrate(&self) -> Result<Vec<MigrationStatus>> {
        self.db()?.migrate_up(&self.clock).await
    }

    /// Reverts the newest migration and answers it. The modules' tables go before the first one
    /// does.
    ///
    /// # Errors
    /// [`Error::Configuration`] when there are tenants, whose data would be lost, without consent to
    /// that.
    pub async fn revert(&self, loss: DataLoss) -> Result<Option<MigrationStatus>> {
        let applied: Vec<_> = self.status().await?;
        let applied: Vec<_> = applied
            .into_iter()
            .filter(|migration| migration.applied_at.is_some())
            .collect();
        let Some(newest) = applied.last() else {
            return Ok(None);
        };
        let tenants = Sql::new("SELECT count(*) FROM tenants WHERE id <> $1")
            .bind(crate::platform::PLATFORM, ColumnType::Uuid)
            .returns(&[ColumnType::Int]);
        let tenants: i64 = match self.db()?.fetch_optional(tenants).await? {
            Some(mut row) => row.int()?,
            None => 0,
        };
        if tenants > 0 && loss == DataLoss::Refused {
            let message = format!(
                "reverting {} destroys data of {}; add --destroy-data if that is meant",
                newest.name,
                told(tenants, "tenant", "tenants")
            );
            return Err(Error::Configuration(message.into()));
        }
        if applied.len() == 1 {
            self.drop_modules().await?;
        }
        self.db()?.migrate_down().await
    }

    /// Drops the modules' tables, those that refer to others first.
    async fn drop_modules(&self) -> Result<()> {
        let job = self.db()?.write(|tx| {
            Box::pin(async move {
                tx.lock_schema().await?;
                let mut present = read(tx.fetch_all(stored()).await?)?;
                while !present.is_empty() {
                    let free = present.iter().position(|spec| !referred_to(spec, &present));
                    // Among modules that refer to each other any one is as good.
                    let spec = present.remove(free.unwrap_or(0));
                    for step in ddl::plan(Some(&spec), None, tx.dialect())? {
                        tx.run_script(step.sql).await?;
                    }
                    let forget = Sql::new("DELETE FROM modules WHERE name = $1");
                    tx.execute(forget.bind(spec.name.as_str(), ColumnType::Text))
                        .await?;
                }
                Ok(())
            })
        });
        job.await
    }

    /// What applying the declarations would do to the modules' tables. [`review`](Self::review)
    /// says what their records have against it.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a change that this version cannot make.
    pub async fn plan(&self, registry: &Registry) -> Result<Vec<Step>> {
        let (present, dialect) = (self.present().await?, self.dialect());
        let mut steps = Vec::new();
        for module in registry.by_dependency() {
            let mut found = present.difference(module, dialect)?;
            if let Some(count) = present.losing(module) {
                let row = self.db()?.fetch_optional(count).await?;
                counted(&mut found, row)?;
            }
            steps.extend(found);
        }
        Ok(steps)
    }

    /// The declarations of the modules' tables as they are, in the order of their names.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn declared(&self) -> Result<Vec<ModuleSpec>> {
        Ok(self.present().await?.specs)
    }

    async fn present(&self) -> Result<Present> {
        if !self.has(MODULES).await? {
            return Ok(Present::default());
        }
        let db = self.db()?;
        let tables = db.fetch_all(ddl::custom::tables(db.dialect())).await?;
        Present::read(db.fetch_all(stored()).await?, tables)
    }

    /// Whether the migration with this number is applied.
    async fn has(&self, version: i64) -> Result<bool> {
        let mut applied = self.status().await?.into_iter();
        Ok(applied.any(|one| one.version == version && one.applied_at.is_some()))
    }

    /// Makes and changes the modules' tables; answers what was done.
    ///
    /// Tables of modules that are no longer declared stay as they are.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a change that would destroy data, naming it; [`Error::Invalid`]
    /// for one that records break, with their number.
    pub async fn apply(&self, registry: &Registry) -> Result<Vec<Step>> {
        self.apply_with(registry, DataLoss::Refused).await
    }

    /// As [`apply`](Self::apply), also where data is lost, with consent to that. The answer counts
    /// the records that lost something.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a change that would destroy data, without consent.
    pub async fn apply_with(&self, registry: &Registry, loss: DataLoss) -> Result<Vec<Step>> {
        let modules: Vec<_> = registry.by_dependency().cloned().collect();
        let now = self.clock.now();
        self.db()?
            .write(move |tx| {
                Box::pin(async move {
                    tx.lock_schema().await?;
                    let tables = ddl::custom::tables(tx.dialect());
                    let tables = tx.fetch_all(tables).await?;
                    let present = Present::read(tx.fetch_all(stored()).await?, tables)?;
                    review::refuse_obstacles(tx, &present, &modules).await?;
                    let mut done = Vec::new();
                    for module in modules {
                        let mut steps = present.difference(&module, tx.dialect())?;
                        if let Some(count) = present.losing(&module) {
                            let row = tx.fetch_optional(count).await?;
                            counted(&mut steps, row)?;
                        }
                        let destructive = steps.iter().find(|step| step.destructive);
                        if let Some(step) = destructive.filter(|_| loss == DataLoss::Refused) {
                            return Err(Error::Configuration(
                                format!(
                                    "module {}: {} would destroy data; see `crm migrate plan`, and \
                                     `crm migrate up --destroy-data`",
                                    module.name(),
                                    step.summary
                                )
                                .into(),
                            ));
                        }
                        if !present.has(module.name()) {
                            migrate::refuse_foreign(tx, module.name().as_str()).await?;
                        }
                        for step in &steps {
                            let ran = tx.run_script(step.sql.clone()).await;
                            ran.map_err(|error| in_step(error, step))?;
                        }
                        if !steps.is_empty() {
                            // A table made anew has lost them.
                            custom::create_indexes(tx, &module).await?;
                            tx.forget_counts(module.spec()).await?;
                        }
                        if !present.specs.contains(module.spec()) {
                            remember(tx, module.spec(), now).await?;
                        }
                        done.extend(steps);
                    }
                    Ok(done)
                })
            })
            .await
    }

    /// Refuses a database whose tables are not as these declarations and this program want them.
    ///
    /// # Errors
    /// [`Error::Configuration`] saying what to do first.
    pub async fn check(&self, registry: &Registry) -> Result<()> {
        let migrations = self.status().await?;
        let pending = |migration: &&MigrationStatus| migration.applied_at.is_none();
        let pending = migrations.iter().filter(pending).count();
        if pending == migrations.len() {
            return Err(absent());
        }
        if pending == 0 && self.plan(registry).await?.is_empty() {
            return Ok(());
        }
        Err(Error::Configuration(
            "the tables have to be changed first: see `crm migrate plan`, then run `crm migrate up` \
             or start the server"
                .into(),
        ))
    }

    /// Closes the database.
    pub async fn close(&self) {
        if let Some(db) = &self.db {
            db.close().await;
        }
    }
}

/// The migrations that made the table of the modules, and that of tenants' own fields.
const MODULES: i64 = 1;
const CUSTOM_FIELDS: i64 = 4;

fn absent() -> Error {
    Error::Configuration(
        "the database holds no CRM yet; make one with `crm migrate up`, or start the server".into(),
    )
}

/// The failure of a step with what it was about.
fn in_step(error: Error, step: &Step) -> Error {
    match error {
        Error::Conflict { code, message } => {
            Error::conflict(code, format!("{}: {message}", step.summary))
        }
        error => error,
    }
}

fn referred_to(spec: &ModuleSpec, by: &[ModuleSpec]) -> bool {
    let mut others = by.iter().filter(|other| other.name != spec.name);
    others.any(|other| {
        let mut fields = other.fields.iter();
        fields.any(|field| field.kind.has_key() && field.kind.targets().contains(&spec.name))
    })
}

/// Notes at the destructive steps how many records lose something.
fn counted(steps: &mut [Step], row: Option<Row>) -> Result<()> {
    let count: i64 = row.map_or(Ok(0), |mut row| row.int())?;
    for step in steps.iter_mut().filter(|step| step.destructive) {
        step.records = Some(count.unsigned_abs());
    }
    Ok(())
}

/// The modules' tables as they are.
#[derive(Default)]
struct Present {
    specs: Vec<ModuleSpec>,
    /// Those with the column for tenants' own fields.
    custom: HashSet<String>,
}

impl Present {
    fn read(specs: Vec<Row>, tables: Vec<Row>) -> Result<Self> {
        let mut tables = tables.into_iter();
        Ok(Self {
            specs: read(specs)?,
            custom: tables.try_fold(HashSet::new(), |mut all, mut row| {
                all.insert(row.text()?);
                Ok::<_, Error>(all)
            })?,
        })
    }

    fn has(&self, name: &Ident) -> bool {
        self.specs.iter().any(|spec| spec.name == *name)
    }

    fn losing(&self, module: &CompiledModule) -> Option<Sql> {
        let old = self.specs.iter().find(|spec| spec.name == *module.name())?;
        ddl::losing(old, module.spec())
    }

    fn obstacles(&self, module: &CompiledModule, dialect: Dialect) -> Vec<ddl::Obstacle> {
        let old = self.specs.iter().find(|spec| spec.name == *module.name());
        old.map_or_else(Vec::new, |old| ddl::obstacles(old, module.spec(), dialect))
    }

    fn difference(&self, module: &CompiledModule, dialect: Dialect) -> Result<Vec<Step>> {
        let old = self.specs.iter().find(|spec| spec.name == *module.name());
        let mut steps = Vec::new();
        if let Some(old) = old.filter(|old| !self.custom.contains(old.name.as_str())) {
            steps.push(ddl::custom::add_column(old, dialect));
        }
        steps.extend(ddl::plan(old, Some(module.spec()), dialect)?);
        Ok(steps)
    }
}

fn stored() -> Sql {
    Sql::new("SELECT spec FROM modules ORDER BY name").returns(&[ColumnType::Text])
}

fn read(rows: Vec<Row>) -> Result<Vec<ModuleSpec>> {
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
