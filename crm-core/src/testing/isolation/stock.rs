//! What the tenants of the suite hold: [`fill`] makes one of everything, [`diverge`] gives a twin more
//! of everything, other contents and wider rights.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use secrecy::SecretString;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::cast::{self, Cast, Kin, Pair, body, tenant_name};
use super::events::Probe;
use super::identity;
use super::stage::request;
use super::{IsolationBroken, need};
use crate::audit::AuditQuery;
use crate::crm::Crm;
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result};
use crate::group::{GroupChange, GroupMember, GroupRecord, NewGroup};
use crate::id::{ApiKeyId, InvitationId, JobId, PluginId, RecordId, TenantId, UserId};
use crate::identity::{Login, NewApiKey, NewInvitation, NewServiceAccount, NewUser, Session};
use crate::module::{CompiledModule, FieldSpec, Ident, ModuleSpec};
use crate::plugin::Plugins;
use crate::record::{Once, Query, Reply, Work, Write};
use crate::role::{NewRole, RoleChange};
use crate::scope::{Actor, Create, Delete, Read, Scope, Update};
use crate::transfer::{Format, ImportOptions};

/// Records of each module that both tenants have.
const RECORDS: usize = 3;
/// Role of a member with rights on some rows.
const LIMITED: &str = "isolation limited";
/// The key of a request that was made once in both tenants, and of one of the other tenant alone.
pub(super) const ONCE: [&str; 2] = ["isolation-both", "isolation-other"];
/// The module of the tenants' own.
pub(super) const OWN_MODULE: &str = "isolation_visits";
const PASSWORD: &str = "a passphrase of the isolation suite";

