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
use crate::audit::{Audit, Sealer};
use crate::clock::Clock;
use crate::custom::{CustomFields, CustomModules};
use crate::db::record::Statements;
use crate::db::{DatabaseOptions, Db};
use crate::dispatch::{Dispatcher, Round, Subscriber};
use crate::egress::Egress;
use crate::error::{Error, Result};
use crate::field_list::Views;
use crate::group::Groups;
use crate::hook::PluginHost;
use crate::id::{JobId, TenantId};
use crate::identity::{
    self, Accounts, ApiKeys, Identity, IdentityOptions, IdentityProviders, Impersonations,
    Invitations, PasswordCost, PasswordPolicy, Sessions, SigningKeys, TokenKeys,
};
use crate::job::{JobKind, Jobs};
use crate::mail::{self, MailOptions, Post};
use crate::member::Members;
use crate::module::{CompiledModule, Module, ModuleSpec};
use crate::platform::PLATFORM;
use crate::plugin::Plugins;
use crate::policy::{self, Catalogue, Fields, Grants, PolicyCache, Subject};
use crate::record::{Hooks, KeptFigures, Record, Records};
use crate::registry::Registry;
use crate::retention::{self, Removed, Retention};
use crate::role::Roles;
use crate::schema::Schema;
use crate::scope::{Actor, RequestContext, Scope};
use crate::tenant::Tenants;
use crate::transfer::{Import, Transfer};
use crate::upkeep::{self, Upkeep};

