//! The promises of the rights cache, on both databases.

use super::*;
use crate::id::UserId;
use crate::policy::fixture::{World, on_both_databases};
use crate::policy::{RowScope, TenantRules};

on_both_databases! {
    built_in_roles_mean_what_they_promise
    only_active_members_of_active_tenants_have_rights
    an_api_key_has_its_roles_rights_on_all_rows_until_it_is_revoked
    another_process_sees_a_change_with_its_next_poll
    another_process_hears_of_a_change_where_the_database_can_tell
    whoever_may_have_missed_a_change_forgets_everything
    what_was_read_before_an_invalidation_is_not_used
}

fn decide(world: &World, grants: &Grants, object: &str, action: &str) -> Option<RowScope> {
    grants.decide(world.crm.catalogue().operation(object, action).unwrap())
}

async fn role_named(world: &World, name: &'static str) -> RoleId {
    let select = Sql::new("SELECT id FROM roles WHERE tenant_id = $1 AND name = $2")
        .bind(world.tenant, ColumnType::Uuid)
        .bind(name, ColumnType::Text)
        .returns(&[ColumnType::Uuid]);
    let row = world.crm.core.db.fetch_optional(select).await.unwrap();
    row.unwrap().uuid().unwrap()
}

async fn built_in_roles_mean_what_they_promise(world: World) {
    let (all, own) = (Some(RowScope::All), Some(RowScope::Own));
    let table = [
        ("contacts", "read", [all, all, own, all]),
        ("contacts", "create", [all, all, own, None]),
        ("deals", "update", [all, all, own, None]),
        ("deals", "delete", [all, all, own, None]),
        ("members", "read", [all, all, None, None]),
        ("members", "update", [all, None, None, None]),
        ("roles", "read", [all, all, None, None]),
        ("roles", "create", [all, None, None, None]),
        ("audit", "read", [all, all, None, None]),
        ("api_keys", "read", [all, None, None, None]),
        ("plugins", "read", [all, None, None, None]),
    ];
    let users = [world.admin, world.manager, world.member, world.viewer];
    for (object, action, expected) in table {
        for (user, expected) in users.into_iter().zip(expected) {
            let grants = world.grants(Subject::User(user)).await.unwrap();
            let decided = decide(&world, &grants, object, action);
            assert_eq!(decided, expected, "{object}.{action}");
        }
    }
}

async fn only_active_members_of_active_tenants_have_rights(world: World) {
    let policy = &world.crm.core.policy;
    let other = world.new_tenant("other").await;
    let member = Subject::User(world.admin);
    assert!(policy.grants_for(other, member).await.unwrap().is_none());
    let stranger = Subject::User(UserId(world.crm.clock().new_id()));
    assert!(world.grants(stranger).await.is_none());
    let absent = TenantId(world.crm.clock().new_id());
    assert!(policy.grants_for(absent, member).await.unwrap().is_none());

    assert!(world.grants(member).await.is_some());
    let tenant = world.tenant;
    for (status, member_has_rights) in [("suspended", false), ("active", true)] {
        let update = Sql::new("UPDATE tenants SET status = $1 WHERE id = $2")
            .bind(status, ColumnType::Text)
            .bind(tenant, ColumnType::Uuid);
        let write = policy.write(tenant, move |tx| Box::pin(tx.execute(update)));
        write.await.unwrap();
        assert_eq!(
            world.grants(member).await.is_some(),
            member_has_rights,
            "{status}"
        );
    }
}

async fn an_api_key_has_its_roles_rights_on_all_rows_until_it_is_revoked(world: World) {
    let viewer = world.new_key(role_named(&world, "viewer").await).await;
    let member = world.new_key(role_named(&world, "member").await).await;
    let grants = world.grants(Subject::ApiKey(viewer)).await.unwrap();
    assert_eq!(
        decide(&world, &grants, "contacts", "read"),
        Some(RowScope::All)
    );
    // A key owns no rows, so that a role for own rows gives it nothing.
    let grants = world.grants(Subject::ApiKey(member)).await.unwrap();
    assert_eq!(decide(&world, &grants, "contacts", "read"), None);

    let tenant = world.tenant;
    let revoke = Sql::new("UPDATE api_keys SET revoked_at = $1 WHERE id = $2")
        .bind(world.crm.clock().now(), ColumnType::Instant)
        .bind(viewer, ColumnType::Uuid);
    let write = world
        .crm
        .core
        .policy
        .write(tenant, move |tx| Box::pin(tx.execute(revoke)));
    write.await.unwrap();
    assert!(world.grants(Subject::ApiKey(viewer)).await.is_none());
}

/// The cache of another process.
async fn other(world: &World) -> PolicyCache {
    let core = &world.crm.core;
    PolicyCache::open(
        core.db.clone(),
        core.clock.clone(),
        core.catalogue.clone(),
        core.registry.clone(),
    )
    .await
    .unwrap()
}

