//! The promises of the members repository, on both databases.

use std::collections::HashSet;

use super::race::restore;
use super::*;
use crate::db::{ColumnType, Sql};
use crate::policy::Subject;
use crate::policy::fixture::{World, missing, on_both_databases, refusal};

on_both_databases! {
    paging_visits_each_member_once
    roles_are_replaced_by_name_or_id
    nobody_hands_out_rights_they_do_not_hold
    at_20_nobody_changes_or_removes_a_member_who_holds_more
    a_removed_member_has_no_rights_left
    who_lost_rights_since_the_request_began_hands_out_none
    the_last_admin_stays
    an_inactive_admin_does_not_count
    no_denial_takes_the_way_back_from_the_last_admin
    of_racing_admins_one_stays
    another_tenants_members_do_not_exist
    a_permit_of_another_object_opens_nothing
}

impl World {
    async fn set_roles(&self, actor: UserId, user: UserId, roles: &[&str]) -> Result<Member> {
        let roles: Vec<String> = roles.iter().map(ToString::to_string).collect();
        let permit = self.permit(actor, OBJECT).await;
        self.crm.members().set_roles(&permit, user, roles).await
    }

    async fn remove(&self, actor: UserId, user: UserId) -> Result<()> {
        self.crm
            .members()
            .remove(&self.permit(actor, OBJECT).await, user)
            .await
    }

    async fn get(&self, user: UserId) -> Result<Member> {
        self.crm
            .members()
            .get(&self.permit(self.manager, OBJECT).await, user)
            .await
    }
}

fn names(member: &Member) -> Vec<&str> {
    member.roles.iter().map(|role| role.name.as_str()).collect()
}

async fn paging_visits_each_member_once(world: World) {
    for roles in [&[][..], &["member", "viewer"], &["viewer"]] {
        world.new_member(roles).await;
    }
    let permit = world.permit(world.manager, OBJECT).await;
    for limit in [1, 2, 3, 7, 100] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = world
                .crm
                .members()
                .list(&permit, after, limit)
                .await
                .unwrap();
            assert!(page.data.len() <= limit as usize);
            seen.extend(page.data);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let ids: HashSet<_> = seen.iter().map(|member| member.user_id).collect();
        assert_eq!((seen.len(), ids.len()), (7, 7), "pages of {limit}");
        assert_eq!(names(&seen[4]), [""; 0]);
        assert_eq!(names(&seen[5]), ["member", "viewer"]);
        assert_eq!(seen[5], world.get(seen[5].user_id).await.unwrap());
    }
    for limit in [0, 101] {
        let refused = world.crm.members().list(&permit, None, limit).await;
        assert_eq!(refusal(refused), "validation_failed");
    }
}

async fn roles_are_replaced_by_name_or_id(world: World) {
    let viewer = world.get(world.viewer).await.unwrap().roles.remove(0);
    let id = viewer.id.to_string();
    let member = world
        .set_roles(world.admin, world.member, &["manager", &id, "viewer"])
        .await;
    assert_eq!(names(&member.unwrap()), ["manager", "viewer"]);
    // What changes nothing leaves no audit row.
    world
        .set_roles(world.admin, world.member, &["viewer", "manager"])
        .await
        .unwrap();
    let member = world
        .set_roles(world.admin, world.member, &[])
        .await
        .unwrap();
    assert_eq!(member.roles, []);
    let grants = world.grants(Subject::User(world.member)).await.unwrap();
    let read = world.crm.catalogue().operation("contacts", "read").unwrap();
    assert_eq!(grants.decide(read), None);
    assert_eq!(world.audit().await, ["members.update", "members.update"]);

    let refused = world
        .set_roles(world.admin, world.member, &["viewer", "Viewer"])
        .await;
    let Err(Error::Invalid(fields)) = refused else {
        panic!("an unknown role was taken")
    };
    assert_eq!(
        (fields[0].pointer.as_str(), fields[0].code),
        ("/roles/1", "unknown_role")
    );
    let nobody = UserId(world.crm.clock().new_id());
    assert_eq!(
        refusal(world.set_roles(world.admin, nobody, &[]).await),
        "not_found"
    );
}

