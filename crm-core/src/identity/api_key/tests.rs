//! The promises of API keys, on both databases.

use anyhow::{Context, Result};

use super::*;
use crate::identity::Session;
use crate::identity::fixture::*;
use crate::on_both_databases;
use crate::role::NewRole;
use crate::scope::Actor;
use crate::testing::Backend;

on_both_databases!(
    a_key_opens_its_tenant_with_the_rights_of_its_role,
    a_key_is_shown_once,
    nobody_makes_a_key_that_may_do_more_than_they,
    keys_are_made_listed_and_revoked_under_permits_of_their_own,
    a_revoked_key_is_refused_at_the_next_request,
    a_key_ends_when_it_was_told_to,
    another_tenants_keys_do_not_exist,
    what_is_no_key_is_refused,
    the_use_of_a_key_is_noted_once_a_minute,
    a_key_gets_nothing_from_rights_on_own_rows,
    a_tenant_has_at_most_a_thousand_keys,
);

fn new_key(role: &str) -> NewApiKey {
    NewApiKey {
        name: "Import".into(),
        role: role.into(),
        ..NewApiKey::default()
    }
}

impl World {
    async fn key(
        &self,
        session: &Session,
        input: NewApiKey,
    ) -> crate::Result<(ApiKey, SecretString)> {
        let permit = self.scope(&session.access_token).await?.permit(OBJECT)?;
        self.crm.api_keys().create(&permit, input).await
    }

    async fn keys(&self, session: &Session) -> crate::Result<Vec<ApiKey>> {
        let permit = self.scope(&session.access_token).await?.permit(OBJECT)?;
        self.crm.api_keys().list(&permit).await
    }

    async fn revoke(&self, session: &Session, id: ApiKeyId) -> crate::Result<()> {
        let permit = self.scope(&session.access_token).await?.permit(OBJECT)?;
        self.crm.api_keys().revoke(&permit, id).await
    }
}

async fn a_key_opens_its_tenant_with_the_rights_of_its_role(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let (key, secret) = world.key(&ann, new_key("manager")).await?;
    let scope = world.scope(&secret).await?;
    assert_eq!(
        (scope.actor(), scope.tenant()),
        (Actor::ApiKey(key.id), ann.tenant_id)
    );
    assert!(scope.permit::<Read>("audit").is_ok());
    assert_eq!(code(scope.permit::<Create>("members")), "forbidden");
    let me = world.accounts().me(&scope).await?;
    assert_eq!(me.user, None);
    assert_eq!(me.roles.len(), 1);
    assert_eq!(me.roles[0].id, key.role_id);
    assert_eq!(key.created_by, format!("user:{}", ann.user_id));
    let by_id = world.key(&ann, new_key(&key.role_id.to_string())).await?.0;
    assert_eq!(by_id.role_id, key.role_id);
    Ok(())
}

async fn a_key_is_shown_once(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let (key, secret) = world.key(&ann, new_key("viewer")).await?;
    let secret = secret.expose_secret();
    let (shown, hidden) = secret.split_at(SHOWN);
    assert_eq!(key.prefix, shown);
    assert_eq!(hidden.len(), 1 + 43, "an underscore and 256 bits");
    let listed = world.keys(&ann).await?;
    assert_eq!(listed, [key]);
    let permit = world.scope(&ann.access_token).await?.permit("audit")?;
    let audited = world.crm.audit().list(&permit, &Default::default()).await?;
    for text in [
        serde_json::to_string(&listed)?,
        serde_json::to_string(&audited.data)?,
    ] {
        assert!(text.contains(shown) && !text.contains(hidden), "{text}");
    }
    Ok(())
}

async fn nobody_makes_a_key_that_may_do_more_than_they(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let permit = world.scope(&ann.access_token).await?.permit("roles")?;
    let keeper = NewRole {
        name: "keeper".into(),
        permissions: vec!["api_keys.*".into(), "records.read".into()],
        ..NewRole::default()
    };
    world.crm.roles().create(&permit, keeper).await?;
    world
        .member(ann.tenant_id, "bob@example.com", &["keeper"])
        .await?;
    let bob = world
        .accounts()
        .login(login_of("bob@example.com"), request())
        .await?;
    for role in ["admin", "manager"] {
        assert_eq!(
            code(world.key(&bob, new_key(role)).await),
            "forbidden",
            "{role}"
        );
    }
    world.key(&bob, new_key("viewer")).await?;
    let unknown = world.key(&bob, new_key("emperor")).await;
    assert_eq!(refused_field(unknown), ("/role".to_owned(), "unknown_role"));
    assert_eq!(world.keys(&bob).await?.len(), 1);
    Ok(())
}

async fn keys_are_made_listed_and_revoked_under_permits_of_their_own(
    backend: Backend,
) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let (key, _) = world.key(&ann, new_key("viewer")).await?;
    world
        .member(ann.tenant_id, "bob@example.com", &["manager"])
        .await?;
    let bob = world
        .accounts()
        .login(login_of("bob@example.com"), request())
        .await?;
    assert_eq!(code(world.key(&bob, new_key("viewer")).await), "forbidden");
    assert_eq!(code(world.keys(&bob).await), "forbidden");
    assert_eq!(code(world.revoke(&bob, key.id).await), "forbidden");
    let foreign = world.scope(&ann.access_token).await?.permit("roles")?;
    assert_eq!(code(world.crm.api_keys().list(&foreign).await), "forbidden");
    Ok(())
}

