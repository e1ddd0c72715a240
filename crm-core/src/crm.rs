//! The handle an application holds: built from a database, declarations and options, then asked
//! for scopes and repositories.

mod builder;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::audit::{Audit, Sealer};
use crate::clock::Clock;
use crate::custom::{CustomFields, CustomModules};
use crate::db::Db;
use crate::db::record::Statements;
use crate::dispatch::{Dispatcher, Round, Subscriber};
use crate::egress::Egress;
use crate::error::Result;
use crate::field_list::Views;
use crate::group::Groups;
use crate::id::{JobId, TenantId};
use crate::identity::{
    self, Accounts, ApiKeys, Identity, IdentityProviders, Impersonations, Invitations, Sessions,
    TokenKeys,
};
use crate::job::Jobs;
use crate::mail::{self, Post};
use crate::member::Members;
use crate::module::CompiledModule;
use crate::platform::PLATFORM;
use crate::plugin::inbox::Inbox;
use crate::plugin::timer::Timer;
use crate::plugin::{Plugins, turns};
use crate::policy::{self, Catalogue, Fields, Grants, PolicyCache, Subject};
use crate::record::{Hooks, Judge, KeptFigures, Record, Records};
use crate::registry::Registry;
use crate::retention::{self, Removed, Retention};
use crate::role::Roles;
use crate::scope::{Actor, RequestContext, Scope};
use crate::tenant::Tenants;
use crate::transfer::Transfer;
use crate::upkeep::{self, Upkeep};

pub use builder::{Builder, read_module};

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
    /// Who judges changes before they are made.
    pub(crate) judge: OnceLock<Arc<dyn Judge>>,
    /// Who refuses what would be judged, where nobody can.
    pub(crate) unheard: Arc<dyn Judge>,
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

    /// The tenants, for the program itself: requests reach them through
    /// [`platform`](Self::platform).
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
    /// [`Error::NotFound`](crate::Error::NotFound) when there is no such tenant.
    pub async fn operator_in(&self, tenant: TenantId, request: RequestContext) -> Result<Scope> {
        Scope::operator(&self.core, tenant, request).await
    }

    /// The scope of whoever holds this credential: an access token or an API key.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`](crate::Error::Unauthenticated) when the credential does not hold, or its user or tenant is
    /// not active any more.
    pub async fn authenticate(&self, credential: &str, request: RequestContext) -> Result<Scope> {
        self.authenticate_in(credential, None, request).await
    }

    /// As [`authenticate`](Self::authenticate), for a request that names its tenant by id. Tokens
    /// of roaming sessions open every tenant that their user is a member of; other credentials open
    /// the one they are of, and refuse to be sent with the name of another.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`](crate::Error::Unauthenticated), the same for a tenant that does not exist, is suspended, or that
    /// the caller is no member of; [`Error::Refused`](crate::Error::Refused) `second_factor_required` for a roaming session
    /// that began without the second factor that the tenant asks for.
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
        let (tenant, actor, subject, (session, live)) = if identity::is_api_key(credential) {
            let holder = identity::authenticate_key(core, credential).await?;
            if named.is_some_and(|named| named != holder.tenant) {
                return Err(identity::token_invalid());
            }
            let rights = identity::key_rights(core, &holder).await?;
            let rights = rights.ok_or_else(identity::token_invalid)?;
            let actor = holder.actor();
            let scope = Scope::of(core.clone(), actor, holder.tenant, rights, request);
            return Ok(scope.by_key(holder.id));
        } else {
            let claims = core.identity.tokens.verify(credential)?;
            let live = identity::find_live(core, &claims).await?;
            let live = live.ok_or_else(identity::token_invalid)?;
            let tenant = named.filter(|_| live.roaming).unwrap_or(live.tenant);
            (
                tenant,
                Actor::User(live.user),
                Subject::User(live.user),
                (claims.session, live),
            )
        };
        if named.is_some_and(|named| named != tenant) {
            return Err(identity::token_invalid());
        }
        let rights = match live.impersonator {
            Some(by) => identity::impersonated_rights(core, tenant, subject, by).await?,
            None => core.policy.rights_for(tenant, subject).await?,
        };
        let rights = rights.ok_or_else(identity::token_invalid)?;
        identity::check_factors(core, tenant, (session, live)).await?;
        let scope = Scope::of(core.clone(), actor, tenant, rights, request);
        let scope = match live.impersonator {
            Some(by) => scope.impersonated(by),
            None => scope,
        };
        Ok(scope.in_session(session, live.bound))
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

    /// Removes jobs that ended more than 30 days ago, a few at a time, as [`start`](Self::start)
    /// does by itself.
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
    /// [`Error::Unavailable`](crate::Error::Unavailable) when it does not.
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
        if let Some(plugins) = self.plugins.clone() {
            self.tasks
                .spawn(turns::run(Inbox(plugins.clone()), self.stop.clone()));
            self.tasks
                .spawn(turns::run(Timer(plugins), self.stop.clone()));
        }
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

    /// Runs what is due for plugins now, cron triggers, the jobs that they schedule for themselves
    /// and messages to their webhooks, as [`start`](Self::start) does by itself; answers how many
    /// runs that were.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_due_plugins_once(&self) -> Result<usize> {
        match &self.plugins {
            Some(plugins) => {
                let timer = turns::run_all(Timer(plugins.clone()), &self.stop).await?;
                Ok(timer + turns::run_all(Inbox(plugins.clone()), &self.stop).await?)
            }
            None => Ok(0),
        }
    }

    /// Removes what is too old by the [retention](Builder::retention), as [`start`](Self::start)
    /// does by itself every hour. Does nothing while another process does it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn remove_old_once(&self) -> Result<Removed> {
        retention::round(&self.core).await
    }

    /// Seals what the audit logs of all tenants hold now into their chains, as
    /// [`start`](Self::start) does by itself within a second; answers how many entries. Does
    /// nothing while another process does it.
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

    /// Does some of what reads of large tenants asked for to become quick, such as a search index,
    /// as [`start`](Self::start) does by itself; answers for how many tasks (on SQLite only:
    /// PostgreSQL keeps its index with the writes). Tells of impersonations that have reached their
    /// end, too.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn upkeep_once(&self) -> Result<usize> {
        upkeep::round(&self.core).await
    }

    /// Takes up what other processes changed of sessions and signing keys, as
    /// [`start`](Self::start) does twice a second. For tests and tools.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn follow_once(&self) -> Result<()> {
        self.core.policy.poll().await?;
        identity::follow(&self.core).await
    }

    /// Ends the background work, finishes waiting writes, seals the audit log and closes the
    /// database.
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
