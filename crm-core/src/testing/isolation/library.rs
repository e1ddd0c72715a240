//! The doors of what the library keeps for a tenant: members, roles, groups, keys, and all else.

use futures::FutureExt;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::events;
use super::stage::{Play, Stage, request};
use super::stock::{OWN_MODULE, first_module, log_in};
use crate::access::Question;
use crate::audit::AuditQuery;
use crate::custom::FieldChange;
use crate::error::{Error, Result};
use crate::group::{GroupChange, GroupMember, GroupRecord, NewGroup};
use crate::id::FamilyId;
use crate::identity::{NewApiKey, NewInvitation, NewServiceAccount};
use crate::module::{FieldSpec, ModuleSpec};
use crate::role::{NewRole, RoleChange};
use crate::schema::DataLoss;
use crate::scope::{Create, Delete, Purge, Read, Update};
use crate::transfer::{Format, ImportOptions};

/// The doors by name, and the tables in which they touch all tenants.
pub(super) const CHAPTERS: &[(&str, Play, &[&str])] = &[
    ("members", |it| members(it).boxed(), &[]),
    ("roles", |it| roles(it).boxed(), &[]),
    ("groups", |it| groups(it).boxed(), &[]),
    ("API keys", |it| keys(it).boxed(), &[]),
    ("invitations", |it| invitations(it).boxed(), &[]),
    ("service accounts", |it| service_accounts(it).boxed(), &[]),
    ("sessions", |it| sessions(it).boxed(), &[]),
    ("rights", |it| rights(it).boxed(), &[]),
    ("custom fields", |it| fields(it).boxed(), &[]),
    ("modules of tenants", |it| modules(it).boxed(), &[]),
    ("jobs", |it| jobs(it).boxed(), &[]),
    ("the audit log", |it| audit(it).boxed(), &[]),
    ("events", |it| events::events(it).boxed(), &["outbox"]),
    ("plugins", |it| events::administration(it).boxed(), &[]),
    ("the export of a tenant", |it| export(it).boxed(), &[]),
    ("the erasure of a tenant", |it| erasure(it).boxed(), &[]),
];

async fn members(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (read, update) = (
        scope.permit::<Read>("members")?,
        scope.permit::<Update>("members")?,
    );
    let delete = scope.permit::<Delete>("members")?;
    let members = it.crm.members();
    it.say("list", members.list(&read, None, 100).await);
    it.say(
        "list behind",
        members.list(&read, Some(it.cast.ann), 1).await,
    );
    for user in [it.cast.bob, it.cast.carl] {
        it.say("get", members.get(&read, user).await);
        it.say(
            "set roles",
            members
                .set_roles(&update, user, ["viewer".to_owned()])
                .await,
        );
        let foreign = [it.cast.role.other.to_string()];
        it.say(
            "set a foreign role",
            members.set_roles(&update, user, foreign).await,
        );
        it.say("unlock", unlocked(it, user).await);
    }
    // The last admin stays, whoever is admin elsewhere.
    it.say(
        "take the last admin's role",
        members
            .set_roles(&update, it.cast.ann, ["viewer".to_owned()])
            .await,
    );
    it.say(
        "remove the last admin",
        members.remove(&delete, it.cast.ann).await,
    );
    for user in [it.cast.bob, it.cast.carl] {
        it.say("remove", members.remove(&delete, user).await);
    }
    it.say("list", members.list(&read, None, 100).await);
    Ok(())
}

/// Whether it is refused: members of several tenants are unlocked by the operator alone.
async fn unlocked(it: &Stage, user: crate::id::UserId) -> Result<()> {
    if user == it.cast.carl {
        let permit = it.operator().await?.permit::<Update>("members")?;
        return it.crm.accounts().unlock(&permit, user).await;
    }
    Ok(())
}

async fn roles(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (create, read) = (
        scope.permit::<Create>("roles")?,
        scope.permit::<Read>("roles")?,
    );
    let (update, delete) = (
        scope.permit::<Update>("roles")?,
        scope.permit::<Delete>("roles")?,
    );
    let roles = it.crm.roles();
    it.say("list", roles.list(&read).await);
    for id in it.cast.role.each() {
        it.say("get", roles.get(&read, id).await);
        let change = RoleChange {
            name: Some("isolation renamed".into()),
            permissions: Some(vec!["roles.read".into()]),
            ..RoleChange::default()
        };
        it.say("update", roles.update(&update, id, change).await);
        let child = NewRole {
            name: format!(
                "child of {}",
                if id == it.cast.role.both {
                    "own"
                } else {
                    "foreign"
                }
            ),
            parent_id: Some(id),
            ..NewRole::default()
        };
        it.say("create a child", roles.create(&create, child).await);
    }
    let same = NewRole {
        name: "isolation other".into(),
        ..NewRole::default()
    };
    let made = roles.create(&create, same).await;
    let id = made.as_ref().map(|role| role.id).ok();
    it.say("create with a foreign name", made);
    let made = id.into_iter().chain([it.cast.spare]);
    for id in made.chain(it.cast.role.each()) {
        it.say("delete", roles.delete(&delete, id).await);
    }
    it.say("list", roles.list(&read).await);
    Ok(())
}

