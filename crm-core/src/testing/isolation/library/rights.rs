//! The doors of what people may do: roles, groups, keys, and what is explained of it.

use secrecy::ExposeSecret;

use crate::access::Question;
use crate::error::{Error, Result};
use crate::group::{GroupChange, GroupMember, GroupRecord, NewGroup};
use crate::identity::NewApiKey;
use crate::role::{NewRole, RoleChange};
use crate::scope::{Create, Delete, Read, Update};
use crate::testing::isolation::stage::{Stage, request};
use crate::testing::isolation::stock::{OWN_MODULE, first_module};

pub(super) async fn roles(it: &Stage) -> Result<()> {
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

pub(super) async fn groups(it: &Stage) -> Result<()> {
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

pub(super) async fn keys(it: &Stage) -> Result<()> {
    let scope = it.operator().await?;
    let (create, read) = (
        scope.permit::<Create>("api_keys")?,
        scope.permit::<Read>("api_keys")?,
    );
    let delete = scope.permit::<Delete>("api_keys")?;
    let keys = it.crm.api_keys();
    for (what, role, service) in [
        ("create", "viewer".to_owned(), Some(it.cast.service.both)),
        ("create for nobody", "viewer".to_owned(), None),
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
            if let Ok(opened) = &opened {
                let me = it.crm.accounts().me(opened).await;
                it.say("me", me.map(|me| (me.roles, me.permissions)));
            }
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
    for id in it.cast.key.each() {
        let question = Question {
            subject: format!("api_key:{id}"),
            action: "roles.read".into(),
            record: None,
        };
        let access = scope.permit::<Read>("access")?;
        let explained = it.crm.access().explain(&access, &question).await;
        it.say("explain a revoked one", explained);
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

pub(super) async fn rights(it: &Stage) -> Result<()> {
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