async fn nobody_hands_out_rights_they_do_not_hold(world: World) {
    let permit = world.permit(world.admin, "roles").await;
    let role = |name: &str, permissions: &[&str]| role::NewRole {
        name: name.into(),
        permissions: permissions.iter().map(|text| (*text).into()).collect(),
        ..role::NewRole::default()
    };
    for new in [
        role("lead", &["members.*", "records.*:own"]),
        role("ban", &["!deals.delete"]),
    ] {
        world.crm.roles().create(&permit, new).await.unwrap();
    }
    let lead = world.new_member(&["lead"]).await;

    let user = world.new_member(&[]).await;
    assert_eq!(
        missing(world.set_roles(lead, user, &["viewer"]).await),
        "contacts.read"
    );
    assert_eq!(
        missing(world.set_roles(lead, user, &["admin"]).await),
        "members.read".replace("members", "roles")
    );
    assert_eq!(
        missing(world.set_roles(lead, lead, &["lead", "viewer"]).await),
        "contacts.read"
    );
    // The refusal names what is lacking, as far as one reads on.
    let refused = world.set_roles(lead, user, &["admin"]).await.unwrap_err();
    let refused = refused.to_string();
    let named = ": roles.read, roles.create, roles.update, roles.delete, roles.purge and ";
    let (_, rest) = refused.split_once(named).expect("the first five");
    let (more, advice) = rest.split_once(" more; ").expect("how many more");
    assert!(more.parse::<usize>().unwrap() > 50, "{refused}");
    assert_eq!(advice, "leave them out, or ask a member who holds them");
    world
        .set_roles(lead, user, &["member", "ban"])
        .await
        .unwrap();
    world.set_roles(lead, user, &["member"]).await.unwrap();
    // What they have already, they may keep; a denial of it stays.
    let own = world.set_roles(lead, lead, &["lead", "ban"]).await;
    assert_eq!(names(&own.unwrap()), ["lead", "ban"]);
    assert_eq!(
        missing(world.set_roles(lead, lead, &["lead"]).await),
        "deals.delete"
    );
}

async fn at_20_nobody_changes_or_removes_a_member_who_holds_more(world: World) {
    let beyond = "beyond_your_rights";
    let role = role::NewRole {
        name: "lead".into(),
        permissions: vec!["members.*".into(), "records.*:own".into()],
        ..role::NewRole::default()
    };
    let permit = world.permit(world.admin, "roles").await;
    world.crm.roles().create(&permit, role).await.unwrap();
    let lead = world.new_member(&["lead"]).await;
    let equal = world.new_member(&["lead"]).await;
    for user in [world.admin, world.manager, world.viewer] {
        assert_eq!(refusal(world.remove(lead, user).await), beyond);
        for roles in [&[][..], &["member"], &["lead", "member"]] {
            assert_eq!(refusal(world.set_roles(lead, user, roles).await), beyond);
        }
    }
    assert_eq!(world.audit().await, ["roles.create"]);
    // Whoever holds as much at most, and oneself.
    world
        .set_roles(lead, world.member, &["lead"])
        .await
        .unwrap();
    for user in [world.member, equal, lead] {
        world.remove(lead, user).await.unwrap();
    }

    // A right until some instant counts for as long as it lasts, on either side.
    let deputy = world.new_member(&["lead"]).await;
    let above = world.new_member(&["lead"]).await;
    let until = async |user: UserId| {
        let end = world.crm.clock().now() + chrono::TimeDelta::hours(1);
        let grants = ["lead", "viewer"].map(|role| RoleGrant {
            role: role.to_owned(),
            until: Some(end),
        });
        let permit = world.permit(world.admin, OBJECT).await;
        let members = world.crm.members();
        members.set_roles(&permit, user, grants).await.unwrap();
    };
    until(above).await;
    assert_eq!(refusal(world.remove(deputy, above).await), beyond);
    until(deputy).await;
    world.remove(deputy, above).await.unwrap();
    world.remove(deputy, world.viewer).await.unwrap();
    assert_eq!(refusal(world.remove(deputy, world.manager).await), beyond);
    // The program itself is limited by nothing.
    let operator = world.operator(world.tenant).permit(OBJECT).unwrap();
    let members = world.crm.members();
    members.remove(&operator, world.manager).await.unwrap();
}

