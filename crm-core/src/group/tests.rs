//! The promises of the groups repository, on both databases.

use super::*;
use crate::crm::Crm;
use crate::policy::fixture::{World, missing, on_both_databases, refusal};
use crate::policy::{RowScope, Subject};
use crate::role::NewRole;

on_both_databases! {
    pl_70_a_group_is_made_read_changed_and_deleted
    pl_18_members_hold_the_roles_of_their_groups
    every_broken_rule_of_a_group_is_named
    pl_22_nobody_gives_through_a_group_what_they_do_not_hold
    nobody_takes_through_a_group_what_they_do_not_hold
    whoever_moves_people_between_teams_holds_what_teams_reach
    another_tenants_groups_do_not_exist
}

fn member(user_id: UserId) -> GroupMember {
    GroupMember {
        user_id,
        until: None,
    }
}

impl World {
    fn groups(&self) -> Groups {
        Crm::groups(&self.crm)
    }

    async fn group(&self, actor: UserId, new: NewGroup) -> Result<Group> {
        let permit = self.permit(actor, OBJECT).await;
        self.groups().create(&permit, new).await
    }

    async fn change(&self, actor: UserId, id: GroupId, change: GroupChange) -> Result<Group> {
        let permit = self.permit(actor, OBJECT).await;
        self.groups().update(&permit, id, change).await
    }

    async fn role(&self, name: &str, permissions: &[&str]) {
        let new = NewRole {
            name: name.into(),
            permissions: permissions.iter().map(|text| (*text).into()).collect(),
            ..NewRole::default()
        };
        let permit = self.permit(self.admin, "roles").await;
        self.crm.roles().create(&permit, new).await.unwrap();
    }

    async fn decided(&self, user: UserId, object: &str, action: &str) -> Option<RowScope> {
        let operation = self.crm.catalogue().operation(object, action).unwrap();
        self.grants(Subject::User(user))
            .await
            .unwrap()
            .decide(operation)
    }
}

fn new(name: &str, roles: &[&str], members: &[UserId]) -> NewGroup {
    NewGroup {
        name: name.into(),
        roles: roles.iter().map(ToString::to_string).collect(),
        members: members.iter().copied().map(member).collect(),
        ..NewGroup::default()
    }
}

async fn pl_70_a_group_is_made_read_changed_and_deleted(world: World) {
    let admin = world.admin;
    let made = world
        .group(
            admin,
            new(" Field team ", &["viewer"], &[world.member, world.viewer]),
        )
        .await
        .unwrap();
    assert_eq!(made.name, "Field team");
    let read = world.permit(admin, OBJECT).await;
    assert_eq!(world.groups().get(&read, made.id).await.unwrap(), made);
    let page = world.groups().list(&read, None, 1).await.unwrap();
    assert_eq!(
        (page.data.as_slice(), page.next),
        ([made.clone()].as_slice(), None)
    );
    let taken = world.group(admin, new("Field team", &[], &[])).await;
    let taken = taken.unwrap_err();
    assert_eq!(
        (taken.code(), taken.to_string().as_str()),
        ("already_exists", "another group has the same name already")
    );
    let rename = GroupChange {
        name: Some("Team".into()),
        members: Some(vec![member(world.manager)]),
        ..GroupChange::default()
    };
    let changed = world.change(admin, made.id, rename).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.members.len()), ("Team", 1));
    let same = GroupChange {
        description: Some(String::new()),
        ..GroupChange::default()
    };
    assert_eq!(world.change(admin, made.id, same).await.unwrap(), changed);
    let permit = world.permit(admin, "roles").await;
    let viewer = world
        .crm
        .roles()
        .list(&world.permit(admin, "roles").await)
        .await
        .unwrap();
    let viewer = viewer.iter().find(|role| role.name == "viewer").unwrap().id;
    assert_eq!(
        refusal(world.crm.roles().delete(&permit, viewer).await),
        "system_role"
    );
    let delete = world.permit(admin, OBJECT).await;
    world.groups().delete(&delete, made.id).await.unwrap();
    assert_eq!(
        refusal(world.groups().get(&read, made.id).await),
        "not_found"
    );
    assert_eq!(
        world.audit().await,
        ["groups.create", "groups.update", "groups.delete"]
    );
}

async fn pl_18_members_hold_the_roles_of_their_groups(world: World) {
    world.role("closer", &["deals.delete"]).await;
    world.role("no reading", &["!contacts.read"]).await;
    let user = world.new_member(&["viewer"]).await;
    assert_eq!(world.decided(user, "deals", "delete").await, None);
    let group = world
        .group(
            world.admin,
            new("closers", &["closer", "no reading"], &[user]),
        )
        .await
        .unwrap();
    assert_eq!(
        world.decided(user, "deals", "delete").await,
        Some(RowScope::All)
    );
    assert_eq!(world.decided(user, "contacts", "read").await, None);
    let nobody = GroupChange {
        members: Some(Vec::new()),
        ..GroupChange::default()
    };
    world.change(world.admin, group.id, nobody).await.unwrap();
    assert_eq!(world.decided(user, "deals", "delete").await, None);
    assert_eq!(
        world.decided(user, "contacts", "read").await,
        Some(RowScope::All)
    );
}