async fn groups(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (create, read) = (
        scope.permit::<Create>("groups")?,
        scope.permit::<Read>("groups")?,
    );
    let (update, delete) = (
        scope.permit::<Update>("groups")?,
        scope.permit::<Delete>("groups")?,
    );
    let groups = it.crm.groups();
    it.say("list", groups.list(&read, None, 100).await);
    it.say("list two", groups.list(&read, None, 2).await);
    it.say(
        "list behind",
        groups.list(&read, Some(it.cast.group.both), 1).await,
    );
    let module = first_module(&it.crm)?.name().to_string();
    let foreign = it
        .cast
        .kin
        .get(&module)
        .and_then(|kin| kin.other.first().copied());
    for id in it.cast.group.each() {
        it.say("get", groups.get(&read, id).await);
        for (what, change) in [
            (
                "describe",
                GroupChange {
                    name: Some(format!(
                        "renamed {}",
                        if id == it.cast.group.both {
                            "own"
                        } else {
                            "foreign"
                        }
                    )),
                    description: Some("changed".into()),
                    ..GroupChange::default()
                },
            ),
            (
                "take a foreign member",
                GroupChange {
                    members: Some(vec![member(it.cast.carl)]),
                    ..GroupChange::default()
                },
            ),
            (
                "take a foreign record",
                GroupChange {
                    records: foreign.map(|id| {
                        vec![GroupRecord {
                            module: module.clone(),
                            id,
                        }]
                    }),
                    ..GroupChange::default()
                },
            ),
            (
                "take a foreign role",
                GroupChange {
                    roles: Some(vec![it.cast.role.other.to_string()]),
                    ..GroupChange::default()
                },
            ),
            (
                "let all go",
                GroupChange {
                    members: Some(Vec::new()),
                    records: Some(Vec::new()),
                    roles: Some(vec!["viewer".into()]),
                    ..GroupChange::default()
                },
            ),
        ] {
            it.say(what, groups.update(&update, id, change).await);
        }
    }
    // Whoever moves people holds what they gain: bob holds little here, and everything elsewhere.
    let bob = it.user(it.cast.bob).await?;
    let permit = bob.permit::<Update>("groups")?;
    for user in [it.cast.ann, it.cast.bob, it.cast.service.both] {
        let change = GroupChange {
            members: Some(vec![member(it.cast.bob), member(user)]),
            roles: Some(Vec::new()),
            ..GroupChange::default()
        };
        it.say(
            "bob takes in",
            groups.update(&permit, it.cast.group.both, change).await,
        );
    }
    let input = NewGroup {
        name: "isolation other".into(),
        members: vec![member(it.cast.bob)],
        roles: vec!["viewer".into()],
        ..NewGroup::default()
    };
    it.say(
        "create with a foreign name",
        groups.create(&create, input).await,
    );
    for id in it.cast.group.each() {
        it.say("delete", groups.delete(&delete, id).await);
    }
    it.say("list", groups.list(&read, None, 100).await);
    Ok(())
}

fn member(user_id: crate::id::UserId) -> GroupMember {
    GroupMember {
        user_id,
        until: None,
    }
}

