//! What the tenants of the suite hold: [`fill`] makes one of everything, [`diverge`] gives a twin
//! more of everything, other contents and wider rights.

mod brand;
pub(super) mod message;
mod people;
mod plugin;
mod records;

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use brand::{age, brand, count_entries, run_elsewhere, seal};
use people::{email, group, invite, key, limited_role, new_role, service, user, widen};
use records::{more_records, records};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::cast::{Cast, Pair};
use super::events::Probe;
use super::stage::request;
use super::{IsolationBroken, identity, need};
use crate::audit::AuditQuery;
use crate::crm::Crm;
use crate::error::{Error, Result};
use crate::group::{GroupChange, GroupMember, GroupRecord};
use crate::id::{JobId, PluginId, TenantId, UserId};
use crate::module::{CompiledModule, FieldSpec, ModuleSpec};
use crate::plugin::{PluginLimits, Plugins};
use crate::record::{Once, Reply, Work, Write};
use crate::scope::{Create, Read, Scope, Update};
use crate::transfer::{Format, ImportOptions};

pub(super) use people::log_in;
pub(super) use plugin::{NEXT, VALUE, sha256, trusted};

/// Role of a member with rights on some rows.
const LIMITED: &str = "isolation limited";
/// The key of a request that was made once in both tenants, and of one of the other tenant alone.
pub(super) const ONCE: [&str; 2] = ["isolation-both", "isolation-other"];
/// The module of the tenants' own.
pub(super) const OWN_MODULE: &str = "isolation_visits";

/// The plugins of a tenant on a host that plays them.
pub(super) fn plugins(crm: &Crm) -> Plugins {
    Plugins::new(crm.core.clone(), Arc::new(Probe), PluginLimits::default())
}

/// The module whose custom fields, imports and events are played.
pub(super) fn first_module(crm: &Crm) -> Result<Arc<CompiledModule>> {
    let mut modules = crm.registry().iter();
    modules.next().cloned().ok_or(Error::NotFound)
}

/// One of everything.
pub(super) async fn fill(crm: &Crm, tenant: TenantId) -> Result<Cast, IsolationBroken> {
    need("custom fields", declare(crm, tenant).await)?;
    let scope = need("a scope", operator(crm, tenant).await)?;
    let role = need("a role", limited_role(crm, &scope).await)?;
    let spare = new_role(crm, &scope, "isolation spare").await;
    let spare = need("a role", spare)?.into();
    let ann = need("a user", user(crm, &scope, "ann", "admin").await)?;
    let bob = need("a user", user(crm, &scope, "bob", LIMITED).await)?;
    for user in [ann, bob] {
        need("a session", log_in(crm, tenant, user).await)?;
    }
    let kin = records(crm, tenant, ann, bob).await?;
    let records = kin.iter().filter_map(|(module, kin)| {
        Some(GroupRecord {
            module: module.clone(),
            id: *kin.both.get(1)?,
        })
    });
    let members = vec![member(bob)];
    let records = records.take(50).collect();
    let group = group(crm, &scope, "isolation team", members, records, &[]).await;
    let group = need("a group", group)?;
    let second = self::group(crm, &scope, "isolation second", Vec::new(), Vec::new(), &[]).await;
    need("a second group", second)?;
    let service = need("a service account", service(crm, &scope, "robot").await)?;
    let (key, secret) = need("an API key", key(crm, &scope, "viewer", service).await)?;
    let invitation = need("an invitation", invite(crm, &scope, "first").await)?;
    let plugin = need(
        "a plugin",
        self::plugin(crm, &scope, "isolation_probe").await,
    )?;
    need("what it has", plugin::stock(crm, &scope, plugin).await)?;
    need("messages", message::many(crm, &scope, plugin).await)?;
    need("a job", message::job(crm, &scope, plugin).await)?;
    let queued = [
        need("an upload", upload(crm, &scope).await)?,
        need("an upload", upload(crm, &scope).await)?,
    ];
    let running = need("an upload", upload(crm, &scope).await)?;
    need("a job elsewhere", run_elsewhere(crm, tenant, running).await)?;
    let job = need("an import", import(crm, &scope).await)?;
    need("an idempotency key", once(crm, tenant, ann, ONCE[0]).await)?;
    let provider = identity::provider(crm, &scope, "isolation").await;
    let provider = need("an identity provider", provider)?;
    need("what is old", age(crm, tenant, bob).await)?;
    let linked = identity::link(crm, tenant, provider, bob).await;
    let identity = need("an identity", linked)?;
    let acting = identity::act(crm, tenant, ann, bob, provider).await;
    let impersonation = need("acting in another's name", acting)?;
    let audit = need("the audit log", newest_entry(crm, &scope).await)?;
    let pair = |both: Uuid| Pair {
        both,
        other: Uuid::nil(),
    };
    Ok(Cast {
        kin,
        ann,
        bob,
        carl: UserId(Uuid::nil()),
        carl_email: String::new(),
        service: paired(pair(service.0)),
        role: paired(pair(role)),
        spare,
        group: paired(pair(group)),
        key: paired(pair(key.0)),
        invitation: paired(pair(invitation.0)),
        plugin: paired(pair(plugin.0)),
        job: paired(pair(job.0)),
        queued,
        running,
        secret,
        audit: pair(audit),
        provider: paired(pair(provider.0)),
        identity,
        impersonation,
    })
}