async fn a_revoked_key_is_refused_at_the_next_request(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let (key, secret) = world.key(&ann, new_key("viewer")).await?;
    world.scope(&secret).await?;
    world.revoke(&ann, key.id).await?;
    assert_eq!(code(world.scope(&secret).await), "api_key_invalid");
    world.revoke(&ann, key.id).await?;
    let revoked_at = world.keys(&ann).await?[0].revoked_at;
    assert_eq!(revoked_at, Some(world.crm.clock().now()));
    assert_eq!(
        world.audited(ann.tenant_id).await?,
        ["auth.register", "api_keys.create", "api_keys.delete"],
        "the second time changes nothing"
    );
    Ok(())
}

async fn a_key_ends_when_it_was_told_to(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let now = world.crm.clock().now();
    let late = NewApiKey {
        expires_at: Some(now),
        ..new_key("viewer")
    };
    assert_eq!(
        refused_field(world.key(&ann, late).await),
        ("/expires_at".to_owned(), "in_the_past")
    );
    let end = Some(now + TimeDelta::minutes(5));
    let (_, secret) = world
        .key(
            &ann,
            NewApiKey {
                expires_at: end,
                ..new_key("viewer")
            },
        )
        .await?;
    world.scope(&secret).await?;
    world.clock.advance(TimeDelta::minutes(5));
    assert_eq!(code(world.scope(&secret).await), "api_key_expired");
    Ok(())
}

async fn another_tenants_keys_do_not_exist(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let (key, secret) = world.key(&ann, new_key("viewer")).await?;
    let beta = world.other_tenant("Beta").await?;
    world.member(beta, "bob@example.com", &["admin"]).await?;
    let bob = world
        .accounts()
        .login(login_of("bob@example.com"), request())
        .await?;
    assert_eq!(world.keys(&bob).await?, []);
    assert_eq!(code(world.revoke(&bob, key.id).await), "not_found");
    world.scope(&secret).await?;
    let foreign_role = world.key(&bob, new_key(&key.role_id.to_string())).await;
    assert_eq!(
        refused_field(foreign_role),
        ("/role".to_owned(), "unknown_role")
    );
    Ok(())
}

async fn what_is_no_key_is_refused(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let (key, secret) = world.key(&ann, new_key("viewer")).await?;
    let secret = secret.expose_secret();
    for text in [
        "crm_ak_".to_owned(),
        key.prefix,
        format!("{secret} "),
        secret[..secret.len() - 1].to_owned(),
        format!("{}\u{0}", secret),
        format!("crm_ak_{}", "A".repeat(10_000)),
    ] {
        assert_eq!(code(world.scope(&text.into()).await), "api_key_invalid");
    }
    Ok(())
}

async fn the_use_of_a_key_is_noted_once_a_minute(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let (_, secret) = world.key(&ann, new_key("viewer")).await?;
    let first = world.crm.clock().now();
    let mut noted = Vec::new();
    for _ in 0..4 {
        world.scope(&secret).await?;
        world.crm.core.identity.settle().await;
        noted.push(world.keys(&ann).await?[0].last_used_at.context("a use")? - first);
        world.clock.advance(TimeDelta::seconds(30));
    }
    assert_eq!(
        noted.iter().map(TimeDelta::num_seconds).collect::<Vec<_>>(),
        [0, 0, 60, 60]
    );
    Ok(())
}

async fn a_key_gets_nothing_from_rights_on_own_rows(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let (_, secret) = world.key(&ann, new_key("member")).await?;
    let me = world.accounts().me(&world.scope(&secret).await?).await?;
    assert_eq!(me.permissions, Vec::<String>::new());
    Ok(())
}

async fn a_tenant_has_at_most_a_thousand_keys(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let (first, _) = world.key(&ann, new_key("viewer")).await?;
    let mut ids = Vec::new();
    for number in 1..MOST_KEYS {
        let id = ApiKeyId(world.crm.clock().new_id());
        let copy = Sql::new(
            "INSERT INTO api_keys (tenant_id, id, name, prefix, hash, role_id, created_by, created_at) \
             SELECT tenant_id, $1, name, prefix, $2, role_id, created_by, created_at FROM api_keys \
             WHERE id = $3",
        )
        .bind(id, ColumnType::Uuid)
        .bind(number.to_be_bytes().to_vec(), ColumnType::Bytes)
        .bind(first.id, ColumnType::Uuid);
        world.execute(copy).await?;
        ids.push(id);
    }
    assert_eq!(
        code(world.key(&ann, new_key("viewer")).await),
        "too_many_api_keys"
    );

    let beta = world.other_tenant("Beta").await?;
    world.member(beta, "bob@example.com", &["admin"]).await?;
    let login = login_of("bob@example.com");
    let bob = world.accounts().login(login, request()).await?;
    world.key(&bob, new_key("viewer")).await?;
    let (ended, _) = world.key(&bob, new_key("viewer")).await?;
    world.revoke(&bob, ended.id).await?;
    let full = world.key(&ann, new_key("viewer")).await;
    assert_eq!(
        code(full),
        "too_many_api_keys",
        "an end elsewhere makes no room"
    );

    for id in [ids[7], ids[3]] {
        world.revoke(&ann, id).await?;
    }
    let (made, _) = world.key(&ann, new_key("viewer")).await?;
    let kept: Vec<_> = world.keys(&ann).await?.iter().map(|key| key.id).collect();
    assert_eq!(kept.len(), MOST_KEYS as usize);
    assert!(kept.contains(&made.id) && kept.contains(&ids[7]));
    assert!(
        !kept.contains(&ids[3]),
        "the oldest that has ended makes room"
    );
    assert_eq!(world.keys(&bob).await?.len(), 2);
    Ok(())
}
