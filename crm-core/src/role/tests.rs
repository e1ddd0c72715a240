//! The promises of the roles repository, on both databases.

use super::*;
use crate::crm::Crm;
use crate::id::UserId;
use crate::policy::fixture::{World, missing, on_both_databases, refusal};
use crate::policy::{RowScope, Subject};

on_both_databases! {
    a_role_is_made_read_changed_and_deleted
    every_broken_rule_of_an_input_is_named
    a_name_is_given_once_per_tenant
    roles_never_inherit_in_a_circle
    built_in_roles_stay_as_they_are
    a_role_in_use_stays
    nobody_grants_what_they_do_not_hold
    nobody_takes_from_a_role_what_they_do_not_hold
    another_tenants_roles_do_not_exist
    a_permit_of_another_object_opens_nothing
    no_rows_of_the_administration_are_ones_own
    a_refused_change_leaves_nothing_behind
    a_change_is_in_force_when_it_is_acknowledged
}

fn new(name: &str, permissions: &[&str]) -> NewRole {
    NewRole {
        name: name.into(),
        permissions: texts(permissions),
        ..NewRole::default()
    }
}

fn texts(list: &[&str]) -> Vec<PermissionInput> {
    list.iter().map(|text| (*text).into()).collect()
}

fn permissions(list: &[&str]) -> RoleChange {
    RoleChange {
        permissions: Some(texts(list)),
        ..RoleChange::default()
    }
}

fn written(role: &Role) -> Vec<String> {
    role.permissions.iter().map(ToString::to_string).collect()
}

impl World {
    fn roles(&self) -> Roles {
        Crm::roles(&self.crm)
    }

    async fn create(&self, user: UserId, role: NewRole) -> Result<Role> {
        self.roles()
            .create(&self.permit(user, OBJECT).await, role)
            .await
    }

    async fn update(&self, user: UserId, id: RoleId, change: RoleChange) -> Result<Role> {
        self.roles()
            .update(&self.permit(user, OBJECT).await, id, change)
            .await
    }

    async fn delete(&self, id: RoleId) -> Result<()> {
        self.roles()
            .delete(&self.permit(self.admin, OBJECT).await, id)
            .await
    }

    async fn list(&self) -> Vec<Role> {
        self.roles()
            .list(&self.permit(self.admin, OBJECT).await)
            .await
            .unwrap()
    }

    async fn named(&self, name: &str) -> Role {
        self.list()
            .await
            .into_iter()
            .find(|role| role.name == name)
            .unwrap()
    }
}

async fn a_role_is_made_read_changed_and_deleted(world: World) {
    let admin = world.admin;
    let asked = [
        "deals.*",
        "contacts.update:own",
        "!contacts.delete",
        "contacts.read",
        "deals.*",
    ];
    let role = world.create(admin, new(" Sales ", &asked)).await.unwrap();
    assert_eq!((role.name.as_str(), role.is_system), ("Sales", false));
    let stored = [
        "contacts.read",
        "contacts.update:own",
        "deals.*",
        "!contacts.delete",
    ];
    assert_eq!(written(&role), stored);

    let read = world
        .roles()
        .get(&world.permit(admin, OBJECT).await, role.id)
        .await
        .unwrap();
    assert_eq!(read, role);
    let names: Vec<_> = world
        .list()
        .await
        .into_iter()
        .map(|role| role.name)
        .collect();
    assert_eq!(names, ["admin", "manager", "member", "viewer", "Sales"]);

    let change = RoleChange {
        description: Some("Sells.".into()),
        parent_id: Some(Some(world.named("viewer").await.id)),
        ..permissions(&["deals.*"])
    };
    let changed = world.update(admin, role.id, change).await.unwrap();
    assert_eq!(
        (changed.name.as_str(), changed.description.as_str()),
        ("Sales", "Sells.")
    );
    assert_eq!(written(&changed), ["deals.*"]);
    assert_eq!(world.named("Sales").await, changed);
    let same = world
        .update(admin, role.id, permissions(&["deals.*"]))
        .await
        .unwrap();
    assert_eq!(same, changed);

    world.delete(role.id).await.unwrap();
    assert_eq!(refusal(world.delete(role.id).await), "not_found");
    assert_eq!(
        refusal(world.update(admin, role.id, permissions(&[])).await),
        "not_found"
    );
    // What changes nothing leaves no audit row.
    assert_eq!(
        world.audit().await,
        ["roles.create", "roles.update", "roles.delete"]
    );
}

