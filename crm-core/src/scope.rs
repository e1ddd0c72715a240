//! Who acts, in which tenant, with which rights: `Actor` → `Scope` → `Permit`.
//!
//! Each is obtainable only from the one before, and every repository asks for a [`Permit`]: a
//! forgotten check does not compile. Neither has a public constructor.

mod permit;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::Clock;
use crate::crm::Core;
use crate::custom::TenantModules;
use crate::db::{Job, Tx};
use crate::error::{Error, Refusal, Result};
use crate::event::{Party, Principal};
use crate::id::{ApiKeyId, EventId, FamilyId, PluginId, TenantId, UserId};
use crate::identity::{self, Impersonator};
use crate::module::{CompiledModule, Ident};
use crate::policy::{Catalogue, Circle, Grants, Operation, Rights, keep_a_way_back, rule_of};
use crate::registry::Dependent;

pub use permit::{Action, Create, Delete, Permit, Purge, Read, Update};

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A person.
    User(UserId),
    /// A program, with an API key of the tenant.
    ApiKey(ApiKeyId),
    /// A plugin, inside the rights of whoever installed it.
    Plugin(PluginId),
    /// Whoever runs this program: the command line and the application itself.
    Operator,
    /// An operator of the platform, looking after a tenant from outside.
    PlatformOperator(UserId),
    /// Nobody that is known: whoever fails to log in to an account that there is not.
    Anonymous,
}

impl Actor {
    /// The acting user, who owns the rows they create.
    pub fn user(&self) -> Option<UserId> {
        match self {
            Self::User(id) => Some(*id),
            Self::ApiKey(_)
            | Self::Plugin(_)
            | Self::Operator
            | Self::PlatformOperator(_)
            | Self::Anonymous => None,
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::ApiKey(id) => write!(f, "api_key:{id}"),
            Self::Plugin(id) => write!(f, "plugin:{id}"),
            Self::Operator => f.write_str("operator"),
            Self::PlatformOperator(id) => write!(f, "operator:{id}"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// What is known of the request that a scope serves; it ends up in audit rows and events.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// The request id, 1 to 128 characters of `A-Za-z0-9._-`.
    pub id: Arc<str>,
    /// The client's address.
    pub address: Option<IpAddr>,
}

/// The event that caused a write, so that chains of events end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cause {
    pub(crate) root_id: EventId,
    pub(crate) depth: u16,
}

/// What a plugin run follows from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) request_id: Arc<str>,
    pub(crate) cause: Option<Cause>,
    /// Whose act caused it.
    pub(crate) principal: Option<Principal>,
}

/// An actor in a tenant, with the rights that hold at this moment.
#[derive(Clone)]
pub struct Scope(Arc<Inner>);

struct Inner {
    core: Arc<Core>,
    actor: Actor,
    tenant: TenantId,
    rights: Arc<Rights>,
    /// Whether the application itself acts, in the course of somebody's write.
    elevated: bool,
    request: RequestContext,
    cause: Option<Cause>,
    /// Whose act caused what a plugin does.
    principal: Option<Principal>,
    session: Option<FamilyId>,
    impersonator: Option<Impersonator>,
    /// The key that a service account acts by.
    key: Option<ApiKeyId>,
    /// Whether a provider of the tenant vouched for the session.
    bound: bool,
}

impl Scope {
    pub(crate) fn new(
        core: Arc<Core>,
        actor: Actor,
        tenant: TenantId,
        grants: Arc<Grants>,
        request: RequestContext,
    ) -> Self {
        let modules = core.policy.declared().clone();
        Self::of(
            core,
            actor,
            tenant,
            Arc::new(Rights::lasting(grants, modules)),
            request,
        )
    }

    /// The scope of an actor with these rights.
    pub(crate) fn of(
        core: Arc<Core>,
        actor: Actor,
        tenant: TenantId,
        rights: Arc<Rights>,
        request: RequestContext,
    ) -> Self {
        Self(Arc::new(Inner {
            core,
            actor,
            tenant,
            rights,
            elevated: false,
            request,
            cause: None,
            principal: None,
            session: None,
            impersonator: None,
            key: None,
            bound: false,
        }))
    }