async fn keys(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (create, read) = (
        scope.permit::<Create>("api_keys")?,
        scope.permit::<Read>("api_keys")?,
    );
    let delete = scope.permit::<Delete>("api_keys")?;
    let keys = it.crm.api_keys();
    for (what, role, service) in [
        ("create", "viewer".to_owned(), Some(it.cast.service.both)),
        (
            "create of a foreign role",
            it.cast.role.other.to_string(),
            None,
        ),
        (
            "create for a foreign service account",
            "viewer".to_owned(),
            Some(it.cast.service.other),
        ),
    ] {
        let input = NewApiKey {
            name: "new".into(),
            role,
            service_account: service,
            ..NewApiKey::default()
        };
        let made = keys.create(&create, input).await;
        if let Ok((key, secret)) = &made {
            let opened = it.crm.authenticate(secret.expose_secret(), request()).await;
            it.say("use", opened.map(|scope| scope.tenant()));
            it.say("revoke", keys.revoke(&delete, key.id).await);
            let opened = it.crm.authenticate(secret.expose_secret(), request()).await;
            it.say("use a revoked one", opened.map(|scope| scope.tenant()));
        }
        // Its first letters are random.
        it.say(
            what,
            made.map(|(key, _)| (key.id, key.role_id, key.service_account_id)),
        );
    }
    for _ in 0..2 {
        let opened = it
            .crm
            .authenticate(it.cast.secret.expose_secret(), request())
            .await;
        it.say(
            "use the old key",
            opened.map(|scope| {
                let may = [
                    scope.permit::<Read>("roles").is_ok(),
                    scope.permit::<Read>(OWN_MODULE).is_ok(),
                ];
                (scope.tenant(), scope.actor(), may)
            }),
        );
        for id in it.cast.key.each() {
            it.say("revoke", keys.revoke(&delete, id).await);
        }
    }
    let all = keys.list(&read).await;
    let told = all.map(|keys| {
        let keys = keys.into_iter();
        keys.map(|key| (key.id, key.name, key.role_id, key.revoked_at))
            .collect::<Vec<_>>()
    });
    it.say("list", told);
    Ok(())
}

async fn invitations(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (create, read) = (
        scope.permit::<Create>("members")?,
        scope.permit::<Read>("members")?,
    );
    let delete = scope.permit::<Delete>("members")?;
    let invitations = it.crm.invitations();
    it.say("list", invitations.list(&read).await);
    for name in ["second", "third"] {
        let input = NewInvitation {
            email: format!("isolation.{name}@example.com"),
            name: name.into(),
            roles: vec!["viewer".into()],
        };
        it.say("invite", invitations.create(&create, input).await);
    }
    let input = NewInvitation {
        email: it.cast.carl_email.clone(),
        name: "carl".into(),
        roles: vec!["viewer".into()],
    };
    it.say("invite carl", invitations.create(&create, input).await);
    let input = NewInvitation {
        email: "isolation.fourth@example.com".into(),
        name: "fourth".into(),
        roles: vec![it.cast.role.other.to_string()],
    };
    it.say(
        "invite to a foreign role",
        invitations.create(&create, input).await,
    );
    for id in it.cast.invitation.each() {
        it.say("revoke", invitations.revoke(&delete, id).await);
    }
    it.say("list", invitations.list(&read).await);
    Ok(())
}

async fn service_accounts(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let create = scope.permit::<Create>("members")?;
    for role in ["viewer".to_owned(), it.cast.role.other.to_string()] {
        let input = NewServiceAccount {
            name: "new".into(),
            roles: vec![role],
        };
        it.say(
            "create",
            it.crm
                .accounts()
                .create_service_account(&create, input)
                .await,
        );
    }
    let (read, delete) = (
        scope.permit::<Read>("members")?,
        scope.permit::<Delete>("members")?,
    );
    for id in it.cast.service.each() {
        it.say("get", it.crm.members().get(&read, id).await);
        it.say("remove", it.crm.members().remove(&delete, id).await);
    }
    Ok(())
}

async fn sessions(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (read, update) = (
        scope.permit::<Read>("members")?,
        scope.permit::<Update>("members")?,
    );
    it.say(
        "log in",
        log_in(&it.crm, it.tenant, it.cast.bob).await.map(drop),
    );
    let sessions = it.crm.sessions();
    for user in [it.cast.bob, it.cast.carl] {
        let open = sessions.list_of(&read, user).await;
        let first = open.as_ref().ok().and_then(|open| Some(open.first()?.id));
        it.say(
            "list",
            open.map(|open| {
                open.into_iter()
                    .map(|one| (one.id, one.user_agent))
                    .collect::<Vec<_>>()
            }),
        );
        let id = first.unwrap_or(FamilyId(it.cast.carl.0));
        it.say("end", sessions.end_of(&update, user, id).await);
        it.say("end all", sessions.end_all_of(&update, user).await);
        let open = sessions.list_of(&read, user).await;
        it.say("list", open.map(|open| open.len()));
    }
    let wrong = SecretString::from("not a token");
    it.say(
        "refresh",
        it.crm.accounts().refresh(wrong, request()).await.map(drop),
    );
    Ok(())
}

