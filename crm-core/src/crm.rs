//! The handle an application holds: built from a database, declarations and options, then asked
//! for scopes and repositories.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::audit::Audit;
use crate::clock::Clock;
use crate::custom::{CustomFields, CustomModules};
use crate::db::record::Statements;
use crate::db::{DatabaseOptions, Db};
use crate::dispatch::{Dispatcher, Round, Subscriber};
use crate::error::{Error, Result};
use crate::group::Groups;
use crate::hook::PluginHost;
use crate::id::{JobId, TenantId};
use crate::identity::{
    self, Accounts, ApiKeys, Identity, IdentityOptions, PasswordCost, SigningKeys,
};
use crate::job::{JobKind, Jobs};
use crate::member::Members;
use crate::module::{CompiledModule, Module, ModuleSpec};
use crate::plugin::Plugins;
use crate::policy::{self, Catalogue, Grants, PolicyCache, Subject};
use crate::record::{Hooks, KeptFigures, Records};
use crate::registry::Registry;
use crate::role::Roles;
use crate::schema::Schema;
use crate::scope::{Actor, RequestContext, Scope};
use crate::tenant::Tenants;
use crate::transfer::{Import, Transfer};
use crate::upkeep::{self, Upkeep};

/// How often to look for policy changes of other processes.
const POLICY_POLL: Duration = Duration::from_millis(500);

/// A multi-tenant CRM back end: the database, its modules, and everybody's rights.
///
/// Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Crm {
    pub(crate) core: Arc<Core>,
    subscribers: Arc<[Arc<dyn Subscriber>]>,
    plugins: Option<Plugins>,
    jobs: Jobs,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What all repositories share.
pub(crate) struct Core {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) registry: Arc<Registry>,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) policy: PolicyCache,
    pub(crate) identity: Identity,
    pub(crate) upkeep: Upkeep,
    pub(crate) figures: KeptFigures,
    pub(crate) hooks: Hooks,
    statements: Vec<Statements>,
}

impl Core {
    pub(crate) fn statements<'a>(&'a self, module: &'a CompiledModule) -> &'a Statements {
        match module.statements() {
            Some(own) => own,
            // All others come from this core's registry, which numbered them.
            None => self.numbered(module.index()),
        }
    }

    /// The statements of the module with this number in the registry.
    pub(crate) fn numbered(&self, module: u16) -> &Statements {
        &self.statements[usize::from(module)]
    }
}

impl Crm {
    /// Begins a new handle.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The declared modules.
    pub fn registry(&self) -> &Registry {
        &self.core.registry
    }

    /// The objects and actions that permissions are about.
    pub fn catalogue(&self) -> &Catalogue {
        &self.core.catalogue
    }

    /// Where time and ids come from.
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// The repository of records.
    pub fn records(&self) -> Records {
        Records::new(self.core.clone())
    }

    /// Registration, sessions, users.
    pub fn accounts(&self) -> Accounts {
        Accounts::new(self.core.clone())
    }

    /// The repository of API keys.
    pub fn api_keys(&self) -> ApiKeys {
        ApiKeys::new(self.core.clone())
    }

    /// The repository of roles.
    pub fn roles(&self) -> Roles {
        Roles::new(self.core.clone())
    }

    /// The repository of groups.
    pub fn groups(&self) -> Groups {
        Groups::new(self.core.clone())
    }

    /// The repository of members.
    pub fn members(&self) -> Members {
        Members::new(self.core.clone())
    }

    /// The fields that tenants add to the modules.
    pub fn custom_fields(&self) -> CustomFields {
        CustomFields::new(self.core.clone())
    }

    /// The modules that tenants declare for themselves.
    pub fn custom_modules(&self) -> CustomModules {
        CustomModules::new(self.core.clone())
    }

    /// Why somebody may do something, or may not.
    pub fn access(&self) -> Access {
        Access::new(self.core.clone())
    }

    /// The audit log.
    pub fn audit(&self) -> Audit {
        Audit::new(self.core.clone())
    }

    /// The tenants, for the operator: no request may reach them.
    pub fn tenants(&self) -> Tenants {
        Tenants::new(self.core.clone())
    }