async fn every_broken_rule_of_an_input_is_named(world: World) {
    let many = vec!["contacts.read".into(); 501];
    let cases = [
        (new("", &[]), vec![("/name", "required")]),
        (new(&"x".repeat(101), &[]), vec![("/name", "too_long")]),
        (new("a\u{7}b", &[]), vec![("/name", "invalid_character")]),
        (
            new("0198f3a0-0000-7000-8000-000000000000", &[]),
            vec![("/name", "invalid")],
        ),
        (
            NewRole {
                description: "x".repeat(1_001),
                ..new("x", &[])
            },
            vec![("/description", "too_long")],
        ),
        (
            NewRole {
                permissions: many,
                ..new("x", &[])
            },
            vec![("/permissions", "too_many")],
        ),
        (
            new(
                " ",
                &[
                    "contacts.read",
                    "contacts",
                    "ghosts.read",
                    "contacts.approve",
                    "!deals.read:own",
                ],
            ),
            vec![
                ("/name", "required"),
                ("/permissions/1", "invalid_permission"),
                ("/permissions/2", "unknown_permission"),
                ("/permissions/3", "unknown_permission"),
                ("/permissions/4", "invalid_permission"),
            ],
        ),
    ];
    for (input, expected) in cases {
        let Err(Error::Invalid(fields)) = world.create(world.admin, input).await else {
            panic!("not refused: {expected:?}");
        };
        let found: Vec<_> = fields
            .iter()
            .map(|f| (f.pointer.as_str(), f.code))
            .collect();
        assert_eq!(found, expected);
    }
    assert_eq!(world.list().await.len(), 4);
}

async fn a_name_is_given_once_per_tenant(world: World) {
    world.create(world.admin, new("Sales", &[])).await.unwrap();
    let taken = world.create(world.admin, new("Sales", &[])).await;
    let taken = taken.unwrap_err();
    assert_eq!(
        (taken.code(), taken.to_string().as_str()),
        ("already_exists", "another role has the same name already")
    );
    let other = world.operator(world.new_tenant("other").await);
    let role = world
        .roles()
        .create(&other.permit(OBJECT).unwrap(), new("Sales", &[]))
        .await;
    assert_eq!(role.unwrap().name, "Sales");
}

async fn roles_never_inherit_in_a_circle(world: World) {
    let below = |parent: RoleId| RoleChange {
        parent_id: Some(Some(parent)),
        ..RoleChange::default()
    };
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let parent_id = ids.last().copied();
        let role = NewRole {
            parent_id,
            ..new(name, &[])
        };
        ids.push(world.create(world.admin, role).await.unwrap().id);
    }
    for (role, parent) in [(0, 0), (0, 1), (0, 2), (1, 2)] {
        let refused = world
            .update(world.admin, ids[role], below(ids[parent]))
            .await;
        let Err(Error::Invalid(fields)) = refused else {
            panic!("{role} below {parent}")
        };
        assert_eq!(
            (fields[0].pointer.as_str(), fields[0].code),
            ("/parent_id", "role_cycle")
        );
    }
    // c leaves the line, and then a may go below it.
    let free = RoleChange {
        parent_id: Some(None),
        ..RoleChange::default()
    };
    world.update(world.admin, ids[2], free).await.unwrap();
    let moved = world
        .update(world.admin, ids[0], below(ids[2]))
        .await
        .unwrap();
    assert_eq!(moved.parent_id, Some(ids[2]));
}

async fn built_in_roles_stay_as_they_are(world: World) {
    for role in world.list().await {
        assert!(role.is_system, "{}", role.name);
        let change = permissions(&["*.*"]);
        assert_eq!(
            refusal(world.update(world.admin, role.id, change).await),
            "system_role"
        );
        assert_eq!(refusal(world.delete(role.id).await), "system_role");
    }
}

async fn a_role_in_use_stays(world: World) {
    let held = world.create(world.admin, new("held", &[])).await.unwrap();
    world.new_member(&["held"]).await;
    let parent = world.create(world.admin, new("parent", &[])).await.unwrap();
    let child = NewRole {
        parent_id: Some(parent.id),
        ..new("child", &[])
    };
    let child = world.create(world.admin, child).await.unwrap();
    let bound = world.create(world.admin, new("bound", &[])).await.unwrap();
    world.new_key(bound.id).await;
    for role in [held.id, parent.id, bound.id] {
        assert_eq!(refusal(world.delete(role).await), "role_in_use");
    }
    world.delete(child.id).await.unwrap();
    world.delete(parent.id).await.unwrap();
}

async fn nobody_grants_what_they_do_not_hold(world: World) {
    let rights = ["roles.*", "contacts.read", "deals.*:own", "deals.read"];
    let boss = world
        .create(world.admin, new("boss", &rights))
        .await
        .unwrap();
    let user = world.new_member(&["boss"]).await;

    let refused = [
        ("*.*", "members.read"),
        ("contacts.*", "contacts.create"),
        ("contacts.update:own", "contacts.update"),
        ("deals.update", "deals.update"),
        ("records.read", ""),
        ("deals.*:own", ""),
        ("!members.delete", ""),
    ];
    for (permission, lacks) in refused {
        let created = world.create(user, new("x", &[permission])).await;
        match lacks {
            "" => world.delete(created.unwrap().id).await.unwrap(),
            _ => assert_eq!(missing(created), lacks, "{permission}"),
        }
    }
    // Not by inheritance either, nor by changing a role one holds, nor through a role below it.
    let manager = world.named("manager").await.id;
    let below = NewRole {
        parent_id: Some(manager),
        ..new("x", &[])
    };
    assert_eq!(missing(world.create(user, below).await), "members.read");
    let more = permissions(&["roles.*", "deals.*"]);
    assert_eq!(
        missing(world.update(user, boss.id, more).await),
        "deals.create"
    );
    // Nor by lifting a denial.
    let ban = new("ban", &["!contacts.delete", "!contacts.read"]);
    let ban = world.create(world.admin, ban).await.unwrap();
    let lifted = world
        .update(user, ban.id, permissions(&["!contacts.read"]))
        .await;
    assert_eq!(missing(lifted), "contacts.delete");
    world
        .update(user, ban.id, permissions(&["!contacts.delete"]))
        .await
        .unwrap();
}