/// How often to look for policy changes of other processes.
pub(crate) const POLICY_POLL: Duration = Duration::from_millis(500);

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
    pub(crate) post: Post,
    pub(crate) egress: Egress,
    pub(crate) upkeep: Upkeep,
    pub(crate) figures: KeptFigures,
    pub(crate) hooks: Hooks,
    pub(crate) retention: Retention,
    pub(crate) views: Views,
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

    /// The record for a reader of these fields.
    pub(crate) fn masked(&self, record: Record, fields: &Fields) -> Record {
        let module = self.views.of(record.module(), fields);
        record.of(module)
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

    /// The sessions that are open.
    pub fn sessions(&self) -> Sessions {
        Sessions::new(self.core.clone())
    }

    /// The keys that sign access tokens, for the operator: no request may reach them.
    pub fn token_keys(&self) -> TokenKeys {
        TokenKeys::new(self.core.clone())
    }

    /// Acting in another's name.
    pub fn impersonations(&self) -> Impersonations {
        Impersonations::new(self.core.clone())
    }

    /// The repository of invitations.
    pub fn invitations(&self) -> Invitations {
        Invitations::new(self.core.clone())
    }

    /// The repository of identity providers.
    pub fn identity_providers(&self) -> IdentityProviders {
        IdentityProviders::new(self.core.clone())
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

    /// The tenants, for the program itself: requests reach them through [`platform`](Self::platform).
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
        self.authenticate_in(credential, None, request).await
    }

    /// As [`authenticate`](Self::authenticate), for a request that names its tenant by id. Tokens of
    /// roaming sessions open every tenant that their user is a member of; other credentials open the
    /// one they are of, and refuse to be sent with the name of another.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], the same for a tenant that does not exist, is suspended, or that
    /// the caller is no member of.
    pub async fn authenticate_in(
        &self,
        credential: &str,
        tenant: Option<&str>,
        request: RequestContext,
    ) -> Result<Scope> {
        let core = &self.core;
        let named = match tenant.map(str::parse::<uuid::Uuid>) {
            Some(Ok(id)) if TenantId(id) != PLATFORM => Some(TenantId(id)),
            Some(_) => return Err(identity::token_invalid()),
            None => None,
        };
        let (tenant, actor, subject, session, impersonator) = if identity::is_api_key(credential) {
            let holder = identity::authenticate_key(core, credential).await?;
            if named.is_some_and(|named| named != holder.tenant) {
                return Err(identity::token_invalid());
            }
            let rights = identity::key_rights(core, &holder).await?;
            let rights = rights.ok_or_else(identity::token_invalid)?;
            let actor = holder.actor();
            return Ok(Scope::of(
                core.clone(),
                actor,
                holder.tenant,
                &rights,
                request,
            ));
        } else {
            let claims = core.identity.tokens.verify(credential)?;
            let live = identity::find_live(core, &claims).await?;
            let live = live.ok_or_else(identity::token_invalid)?;
            let tenant = named.filter(|_| live.roaming).unwrap_or(live.tenant);
            (
                tenant,
                Actor::User(live.user),
                Subject::User(live.user),
                Some((claims.session, live.bound)),
                live.impersonator,
            )
        };
        if named.is_some_and(|named| named != tenant) {
            return Err(identity::token_invalid());
        }
        let rights = match impersonator {
            Some(by) => identity::impersonated_rights(core, tenant, subject, by).await?,
            None => core.policy.rights_for(tenant, subject).await?,
        };
        let rights = rights.ok_or_else(identity::token_invalid)?;
        let scope = Scope::of(core.clone(), actor, tenant, &rights, request);
        let scope = match impersonator {
            Some(by) => scope.impersonated(by),
            None => scope,
        };
        Ok(match session {
            Some((session, bound)) => scope.in_session(session, bound),
            None => scope,
        })
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
            .spawn(identity::follow_until(self.core.clone(), self.stop.clone()));
        self.tasks
            .spawn(policy::follow(self.core.clone(), self.stop.clone()));
        let retention = retention::run(self.core.clone(), self.stop.clone());
        self.tasks.spawn(retention);
        let sealer = Sealer::new(&self.core);
        self.tasks.spawn(sealer.run(self.stop.clone()));
        self.tasks
            .spawn(mail::run(self.core.clone(), self.stop.clone()));
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

    /// Removes what is too old by the [retention](Builder::retention), as [`start`](Self::start) does
    /// by itself every hour. Does nothing while another process does it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn remove_old_once(&self) -> Result<Removed> {
        retention::round(&self.core).await
    }

    /// Seals what the audit logs of all tenants hold now into their chains, as
    /// [`start`](Self::start) does by itself within a second; answers how many entries. Does nothing
    /// while another process does it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn seal_audit_once(&self) -> Result<u64> {
        Sealer::new(&self.core).drain().await
    }

    /// Sends the mails that are due now, as [`start`](Self::start) does by itself; answers how many
    /// were tried.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn send_mails_once(&self) -> Result<usize> {
        self.core.identity.settle().await;
        let mut tried = 0;
        while let count @ 1.. = mail::send_waiting(&self.core).await? {
            tried += count;
        }
        Ok(tried)
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

    /// Takes up what other processes changed of sessions and signing keys, as [`start`](Self::start)
    /// does twice a second. For tests and tools.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn follow_once(&self) -> Result<()> {
        self.core.policy.poll().await?;
        identity::follow(&self.core).await
    }

    /// Ends the background work, finishes waiting writes, seals the audit log and closes the database.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.core.identity.settle().await;
        Sealer::new(&self.core).finish().await;
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
    retention: Retention,
    mail: MailOptions,
    egress: Option<Egress>,
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
            retention: Retention::default(),
            mail: MailOptions::default(),
            egress: None,
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

    /// How long delivered events, records of plugin runs and audit entries are kept.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// How mails are sent, and where their links lead; without it they wait in the database.
    pub fn mail(mut self, options: MailOptions) -> Self {
        self.mail = options;
        self
    }

    /// How requests leave this process; without it they reach the public internet only.
    pub fn egress(mut self, egress: Egress) -> Self {
        self.egress = Some(egress);
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

    /// The rules for new passwords; those of NIST SP 800-63B unless set.
    pub fn password_policy(mut self, policy: PasswordPolicy) -> Self {
        self.identity.password_policy = policy;
        self
    }

    /// How long an access token holds; 10 minutes unless set.
    pub fn access_lifetime(mut self, lifetime: TimeDelta) -> Self {
        self.identity.access_lifetime = lifetime;
        self
    }

    /// How long somebody acts in another's name at most; 15 minutes unless set, and never longer.
    pub fn impersonation_lifetime(mut self, lifetime: TimeDelta) -> Self {
        self.identity.impersonation_lifetime = lifetime;
        self
    }

    /// How long a session lasts at most, however often it is refreshed; 30 days unless set.
    pub fn session_lifetime(mut self, lifetime: TimeDelta) -> Self {
        self.identity.session_lifetime = lifetime;
        self
    }

    /// How long a session lasts without being refreshed; 14 days unless set.
    pub fn session_idle(mut self, lifetime: TimeDelta) -> Self {
        self.identity.session_idle = lifetime;
        self
    }

    /// Lets users register passkeys for the application at these origins, and log in with them;
    /// without it there are none.
    #[cfg(feature = "passkeys")]
    pub fn passkeys(mut self, relying_party: identity::RelyingParty) -> Self {
        self.identity.relying_party = Some(relying_party);
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
        Identity::prepare(&db, &self.clock).await?;
        let identity = Identity::new(&self.identity, keys, &self.clock)?;
        let core = Core {
            policy: PolicyCache::open(
                db.clone(),
                self.clock.clone(),
                catalogue.clone(),
                registry.clone(),
            )
            .await?,
            post: Post::new(self.mail, identity.seal.clone()),
            identity,
            egress: match self.egress {
                Some(egress) => egress,
                None => Egress::builder().build()?,
            },
            upkeep: Upkeep::new(self.database.large_tenant),
            figures: KeptFigures::new(),
            views: Views::new(),
            statements: registry
                .iter()
                .map(|module| Statements::new(module, dialect))
                .collect(),
            hooks: self.hooks,
            retention: self.retention,
            catalogue,
            registry,
            db,
            clock: self.clock,
        };
        let core = Arc::new(core);
        identity::follow(&core).await?;
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