    /// Makes the one-time setup token while there is no user, replacing any made before.
    ///
    /// Whoever holds it may register the first tenant within 24 hours: show it to the operator,
    /// and nobody else.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn ensure_setup_token(&self) -> Result<Option<SecretString>> {
        identity::ensure_setup_token(&self.core.db, &self.core.clock).await
    }

    /// The scope of the program itself in a tenant: every right on the modules that the application
    /// declares. Fields and modules of the tenant's own are not there; see
    /// [`operator_in`](Self::operator_in).
    pub fn operator(&self, tenant: TenantId, request: RequestContext) -> Scope {
        let grants = Arc::new(Grants::everything(&self.core.catalogue));
        Scope::new(self.core.clone(), Actor::Operator, tenant, grants, request)
    }

    /// The scope of the program itself in a tenant, with the fields and modules that the tenant
    /// declared: every right. For command lines and jobs.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such tenant.
    pub async fn operator_in(&self, tenant: TenantId, request: RequestContext) -> Result<Scope> {
        Scope::operator(&self.core, tenant, request).await
    }

    /// The scope of whoever holds this credential: an access token or an API key.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when the credential does not hold, or its user or tenant is
    /// not active any more.
    pub async fn authenticate(&self, credential: &str, request: RequestContext) -> Result<Scope> {
        let core = &self.core;
        let (tenant, actor, subject) = if identity::is_api_key(credential) {
            let (tenant, key) = identity::authenticate_key(core, credential).await?;
            (tenant, Actor::ApiKey(key), Subject::ApiKey(key))
        } else {
            let claims = core.identity.tokens.verify(credential)?;
            (
                claims.tenant,
                Actor::User(claims.user),
                Subject::User(claims.user),
            )
        };
        let rights = core
            .policy
            .rights_for(tenant, subject)
            .await?
            .ok_or_else(|| {
                Error::unauthenticated(
                    "token_invalid",
                    "this credential is not valid any more; log in again",
                )
            })?;
        Ok(Scope::of(core.clone(), actor, tenant, &rights, request))
    }

    /// The plugins of tenants; `None` when there is no host to run them on.
    pub fn plugins(&self) -> Option<&Plugins> {
        self.plugins.as_ref()
    }

    /// The background jobs.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// Import and export of records.
    pub fn transfer(&self) -> Transfer {
        Transfer::new(self.core.clone(), self.jobs.clone())
    }

    /// Runs the jobs that wait now, one after the other; answers how many. For tests and tools that
    /// have not called [`start`](Self::start).
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_jobs_once(&self) -> Result<usize> {
        self.jobs.runner().run_waiting(&self.stop).await
    }

    /// Removes jobs that ended more than 30 days ago, a few at a time, as [`start`](Self::start) does
    /// by itself.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn remove_old_jobs(&self) -> Result<()> {
        self.jobs.runner().sweep().await
    }

    /// Runs this job here, unless it is finished or another process has it; answers whether it did.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_job(&self, scope: &Scope, id: JobId) -> Result<bool> {
        self.jobs.get(scope, id).await?;
        let runner = self.jobs.runner();
        runner.run_one(scope.tenant(), id, &self.stop).await
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not.
    pub async fn ready(&self) -> Result<()> {
        self.core
            .db
            .fetch_optional(crate::db::Sql::new("SELECT 1"))
            .await
            .map(|_| ())
    }

    /// Starts the background work: dispatching events, running jobs, following policy changes.
    pub fn start(&self) {
        let (db, clock) = (self.core.db.clone(), self.core.clock.clone());
        let dispatcher = Dispatcher::new(db, clock, self.subscribers.to_vec());
        self.tasks.spawn(dispatcher.run(self.stop.clone()));
        self.tasks.spawn(self.jobs.runner().run(self.stop.clone()));
        self.tasks
            .spawn(upkeep::run(self.core.clone(), self.stop.clone()));
        self.tasks
            .spawn(policy::follow(self.core.clone(), self.stop.clone()));
        let (core, stop) = (self.core.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            while stop
                .run_until_cancelled(tokio::time::sleep(POLICY_POLL))
                .await
                .is_some()
            {
                if let Err(error) = core.policy.poll().await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "policy poll failed"
                    );
                }
            }
        });
    }

    /// Delivers what the outbox holds now, once; answers how many events. For tests and tools that
    /// have not called [`start`](Self::start).
    ///
    /// # Errors
    /// Those of the database.
    pub async fn dispatch_once(&self) -> Result<usize> {
        let (db, clock) = (self.core.db.clone(), self.core.clock.clone());
        let mut dispatcher = Dispatcher::new(db, clock, self.subscribers.to_vec());
        let mut delivered = 0;
        while let Round::Delivered(count @ 1..) = dispatcher.round(&self.stop).await? {
            delivered += count;
        }
        dispatcher.release().await?;
        Ok(delivered)
    }

    /// Does some of what reads of large tenants asked for to become quick, such as a search index, as
    /// [`start`](Self::start) does by itself; answers for how many tasks. SQLite only: PostgreSQL
    /// keeps its index with the writes.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn upkeep_once(&self) -> Result<usize> {
        upkeep::round(&self.core).await
    }

    /// Ends the background work, finishes waiting writes and closes the database.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.core.identity.settle().await;
        self.core.db.close().await;
    }
}

impl std::fmt::Debug for Crm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crm")
            .field("registry", &self.core.registry)
            .finish_non_exhaustive()
    }
}

/// The options of a [`Crm`].
#[must_use]
pub struct Builder {
    url: String,
    database: DatabaseOptions,
    clock: Clock,
    secret: Option<SecretString>,
    specs: Vec<ModuleSpec>,
    files: Vec<std::path::PathBuf>,
    identity: IdentityOptions,
    subscribers: Vec<Arc<dyn Subscriber>>,
    plugins: Option<Arc<dyn PluginHost>>,
    jobs: Vec<Arc<dyn JobKind>>,
    pub(crate) hooks: Hooks,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            url: "sqlite://crm.db".to_owned(),
            database: DatabaseOptions::default(),
            clock: Clock::system(),
            secret: None,
            specs: Vec::new(),
            files: Vec::new(),
            identity: IdentityOptions::default(),
            subscribers: Vec::new(),
            plugins: None,
            jobs: vec![Arc::new(Import)],
            hooks: Hooks::default(),
        }
    }
}

