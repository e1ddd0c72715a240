//! The last admin under racing requests, through every door that ends an admin, on both databases.

use crate::db::{ColumnType, Sql};
use crate::group::{GroupMember, NewGroup};
use crate::id::UserId;
use crate::member::RoleGrant;
use crate::policy::fixture::{World, on_both_databases};
use crate::role;
use crate::scope::Scope;

on_both_databases! {
    of_two_last_admins_whom_many_requests_end_at_once_one_stays
}

/// Requests of one round for each of the two admins.
const REQUESTS: usize = 16;

async fn of_two_last_admins_whom_many_requests_end_at_once_one_stays(world: World) {
    for round in 0..5 {
        let admins = [world.admin, world.new_member(&["admin"]).await];
        // Permits of before the first of them goes: each admin acts against both.
        let scopes = [world.scope(admins[0]).await, world.scope(admins[1]).await];
        let mut attempts = Vec::new();
        for number in 0..REQUESTS * 2 {
            let (scope, user) = (scopes[number / 2 % 2].clone(), admins[number % 2]);
            let crm = world.crm.clone();
            attempts.push(tokio::spawn(async move {
                end(&crm, &scope, user, (round, number)).await
            }));
        }
        let mut refused = 0;
        for attempt in attempts {
            if let Err(error) = attempt.await.unwrap() {
                let known = [
                    "last_admin",
                    "not_found",
                    "validation_failed",
                    "rights_changed",
                ];
                assert!(known.contains(&error.code()), "round {round}: {error:?}");
                refused += usize::from(error.code() == "last_admin");
            }
        }
        assert!(refused > 0, "round {round}");
        assert_eq!(lasting_admins(&world).await, 1, "round {round}");
        restore(&world).await;
    }
}

/// Asks in one of many ways that the user be no admin any more.
async fn end(
    crm: &crate::Crm,
    scope: &Scope,
    user: UserId,
    (round, number): (usize, usize),
) -> crate::Result<()> {
    let members = crm.members();
    let roles = |name: &str| vec![name.to_owned()];
    match number / 4 % 4 {
        0 => members.remove(&scope.permit("members")?, user).await,
        1 => {
            let permit = scope.permit("members")?;
            members.set_roles(&permit, user, roles("viewer")).await?;
            Ok(())
        }
        2 => {
            let grant = RoleGrant {
                role: role::ADMIN.to_owned(),
                until: Some(scope.clock().now() + chrono::TimeDelta::hours(1)),
            };
            members
                .set_roles(&scope.permit("members")?, user, vec![grant])
                .await?;
            Ok(())
        }
        // Whoever is admin through a group only does not count.
        _ => {
            let group = NewGroup {
                name: format!("admins {round} {number}"),
                roles: roles(role::ADMIN),
                members: vec![GroupMember {
                    user_id: user,
                    until: None,
                }],
                ..NewGroup::default()
            };
            let made = crm.groups().create(&scope.permit("groups")?, group).await?;
            let permit = scope.permit("members")?;
            let moved = members.set_roles(&permit, user, Vec::<RoleGrant>::new());
            let moved = moved.await.map(drop);
            crm.groups()
                .delete(&scope.permit("groups")?, made.id)
                .await?;
            moved
        }
    }
}

async fn lasting_admins(world: &World) -> usize {
    let select = Sql::new(
        "SELECT a.user_id FROM role_assignments a \
         JOIN roles r ON r.tenant_id = a.tenant_id AND r.id = a.role_id \
         JOIN users u ON u.id = a.user_id \
         WHERE a.tenant_id = $1 AND r.name = 'admin' AND a.until IS NULL AND u.status = 'active'",
    )
    .bind(world.tenant, ColumnType::Uuid)
    .returns(&[ColumnType::Uuid]);
    world.crm.core.db.fetch_all(select).await.unwrap().len()
}

/// Makes `world.admin` the only admin again.
pub(super) async fn restore(world: &World) {
    let (user, tenant, now) = (world.admin, world.tenant, world.crm.clock().now());
    let write = world.crm.core.policy.write(tenant, move |tx| {
        Box::pin(async move {
            let join = Sql::new(
                "INSERT INTO memberships (tenant_id, user_id, created_at) VALUES ($1, $2, $3) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(tenant, ColumnType::Uuid)
            .bind(user, ColumnType::Uuid)
            .bind(now, ColumnType::Instant);
            tx.execute(join).await?;
            let others = Sql::new(
                "DELETE FROM role_assignments WHERE tenant_id = $1 AND role_id IN \
                 (SELECT id FROM roles WHERE tenant_id = $1 AND name = 'admin')",
            )
            .bind(tenant, ColumnType::Uuid);
            tx.execute(others).await?;
            let admin = role::resolve(tx, tenant, "roles", &[role::ADMIN.to_owned()]).await?;
            super::assign(tx, tenant, user, &admin, now).await
        })
    });
    write.await.unwrap();
}