async fn rights(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let read = scope.permit::<Read>("access")?;
    for user in [it.cast.ann, it.cast.bob] {
        let own = it.user(user).await?;
        let me = it.crm.accounts().me(&own).await;
        it.say(
            "me",
            me.map(|me| (me.tenant.map(|tenant| tenant.id), me.roles, me.permissions)),
        );
    }
    it.say("who is no member", it.user(it.cast.carl).await.map(drop));
    let module = first_module(&it.crm)?.name().to_string();
    let kin = it.cast.kin.get(&module).ok_or(Error::NotFound)?;
    let users = [it.cast.ann, it.cast.bob, it.cast.carl, it.cast.service.both];
    let keys = it.cast.key.each().map(|key| format!("api_key:{key}"));
    let roles = it.cast.role.each().map(|role| format!("role:{role}"));
    let subjects = users.map(|user| format!("user:{user}"));
    for subject in subjects.into_iter().chain(keys).chain(roles) {
        for action in ["update", "read", "delete"] {
            for record in [None, kin.both.first(), kin.both.get(1), kin.other.first()] {
                let question = Question {
                    subject: subject.clone(),
                    action: format!("{module}.{action}"),
                    record: record.copied(),
                };
                it.say("explain", it.crm.access().explain(&read, &question).await);
            }
        }
    }
    Ok(())
}

async fn fields(it: &Stage) -> Result<()> {
    let declared = first_module(&it.crm)?.name().to_string();
    for (module, name) in [
        (declared.as_str(), "isolation_level"),
        (OWN_MODULE, "hours"),
    ] {
        let scope = it.operator().await?;
        let (read, update) = (
            scope.permit::<Read>("modules")?,
            scope.permit::<Update>("modules")?,
        );
        let delete = scope.permit::<Delete>("modules")?;
        let fields = it.crm.custom_fields();
        let names = |fields: Vec<crate::custom::CustomField>| {
            let fields = fields.into_iter();
            fields
                .map(|field| (field.spec, field.indexed, field.removed_at))
                .collect::<Vec<_>>()
        };
        it.say("list", fields.list(&read, module).await.map(names));
        for name in [name, "isolation_other"] {
            let change = FieldChange {
                description: Some("changed".into()),
                ..FieldChange::default()
            };
            let changed = fields.change(&update, module, name, change).await;
            it.say("change", changed.map(|field| field.spec));
        }
        let spec = json!({"name": "isolation_other", "type": "text", "unique": true, "sort": true});
        let spec: FieldSpec = serde_json::from_value(spec).map_err(Error::internal)?;
        let made = fields.declare(&update, module, spec.clone()).await;
        it.say("declare", made.map(|field| field.spec));
        it.say("remove", fields.remove(&update, module, name).await);
        it.say("purge", fields.purge(&delete, module, name).await);
        it.say(
            "remove",
            fields.remove(&update, module, "isolation_other").await,
        );
        it.say(
            "declare again",
            fields
                .declare(&update, module, spec)
                .await
                .map(|field| field.spec),
        );
        it.say("list", fields.list(&read, module).await.map(names));
        let scope = it.operator().await?;
        let permit = scope.permit::<Read>(module)?;
        let page = it.crm.records().list(&permit, &Default::default()).await;
        it.say("records", page.map(|page| page.data));
    }
    Ok(())
}

async fn modules(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (create, delete) = (
        scope.permit::<Create>("modules")?,
        scope.permit::<Delete>("modules")?,
    );
    let modules = it.crm.custom_modules();
    let declared = scope.modules().map(|module| module.spec().clone());
    it.say("modules", Ok(declared.collect::<Vec<_>>()));
    let spec = json!({
        "name": "isolation_more",
        "singular": "isolation_one",
        "fields": [{"name": "note", "type": "text"}],
    });
    let spec: ModuleSpec = serde_json::from_value(spec).map_err(Error::internal)?;
    it.say("create", modules.create(&create, spec).await);
    it.say(
        "delete",
        modules.delete(&delete, OWN_MODULE, DataLoss::Refused).await,
    );
    it.say(
        "delete with data",
        modules
            .delete(&delete, OWN_MODULE, DataLoss::Accepted)
            .await,
    );
    let scope = it.operator().await?;
    it.say(
        "modules",
        Ok(scope
            .modules()
            .map(|module| module.name().clone())
            .collect::<Vec<_>>()),
    );
    Ok(())
}