    /// The scope of the program itself, with the tenant's own fields and modules.
    pub(crate) async fn operator(
        core: &Arc<Core>,
        tenant: TenantId,
        request: RequestContext,
    ) -> Result<Self> {
        let modules = core.policy.modules(tenant).await?;
        let grants = Arc::new(Grants::everything(modules.catalogue()));
        let rights = Arc::new(Rights::lasting(grants, modules));
        Ok(Self::of(
            core.clone(),
            Actor::Operator,
            tenant,
            rights,
            request,
        ))
    }

    /// The scope of a plugin run: rights only shrink, and what it writes has this origin.
    pub(crate) fn for_plugin(
        core: Arc<Core>,
        (tenant, plugin): (TenantId, PluginId),
        rights: Rights,
        origin: &Origin,
    ) -> Self {
        let request = RequestContext {
            id: origin.request_id.clone(),
            address: None,
        };
        let actor = Actor::Plugin(plugin);
        let mut scope = Self::of(core, actor, tenant, Arc::new(rights), request);
        // Nobody else has it yet.
        if let Some(inner) = Arc::get_mut(&mut scope.0) {
            inner.cause = origin.cause;
            inner.principal = origin.principal;
            inner.impersonator = origin.principal.and_then(Principal::impersonator);
        }
        scope
    }

    /// The same actor, tenant and request with every right: for what the application itself does
    /// in the course of somebody's write.
    pub(crate) fn elevated(&self) -> Self {
        self.elevated_with(self.0.rights.modules.clone())
    }

    /// As [`elevated`](Self::elevated), with the tenant's references as the transaction finds them.
    pub(crate) async fn elevated_in(&self, tx: &mut Tx<'_>) -> Result<Self> {
        let modules = &self.0.rights.modules;
        let current = modules.current(tx, &self.0.core, self.0.tenant).await?;
        Ok(self.elevated_with(current))
    }

    /// As [`elevated`](Self::elevated), where the tenant has these modules.
    fn elevated_with(&self, modules: Arc<TenantModules>) -> Self {
        let core = self.0.core.clone();
        let everything = Arc::new(Grants::everything(modules.catalogue()));
        Self(Arc::new(Inner {
            actor: self.0.actor,
            tenant: self.0.tenant,
            rights: Arc::new(Rights::lasting(everything, modules)),
            elevated: true,
            request: self.0.request.clone(),
            cause: self.0.cause,
            principal: self.0.principal,
            session: self.0.session,
            impersonator: self.0.impersonator,
            key: self.0.key,
            bound: self.0.bound,
            core,
        }))
    }

