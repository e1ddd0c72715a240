//! The options of a handle, and how one is opened with them.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::TimeDelta;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Core, Crm};
use crate::clock::Clock;
use crate::db::DatabaseOptions;
use crate::db::record::Statements;
use crate::dispatch::Subscriber;
use crate::egress::Egress;
use crate::error::{Error, Result};
use crate::field_list::Views;
use crate::hook::PluginHost;
use crate::identity::{
    self, Identity, IdentityOptions, PasswordCost, PasswordPolicy, RegistrationPolicy, SigningKeys,
};
use crate::job::{JobKind, Jobs};
use crate::mail::{MailOptions, Post};
use crate::module::{Module, ModuleSpec};
use crate::plugin::{PluginLimits, Plugins, Unheard};
use crate::policy::{Catalogue, PolicyCache};
use crate::record::{Hooks, KeptFigures};
use crate::registry::Registry;
use crate::retention::Retention;
use crate::schema::Schema;
use crate::transfer::Import;
use crate::upkeep::Upkeep;

/// The options of a [`Crm`].
#[must_use]
pub struct Builder {
    url: String,
    database: DatabaseOptions,
    clock: Clock,
    secret: Option<SecretString>,
    previous_secret: Option<SecretString>,
    foreign_secret: bool,
    tables: Tables,
    specs: Vec<ModuleSpec>,
    files: Vec<std::path::PathBuf>,
    identity: IdentityOptions,
    subscribers: Vec<Arc<dyn Subscriber>>,
    plugins: Option<Arc<dyn PluginHost>>,
    plugin_limits: PluginLimits,
    jobs: Vec<Arc<dyn JobKind>>,
    retention: Retention,
    mail: MailOptions,
    egress: Option<Egress>,
    pub(crate) hooks: Hooks,
}

/// What becomes of tables that are not as they are declared.
enum Tables {
    Changed,
    Kept,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            url: "sqlite://crm.db".to_owned(),
            database: DatabaseOptions::default(),
            clock: Clock::system(),
            secret: None,
            previous_secret: None,
            foreign_secret: false,
            tables: Tables::Changed,
            specs: Vec::new(),
            files: Vec::new(),
            identity: IdentityOptions::default(),
            subscribers: Vec::new(),
            plugins: None,
            plugin_limits: PluginLimits::default(),
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

    /// Changes no tables: a database that lacks a migration, or a module's table as it is declared,
    /// is refused instead.
    pub fn keep_tables(mut self) -> Self {
        self.tables = Tables::Kept;
        self
    }

    /// The secret used before, while it is replaced: what it sealed still opens and the access tokens
    /// that it signed are still accepted. [`Crm::reseal`] ends that.
    pub fn previous_secret(mut self, secret: SecretString) -> Self {
        self.previous_secret = Some(secret);
        self
    }

