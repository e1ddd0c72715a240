//! The promises of logins and sessions, on both databases.

mod exchange;
mod registration;

use anyhow::{Context, Result};
use chrono::TimeDelta;
use futures::future::join_all;
use secrecy::ExposeSecret;

use super::*;
use crate::identity::PasswordCost;
use crate::identity::fixture::*;
use crate::on_both_databases;
use crate::testing::Backend;

on_both_databases!(
    sessions_without_a_second_factor_end_where_one_becomes_needed,
    unknown_wrong_and_inactive_are_one_answer,
    a_login_opens_the_only_tenant,
    a_member_of_several_tenants_names_one_of_them,
    ag_42_the_sixth_login_of_a_minute_is_refused,
    failed_logins_are_audited_where_the_tenant_is_known,
    a_hash_of_another_cost_is_replaced_at_login,
    a_removed_member_is_out_at_once,
    an_inactive_user_is_out_at_once,
    a_suspended_tenant_lets_nobody_in,
    xc_12_secrets_are_neither_stored_nor_audited_nor_shown,
);

async fn unknown_wrong_and_inactive_are_one_answer(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    world
        .member(session.tenant_id, "bob@example.com", &["viewer"])
        .await?;
    deactivate(&world, "bob@example.com").await?;
    let accounts = world.accounts();
    let unknown = accounts
        .login(login_of("nobody@example.com"), request())
        .await;
    let wrong = Login {
        password: "wrong horse".into(),
        ..login_of(ANN)
    };
    let wrong = accounts.login(wrong, request()).await;
    let inactive = accounts.login(login_of("bob@example.com"), request()).await;
    let named = Login {
        tenant: Some(ACME.into()),
        ..login_of("nobody@example.com")
    };
    let named = accounts.login(named, request()).await;
    let answers: Vec<_> = [unknown, wrong, inactive, named]
        .into_iter()
        .map(|answer| format!("{:?}", answer.map(drop)))
        .collect();
    assert!(answers[0].contains("invalid_credentials"), "{answers:?}");
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    Ok(())
}

async fn a_login_opens_the_only_tenant(backend: Backend) -> Result<()> {
    let (world, first) = World::new(backend).await?;
    let session = world
        .accounts()
        .login(login_of(" ANN@Example.com "), request())
        .await?;
    assert_eq!(
        (session.user_id, session.tenant_id),
        (first.user_id, first.tenant_id)
    );
    let scope = world.scope(&session.access_token).await?;
    assert_eq!(
        (scope.actor(), scope.tenant()),
        (Actor::User(first.user_id), first.tenant_id)
    );
    assert_eq!(
        world.audited(first.tenant_id).await?,
        ["auth.register", "auth.login"]
    );
    Ok(())
}

async fn a_member_of_several_tenants_names_one_of_them(backend: Backend) -> Result<()> {
    let (world, first) = World::new(backend).await?;
    let second = world.other_tenant("Beta").await?;
    world.other_tenant("Secret").await?;
    world.member(second, ANN, &["viewer"]).await?;
    let accounts = world.accounts();
    let at = |tenant: &str| Login {
        tenant: Some(tenant.into()),
        ..login_of(ANN)
    };

    let Err(Error::Invalid(fields)) = accounts.login(login_of(ANN), request()).await else {
        anyhow::bail!("a tenant was chosen");
    };
    assert_eq!(
        (fields[0].pointer.as_str(), fields[0].code),
        ("/tenant", "required")
    );
    assert_eq!(fields[0].message, "Name one of your tenants: Acme, Beta.");
    let foreign = format!(
        "{:?}",
        accounts.login(at("Secret"), request()).await.map(drop)
    );
    let absent = format!(
        "{:?}",
        accounts.login(at("Nowhere"), request()).await.map(drop)
    );
    assert_eq!(
        foreign, absent,
        "a foreign tenant is one that does not exist"
    );

    world.wait_a_minute();
    for name in [ACME, " aCME "] {
        let session = accounts.login(at(name), request()).await?;
        assert_eq!(session.tenant_id, first.tenant_id, "{name}");
    }
    assert_eq!(
        accounts.login(at("Beta"), request()).await?.tenant_id,
        second
    );
    Ok(())
}

async fn ag_42_the_sixth_login_of_a_minute_is_refused(backend: Backend) -> Result<()> {
    let (world, _) = World::new(backend).await?;
    for _ in 0..5 {
        let wrong = Login {
            password: "wrong horse".into(),
            ..login_of(ANN)
        };
        assert_eq!(
            code(world.accounts().login(wrong, request()).await),
            "invalid_credentials"
        );
    }
    let right = world.accounts().login(login_of(ANN), request()).await;
    assert_eq!(code(right), "rate_limited");
    world.wait_a_minute();
    world.accounts().login(login_of(ANN), request()).await?;
    Ok(())
}

async fn failed_logins_are_audited_where_the_tenant_is_known(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let beta = world.other_tenant("Beta").await?;
    let wrong = |tenant: Option<&str>| Login {
        password: "wrong horse".into(),
        tenant: tenant.map(Into::into),
        ..login_of(ANN)
    };
    let refused = world.accounts().login(wrong(None), request()).await;
    assert_eq!(code(refused), "invalid_credentials");
    assert_eq!(
        world.audited(session.tenant_id).await?,
        ["auth.register", "auth.login_failed"],
        "the only tenant of the user"
    );
    world.member(beta, ANN, &["viewer"]).await?;
    for tenant in [None, Some("Beta"), Some("Nowhere")] {
        let refused = world.accounts().login(wrong(tenant), request()).await;
        assert_eq!(code(refused), "invalid_credentials");
    }
    let audited = world.audited(beta).await?;
    assert_eq!(
        audited,
        ["tenants.create", "members.create", "auth.login_failed"]
    );
    assert_eq!(
        world.audited(session.tenant_id).await?.len(),
        2,
        "no more than the first"
    );
    Ok(())
}

