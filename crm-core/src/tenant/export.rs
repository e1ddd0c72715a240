//! Everything that a tenant has, as files of one JSON object on each line: its modules' records, also
//! those in the trash, its own fields and modules, members with their kind, groups, roles, invitations,
//! keys and identity providers without their secrets, identities, open sessions, what it settled for
//! itself, plugins without their components, with their versions, settings and trusted keys, jobs, and
//! the audit log with its seals.
//!
//! Read a page at a time, as the operator, while others write: each file by itself is as it was
//! when its pages were read. Fields declared `write_only` leave in no export.

use std::collections::VecDeque;

use serde::Serialize;

use crate::audit::AuditExport;
use crate::crm::Crm;
use crate::error::{Error, Result};
use crate::id::{FamilyId, GroupId, IdentityId, JobId, TenantId, UserId};
use crate::record::{Count, Query};
use crate::scope::{Delete, Read, RequestContext, Scope};
use crate::transfer::{self, Format};

/// Lines read at a time.
const PAGE: u32 = 100;

/// A piece of one of the files of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPiece {
    /// The file's name, such as `contacts.ndjson`.
    pub file: String,
    /// What comes next in it.
    pub text: String,
}

/// The files of a tenant on their way out, one after the other.
pub struct TenantExport {
    crm: Crm,
    scope: Scope,
    parts: VecDeque<Part>,
}

/// A file, and how far it is read.
enum Part {
    Tenant,
    Roles,
    Keys,
    Plugins,
    PluginVersions,
    PluginSettings,
    PluginKeys,
    Providers,
    Identities(Option<IdentityId>),
    Modules,
    Members(Option<UserId>),
    Groups(Option<GroupId>),
    Invitations,
    Sessions(Option<FamilyId>),
    Security,
    Jobs(Option<JobId>),
    Fields(String),
    Records(String, Box<transfer::Export>),
    Trash(String, Option<String>),
    Audit(Box<AuditExport>),
    Seals(i64),
}

impl Crm {
    /// Begins an export of everything that the tenant has.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such tenant.
    pub async fn export_tenant(
        &self,
        tenant: TenantId,
        request: RequestContext,
    ) -> Result<TenantExport> {
        let scope = self.operator_in(tenant, request).await?;
        let mut parts = VecDeque::from([
            Part::Tenant,
            Part::Roles,
            Part::Members(None),
            Part::Groups(None),
            Part::Invitations,
            Part::Sessions(None),
            Part::Security,
            Part::Keys,
            Part::Plugins,
            Part::PluginVersions,
            Part::PluginSettings,
            Part::PluginKeys,
            Part::Providers,
            Part::Identities(None),
            Part::Jobs(None),
            Part::Modules,
        ]);
        for module in scope.modules() {
            let name = module.name().to_string();
            parts.push_back(Part::Fields(name.clone()));
            let query = Query::default();
            let permit = scope.permit::<Read>(&name)?;
            let records = self.transfer().export(permit, query, Format::Ndjson)?;
            parts.push_back(Part::Records(name.clone(), Box::new(records)));
            if module.spec().soft_delete {
                parts.push_back(Part::Trash(name, None));
            }
        }
        let permit = scope.permit::<Read>("audit")?;
        let audit = self.audit().export(&permit, Default::default())?;
        parts.extend([Part::Audit(Box::new(audit)), Part::Seals(0)]);
        Ok(TenantExport {
            crm: self.clone(),
            scope,
            parts,
        })
    }
}