fn paired<T: From<Uuid>>(pair: Pair<Uuid>) -> Pair<T> {
    Pair {
        both: pair.both.into(),
        other: pair.other.into(),
    }
}

/// More of everything, other contents, wider rights.
pub(super) async fn diverge(
    crm: &Crm,
    tenant: TenantId,
    cast: &mut Cast,
) -> Result<(), IsolationBroken> {
    let scope = need("a scope", operator(crm, tenant).await)?;
    let entries = need("the audit log", count_entries(crm, tenant).await)?;
    need("a wider role", widen(crm, &scope, cast).await)?;
    cast.carl = need("a user", user(crm, &scope, "carl", "admin").await)?;
    cast.carl_email = need("an address", email(crm, cast.carl).await)?;
    need("a session", log_in(crm, tenant, cast.carl).await)?;
    cast.role.other = need("a role", new_role(crm, &scope, "isolation other").await)?.into();
    more_records(crm, &scope, cast).await?;
    let members = vec![member(cast.ann), member(cast.bob), member(cast.carl)];
    let records = cast.kin.iter().flat_map(|(module, kin)| {
        let ids = kin.both.iter().chain(&kin.other);
        ids.map(|id| GroupRecord {
            module: module.clone(),
            id: *id,
        })
    });
    let records: Vec<_> = records.take(100).collect();
    let roles = ["admin"];
    let other = group(
        crm,
        &scope,
        "isolation other",
        members.clone(),
        records.clone(),
        &roles,
    );
    cast.group.other = need("a group", other.await)?.into();
    let change = GroupChange {
        description: Some("the other tenant's".into()),
        members: Some(members),
        records: Some(records),
        roles: Some(vec!["admin".into()]),
        ..GroupChange::default()
    };
    let permit = need("a permit", scope.permit::<Update>("groups"))?;
    need(
        "a change of a group",
        crm.groups().update(&permit, cast.group.both, change).await,
    )?;
    cast.service.other = need(
        "a service account",
        service(crm, &scope, "other robot").await,
    )?;
    let other = key(crm, &scope, "admin", cast.service.other).await;
    cast.key.other = need("an API key", other)?.0;
    cast.invitation.other = need("an invitation", invite(crm, &scope, "second").await)?;
    let owned = plugin::more(crm, &scope, cast.plugin.both).await;
    need("what a plugin has", owned)?;
    cast.plugin.other = need(
        "a plugin",
        self::plugin(crm, &scope, "isolation_other").await,
    )?;
    need("a message", message::known(crm, &scope).await)?;
    cast.job.other = need("an import", import(crm, &scope).await)?;
    need(
        "an idempotency key",
        once(crm, tenant, cast.ann, ONCE[1]).await,
    )?;
    let own = json!({"name": "isolation_other", "type": "text", "unique": true});
    need("a custom field", field(crm, &scope, &own).await)?;
    // In the tenant itself nothing refers to the module from outside.
    let own = json!({"name": "isolation_visit_id", "type": "reference", "module": OWN_MODULE});
    need("a reference", field(crm, &scope, &own).await)?;
    let provider = identity::more(crm, &scope, cast).await;
    cast.provider.other = need("more identity providers", provider)?;
    cast.audit.other = need("the audit log", newest_entry(crm, &scope).await)?;
    need("what is old", age(crm, tenant, cast.bob).await)?;
    need(
        "a pruned log",
        seal(crm, &scope, entries, cast.audit.other).await,
    )?;
    need("the twin's contents", brand(crm, tenant, cast).await)
}

async fn operator(crm: &Crm, tenant: TenantId) -> Result<Scope> {
    crm.operator_in(tenant, request()).await
}

fn member(user_id: UserId) -> GroupMember {
    GroupMember {
        user_id,
        until: None,
    }
}

/// Custom fields of a declared module, and a module of the tenant's own.
async fn declare(crm: &Crm, tenant: TenantId) -> Result<()> {
    let scope = operator(crm, tenant).await?;
    let first = first_module(crm)?;
    for declaration in [
        json!({"name": "isolation_code", "type": "text", "unique": true, "sort": true}),
        json!({"name": "isolation_level", "type": "integer", "sort": true}),
        json!({"name": "isolation_labels", "type": "tags"}),
        json!({"name": "isolation_mark", "type": "text", "computed": "marked {isolation_code}"}),
        json!({"name": "isolation_above_id", "type": "reference", "module": first.name(),
            "on_delete": "set_null"}),
        json!({"name": "isolation_above_code", "type": "text",
            "copied": "isolation_above_id.isolation_code"}),
    ] {
        field(crm, &scope, &declaration).await?;
    }
    let spec = json!({
        "name": OWN_MODULE,
        "singular": "isolation_visit",
        "fields": [
            {"name": "day", "type": "date", "sort": true, "required": true},
            {"name": "note", "type": "text", "search": true, "unique": true, "sort": true},
            {"name": "hours", "type": "integer"},
            {"name": "about_id", "type": "reference", "module": first.name(), "on_delete": "cascade"},
            {"name": "about_code", "type": "text", "copied": "about_id.isolation_code"},
            {"name": "above_id", "type": "reference", "module": OWN_MODULE, "on_delete": "set_null"},
            {"name": "above_note", "type": "text", "copied": "above_id.note"},
            {"name": "mark", "type": "text", "computed": "{above_note}, {note}"},
        ],
    });
    let spec: ModuleSpec = serde_json::from_value(spec).map_err(Error::internal)?;
    let permit = scope.permit::<Create>("modules")?;
    crm.custom_modules().create(&permit, spec).await
}