async fn jobs(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let jobs = it.crm.jobs();
    it.say("list", jobs.list(&scope, None, 10).await);
    it.say(
        "list before",
        jobs.list(&scope, Some(it.cast.job.both), 10).await,
    );
    for id in it.cast.job.each() {
        it.say("get", jobs.get(&scope, id).await);
        it.say("errors", jobs.errors(&scope, id, 0, 10).await);
        it.say("cancel", jobs.cancel(&scope, id).await);
        it.say("run", it.crm.run_job(&scope, id).await);
    }
    let [first, second] = it.cast.queued;
    it.say("run", it.crm.run_job(&scope, first).await);
    it.say("cancel", jobs.cancel(&scope, second).await);
    it.say("errors", jobs.errors(&scope, first, 0, 10).await);
    let module = first_module(&it.crm)?.name().to_string();
    let (transfer, options) = (it.crm.transfer(), ImportOptions::new(Format::Ndjson));
    let upload = || transfer.import(&scope, &module, options.clone());
    let left = upload().await?;
    it.say("abandon", left.abandon().await);
    let mut cancelled = upload().await?;
    it.say("push", cancelled.push(b"{}\n").await);
    it.say(
        "cancel",
        jobs.cancel(&scope, cancelled.id())
            .await
            .map(|job| job.state),
    );
    it.say("finish", cancelled.finish().await.map(drop));
    let mut waiting = upload().await?;
    it.say("push", waiting.push(b"{}\n").await);
    let id = waiting.finish().await?;
    it.say("run", it.crm.run_job(&scope, id).await);
    it.say("list", jobs.list(&scope, None, 10).await);
    Ok(())
}

async fn audit(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (read, purge) = (
        scope.permit::<Read>("audit")?,
        scope.permit::<Purge>("audit")?,
    );
    let audit = it.crm.audit();
    let module = first_module(&it.crm)?.name().to_string();
    let kin = it.cast.kin.get(&module).ok_or(Error::NotFound)?;
    it.say("list", audit.list(&read, &AuditQuery::default()).await);
    let behind = AuditQuery {
        cursor: Some(it.cast.audit.both),
        limit: Some(3),
        ..AuditQuery::default()
    };
    it.say("list behind", audit.list(&read, &behind).await);
    for id in kin.both.first().into_iter().chain(kin.other.first()) {
        let about = AuditQuery {
            entity: Some(module.clone()),
            entity_id: Some(id.to_string()),
            ..AuditQuery::default()
        };
        it.say("list about", audit.list(&read, &about).await);
        it.say("erase", audit.erase(&purge, &module, &id.to_string()).await);
    }
    let mut export = audit.export(&read, AuditQuery::default())?;
    while let Some(text) = export.next().await? {
        it.say("export", Ok(text));
    }
    it.say(
        "head",
        audit
            .head(&read)
            .await
            .map(|head| head.map(|head| head.sequence)),
    );
    it.say("seals", seals(it).await);
    it.say("seal", it.crm.seal_audit_once().await);
    it.say("seals", seals(it).await);
    it.say("verify", verified(it).await);
    let later = it.crm.clock().now() + chrono::TimeDelta::days(1);
    it.say(
        "prune",
        audit
            .prune(&purge, later)
            .await
            .map(|pruned| pruned.is_some()),
    );
    it.say("seal", it.crm.seal_audit_once().await);
    it.say("seals", seals(it).await);
    it.say("verify", verified(it).await);
    it.say("list", audit.list(&read, &AuditQuery::default()).await);
    Ok(())
}

async fn seals(it: &Stage) -> Result<Vec<(i64, i64)>> {
    let permit = it.operator().await?.permit::<Read>("audit")?;
    let seals = it.crm.audit().seals(&permit, 0).await?;
    Ok(seals
        .into_iter()
        .map(|seal| (seal.sequence, seal.entries))
        .collect())
}

/// What the verification found; hashes are of the tenant.
async fn verified(it: &Stage) -> Result<String> {
    let permit = it.operator().await?.permit::<Read>("audit")?;
    let mut found = it.crm.audit().verify(&permit, None).await?;
    found.head = None;
    Ok(format!("{found:?}"))
}

async fn export(it: &Stage) -> Result<()> {
    let mut export = it.crm.export_tenant(it.tenant, request()).await?;
    while let Some(piece) = export.next().await? {
        // Seals hash the tenant's id, and keys begin with random letters.
        let name = &piece.file;
        let differs = ["seals", "keys", "tenant"]
            .iter()
            .any(|part| name.contains(part));
        let text = if differs {
            piece.text.lines().count().to_string()
        } else {
            piece.text
        };
        it.say(piece.file, Ok(text));
    }
    Ok(())
}

/// As [`Tenants::erase`](crate::tenant::Tenants::erase), but for the time it waits for other
/// processes.
async fn erasure(it: &Stage) -> Result<()> {
    let db = &it.crm.core.db;
    let tables = db.tenant_tables().await?;
    db.erase(tables, it.tenant).await?;
    let layout = db.layout().await?;
    let left = db
        .image(&layout, it.tenant, crate::db::twin::Detail::All)
        .await?;
    it.say("what is left", Ok(left.texts().count()));
    Ok(())
}