async fn every_broken_rule_of_a_group_is_named(world: World) {
    let now = world.crm.clock().now();
    let stranger = UserId(world.crm.clock().new_id());
    let ended = GroupMember {
        user_id: world.viewer,
        until: Some(now),
    };
    let pointers = |answer: Result<Group>| match answer {
        Err(Error::Invalid(fields)) => fields.into_iter().map(|field| field.pointer).collect(),
        other => panic!("{other:?}"),
    };
    let mut broken = new(" ", &[], &[]);
    broken.members = vec![ended, member(world.viewer)];
    let found: Vec<String> = pointers(world.group(world.admin, broken).await);
    assert_eq!(found, ["/name", "/members/0/until"]);
    let unknown = new("g", &[], &[stranger]);
    let found: Vec<String> = pointers(world.group(world.admin, unknown).await);
    assert_eq!(found, ["/members/0/user_id"]);
    let unknown = new("g", &["nothing"], &[]);
    let found: Vec<String> = pointers(world.group(world.admin, unknown).await);
    assert_eq!(found, ["/roles/0"]);
    let mut unknown = new("g", &[], &[]);
    for module in ["contacts", "nothing"] {
        unknown.records.push(GroupRecord {
            module: module.into(),
            id: RecordId(stranger.0),
        });
    }
    let found: Vec<String> = pointers(world.group(world.admin, unknown).await);
    assert_eq!(found, ["/records/0", "/records/1"]);
    assert!(world.audit().await.is_empty());
}

async fn pl_22_nobody_gives_through_a_group_what_they_do_not_hold(world: World) {
    world.role("lead", &["groups.*", "records.read"]).await;
    world.role("ban", &["!deals.delete"]).await;
    let (lead, user) = (
        world.new_member(&["lead"]).await,
        world.new_member(&["viewer"]).await,
    );
    let made = world
        .group(lead, new("readers", &["viewer"], &[user]))
        .await
        .unwrap();
    let refused = world.group(lead, new("admins", &["admin"], &[lead])).await;
    assert_eq!(missing(refused), "members.read");
    let roles = GroupChange {
        roles: Some(vec!["manager".into()]),
        ..GroupChange::default()
    };
    let refused = world.change(lead, made.id, roles).await;
    assert_eq!(missing(refused), "members.read");
    // A denial that is lifted gives what it denied.
    let banned = world
        .group(world.admin, new("banned", &["ban"], &[world.manager]))
        .await
        .unwrap();
    let delete = world.permit(lead, OBJECT).await;
    let refused = world.groups().delete(&delete, banned.id).await;
    assert_eq!(missing(refused), "deals.delete");
    assert_eq!(world.decided(world.manager, "deals", "delete").await, None);
}

async fn nobody_takes_through_a_group_what_they_do_not_hold(world: World) {
    world.role("lead", &["groups.*", "contacts.read"]).await;
    world.role("closer", &["deals.delete"]).await;
    let lead = world.new_member(&["lead"]).await;
    let closers = new("closers", &["closer"], &[world.viewer, lead]);
    let made = world.group(world.admin, closers).await.unwrap();
    let readers = new("readers", &["viewer"], &[world.member]);
    let other = world.group(world.admin, readers).await.unwrap();
    let taken = [
        GroupChange {
            members: Some(Vec::new()),
            ..GroupChange::default()
        },
        GroupChange {
            roles: Some(Vec::new()),
            ..GroupChange::default()
        },
    ];
    for change in taken {
        let refused = world.change(lead, other.id, change).await;
        assert_eq!(refusal(refused), "beyond_your_rights");
    }
    let delete = world.permit(lead, OBJECT).await;
    let refused = world.groups().delete(&delete, other.id).await;
    assert_eq!(refusal(refused), "beyond_your_rights");
    // Who is in the group themselves holds what it gives.
    let without = GroupChange {
        members: Some(vec![member(lead)]),
        ..GroupChange::default()
    };
    world.change(lead, made.id, without).await.unwrap();
    world.groups().delete(&delete, made.id).await.unwrap();
}

async fn whoever_moves_people_between_teams_holds_what_teams_reach(world: World) {
    world
        .role("team reader", &["deals.read:team", "deals.update:parent"])
        .await;
    world.role("lead", &["groups.*", "deals.read:team"]).await;
    world
        .role("head", &["groups.*", "deals.read", "deals.update"])
        .await;
    let reader = world.new_member(&["team reader"]).await;
    let lead = world.new_member(&["lead"]).await;
    let head = world.new_member(&["head"]).await;
    let team = |name: &str| new(name, &[], &[reader, world.viewer]);
    assert_eq!(missing(world.group(lead, team("one")).await), "deals.read");
    let made = world.group(head, team("two")).await.unwrap();
    let rename = GroupChange {
        name: Some("three".into()),
        ..GroupChange::default()
    };
    world.change(lead, made.id, rename).await.unwrap();
    let more = GroupChange {
        members: Some(vec![member(reader), member(lead)]),
        ..GroupChange::default()
    };
    assert_eq!(
        missing(world.change(lead, made.id, more).await),
        "deals.read"
    );
}

async fn another_tenants_groups_do_not_exist(world: World) {
    let made = world
        .group(world.admin, new("ours", &[], &[]))
        .await
        .unwrap();
    let other = world.operator(world.new_tenant("other").await);
    let groups = world.groups();
    let read = other.permit::<Read>(OBJECT).unwrap();
    assert_eq!(refusal(groups.get(&read, made.id).await), "not_found");
    assert!(groups.list(&read, None, 100).await.unwrap().data.is_empty());
    let update = other.permit::<Update>(OBJECT).unwrap();
    let change = GroupChange::default();
    assert_eq!(
        refusal(groups.update(&update, made.id, change).await),
        "not_found"
    );
    let delete = other.permit::<Delete>(OBJECT).unwrap();
    assert_eq!(refusal(groups.delete(&delete, made.id).await), "not_found");
    let theirs = new("theirs", &[], &[world.viewer]);
    let create = other.permit::<Create>(OBJECT).unwrap();
    assert_eq!(
        refusal(groups.create(&create, theirs).await),
        "validation_failed"
    );
}