    /// Opens the database also with a secret that is not its own, for [`Crm::reseal`] after that one
    /// was lost.
    pub fn foreign_secret(mut self) -> Self {
        self.foreign_secret = true;
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

    /// What the plugins of each tenant use and keep at most.
    pub fn plugin_limits(mut self, limits: PluginLimits) -> Self {
        self.plugin_limits = limits;
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

    /// Who may make an account and a tenant without being asked to; nobody unless set.
    pub fn registration(mut self, policy: RegistrationPolicy) -> Self {
        self.identity.registration = policy;
        self
    }

    /// Authenticates as strictly as the rows of [ASVS 5](crate::guide::asvs) ask that are met by
    /// this alone:
    ///
    /// - V6.3.3: every member and operator needs a second factor, as where a tenant requires one, and no
    ///   tenant takes that back. Whoever registers gets their session behind it; sessions that began
    ///   without one end with [`build`](Self::build), and within a minute where another process opens
    ///   them that is not strict.
    /// - V6.4.1: a first password that somebody else set is replaced at the first login
    ///   ([`Login::new_password`](identity::Login::new_password)), and holds for 7 days; one that let its
    ///   user in before this was set counts as their own.
    /// - V6.5.5: a time-based code is taken of its own 30 seconds alone, not of those beside them.
    /// - V7.5.2: whoever ends other sessions of theirs logged in at most 5 minutes ago.
    ///
    /// API keys, tokens of the server's own command line and sessions in another's name go on
    /// without a second factor.
    pub fn strict_authentication(mut self) -> Self {
        self.identity.strict = true;
        self
    }

    /// How many logins a minute an address may try for one e-mail; 5 unless set, 0 for no limit.
    pub fn login_limit(mut self, attempts: u32) -> Self {
        self.identity.login_limit = attempts;
        self
    }

    /// How long a login with a wrong password takes at least; 300 ms unless set.
    ///
    /// It is answered no sooner, so that its time tells neither whether there is such an account
    /// nor how its password is stored: whoever [imports](crate::identity::ImportedUser) hashes that
    /// take longer to check sets more than they take.
    pub fn failed_login_time(mut self, time: Duration) -> Self {
        self.identity.failed_login_time = time;
        self
    }

    /// Opens the database, applies what is pending of the library's migrations and the modules'
    /// tables, and answers the handle.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a missing or short secret or one that is not the database's, a
    /// database newer than this program, a table of another program that stands in the way,
    /// or a change of a module that would destroy data; [`Error::Invalid`] for a declaration that
    /// breaks a rule; [`Error::Unavailable`] when the database cannot be reached.
    pub async fn build(mut self) -> Result<Crm> {
        let mut subscribers = std::mem::take(&mut self.subscribers);
        let jobs = std::mem::take(&mut self.jobs);
        let (host, limits) = (self.plugins.take(), self.plugin_limits);
        let core = Arc::new(self.core().await?);
        identity::end_unproven(&core).await?;
        identity::follow(&core).await?;
        let plugins = host.map(|host| Plugins::new(core.clone(), host, limits));
        if let Some(plugins) = plugins.clone() {
            // The one call of this in the life of a core.
            let _ = core.judge.set(plugins.judge());
            subscribers.push(Arc::new(plugins));
        }
        Ok(Crm {
            jobs: Jobs::new(core.clone(), jobs),
            core,
            subscribers: subscribers.into(),
            plugins,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// What all parts of the handle share.
    async fn core(mut self) -> Result<Core> {
        let specs = self.specs()?;
        let keys = self.keys()?;
        let registry = Arc::new(Registry::told_by(specs, &self.clock)?);
        self.hooks.check(&registry)?;
        let schema = Schema::open(&self.url, &self.database, self.clock.clone()).await?;
        match self.tables {
            Tables::Changed => {
                schema.migrate().await?;
                schema.apply(&registry).await?;
            }
            Tables::Kept => schema.check(&registry).await?,
        }
        let db = schema.into_db()?;
        if !self.foreign_secret {
            identity::check_secret(&db, &keys).await?;
        }
        let names = registry.iter().map(|module| module.name().as_str());
        let catalogue = Arc::new(Catalogue::new(names)?);
        Identity::prepare(&db, &self.clock).await?;
        let identity = Identity::new(&self.identity, keys, &self.clock)?;
        let policy = PolicyCache::open(
            db.clone(),
            self.clock.clone(),
            catalogue.clone(),
            registry.clone(),
        );
        let statements = registry
            .iter()
            .map(|module| Statements::new(module, db.dialect()))
            .collect();
        Ok(Core {
            policy: policy.await?,
            post: Post::new(self.mail, identity.seal.clone()),
            identity,
            egress: match self.egress {
                Some(egress) => egress,
                None => Egress::builder().build()?,
            },
            upkeep: Upkeep::new(self.database.large_tenant),
            figures: KeptFigures::new(),
            views: Views::new(),
            statements,
            hooks: self.hooks,
            judge: OnceLock::new(),
            unheard: Arc::new(Unheard::new(db.clone())),
            retention: self.retention,
            catalogue,
            registry,
            db,
            clock: self.clock,
        })
    }

    /// All modules: those given and those of files.
    fn specs(&mut self) -> Result<Vec<ModuleSpec>> {
        let mut specs = std::mem::take(&mut self.specs);
        for path in &self.files {
            specs.push(read_module(path)?);
        }
        Ok(specs)
    }

    /// The keys that the secret gives; refuses registrations by mail without a mailer.
    fn keys(&self) -> Result<SigningKeys> {
        let secret = self.secret.as_ref().ok_or(Error::Configuration(
            "no secret key: give one of at least 32 random bytes (CRM_SECRET_KEY)".into(),
        ))?;
        let mut keys = SigningKeys::from_secret(secret)?;
        if let Some(previous) = &self.previous_secret {
            keys = keys.with_previous(previous)?;
        }
        if self.identity.registration == RegistrationPolicy::Verified && self.mail.mailer.is_none()
        {
            return Err(Error::Configuration(
                "registrations that are confirmed by mail need something that sends mails".into(),
            ));
        }
        Ok(keys)
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