impl Builder {
    /// The database: `sqlite://path` (made when missing; the default is `sqlite://crm.db`) or
    /// `postgres://user:password@host/name`.
    pub fn database(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// How to open it.
    pub fn database_options(mut self, options: DatabaseOptions) -> Self {
        self.database = options;
        self
    }

    /// The secret that all keys are derived from, at least 32 bytes.
    pub fn secret(mut self, secret: SecretString) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Declares the module of a type.
    pub fn module<M: Module>(mut self) -> Self {
        self.specs.push(M::spec());
        self
    }

    /// Declares modules.
    pub fn modules(mut self, specs: impl IntoIterator<Item = ModuleSpec>) -> Self {
        self.specs.extend(specs);
        self
    }

    /// Declares the module that a TOML file describes.
    pub fn module_file(mut self, path: impl AsRef<Path>) -> Self {
        self.files.push(path.as_ref().to_owned());
        self
    }

    /// Hands every event to `subscriber`.
    pub fn subscribe(mut self, subscriber: Arc<dyn Subscriber>) -> Self {
        self.subscribers.push(subscriber);
        self
    }

    /// Runs the plugins that tenants install on `host`.
    pub fn plugins(mut self, host: Arc<dyn PluginHost>) -> Self {
        self.plugins = Some(host);
        self
    }

    /// Runs background jobs of this kind.
    pub fn job(mut self, kind: Arc<dyn JobKind>) -> Self {
        self.jobs.push(kind);
        self
    }

    /// Replaces the source of time and randomness.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// What a password hash costs.
    pub fn password_cost(mut self, cost: PasswordCost) -> Self {
        self.identity.password_cost = cost;
        self
    }

    /// How long an access token holds; 10 minutes unless set.
    pub fn access_lifetime(mut self, lifetime: TimeDelta) -> Self {
        self.identity.access_lifetime = lifetime;
        self
    }

    /// How many logins a minute an address may try for one e-mail; 5 unless set, 0 for no limit.
    pub fn login_limit(mut self, attempts: u32) -> Self {
        self.identity.login_limit = attempts;
        self
    }

    /// Opens the database, applies what is pending of the library's migrations and the modules'
    /// tables, and answers the handle.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a missing or short secret, a database newer than this program,
    /// or a change of a module that would destroy data; [`Error::Invalid`] for a declaration that
    /// breaks a rule; [`Error::Unavailable`] when the database cannot be reached.
    pub async fn build(self) -> Result<Crm> {
        let mut specs = self.specs;
        for path in &self.files {
            specs.push(read_module(path)?);
        }
        let secret = self.secret.ok_or(Error::Configuration(
            "no secret key: give one of at least 32 random bytes (CRM_SECRET_KEY)".into(),
        ))?;
        let keys = SigningKeys::from_secret(&secret)?;
        let registry = Arc::new(Registry::new(specs)?);
        self.hooks.check(&registry)?;
        let schema = Schema::open(&self.url, &self.database, self.clock.clone()).await?;
        schema.migrate().await?;
        schema.apply(&registry).await?;
        let db = schema.into_db()?;
        let names = registry.iter().map(|module| module.name().as_str());
        let catalogue = Arc::new(Catalogue::new(names)?);
        let dialect = db.dialect();
        let core = Core {
            policy: PolicyCache::open(
                db.clone(),
                self.clock.clone(),
                catalogue.clone(),
                registry.clone(),
            )
            .await?,
            identity: Identity::new(&self.identity, &keys, &self.clock)?,
            upkeep: Upkeep::new(self.database.large_tenant),
            figures: KeptFigures::new(),
            statements: registry
                .iter()
                .map(|module| Statements::new(module, dialect))
                .collect(),
            hooks: self.hooks,
            catalogue,
            registry,
            db,
            clock: self.clock,
        };
        let core = Arc::new(core);
        let mut subscribers = self.subscribers;
        let plugins = self.plugins.map(|host| Plugins::new(core.clone(), host));
        if let Some(plugins) = plugins.clone() {
            subscribers.push(Arc::new(plugins));
        }
        Ok(Crm {
            jobs: Jobs::new(core.clone(), self.jobs),
            core,
            subscribers: subscribers.into(),
            plugins,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }
}

/// Reads one module from a TOML file.
///
/// # Errors
/// [`Error::Configuration`] naming the file and what is wrong with it.
pub fn read_module(path: &Path) -> Result<ModuleSpec> {
    let refuse = |reason: &dyn std::fmt::Display| {
        Error::Configuration(format!("{}: {reason}", path.display()).into())
    };
    let text = std::fs::read_to_string(path).map_err(|error| refuse(&error))?;
    ModuleSpec::from_toml(&text).map_err(|error| refuse(&error))
}