async fn a_removed_member_has_no_rights_left(world: World) {
    let viewer = Subject::User(world.viewer);
    assert!(world.grants(viewer).await.is_some());
    world.remove(world.admin, world.viewer).await.unwrap();
    assert!(world.grants(viewer).await.is_none());
    assert_eq!(refusal(world.get(world.viewer).await), "not_found");
    assert_eq!(
        refusal(world.remove(world.admin, world.viewer).await),
        "not_found"
    );
    assert_eq!(world.audit().await, ["members.delete"]);
}

/// Whoever sends the body of a request slowly has its rights from when it began.
async fn who_lost_rights_since_the_request_began_hands_out_none(world: World) {
    let eve = world.new_member(&["admin"]).await;
    let scope = world.scope(eve).await;
    let members = world.crm.members();
    let restore = async || {
        let permit = scope.permit(OBJECT).unwrap();
        refusal(
            members
                .set_roles(&permit, eve, vec!["admin".to_owned()])
                .await,
        )
    };
    let key = async || {
        let key = crate::identity::NewApiKey {
            name: "way back".into(),
            role: "admin".into(),
            permissions: None,
            service_account: None,
            expires_at: None,
        };
        let (keys, permit) = (world.crm.api_keys(), scope.permit("api_keys").unwrap());
        let made = keys.create(&permit, key);
        refusal(made.await)
    };
    let viewer = world.set_roles(world.admin, eve, &["viewer"]).await;
    viewer.unwrap();
    assert_eq!(restore().await, "rights_changed");
    assert_eq!(key().await, "rights_changed");
    world.remove(world.admin, eve).await.unwrap();
    assert_eq!(restore().await, "rights_changed");
    assert_eq!(key().await, "rights_changed");
}

async fn the_last_admin_stays(world: World) {
    let admin = world.admin;
    assert_eq!(refusal(world.remove(admin, admin).await), "last_admin");
    assert_eq!(
        refusal(world.set_roles(admin, admin, &["manager"]).await),
        "last_admin"
    );
    assert_eq!(names(&world.get(admin).await.unwrap()), ["admin"]);
    assert_eq!(world.audit().await, [""; 0]);
    // A role of one's own with the same rights does not make an admin.
    let role = role::NewRole {
        name: "root".into(),
        permissions: vec!["*.*".into()],
        ..role::NewRole::default()
    };
    world
        .crm
        .roles()
        .create(&world.permit(admin, "roles").await, role)
        .await
        .unwrap();
    let root = world.new_member(&["root"]).await;
    assert_eq!(refusal(world.remove(root, admin).await), "last_admin");
    world
        .set_roles(root, world.viewer, &["admin"])
        .await
        .unwrap();
    world.remove(root, admin).await.unwrap();
}