async fn field(crm: &Crm, scope: &Scope, declaration: &Json) -> Result<()> {
    let spec: FieldSpec = serde_json::from_value(declaration.clone()).map_err(Error::internal)?;
    let permit = scope.permit::<Update>("modules")?;
    let module = first_module(crm)?;
    let fields = crm.custom_fields();
    fields
        .declare(&permit, module.name().as_str(), spec)
        .await?;
    Ok(())
}

/// The webhook and the action of the plugins, and their webhook for signed messages.
pub(super) const HOOK: &str = "isolation";
pub(super) const SIGNED: &str = "isolation_signed";

/// The component of a plugin that the [`Probe`] plays.
pub(super) fn component(crm: &Crm, name: &str, version: &str) -> Result<String> {
    let module = first_module(crm)?;
    Ok(format!(
        "name = '{name}'\nversion = '{version}'\ntriggers = [{{ on = '{}.created' }}, \
         {{ webhook = '{HOOK}', auth = 'api_key' }}, {{ webhook = '{SIGNED}' }}, \
         {{ action = '{HOOK}', module = '{}', label = 'Look' }}]\n\
         kv = true\nsecrets = ['isolation']\n\
         [[grants]]\nmodule = '{}'\nactions = ['read', 'create', 'update']\n",
        module.singular(),
        module.name(),
        module.name(),
    ))
}

async fn plugin(crm: &Crm, scope: &Scope, name: &str) -> Result<PluginId> {
    let plugins = plugins(crm);
    let permit = scope.permit::<Create>("plugins")?;
    let component = component(crm, name, "1.0.0")?;
    let signature = signed(crm, scope, component.as_bytes()).await?;
    let uploaded = plugins.upload(&permit, component.into(), Some(&signature));
    let uploaded = uploaded.await?;
    let (id, sha256) = (uploaded.plugin.id, hex::encode(uploaded.version.sha256));
    let permit = scope.permit::<Update>("plugins")?;
    plugins.enable(&permit, id, &sha256).await?;
    Ok(id)
}

/// The signature of a component by a key that the tenant trusts, as others do too.
pub(super) async fn signed(crm: &Crm, scope: &Scope, component: &[u8]) -> Result<String> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).map_err(Error::internal)?;
    let public = STANDARD.encode(pair.public_key().as_ref());
    let permit = scope.permit::<Update>("plugins")?;
    match plugins(crm).trust(&permit, "isolation", &public).await {
        Ok(_) | Err(Error::Conflict { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(STANDARD.encode(pair.sign(component).as_ref()))
}

/// A finished import with a refused line.
async fn import(crm: &Crm, scope: &Scope) -> Result<JobId> {
    let id = upload(crm, scope).await?;
    crm.run_job(scope, id).await?;
    Ok(id)
}

/// An import that waits.
async fn upload(crm: &Crm, scope: &Scope) -> Result<JobId> {
    let module = first_module(crm)?;
    let options = ImportOptions::new(Format::Ndjson);
    let transfer = crm.transfer();
    let mut upload = transfer
        .import(scope, module.name().as_str(), options)
        .await?;
    upload.push(b"{\"no_such_field\": 1}\n").await?;
    upload.finish().await
}

/// A request that was made once.
async fn once(crm: &Crm, tenant: TenantId, user: UserId, key: &str) -> Result<()> {
    let scope = crate::testing::scope(crm, tenant, user, request()).await?;
    let scope = scope.ok_or(Error::NotFound)?;
    let permit = scope.permit::<Create>(OWN_MODULE)?;
    let body = Map::from_iter([("day".to_owned(), json!("2030-01-01"))]);
    let write = Write::create(&permit, body)?;
    let once = Once::new(&scope, key, [b"", b"", b"", b""])?;
    let reply = |_| {
        Ok(Reply {
            status: 201,
            record: None,
            body: Some("made".into()),
        })
    };
    let records = crm.records();
    let done = records.perform(&scope, Work::One(write), Some(once), reply);
    done.await.map(drop).map_err(|refused| refused.error)
}

async fn newest_entry(crm: &Crm, scope: &Scope) -> Result<Uuid> {
    let permit = scope.permit::<Read>("audit")?;
    let page = crm.audit().list(&permit, &AuditQuery::default()).await?;
    let entry = page.data.into_iter().next().ok_or(Error::NotFound)?;
    Ok(entry.id)
}