    /// The same scope, of a request that belongs to a session; a bound one is good for this tenant
    /// alone.
    pub(crate) fn in_session(mut self, session: FamilyId, bound: bool) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.session = Some(session);
            inner.bound = bound;
        }
        self
    }

    /// The same scope, of a request in which another user acts in the actor's name.
    pub(crate) fn impersonated(mut self, by: Impersonator) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.impersonator = Some(by);
        }
        self
    }

    /// The same scope, of a service account that acts by this key.
    pub(crate) fn by_key(mut self, key: ApiKeyId) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.key = Some(key);
        }
        self
    }

    /// Whether a person acts: whoever else has no rights of a person to lend, and a key of a
    /// service account has less than the account.
    pub(crate) fn is_person(&self) -> bool {
        matches!(self.0.actor, Actor::User(_) | Actor::Operator) && self.0.key.is_none()
    }

    /// Changes the policy of the tenant under its lock, unless whoever acts has lost a right or the
    /// session since the request began: whoever sends a body slowly is not to act by rights that were
    /// taken from them meanwhile.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) `rights_changed`; [`Error::Conflict`] `last_admin` for
    /// denials that nobody could take back; those of the job.
    pub(crate) async fn write_policy<T: Send + 'static>(&self, job: impl Job<T>) -> Result<T> {
        if self.has_lost().await? {
            let message =
                "your rights were changed, or your session ended, while this was asked for";
            return Err(Refusal::forbidden("rights_changed", message).into());
        }
        let by = self.clone();
        let write = self.core().policy.write(self.tenant(), move |tx| {
            Box::pin(async move {
                let answer = job(tx).await?;
                keep_a_way_back(tx, &by).await?;
                Ok(answer)
            })
        });
        write.await
    }

    /// Whether whoever acts may not do any more what they could when the request began.
    async fn has_lost(&self) -> Result<bool> {
        let core = self.core();
        if let Some(session) = self.session()
            && !identity::is_live(core, session).await?
        {
            return Ok(true);
        }
        let Some(principal) = self.principal() else {
            return Ok(false);
        };
        let rights = identity::principal_rights(core, self.tenant(), principal).await?;
        let holds = |rights: Arc<Rights>| {
            let lost = self.grants().beyond(&rights.grants);
            lost.named(self.catalogue()).is_none()
        };
        Ok(!rights.is_some_and(holds))
    }

    /// Who acts in the actor's name, where somebody else does: a member of the tenant, or an
    /// operator.
    pub fn impersonator(&self) -> Option<Actor> {
        self.0.impersonator.map(Impersonator::actor)
    }

    /// Refuses what nobody does in another's name: what concerns their account and sessions, or
    /// would outlive the impersonation.
    ///
    /// # Errors
    /// [`Error::Refused`] `impersonating`.
    pub(crate) fn refuse_impersonator(&self) -> Result<()> {
        match self.0.impersonator {
            None => Ok(()),
            Some(_) => Err(impersonating()),
        }
    }

    /// Why the scope may not do this: it lacks the permission, or acts in another's name, in which
    /// nobody does it.
    pub fn lacks(&self, operation: Operation) -> Error {
        let in_name = self.0.impersonator.is_some() && self.0.actor.user().is_some();
        if in_name && !Impersonator::may(self.catalogue(), operation) {
            return impersonating();
        }
        Error::Forbidden {
            permission: self.catalogue().name(operation),
        }
    }

    /// Whether a provider of the tenant vouched for the session: the tenant's word is good for the
    /// tenant alone, and never for the user's account, which others rely on too.
    pub(crate) fn is_bound(&self) -> bool {
        self.0.bound
    }

    /// The session that the request belongs to; none for whoever has no session.
    pub(crate) fn session(&self) -> Option<FamilyId> {
        self.0.session
    }

    /// Who acts.
    pub fn actor(&self) -> Actor {
        self.0.actor
    }

    /// The user whose rows are own ones: the acting one, or the one whose act a plugin follows.
    pub(crate) fn user(&self) -> Option<UserId> {
        let principal = || self.0.principal.and_then(Principal::user);
        self.0.actor.user().or_else(principal)
    }

    /// What the groups of the acting user give them, where a rule asks for it.
    pub(crate) fn circle(&self) -> Option<&Arc<Circle>> {
        self.0.rights.circle.as_ref()
    }

    /// Whose act this scope's acts are or follow: a user's, with whoever acts in their name, or an
    /// API key's.
    pub(crate) fn principal(&self) -> Option<Principal> {
        let acting = || match self.0.actor {
            Actor::User(user) => Some(match (self.0.impersonator, self.0.key) {
                (Some(by), _) => Party::Impersonated(user, by),
                (None, Some(key)) => Party::Key(key, Some(user)),
                (None, None) => Party::User(user),
            }),
            Actor::ApiKey(key) => Some(Party::Key(key, None)),
            _ => None,
        };
        let acting = || acting().map(Principal);
        self.0.principal.or_else(acting)
    }

    /// Whose rights bound what follows from this scope's acts, where the actor does not tell.
    pub(crate) fn told_principal(&self) -> Option<String> {
        let principal = self.principal()?;
        let plain = matches!(principal.0, Party::User(_) | Party::Key(_, None));
        (self.0.principal.is_some() || !plain).then(|| principal.to_string())
    }

    /// The tenant acted in.
    pub fn tenant(&self) -> TenantId {
        self.0.tenant
    }

    /// The request being served.
    pub fn request(&self) -> &RequestContext {
        &self.0.request
    }

    /// Where time and ids come from.
    pub fn clock(&self) -> &Clock {
        &self.0.core.clock
    }

    /// The rights of this scope.
    pub fn grants(&self) -> &Arc<Grants> {
        &self.0.rights.grants
    }

    /// The rule by which the scope may do this, in words: a role's permission, what the plugin was
    /// granted, `operator`, or `application` for what follows from a write by declaration.
    pub(crate) fn rule(&self, object: &str, action: &str) -> Option<String> {
        let operation = self.catalogue().operation(object, action)?;
        let roles = &self.0.rights.sources;
        match self.0.actor {
            _ if self.0.elevated => Some("application".to_owned()),
            Actor::Operator | Actor::PlatformOperator(_) => Some("operator".to_owned()),
            Actor::Anonymous => None,
            Actor::Plugin(_) => Some(format!("plugin: {object}.{action}")),
            Actor::User(_) | Actor::ApiKey(_) => {
                let rule = rule_of(roles, self.catalogue(), operation);
                rule.or_else(|| Some("application".to_owned()).filter(|_| !roles.is_empty()))
            }
        }
    }

    /// Those of the rights that end at no instant: what is held for a while cannot be handed on.
    pub(crate) fn lasting(&self) -> &Grants {
        &self.0.rights.lasting
    }

    /// The module called `name` as the tenant has it, with the fields of its own.
    pub fn module(&self, name: &str) -> Option<&Arc<CompiledModule>> {
        let own = self.0.rights.modules.get(name);
        own.or_else(|| self.0.core.registry.get(name))
    }

    /// The modules as the tenant has them: those of the application, then its own.
    pub fn modules(&self) -> impl Iterator<Item = &Arc<CompiledModule>> {
        let declared = self.0.core.registry.iter();
        let declared = declared.map(|module| {
            self.0
                .rights
                .modules
                .get(module.name().as_str())
                .unwrap_or(module)
        });
        declared.chain(self.0.rights.modules.own())
    }

    /// The fields by which records refer to those of the module called `name`: the application's,
    /// then the tenant's.
    pub(crate) fn dependents(&self, name: &Ident) -> impl Iterator<Item = &Dependent> {
        let declared = self.0.core.registry.dependents(name).iter();
        declared.chain(self.0.rights.modules.dependents(name))
    }

    /// A digest of what the tenant declared; `None` when that is nothing.
    pub fn modules_version(&self) -> Option<&str> {
        self.0.rights.modules.version()
    }

    /// The objects and actions that permissions are about in the tenant.
    pub(crate) fn catalogue(&self) -> &Arc<Catalogue> {
        self.0.rights.modules.catalogue()
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        self.0.cause
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    /// Proof that this scope may do `A` on `object`: a module, or one of the administration's
    /// objects (`members`, `roles`, `api_keys`, `plugins`, `audit`, `jobs`).
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such object, [`Error::Forbidden`] without the right;
    /// [`Error::Refused`] `impersonating` for what nobody does in another's name.
    pub fn permit<A: Action>(&self, object: &str) -> Result<Permit<A>> {
        let operation = self
            .catalogue()
            .operation(object, A::NAME)
            .ok_or(Error::NotFound)?;
        let Some(rows) = self.0.rights.grants.rows(operation) else {
            return Err(self.lacks(operation));
        };
        let module = self.module(object).cloned();
        Ok(Permit::new(self.clone(), operation, module, rows))
    }
}

fn impersonating() -> Error {
    Refusal::forbidden(
        "impersonating",
        "you act in another's name: only they can do this themselves",
    )
    .into()
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("actor", &self.0.actor)
            .field("tenant", &self.0.tenant)
            .finish()
    }
}