/// The plugins of a tenant on a host that plays them.
pub(super) fn plugins(crm: &Crm) -> Plugins {
    Plugins::new(crm.core.clone(), Arc::new(Probe))
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
    let plugin = need("a plugin", plugin(crm, &scope, "isolation_probe").await)?;
    let queued = [
        need("an upload", upload(crm, &scope).await)?,
        need("an upload", upload(crm, &scope).await)?,
    ];
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
    cast.plugin.other = need("a plugin", plugin(crm, &scope, "isolation_other").await)?;
    cast.job.other = need("an import", import(crm, &scope).await)?;
    need(
        "an idempotency key",
        once(crm, tenant, cast.ann, ONCE[1]).await,
    )?;
    let own = json!({"name": "isolation_other", "type": "text", "unique": true});
    need("a custom field", field(crm, &scope, &own).await)?;
    let provider = identity::more(crm, &scope, cast).await;
    cast.provider.other = need("more identity providers", provider)?;
    cast.audit.other = need("the audit log", newest_entry(crm, &scope).await)?;
    need("what is old", age(crm, tenant, cast.bob).await)?;
    need("the twin's contents", brand(crm, tenant).await)
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
    for declaration in [
        json!({"name": "isolation_code", "type": "text", "unique": true, "sort": true}),
        json!({"name": "isolation_level", "type": "integer", "sort": true}),
        json!({"name": "isolation_labels", "type": "tags"}),
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

async fn limited_role(crm: &Crm, scope: &Scope) -> Result<Uuid> {
    let mut permissions = Vec::new();
    for object in ["groups", "members", "roles", "api_keys"] {
        permissions.push(format!("{object}.*").into());
    }
    for module in scope.modules() {
        let name = module.name();
        permissions.push(format!("{name}.read:team").into());
        permissions.push(format!("{name}.create").into());
        permissions.push(format!("{name}.update:parent").into());
        permissions.push(format!("{name}.delete:own").into());
    }
    let input = NewRole {
        name: LIMITED.into(),
        permissions,
        ..NewRole::default()
    };
    let permit = scope.permit::<Create>("roles")?;
    Ok(crm.roles().create(&permit, input).await?.id.0)
}

async fn new_role(crm: &Crm, scope: &Scope, name: &str) -> Result<Uuid> {
    let input = NewRole {
        name: name.into(),
        permissions: vec!["*.*".into(), format!("{OWN_MODULE}.read").into()],
        ..NewRole::default()
    };
    let permit = scope.permit::<Create>("roles")?;
    Ok(crm.roles().create(&permit, input).await?.id.0)
}

async fn widen(crm: &Crm, scope: &Scope, cast: &Cast) -> Result<()> {
    let change = RoleChange {
        description: Some("the other tenant's".into()),
        permissions: Some(vec!["*.*".into()]),
        ..RoleChange::default()
    };
    let permit = scope.permit::<Update>("roles")?;
    crm.roles().update(&permit, cast.role.both, change).await?;
    let permit = scope.permit::<Update>("members")?;
    let roles = [LIMITED.to_owned(), "admin".to_owned()];
    crm.members().set_roles(&permit, cast.bob, roles).await?;
    Ok(())
}

async fn user(crm: &Crm, scope: &Scope, name: &str, role: &str) -> Result<UserId> {
    let input = NewUser {
        email: format!("{name}.{}@example.com", crm.clock().new_id().simple()),
        name: name.to_owned(),
        password: SecretString::from(PASSWORD),
        roles: vec![role.to_owned()],
    };
    let permit = scope.permit::<Create>("members")?;
    Ok(crm.accounts().create_user(&permit, input).await?.user_id)
}

/// Opens a session.
pub(super) async fn log_in(crm: &Crm, tenant: TenantId, user: UserId) -> Result<Session> {
    let input = Login {
        email: email(crm, user).await?,
        password: SecretString::from(PASSWORD),
        tenant: Some(tenant_name(tenant)),
    };
    crm.accounts().login(input, request()).await
}

async fn email(crm: &Crm, user: UserId) -> Result<String> {
    let sql = Sql::new("SELECT email FROM users WHERE id = $1")
        .bind(user, ColumnType::Uuid)
        .returns(&[ColumnType::Text]);
    let row = crm.core.db.fetch_optional(sql).await?;
    row.ok_or(Error::NotFound)?.text()
}

/// An invitation by a member who leaves, and a request so old that it is forgotten with the next.
async fn age(crm: &Crm, tenant: TenantId, user: UserId) -> Result<()> {
    let invited = Sql::new("UPDATE invitations SET invited_by = $1 WHERE tenant_id = $2")
        .bind(Actor::User(user).to_string(), ColumnType::Text)
        .bind(tenant, ColumnType::Uuid);
    let forgotten = Sql::new(
        "INSERT INTO idempotency_keys (tenant_id, actor, idempotency_key, fingerprint, created_at, \
         status, body) SELECT tenant_id, actor, 'isolation-old', fingerprint, $1, status, body \
         FROM idempotency_keys WHERE tenant_id = $2 AND idempotency_key = $3",
    )
    .bind(DateTime::UNIX_EPOCH, ColumnType::Instant)
    .bind(tenant, ColumnType::Uuid)
    .bind(ONCE[0], ColumnType::Text);
    let write = crm.core.db.write(move |tx| {
        Box::pin(async move {
            tx.execute(invited).await?;
            tx.execute(forgotten).await
        })
    });
    write.await.map(drop)
}

async fn group(
    crm: &Crm,
    scope: &Scope,
    name: &str,
    members: Vec<GroupMember>,
    records: Vec<GroupRecord>,
    roles: &[&str],
) -> Result<Uuid> {
    let input = NewGroup {
        name: name.into(),
        description: String::new(),
        roles: roles.iter().map(ToString::to_string).collect(),
        members,
        records,
    };
    let permit = scope.permit::<Create>("groups")?;
    Ok(crm.groups().create(&permit, input).await?.id.0)
}

async fn service(crm: &Crm, scope: &Scope, name: &str) -> Result<UserId> {
    let input = NewServiceAccount {
        name: name.into(),
        roles: vec!["viewer".into()],
    };
    let permit = scope.permit::<Create>("members")?;
    crm.accounts().create_service_account(&permit, input).await
}

async fn key(
    crm: &Crm,
    scope: &Scope,
    role: &str,
    service: UserId,
) -> Result<(ApiKeyId, SecretString)> {
    let input = NewApiKey {
        name: "isolation".into(),
        role: role.into(),
        service_account: (role == "viewer").then_some(service),
        ..NewApiKey::default()
    };
    let permit = scope.permit::<Create>("api_keys")?;
    let (key, secret) = crm.api_keys().create(&permit, input).await?;
    Ok((key.id, secret))
}

async fn invite(crm: &Crm, scope: &Scope, name: &str) -> Result<InvitationId> {
    let input = NewInvitation {
        email: format!("isolation.{name}@example.com"),
        name: name.into(),
        roles: vec!["viewer".into()],
    };
    let permit = scope.permit::<Create>("members")?;
    Ok(crm.invitations().create(&permit, input).await?.id)
}

/// The component of a plugin that the [`Probe`] plays.
pub(super) fn component(crm: &Crm, name: &str, version: &str) -> Result<String> {
    let module = first_module(crm)?;
    Ok(format!(
        "name = '{name}'\nversion = '{version}'\ntriggers = ['{}.created']\n\
         [[grants]]\nmodule = '{}'\nactions = ['read', 'create', 'update']\n",
        module.singular(),
        module.name(),
    ))
}

async fn plugin(crm: &Crm, scope: &Scope, name: &str) -> Result<PluginId> {
    let plugins = plugins(crm);
    let permit = scope.permit::<Create>("plugins")?;
    let component = component(crm, name, "1.0.0")?;
    let id = plugins.upload(&permit, component.into()).await?.id;
    let permit = scope.permit::<Update>("plugins")?;
    plugins.enable(&permit, id, None).await?;
    Ok(id)
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
    let done = records.perform(Work::One(write), Some(once), reply);
    done.await.map(drop).map_err(|refused| refused.error)
}

async fn newest_entry(crm: &Crm, scope: &Scope) -> Result<Uuid> {
    let permit = scope.permit::<Read>("audit")?;
    let page = crm.audit().list(&permit, &AuditQuery::default()).await?;
    let entry = page.data.into_iter().next().ok_or(Error::NotFound)?;
    Ok(entry.id)
}

/// Records of all modules: those that others must refer to come first.
async fn records(
    crm: &Crm,
    tenant: TenantId,
    ann: UserId,
    bob: UserId,
) -> Result<BTreeMap<String, Kin>, IsolationBroken> {
    let operator = need("a scope", operator(crm, tenant).await)?;
    let owner = need(
        "a scope",
        crate::testing::scope(crm, tenant, ann, request()).await,
    )?;
    let owner = owner.as_ref().unwrap_or(&operator);
    let mut kin: BTreeMap<String, Kin> = BTreeMap::new();
    let mut left: Vec<_> = operator.modules().cloned().collect();
    while !left.is_empty() {
        let before = left.len();
        let mut waiting = Vec::new();
        for module in left {
            let target = |name: &str| kin.get(name)?.both.first().copied();
            if body(&module, 0, &target, |_| true).is_none() {
                waiting.push(module);
                continue;
            }
            let made = some(crm, [owner, &operator], &module, &kin, bob).await;
            let made = need(format_args!("records of {}", module.name()), made)?;
            kin.insert(module.name().to_string(), made);
        }
        left = waiting;
        if left.len() == before {
            let names: Vec<_> = left.iter().map(|module| module.name().as_str()).collect();
            let message = "their required references lead in a circle";
            let refused = Err(Error::Configuration(message.into()));
            need(format_args!("records of {}", names.join(", ")), refused)?;
        }
    }
    need("references", refer(crm, &operator, &kin).await)?;
    Ok(kin)
}

async fn some(
    crm: &Crm,
    [owner, operator]: [&Scope; 2],
    module: &CompiledModule,
    all: &BTreeMap<String, Kin>,
    bob: UserId,
) -> Result<Kin> {
    let name = module.name().as_str();
    let mut kin = Kin::default();
    for at in 0..RECORDS + 1 {
        let target = |name: &str| {
            let kin = all.get(name)?;
            kin.both.get(at).or(kin.both.last()).copied()
        };
        // The twin's stand between them.
        let number = (u64::try_from(at).unwrap_or_default() + 1) * 10;
        let mut body = body(module, number, &target, |_| true).ok_or(Error::NotFound)?;
        if at == 0 {
            kin.known = body.clone();
        }
        if at == 2 {
            body.insert("owner_id".into(), bob.to_string().into());
        }
        let scope = if at == 0 { owner } else { operator };
        if at < RECORDS {
            let permit = scope.permit::<Create>(name)?;
            kin.both.push(crm.records().create(&permit, body).await?.id);
        } else if module.spec().soft_delete {
            let unique_targets = module.fields().iter();
            if unique_targets
                .clone()
                .any(|field| field.unique && field.kind.is_reference())
            {
                continue;
            }
            let permit = scope.permit::<Create>(name)?;
            let record = crm.records().create(&permit, body).await?;
            let permit = scope.permit::<Delete>(name)?;
            let version = Some(record.version);
            crm.records().delete(&permit, record.id, version).await?;
            kin.trashed.push(record.id);
        }
    }
    Ok(kin)
}

/// References that had no target when their record was made.
async fn refer(crm: &Crm, scope: &Scope, kin: &BTreeMap<String, Kin>) -> Result<()> {
    for module in scope.modules() {
        let name = module.name().as_str();
        let own = kin.get(name).ok_or(Error::NotFound)?;
        let permit = scope.permit::<Update>(name)?;
        let read = scope.permit::<Read>(name)?;
        // The record of the same place: none refers to itself but in modules that refer to their own.
        for (at, id) in own.both.iter().enumerate().skip(1) {
            let target = |other: &str| {
                let at = if other == name { at - 1 } else { at };
                kin.get(other)?.both.get(at).copied()
            };
            let record = crm.records().get(&read, *id).await?;
            let empty = |field: &FieldSpec| {
                let value = record.get(field.name.as_str());
                field.kind.is_reference()
                    && cast::is_free(module, field)
                    && value.is_none_or(crate::value::Value::is_null)
            };
            let Some(change) = body(module, 0, &target, empty) else {
                continue;
            };
            if !change.is_empty() {
                let version = Some(record.version);
                // A record in a final state takes no change.
                let _ = crm.records().update(&permit, *id, version, change).await;
            }
        }
    }
    Ok(())
}

/// Records that only the twin has, and other contents of those that both have.
async fn more_records(crm: &Crm, scope: &Scope, cast: &mut Cast) -> Result<(), IsolationBroken> {
    let names: Vec<String> = cast.kin.keys().cloned().collect();
    for name in names {
        let made = foreign(crm, scope, cast, &name).await;
        let (other, foreign, cursor) = need(format_args!("more records of {name}"), made)?;
        let kin = cast.kin.entry(name).or_default();
        (kin.other, kin.foreign, kin.cursor) = (other, foreign, cursor);
    }
    Ok(())
}

async fn foreign(
    crm: &Crm,
    scope: &Scope,
    cast: &Cast,
    name: &str,
) -> Result<(Vec<RecordId>, Map<String, Json>, Option<String>)> {
    let module = scope.module(name).ok_or(Error::NotFound)?;
    let records = crm.records();
    let (create, update) = (scope.permit::<Create>(name)?, scope.permit::<Update>(name)?);
    let read = scope.permit::<Read>(name)?;
    let target = |name: &str| cast.kin.get(name)?.both.last().copied();
    let plain = |field: &FieldSpec| !(field.unique && field.kind.is_reference());
    let mut first = Map::new();
    let mut made = Vec::new();
    // By bob, who sees his own: what he owns elsewhere is not here.
    for (number, owner) in [(5, Some(cast.bob)), (26, None), (27, None)] {
        // The last one has no more than it must.
        let wanted = |field: &FieldSpec| plain(field) && (field.required || number != 27);
        let Some(mut body) = body(module, number, &target, wanted) else {
            continue;
        };
        if first.is_empty() {
            first = body.clone();
        }
        if let Some(owner) = owner {
            body.insert("owner_id".into(), owner.to_string().into());
        }
        match records.create(&create, body).await {
            Err(_) if number == 27 => {}
            record => made.push(record?.id),
        }
    }
    let kin = cast.kin(module)?;
    for (at, id) in kin.both.iter().enumerate() {
        let next = |name: &str| {
            let both = &cast.kin.get(name)?.both;
            both.get((at + 1) % both.len()).copied()
        };
        let number = u64::try_from(at).unwrap_or_default() * 10 + 15;
        for references in [false, true] {
            let changed = |field: &FieldSpec| {
                let free = !field.unique && cast::is_free(module, field);
                free && field.kind.is_reference() == references
            };
            let change = body(module, number, &next, changed).unwrap_or_default();
            let version = records.get(&read, *id).await?.version;
            if !change.is_empty() {
                // A record in a final state takes no change.
                let _ = records.update(&update, *id, Some(version), change).await;
            }
        }
    }
    let query = Query {
        limit: 1,
        ..Query::default()
    };
    let cursor = records.list(&read, &query).await?.next_cursor;
    Ok((made, first, cursor))
}

/// What no door changes: the twin's rows are other ones wherever both have one.
async fn brand(crm: &Crm, tenant: TenantId) -> Result<()> {
    let later = crm.clock().now() - TimeDelta::days(1);
    let mut statements: Vec<Sql> = [
        "UPDATE idempotency_keys SET body = 'other' WHERE tenant_id = ",
        "UPDATE audit_log SET request_id = 'other' WHERE tenant_id = ",
        "UPDATE outbox SET request_id = 'other' WHERE tenant_id = ",
        "UPDATE jobs SET request_id = 'other', kind = 'other' WHERE tenant_id = ",
        "UPDATE job_errors SET message = 'other' WHERE tenant_id = ",
        "UPDATE api_keys SET name = 'other' WHERE tenant_id = ",
        "UPDATE invitations SET name = 'other' WHERE tenant_id = ",
        "UPDATE plugins SET status = 'disabled' WHERE name <> 'isolation_other' AND tenant_id = ",
        "INSERT INTO plugin_runs (tenant_id, id, plugin_id, trigger, outcome, fuel, duration_us, \
         host_calls, logs, started_at) SELECT tenant_id, id, id, 'other', 'succeeded', 0, 0, 0, '[]', \
         created_at FROM plugins WHERE tenant_id = ",
        "UPDATE custom_modules SET description = 'other' WHERE tenant_id = ",
        "UPDATE serials SET next = next + 1000 WHERE tenant_id = ",
        "UPDATE record_counts SET count = count + 1000 WHERE tenant_id = ",
        "UPDATE refresh_families SET user_agent = 'other' WHERE tenant_id = ",
        "UPDATE invitations SET expires_at = created_at \
         WHERE email = 'isolation.second@example.com' AND tenant_id = ",
        "UPDATE identity_providers SET client_id = 'other', domains = '[]' WHERE tenant_id = ",
        "UPDATE user_identities SET subject = 'other' || subject WHERE tenant_id = ",
        "UPDATE tenants SET requires_second_factor = (1 = 1) WHERE id = ",
        "UPDATE api_keys SET role_id = (SELECT r.id FROM roles r \
         WHERE r.tenant_id = api_keys.tenant_id AND r.name = 'admin') WHERE tenant_id = ",
        "INSERT INTO login_challenges (hash, tenant_id, user_id, expires_at, provider_id) \
         SELECT k.hash, k.tenant_id, m.user_id, k.created_at, (SELECT p.id \
         FROM identity_providers p WHERE p.tenant_id = k.tenant_id AND p.name = 'isolation') \
         FROM api_keys k \
         JOIN memberships m ON m.tenant_id = k.tenant_id WHERE m.user_id = \
         (SELECT o.user_id FROM memberships o WHERE o.tenant_id = k.tenant_id \
         ORDER BY o.user_id LIMIT 1) \
         AND k.name = 'other' AND k.tenant_id = ",
        "INSERT INTO audit_seals (tenant_id, sequence, entries, newest_at, sealed_at, hash) \
         SELECT k.tenant_id, 1, 1, k.created_at, k.created_at, k.hash FROM api_keys k \
         WHERE k.id = (SELECT o.id FROM api_keys o WHERE o.tenant_id = k.tenant_id \
         ORDER BY o.id LIMIT 1) AND k.tenant_id = ",
    ]
    .into_iter()
    .map(Sql::new)
    .collect();
    let mut tables: Vec<_> = crm
        .registry()
        .iter()
        .map(|module| module.table().clone())
        .collect();
    tables.extend("custom_records".parse::<Ident>());
    for table in tables {
        let mut sql = Sql::new("UPDATE ");
        sql.ident(&table)
            .push(" SET version = version + 1000 WHERE tenant_id = ");
        statements.push(sql);
    }
    for sql in &mut statements {
        sql.arg(tenant, ColumnType::Uuid);
    }
    let mut old = Sql::new("UPDATE memberships SET created_at = ");
    old.arg(later, ColumnType::Instant)
        .push(" WHERE tenant_id = ");
    old.arg(tenant, ColumnType::Uuid);
    statements.push(old);
    let write = crm.core.db.write(move |tx| {
        Box::pin(async move {
            for sql in statements {
                tx.execute(sql).await?;
            }
            Ok(())
        })
    });
    write.await
}