async fn a_hash_of_another_cost_is_replaced_at_login(backend: Backend) -> Result<()> {
    let (world, _) = World::new(backend).await?;
    let cost = PasswordCost {
        passes: 2,
        ..PasswordCost::LOWEST
    };
    let world = world.restarted(cost).await?;
    world.accounts().login(login_of(ANN), request()).await?;
    let replaced = "SELECT count(*) FROM users WHERE password_hash LIKE '%m=8,t=2,p=1%'";
    assert_eq!(world.count(replaced).await?, 1);
    world.accounts().login(login_of(ANN), request()).await?;
    Ok(())
}

async fn a_removed_member_is_out_at_once(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let bob = world
        .member(ann.tenant_id, "bob@example.com", &["admin"])
        .await?;
    let session = world
        .accounts()
        .login(login_of("bob@example.com"), request())
        .await?;
    world.scope(&session.access_token).await?;
    let permit = world.scope(&ann.access_token).await?.permit("members")?;
    world.crm.members().remove(&permit, bob).await?;
    let refreshed = world
        .accounts()
        .refresh(session.refresh_token, request())
        .await;
    assert_eq!(code(refreshed), "token_invalid");
    assert_eq!(
        code(world.scope(&session.access_token).await),
        "token_invalid"
    );
    let login = world
        .accounts()
        .login(login_of("bob@example.com"), request())
        .await;
    assert_eq!(code(login), "invalid_credentials");
    Ok(())
}

async fn an_inactive_user_is_out_at_once(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    deactivate(&world, ANN).await?;
    world.crm.core.policy.invalidate(session.tenant_id);
    let refreshed = world
        .accounts()
        .refresh(session.refresh_token, request())
        .await;
    assert_eq!(code(refreshed), "token_invalid");
    assert_eq!(
        code(world.scope(&session.access_token).await),
        "token_invalid"
    );
    Ok(())
}

async fn a_suspended_tenant_lets_nobody_in(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let suspend = Sql::new("UPDATE tenants SET status = 'suspended' WHERE id = $1")
        .bind(session.tenant_id, ColumnType::Uuid);
    world.execute(suspend).await?;
    world.crm.core.policy.invalidate(session.tenant_id);
    let login = world.accounts().login(login_of(ANN), request()).await;
    assert_eq!(code(login), "invalid_credentials");
    let refreshed = world
        .accounts()
        .refresh(session.refresh_token, request())
        .await;
    assert_eq!(code(refreshed), "token_invalid");
    assert_eq!(
        code(world.scope(&session.access_token).await),
        "token_invalid"
    );
    Ok(())
}

async fn xc_12_secrets_are_neither_stored_nor_audited_nor_shown(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let login = login_of(ANN);
    let shown = format!("{login:?} {session:?}");
    world.accounts().login(login, request()).await?;
    world
        .accounts()
        .refresh(session.refresh_token.clone(), request())
        .await?;
    let secrets = [
        PASSWORD,
        session.access_token.expose_secret(),
        session.refresh_token.expose_secret(),
        "argon2id",
    ];
    let permit = world.scope(&session.access_token).await?.permit("audit")?;
    let audited = world.crm.audit().list(&permit, &Default::default()).await?;
    let audited = serde_json::to_string(&audited.data)?;
    for secret in secrets {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!audited.contains(secret), "{audited}");
    }
    Ok(())
}

async fn deactivate(world: &World, email: &str) -> Result<()> {
    let update = Sql::new("UPDATE users SET status = 'inactive' WHERE email = $1")
        .bind(email, ColumnType::Text);
    world.execute(update).await
}

async fn sessions_without_a_second_factor_end_where_one_becomes_needed(
    backend: Backend,
) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let world = world.made_strict().await?;
    let scope = world.scope(&ann.access_token).await;
    assert_eq!(code(scope), "token_invalid");
    let refreshed = world.accounts().refresh(ann.refresh_token, request()).await;
    assert_eq!(code(refreshed), "token_invalid");
    let login = world.accounts().login(login_of(ANN), request()).await;
    assert_eq!(code(login), "second_factor_required");
    let told = world.audited(PLATFORM).await?;
    assert!(told.iter().any(|action| action == "auth.session_end"));

    // A process that is not strict yet opens another one, which does nothing here, and ends soon.
    let old = world.other_process().await?;
    let ann = old.accounts().login(login_of(ANN), request()).await?;
    let scope = world.scope(&ann.access_token).await;
    assert_eq!(code(scope), "second_factor_required");
    let accounts = old.accounts();
    let token = accounts.operator_token("ACME", ANN, request()).await?;
    world.crm.upkeep_once().await?;
    assert_eq!(code(world.scope(&ann.access_token).await), "token_invalid");
    assert_eq!(
        world.count("SELECT count(*) FROM login_challenges").await?,
        1
    );
    world.clock.advance(TimeDelta::minutes(5));
    world.crm.upkeep_once().await?;
    assert_eq!(
        world.count("SELECT count(*) FROM login_challenges").await?,
        0
    );
    world.scope(&token).await?;
    old.close().await;
    Ok(())
}
