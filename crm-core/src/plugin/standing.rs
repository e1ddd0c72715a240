//! Who stands behind a run, and what it may do because of them: what its manifest asks for, as far
//! as the user who enabled the plugin holds it and may manage plugins at all, and as far as the
//! user or API key holds it whose act caused the run. Asked again at every call of the host: rights
//! only shrink, and they shrink at once.

use std::fmt;
use std::sync::Arc;

use super::{GrantAction, OBJECT, Plugin};
use crate::crm::Core;
use crate::error::{Error, Result};
use crate::event::{Party, Principal};
use crate::id::UserId;
use crate::identity;
use crate::policy::{Catalogue, Fields, Grants, Rights, RowScope, Subject};
use crate::scope::{Action as _, Origin, Scope, Update};

/// The rights behind one run.
#[derive(Clone)]
pub(super) struct Standing {
    core: Arc<Core>,
    plugin: Arc<Plugin>,
    origin: Origin,
    /// Whether the run may only read records.
    reads_only: bool,
}

/// Why nobody stands behind a run any more.
pub(super) enum Withdrawn {
    Tenant,
    Installer(UserId),
    Role(UserId, String),
    Administration(UserId),
    Principal(Principal),
}

impl Standing {
    pub(super) fn new(core: Arc<Core>, plugin: Arc<Plugin>, origin: Origin) -> Self {
        Self {
            core,
            plugin,
            origin,
            reads_only: false,
        }
    }

    /// The same, for a run that may only read records.
    pub(super) fn reading(self) -> Self {
        let reads_only = true;
        Self { reads_only, ..self }
    }

    pub(super) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// The scope of the run at this moment; one without rights once nobody stands behind it.
    pub(super) async fn scope(&self) -> Result<Scope> {
        let tenant = self.plugin.tenant_id;
        let modules = self.core.policy.modules(tenant).await?;
        let grants = self.grants(modules.catalogue()).await?;
        let grants = grants.unwrap_or_else(|_| Grants::none(modules.catalogue()));
        let rights = Rights::lasting(Arc::new(grants), modules);
        let who = (tenant, self.plugin.id);
        Ok(Scope::for_plugin(
            self.core.clone(),
            who,
            rights,
            &self.origin,
        ))
    }

    /// As [`scope`](Self::scope), or why there is none.
    pub(super) async fn begin(&self) -> Result<Result<Scope, Withdrawn>> {
        let modules = self.core.policy.modules(self.plugin.tenant_id).await?;
        match self.grants(modules.catalogue()).await? {
            Ok(_) => self.scope().await.map(Ok),
            Err(withdrawn) => Ok(Err(withdrawn)),
        }
    }

    /// As [`begin`](Self::begin), for what has no rights of its own: it takes a plugin that asked
    /// for it, and somebody who stands behind the run.
    pub(super) async fn allowed(&self, asked: bool, permission: &str) -> Result<Scope> {
        let forbidden = || Error::Forbidden {
            permission: permission.to_owned(),
        };
        if !asked {
            return Err(forbidden());
        }
        self.begin().await?.map_err(|_| forbidden())
    }

    /// Whether whoever caused the run bounds it further than the plugin and its user do.
    pub(super) async fn is_narrowed(&self) -> Result<bool> {
        let modules = self.core.policy.modules(self.plugin.tenant_id).await?;
        let lent = self.lent(modules.catalogue()).await?;
        let held = self.grants(modules.catalogue()).await?;
        Ok(match (lent, held) {
            (Ok(lent), Ok(held)) => lent != held,
            (Ok(_), Err(_)) => true,
            (Err(_), _) => false,
        })
    }

    async fn grants(&self, catalogue: &Catalogue) -> Result<Result<Grants, Withdrawn>> {
        let lent = self.lent(catalogue).await?;
        let (Ok(grants), Some(principal)) = (&lent, self.origin.principal) else {
            return Ok(lent);
        };
        let tenant = self.plugin.tenant_id;
        let held = identity::principal_rights(&self.core, tenant, principal).await?;
        let Some(held) = held else {
            return Ok(Err(Withdrawn::Principal(principal)));
        };
        Ok(Ok(grants.intersect(&held.grants)))
    }

    /// What the plugin's user lends it.
    async fn lent(&self, catalogue: &Catalogue) -> Result<Result<Grants, Withdrawn>> {
        let (policy, tenant) = (&self.core.policy, self.plugin.tenant_id);
        if !policy.is_active(tenant).await? {
            return Ok(Err(Withdrawn::Tenant));
        }
        let asked = self.plugin.asked(catalogue, self.reads_only);
        let mut grants = asked.clone();
        if let Some(user) = self.plugin.installed_by {
            let held = policy.grants_for(tenant, Subject::User(user)).await?;
            let Some(held) = held else {
                return Ok(Err(Withdrawn::Installer(user)));
            };
            // Whoever could not enable it now lends it nothing, not even what takes no permission
            // of its own: requests, secrets, values, events and jobs.
            let enables = catalogue.operation(OBJECT, Update::NAME);
            let enables = enables.and_then(|enables| held.decide(enables));
            if enables != Some(RowScope::All) {
                return Ok(Err(Withdrawn::Administration(user)));
            }
            // A plugin owns no rows, so that its user's rights on own rows give it nothing.
            grants = asked.intersect(&held).without_own();
            if let Some(first) = asked.first(catalogue).filter(|_| grants.is_empty()) {
                let first = catalogue.name(first);
                return Ok(Err(Withdrawn::Role(user, first)));
            }
        }
        Ok(Ok(grants))
    }
}

impl Plugin {
    /// What the manifest asks for, or the reading part of it.
    fn asked(&self, catalogue: &Catalogue, reads_only: bool) -> Grants {
        let mut asked = Grants::none(catalogue);
        for grant in &self.manifest.grants {
            let actions = grant.actions.iter();
            for action in actions.filter(|one| !reads_only || **one == GrantAction::Read) {
                let fields = match &grant.fields {
                    Some(fields) if *action != GrantAction::Delete => {
                        Fields::only(fields.iter().map(|field| field.as_str()))
                    }
                    _ => Fields::ALL,
                };
                if let Some(operation) = catalogue.operation(grant.module.as_str(), action.as_str())
                {
                    asked.allow(operation, fields);
                }
            }
        }
        asked
    }
}

impl fmt::Display for Withdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant => f.write_str("the tenant is suspended"),
            Self::Installer(user) => write!(
                f,
                "the user who enabled the plugin, {user}, is no active member any more; enable it \
                 again as somebody who is"
            ),
            Self::Role(user, first) => write!(
                f,
                "the user who enabled the plugin, {user}, holds none of the permissions that it asks \
                 for, such as {first}; enable it again as somebody who holds them"
            ),
            Self::Administration(user) => write!(
                f,
                "the user who enabled the plugin, {user}, may not manage plugins any more \
                 ({OBJECT}.{}); enable it again as somebody who may",
                Update::NAME
            ),
            Self::Principal(Principal(Party::Key(key, _))) => write!(
                f,
                "the API key whose act caused the run, {key}, is revoked or has expired, or its \
                 service account is no active member any more"
            ),
            Self::Principal(Principal(Party::User(user) | Party::Impersonated(user, _))) => write!(
                f,
                "the user whose act caused the run, {user}, is no active member any more"
            ),
        }
    }
}