async fn nobody_takes_from_a_role_what_they_do_not_hold(world: World) {
    let boss = new("boss", &["roles.*", "contacts.read"]);
    world.create(world.admin, boss).await.unwrap();
    let user = world.new_member(&["boss"]).await;
    let seller = new("seller", &["contacts.read", "contacts.update"]);
    let seller = world.create(world.admin, seller).await.unwrap();
    for fewer in [
        &["contacts.read"][..],
        &["contacts.read", "contacts.update:own"],
        &["contacts.read", "contacts.update", "!contacts.update"],
        // It would hold for what other roles allow the same members.
        &["contacts.read", "contacts.update", "!contacts.delete"],
    ] {
        let refused = world.update(user, seller.id, permissions(fewer)).await;
        assert_eq!(refusal(refused), "beyond_your_rights", "{fewer:?}");
    }
    let fewer = permissions(&["contacts.update"]);
    world.update(user, seller.id, fewer).await.unwrap();
}

async fn another_tenants_roles_do_not_exist(world: World) {
    let other = world.operator(world.new_tenant("other").await);
    let foreign = world
        .roles()
        .list(&other.permit(OBJECT).unwrap())
        .await
        .unwrap()[3]
        .id;
    let get = world
        .roles()
        .get(&world.permit(world.admin, OBJECT).await, foreign)
        .await;
    assert_eq!(refusal(get), "not_found");
    assert_eq!(
        refusal(world.update(world.admin, foreign, permissions(&[])).await),
        "not_found"
    );
    assert_eq!(refusal(world.delete(foreign).await), "not_found");
    let below = NewRole {
        parent_id: Some(foreign),
        ..new("x", &[])
    };
    let Err(Error::Invalid(fields)) = world.create(world.admin, below).await else {
        panic!("a foreign parent was taken");
    };
    assert_eq!(fields[0].code, "unknown_role");
}

async fn a_permit_of_another_object_opens_nothing(world: World) {
    for object in ["members", "contacts"] {
        let permit = world.permit(world.admin, object).await;
        assert_eq!(missing(world.roles().list(&permit).await), "roles.read");
    }
    // Nor does one for own rows: nobody owns a role.
    world
        .create(world.admin, new("own", &["*.read:own"]))
        .await
        .unwrap();
    let user = world.new_member(&["own"]).await;
    let permit = world.permit(user, OBJECT).await;
    assert_eq!(missing(world.roles().list(&permit).await), "roles.read");
}

async fn no_rows_of_the_administration_are_ones_own(world: World) {
    let all = ["*.read:own", "records.*:team", "contacts.read:parent"];
    let made = world.create(world.admin, new("all", &all)).await.unwrap();
    let named = ["roles.read", "members.read:own", "jobs.*:team", "*.read"];
    for refused in [
        world.create(world.admin, new("own", &named)).await,
        world
            .update(world.admin, made.id, permissions(&named))
            .await,
    ] {
        let Err(Error::Invalid(fields)) = refused else {
            panic!("rows of one's own were taken where there are none");
        };
        let told = fields.iter().map(|field| (&*field.pointer, field.code));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                ("/permissions/1", "not_allowed"),
                ("/permissions/2", "not_allowed")
            ]
        );
        assert!(fields[0].message.contains("members"), "{fields:?}");
    }
}

async fn a_refused_change_leaves_nothing_behind(world: World) {
    world
        .create(world.admin, new("boss", &["roles.*"]))
        .await
        .unwrap();
    let user = world.new_member(&["boss"]).await;
    let (roles, audit) = (world.list().await, world.audit().await);
    missing(world.create(user, new("x", &["contacts.read"])).await);
    missing(
        world
            .update(user, roles[4].id, permissions(&["contacts.read"]))
            .await,
    );
    assert_eq!(world.list().await, roles);
    assert_eq!(world.audit().await, audit);
}

async fn a_change_is_in_force_when_it_is_acknowledged(world: World) {
    let role = world
        .create(world.admin, new("role", &["contacts.read"]))
        .await
        .unwrap();
    let user = world.new_member(&["role"]).await;
    let operation = world.crm.catalogue().operation("contacts", "read").unwrap();
    for (permission, expected) in [
        ("contacts.read", Some(RowScope::All)),
        ("contacts.read:own", Some(RowScope::Own)),
        ("!contacts.read", None),
    ] {
        world
            .update(world.admin, role.id, permissions(&[permission]))
            .await
            .unwrap();
        let grants = world.grants(Subject::User(user)).await.unwrap();
        assert_eq!(grants.decide(operation), expected, "{permission}");
    }
}