impl TenantExport {
    /// The next piece of some file; none at the end of the last one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn next(&mut self) -> Result<Option<ExportPiece>> {
        let Some(part) = self.parts.pop_front() else {
            return Ok(None);
        };
        let (file, text, rest) = self.read(part).await?;
        if let Some(rest) = rest {
            self.parts.push_front(rest);
        }
        Ok(Some(ExportPiece { file, text }))
    }

    fn permit(&self, object: &str) -> Result<crate::scope::Permit<Read>> {
        self.scope.permit::<Read>(object)
    }

    /// A line for each version, with the plugin that it is one of.
    async fn plugin_versions(&self) -> Result<String> {
        let permit = self.permit("plugins")?;
        let Some(plugins) = self.crm.plugins() else {
            return Ok(String::new());
        };
        let mut versions = Vec::new();
        for plugin in plugins.list(&permit).await? {
            let known = match plugins.versions(&permit, plugin.id).await {
                // Deleted meanwhile.
                Err(Error::NotFound) => continue,
                known => known?,
            };
            for version in known {
                let mut line = serde_json::to_value(version).map_err(Error::internal)?;
                line["plugin_id"] = serde_json::to_value(plugin.id).map_err(Error::internal)?;
                versions.push(line);
            }
        }
        lines(versions)
    }

    /// A piece of a part: its file, its text, and what is left of the part.
    async fn read(&self, part: Part) -> Result<(String, String, Option<Part>)> {
        let named = |name: &str| format!("{name}.ndjson");
        Ok(match part {
            Part::Tenant => {
                let tenant = self.crm.tenants().get(self.scope.tenant()).await?;
                (named("tenant"), lines([tenant])?, None)
            }
            Part::Roles => {
                let roles = self.crm.roles().list(&self.permit("roles")?).await?;
                (named("roles"), lines(roles)?, None)
            }
            Part::Keys => {
                let keys = self.crm.api_keys().list(&self.permit("api_keys")?).await?;
                (named("api_keys"), lines(keys)?, None)
            }
            Part::Plugins => {
                let permit = self.permit("plugins")?;
                let plugins = match self.crm.plugins() {
                    Some(plugins) => plugins.list(&permit).await?,
                    None => Vec::new(),
                };
                (named("plugins"), lines(plugins)?, None)
            }
            Part::PluginVersions => (
                named("plugin_versions"),
                self.plugin_versions().await?,
                None,
            ),
            Part::PluginSettings => {
                let permit = self.permit("plugins")?;
                let settings = match self.crm.plugins() {
                    Some(plugins) => Some(plugins.settings(&permit).await?),
                    None => None,
                };
                (named("plugin_settings"), lines(settings)?, None)
            }
            Part::PluginKeys => {
                let permit = self.permit("plugins")?;
                let keys = match self.crm.plugins() {
                    Some(plugins) => plugins.trusted_keys(&permit).await?,
                    None => Vec::new(),
                };
                (named("plugin_keys"), lines(keys)?, None)
            }
            Part::Providers => {
                let permit = self.permit("identity_providers")?;
                let providers = self.crm.identity_providers().list(&permit).await?;
                (named("identity_providers"), lines(providers)?, None)
            }
            Part::Identities(after) => {
                let permit = self.permit("identity_providers")?;
                let providers = self.crm.identity_providers();
                let identities = providers.identities(&permit, after).await?;
                let rest = identities
                    .last()
                    .map(|last| Part::Identities(Some(last.id)));
                (named("user_identities"), lines(identities)?, rest)
            }
            Part::Modules => {
                let own = self.scope.modules().filter(|module| module.is_tenants());
                let own = own.map(|module| module.spec());
                (named("modules"), lines(own)?, None)
            }
            Part::Members(after) => {
                let permit = self.permit("members")?;
                let page = self.crm.members().list(&permit, after, PAGE).await?;
                let rest = page.next.map(|next| Part::Members(Some(next)));
                (named("members"), lines(page.data)?, rest)
            }
            Part::Groups(after) => {
                let permit = self.permit("groups")?;
                let page = self.crm.groups().list(&permit, after, PAGE).await?;
                let rest = page.next.map(|next| Part::Groups(Some(next)));
                (named("groups"), lines(page.data)?, rest)
            }
            Part::Invitations => {
                let permit = self.permit("members")?;
                let invitations = self.crm.invitations().list(&permit).await?;
                (named("invitations"), lines(invitations)?, None)
            }
            Part::Sessions(after) => {
                let permit = self.permit("members")?;
                let page = self.crm.sessions().export(&permit, after, PAGE).await?;
                let last = page.last().map(|session| session.id);
                let rest = last.filter(|_| page.len() == PAGE as usize);
                let rest = rest.map(|last| Part::Sessions(Some(last)));
                (named("sessions"), lines(page)?, rest)
            }
            Part::Security => {
                let permit = self.permit("members")?;
                let security = self.crm.accounts().tenant_security(&permit).await?;
                (named("security"), lines([security])?, None)
            }
            Part::Jobs(before) => {
                let page = self.crm.jobs().list(&self.scope, before, PAGE).await?;
                let rest = page.next_cursor.map(|next| Part::Jobs(Some(next)));
                (named("jobs"), lines(page.data)?, rest)
            }
            Part::Fields(module) => {
                let permit = self.permit("modules")?;
                let fields = self.crm.custom_fields().list(&permit, &module).await?;
                (named(&format!("{module}.fields")), lines(fields)?, None)
            }
            Part::Records(module, mut export) => {
                let text = export.next().await?;
                let rest = text.is_some();
                let file = named(&module);
                let rest = rest.then_some(Part::Records(module, export));
                (file, text.unwrap_or_default(), rest)
            }
            Part::Trash(module, cursor) => {
                let query = Query {
                    limit: Query::MAX_LIMIT,
                    cursor,
                    count: Count::No,
                    ..Query::default()
                };
                let delete = self.scope.permit::<Delete>(&module)?;
                let records = self.crm.records();
                let read = self.permit(&module)?;
                let page = records.trash(&read, &delete, &query).await?;
                let mut text = String::new();
                for record in &page.data {
                    text.push_str(&record.to_json());
                    text.push('\n');
                }
                let file = named(&format!("{module}.trash"));
                let rest = page.next_cursor.is_some();
                let rest = rest.then_some(Part::Trash(module, page.next_cursor));
                (file, text, rest)
            }
            Part::Audit(mut export) => {
                let text = export.next().await?;
                let rest = text.is_some().then_some(Part::Audit(export));
                (named("audit"), text.unwrap_or_default(), rest)
            }
            Part::Seals(behind) => {
                let seals = self.crm.audit();
                let seals = seals.seals(&self.permit("audit")?, behind).await?;
                let rest = seals.last().map(|seal| Part::Seals(seal.sequence));
                (named("audit.seals"), lines(seals)?, rest)
            }
        })
    }
}

fn lines<T: Serialize>(items: impl IntoIterator<Item = T>) -> Result<String> {
    let mut text = String::new();
    for item in items {
        text.push_str(&serde_json::to_string(&item).map_err(Error::internal)?);
        text.push('\n');
    }
    Ok(text)
}

impl std::fmt::Debug for TenantExport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TenantExport").finish_non_exhaustive()
    }
}