async fn no_denial_takes_the_way_back_from_the_last_admin(world: World) {
    let (admin, roles) = (world.admin, world.crm.roles());
    let role = |name: &str, permission: &str| role::NewRole {
        name: name.into(),
        permissions: vec![permission.into()],
        ..role::NewRole::default()
    };
    let permit = world.permit(admin, "roles").await;
    roles
        .create(&permit, role("banned", "!members.*"))
        .await
        .unwrap();
    roles
        .create(&permit, role("careful", "!deals.delete"))
        .await
        .unwrap();
    let given = world.set_roles(admin, admin, &["admin", "careful"]).await;
    given.unwrap();
    let all = ["admin", "careful", "banned"];
    let refused = world.set_roles(admin, admin, &all).await;
    assert_eq!(refusal(refused), "last_admin");
    let group = |members: &[UserId]| crate::group::NewGroup {
        name: "all".into(),
        roles: vec!["banned".into()],
        members: members
            .iter()
            .map(|user_id| crate::group::GroupMember {
                user_id: *user_id,
                until: None,
            })
            .collect(),
        ..crate::group::NewGroup::default()
    };
    let groups = world.crm.groups();
    let permit = world.permit(admin, "groups").await;
    let refused = groups.create(&permit, group(&[admin])).await;
    assert_eq!(refusal(refused), "last_admin");
    // Another one is there who could take it back.
    world.new_member(&["admin"]).await;
    let permit = world.permit(admin, "groups").await;
    groups.create(&permit, group(&[admin])).await.unwrap();
}

async fn an_inactive_admin_does_not_count(world: World) {
    let second = world.new_member(&["admin"]).await;
    let update = Sql::new("UPDATE users SET status = 'inactive' WHERE id = $1")
        .bind(second, ColumnType::Uuid);
    world.execute(update).await;
    assert_eq!(
        refusal(world.remove(world.admin, world.admin).await),
        "last_admin"
    );
    // The inactive one goes freely.
    assert!(!world.get(second).await.unwrap().active);
    world.remove(world.admin, second).await.unwrap();
}

async fn of_racing_admins_one_stays(world: World) {
    for round in 0..10 {
        let mut admins = vec![world.admin];
        for _ in 0..3 {
            admins.push(world.new_member(&["admin"]).await);
        }
        // All are asked to go at once, by somebody who stays.
        let scope = world.operator(world.tenant);
        let mut attempts = Vec::new();
        for (n, user) in admins.into_iter().enumerate() {
            let scope = scope.clone();
            let members = world.crm.members();
            attempts.push(tokio::spawn(async move {
                if n % 2 == 0 {
                    return members.remove(&scope.permit(OBJECT)?, user).await;
                }
                members
                    .set_roles(&scope.permit(OBJECT)?, user, Vec::<RoleGrant>::new())
                    .await
                    .map(drop)
            }));
        }
        let mut refused = 0;
        for attempt in attempts {
            if let Err(error) = attempt.await.unwrap() {
                assert_eq!(error.code(), "last_admin", "round {round}");
                refused += 1;
            }
        }
        assert_eq!(refused, 1, "round {round}");
        restore(&world).await;
    }
}

async fn another_tenants_members_do_not_exist(world: World) {
    let other = world.operator(world.new_tenant("other").await);
    let members = world.crm.members();
    let page = members
        .list(&other.permit(OBJECT).unwrap(), None, 100)
        .await
        .unwrap();
    assert_eq!(page.data, []);
    let (permit, user) = (other.permit(OBJECT).unwrap(), world.viewer);
    assert_eq!(refusal(members.get(&permit, user).await), "not_found");
    let roles = vec!["viewer".to_owned()];
    let set = members
        .set_roles(&other.permit(OBJECT).unwrap(), user, roles)
        .await;
    assert_eq!(refusal(set), "not_found");
    let removed = members.remove(&other.permit(OBJECT).unwrap(), user).await;
    assert_eq!(refusal(removed), "not_found");
    // Nor may a foreign role be given to one's own.
    let foreign = world
        .crm
        .roles()
        .list(&other.permit("roles").unwrap())
        .await
        .unwrap();
    let id = foreign[0].id.to_string();
    let set = world.set_roles(world.admin, user, &[&id]).await;
    assert_eq!(refusal(set), "validation_failed");
}

async fn a_permit_of_another_object_opens_nothing(world: World) {
    let permit = world.permit(world.admin, "roles").await;
    let listed = world.crm.members().list(&permit, None, 10).await;
    assert_eq!(missing(listed), "members.read");
    assert!(permit.rows().is_all());
}