/// Makes the viewer an admin.
async fn promote(world: &World) {
    let (tenant, user, now) = (world.tenant, world.viewer, world.crm.clock().now());
    let admin = role_named(world, "admin").await;
    let write = world.crm.core.policy.write(tenant, move |tx| {
        Box::pin(async move { crate::member::assign(tx, tenant, user, &[admin], now).await })
    });
    write.await.unwrap();
}

async fn another_process_hears_of_a_change_where_the_database_can_tell(world: World) {
    let other = other(&world).await;
    let Some(mut listener) = other.listen().await.unwrap() else {
        assert_eq!(world.crm.core.db.dialect(), crate::Dialect::Sqlite);
        return;
    };
    let (tenant, viewer) = (world.tenant, Subject::User(world.viewer));
    let untouched = world.new_tenant("untouched").await;
    let generation = other.generation(untouched);
    let before = other.grants_for(tenant, viewer).await.unwrap().unwrap();
    promote(&world).await;
    let cached = other.grants_for(tenant, viewer).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&before, &cached));
    other.hear(&mut listener).await.unwrap();
    let heard = other.grants_for(tenant, viewer).await.unwrap().unwrap();
    assert_eq!(
        decide(&world, &heard, "roles", "delete"),
        Some(RowScope::All)
    );
    assert_eq!(other.generation(untouched), generation);
}

async fn whoever_may_have_missed_a_change_forgets_everything(world: World) {
    let other = other(&world).await;
    let Some(mut listener) = other.listen().await.unwrap() else {
        return;
    };
    let (tenant, viewer) = (world.tenant, Subject::User(world.viewer));
    other.grants_for(tenant, viewer).await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'crm listen' AND datname = current_database()";
    world.execute(Sql::new(cut)).await;
    // What the listener does not hear.
    promote(&world).await;
    other.hear(&mut listener).await.unwrap();
    let now = other.grants_for(tenant, viewer).await.unwrap().unwrap();
    assert_eq!(decide(&world, &now, "roles", "delete"), Some(RowScope::All));
    // It listens again.
    world
        .crm
        .core
        .policy
        .write(tenant, |_| Box::pin(async { Ok(()) }))
        .await
        .unwrap();
    let generation = other.generation(tenant);
    other.hear(&mut listener).await.unwrap();
    assert_ne!(other.generation(tenant), generation);
}

async fn another_process_sees_a_change_with_its_next_poll(world: World) {
    let core = &world.crm.core;
    let other = other(&world).await;
    let (tenant, viewer) = (world.tenant, Subject::User(world.viewer));
    let untouched = world.new_tenant("untouched").await;
    let cached = other.grants_for(tenant, viewer).await.unwrap().unwrap();

    let (user, now) = (world.viewer, world.crm.clock().now());
    let admin = role_named(&world, "admin").await;
    let write = core.policy.write(tenant, move |tx| {
        Box::pin(async move { crate::member::assign(tx, tenant, user, &[admin], now).await })
    });
    write.await.unwrap();
    let here = core
        .policy
        .grants_for(tenant, viewer)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        decide(&world, &here, "roles", "create"),
        Some(RowScope::All)
    );
    assert_eq!(
        other.grants_for(tenant, viewer).await.unwrap().unwrap(),
        cached
    );
    other.poll().await.unwrap();
    assert_eq!(
        other.grants_for(tenant, viewer).await.unwrap().unwrap(),
        here
    );
    // Only what changed is dropped, and only once.
    let (changed, same) = (other.generation(tenant), other.generation(untouched));
    assert_eq!((changed, same), (1, 0));
    other.poll().await.unwrap();
    assert_eq!(other.generation(tenant), changed);
}

async fn what_was_read_before_an_invalidation_is_not_used(world: World) {
    let (policy, tenant) = (&world.crm.core.policy, world.tenant);
    let subject = Subject::User(world.viewer);
    let catalogue = policy.declared().catalogue();
    let before = policy.generation(tenant);
    policy.invalidate(tenant);
    // Two reads that began before and end only now.
    let everything = Cached {
        generation: before,
        value: Arc::new(Rights::lasting(
            Arc::new(Grants::everything(catalogue)),
            policy.declared().clone(),
        )),
    };
    policy.subjects.insert((tenant, subject), everything);
    let gone = Tenant {
        active: false,
        asks_second_factor: false,
        policy: CompiledPolicy::new(catalogue, &no_rules(tenant)),
        modules: policy.declared().clone(),
    };
    let gone = Cached {
        generation: before,
        value: Arc::new(gone),
    };
    policy.tenants.insert(tenant, gone);
    let grants = world.grants(subject).await.unwrap();
    assert_eq!(
        decide(&world, &grants, "contacts", "read"),
        Some(RowScope::All)
    );
    assert_eq!(decide(&world, &grants, "roles", "create"), None);
    // What is read now is used again.
    assert!(Arc::ptr_eq(&world.grants(subject).await.unwrap(), &grants));
}

fn no_rules(tenant: TenantId) -> TenantRules {
    TenantRules {
        tenant,
        roles: Vec::new(),
        rules: Vec::new(),
        assignments: Vec::new(),
    }
}
