//! The promises of registration and sessions, on both databases.

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
    registering_makes_tenant_user_and_admin_at_once,
    of_racing_registrations_with_one_token_one_succeeds,
    a_registration_that_fails_leaves_no_trace_and_the_token_unused,
    a_registration_answers_every_broken_rule_at_once,
    the_setup_token_holds_24_hours_and_until_the_next_start,
    with_a_user_there_is_no_setup_token,
    a_setup_token_does_not_outlive_the_first_user_of_the_operator,
    unknown_wrong_and_inactive_are_one_answer,
    a_login_opens_the_only_tenant,
    a_member_of_several_tenants_names_one_of_them,
    ag_42_the_sixth_login_of_a_minute_is_refused,
    failed_logins_are_audited_where_the_tenant_is_known,
    a_hash_of_another_cost_is_replaced_at_login,
    a_refresh_token_is_good_for_one_exchange,
    sa_39_reuse_of_a_spent_token_ends_the_session_for_good,
    within_ten_seconds_a_spent_token_gets_its_unused_successor_again,
    the_grace_holds_on_both_sides_of_a_clock_that_jumps,
    within_ten_seconds_a_used_successor_betrays_the_thief,
    of_50_parallel_exchanges_all_get_the_one_living_successor,
    a_session_ends_after_30_days_however_often_it_is_exchanged,
    logout_ends_the_session_and_is_repeatable,
    a_removed_member_is_out_at_once,
    an_inactive_user_is_out_at_once,
    a_suspended_tenant_lets_nobody_in,
    a_refresh_that_is_refused_for_a_while_spends_no_token,
    xc_12_secrets_are_neither_stored_nor_audited_nor_shown,
);

async fn registering_makes_tenant_user_and_admin_at_once(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let scope = world.scope(&session.access_token).await?;
    let me = world.accounts().me(&scope).await?;
    let user = me.user.context("a user")?;
    assert_eq!(
        (user.id, user.email.as_str(), user.name.as_str()),
        (session.user_id, ANN, "Ann")
    );
    assert_eq!(user.last_login_at, Some(world.crm.clock().now()));
    let tenant = me.tenant.context("a tenant")?;
    assert_eq!((tenant.id, tenant.name.as_str()), (session.tenant_id, ACME));
    assert_eq!(me.impersonated_by, None);
    assert_eq!(
        me.roles
            .iter()
            .map(|role| role.name.as_str())
            .collect::<Vec<_>>(),
        ["admin"]
    );
    assert!(
        me.permissions.contains(&"api_keys.create".to_owned()),
        "{:?}",
        me.permissions
    );
    assert_eq!(session.expires_in, 600);
    assert_eq!(world.audited(session.tenant_id).await?, ["auth.register"]);
    Ok(())
}

async fn of_racing_registrations_with_one_token_one_succeeds(backend: Backend) -> Result<()> {
    let world = World::empty(backend).await?;
    let token = world.setup().await?;
    let accounts = world.accounts();
    let attempts = (0..8).map(|n| {
        let input = Registration {
            tenant: format!("Tenant {n}"),
            email: format!("user{n}@example.com"),
            ..registration(token.clone())
        };
        accounts.register(input, request())
    });
    let codes: Vec<_> = join_all(attempts).await.into_iter().map(code).collect();
    assert_eq!(
        codes.iter().filter(|code| **code == "no error").count(),
        1,
        "{codes:?}"
    );
    assert_eq!(
        codes
            .iter()
            .filter(|code| **code == "setup_token_invalid")
            .count(),
        7
    );
    assert_eq!(world.count("SELECT count(*) FROM users").await?, 1);
    let tenants = "SELECT count(*) FROM tenants WHERE name <> ' platform'";
    assert_eq!(world.count(tenants).await?, 1);
    Ok(())
}

async fn a_registration_that_fails_leaves_no_trace_and_the_token_unused(
    backend: Backend,
) -> Result<()> {
    let world = World::empty(backend).await?;
    world.other_tenant(ACME).await?;
    let token = world.setup().await?;
    let taken = world
        .accounts()
        .register(registration(token.clone()), request())
        .await;
    assert_eq!(code(taken), "already_exists");
    assert_eq!(world.count("SELECT count(*) FROM users").await?, 0);
    let other = Registration {
        tenant: "Other".into(),
        ..registration(token)
    };
    world.accounts().register(other, request()).await?;
    Ok(())
}

async fn a_registration_answers_every_broken_rule_at_once(backend: Backend) -> Result<()> {
    let world = World::empty(backend).await?;
    let input = Registration {
        tenant: " ".into(),
        email: "ann".into(),
        password: "short".into(),
        name: "A\u{7}".into(),
        ..registration(world.setup().await?)
    };
    let Err(Error::Invalid(fields)) = world.accounts().register(input, request()).await else {
        anyhow::bail!("it was accepted");
    };
    let codes: Vec<_> = fields
        .iter()
        .map(|f| (f.pointer.as_str(), f.code))
        .collect();
    assert_eq!(
        codes,
        [
            ("/email", "malformed"),
            ("/name", "control_character"),
            ("/tenant", "required"),
            ("/password", "too_short"),
        ]
    );
    Ok(())
}

async fn the_setup_token_holds_24_hours_and_until_the_next_start(backend: Backend) -> Result<()> {
    let world = World::empty(backend).await?;
    let first = world.setup().await?;
    let second = world.setup().await?;
    let replaced = world
        .accounts()
        .register(registration(first), request())
        .await;
    assert_eq!(code(replaced), "setup_token_invalid");
    let unknown = registration("crm_setup_AAAA".into());
    let unknown = world.accounts().register(unknown, request()).await;
    assert_eq!(code(unknown), "setup_token_invalid");
    world.clock.advance(TimeDelta::hours(24));
    let late = world
        .accounts()
        .register(registration(second), request())
        .await;
    assert_eq!(code(late), "setup_token_invalid");
    world
        .accounts()
        .register(registration(world.setup().await?), request())
        .await?;
    Ok(())
}

async fn with_a_user_there_is_no_setup_token(backend: Backend) -> Result<()> {
    let (world, _) = World::new(backend).await?;
    assert!(world.crm.ensure_setup_token().await?.is_none());
    Ok(())
}

async fn a_setup_token_does_not_outlive_the_first_user_of_the_operator(
    backend: Backend,
) -> Result<()> {
    let world = World::empty(backend).await?;
    let token = world.setup().await?;
    let tenant = world.other_tenant("Other").await?;
    world.member(tenant, "bob@example.com", &["admin"]).await?;
    let refused = world
        .accounts()
        .register(registration(token), request())
        .await;
    assert_eq!(code(refused), "setup_token_invalid");
    Ok(())
}

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

async fn a_refresh_token_is_good_for_one_exchange(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let mut token = session.refresh_token;
    for _ in 0..3 {
        world.clock.advance(TimeDelta::minutes(10));
        let next = world.accounts().refresh(token.clone(), request()).await?;
        assert_eq!(
            (next.user_id, next.tenant_id),
            (session.user_id, session.tenant_id)
        );
        assert_ne!(next.refresh_token.expose_secret(), token.expose_secret());
        world.scope(&next.access_token).await?;
        token = next.refresh_token;
    }
    let access = world
        .accounts()
        .refresh(session.access_token, request())
        .await;
    assert_eq!(
        code(access),
        "token_invalid",
        "an access token is no refresh token"
    );
    assert_eq!(
        code(world.scope(&token).await),
        "token_invalid",
        "nor the reverse"
    );
    Ok(())
}

async fn sa_39_reuse_of_a_spent_token_ends_the_session_for_good(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let accounts = world.accounts();
    let next = accounts
        .refresh(session.refresh_token.clone(), request())
        .await?;
    world.clock.advance(TimeDelta::seconds(10));
    let reused = accounts
        .refresh(session.refresh_token.clone(), request())
        .await;
    assert_eq!(code(reused), "token_reused");

    let dead = "SELECT count(*) FROM refresh_families WHERE revoked_at IS NOT NULL";
    assert_eq!(
        world.count(dead).await?,
        1,
        "the end is committed though the answer is an error"
    );
    let world = world.restarted(PasswordCost::LOWEST).await?;
    let accounts = world.accounts();
    for token in [next.refresh_token, session.refresh_token] {
        assert_eq!(
            code(accounts.refresh(token, request()).await),
            "token_invalid"
        );
    }
    assert_eq!(
        world.audited(session.tenant_id).await?,
        ["auth.register", "auth.refresh_reuse"]
    );
    Ok(())
}

async fn within_ten_seconds_a_spent_token_gets_its_unused_successor_again(
    backend: Backend,
) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let accounts = world.accounts();
    let next = accounts
        .refresh(session.refresh_token.clone(), request())
        .await?;
    world
        .clock
        .advance(TimeDelta::seconds(10) - TimeDelta::microseconds(1));
    let late = accounts.refresh(session.refresh_token, request()).await?;
    assert_eq!(
        late.refresh_token.expose_secret(),
        next.refresh_token.expose_secret()
    );
    world.scope(&late.access_token).await?;
    accounts.refresh(next.refresh_token, request()).await?;
    Ok(())
}

async fn the_grace_holds_on_both_sides_of_a_clock_that_jumps(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let accounts = world.accounts();
    accounts
        .refresh(session.refresh_token.clone(), request())
        .await?;
    world
        .clock
        .step_back(TimeDelta::seconds(10) - TimeDelta::microseconds(1));
    accounts
        .refresh(session.refresh_token.clone(), request())
        .await?;
    world.clock.step_back(TimeDelta::microseconds(1));
    let reused = accounts.refresh(session.refresh_token, request()).await;
    assert_eq!(
        code(reused),
        "token_reused",
        "a clock put back opens no long grace"
    );
    Ok(())
}

async fn within_ten_seconds_a_used_successor_betrays_the_thief(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let accounts = world.accounts();
    let second = accounts
        .refresh(session.refresh_token.clone(), request())
        .await?;
    let third = accounts.refresh(second.refresh_token, request()).await?;
    let reused = accounts.refresh(session.refresh_token, request()).await;
    assert_eq!(code(reused), "token_reused");
    let dead = accounts.refresh(third.refresh_token, request()).await;
    assert_eq!(code(dead), "token_invalid");
    Ok(())
}

async fn of_50_parallel_exchanges_all_get_the_one_living_successor(backend: Backend) -> Result<()> {
    const ROUNDS: i64 = 200;
    let (world, session) = World::new(backend).await?;
    let mut token = session.refresh_token;
    for round in 1..=ROUNDS {
        let attempts: Vec<_> = (0..50)
            .map(|_| {
                let (accounts, token) = (world.accounts(), token.clone());
                tokio::spawn(async move { accounts.refresh(token, request()).await })
            })
            .collect();
        let mut children = Vec::new();
        for attempt in attempts {
            let session = attempt.await??;
            children.push(session.refresh_token.expose_secret().to_owned());
        }
        children.dedup();
        assert_eq!(children.len(), 1, "round {round}");
        let living = world.count("SELECT count(*) FROM refresh_tokens WHERE used_at IS NULL");
        assert_eq!(living.await?, 1, "round {round}");
        let made = world.count("SELECT count(*) FROM refresh_tokens");
        assert_eq!(made.await?, round + 1);
        token = children.remove(0).into();
    }
    Ok(())
}

async fn a_session_ends_after_30_days_however_often_it_is_exchanged(
    backend: Backend,
) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let mut token = session.refresh_token;
    for _ in 0..29 {
        world.clock.advance(TimeDelta::days(1));
        token = world
            .accounts()
            .refresh(token, request())
            .await?
            .refresh_token;
    }
    world.clock.advance(TimeDelta::days(1));
    let late = world.accounts().refresh(token, request()).await;
    assert_eq!(code(late), "token_expired");
    world.clock.advance(TimeDelta::days(2));
    world.accounts().login(login_of(ANN), request()).await?;
    let families = world.count("SELECT count(*) FROM refresh_families").await?;
    let tokens = world.count("SELECT count(*) FROM refresh_tokens").await?;
    assert_eq!(
        (families, tokens),
        (1, 1),
        "the next login clears what is over"
    );
    Ok(())
}

async fn logout_ends_the_session_and_is_repeatable(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let accounts = world.accounts();
    let other = accounts.login(login_of(ANN), request()).await?;
    let next = accounts
        .refresh(session.refresh_token.clone(), request())
        .await?;
    // A spent token of the session is as good to end it.
    accounts.logout(session.refresh_token, request()).await?;
    accounts
        .logout(next.refresh_token.clone(), request())
        .await?;
    accounts.logout("crm_rt_unknown".into(), request()).await?;
    let ended = accounts.refresh(next.refresh_token, request()).await;
    assert_eq!(code(ended), "token_invalid");
    accounts.refresh(other.refresh_token, request()).await?;
    assert_eq!(
        world.audited(session.tenant_id).await?,
        ["auth.register", "auth.login", "auth.logout"]
    );
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

async fn a_refresh_that_is_refused_for_a_while_spends_no_token(backend: Backend) -> Result<()> {
    let (world, session) = World::new(backend).await?;
    let refresh = async |token: &secrecy::SecretString| {
        let accounts = world.accounts();
        accounts.refresh(token.clone(), request()).await
    };
    let token = session.refresh_token;
    let tenants = world.crm.tenants();
    tenants.suspend(session.tenant_id, request()).await?;
    for _ in 0..2 {
        assert_eq!(code(refresh(&token).await), "token_invalid");
    }
    // Longer than two exchanges of one token count as a race.
    world.clock.advance(TimeDelta::seconds(11));
    tenants.resume(session.tenant_id, request()).await?;
    let next = refresh(&token).await?;

    world.clock.advance(TimeDelta::days(40));
    assert_eq!(code(refresh(&next.refresh_token).await), "token_expired");
    world.clock.step_back(TimeDelta::days(40));
    let next = refresh(&next.refresh_token).await?;

    world.clock.advance(TimeDelta::days(15));
    assert_eq!(code(refresh(&next.refresh_token).await), "token_expired");
    world.clock.step_back(TimeDelta::days(15));
    let last = refresh(&next.refresh_token).await?;
    world.scope(&last.access_token).await?;
    // Spent it is now, and betrays whoever comes with it later.
    world.clock.advance(TimeDelta::seconds(11));
    assert_eq!(code(refresh(&next.refresh_token).await), "token_reused");
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

    // A process that is not strict yet opens another one, which gets no further, and ends soon.
    let old = world.other_process().await?;
    let ann = old.accounts().login(login_of(ANN), request()).await?;
    let scope = world.scope(&ann.access_token).await?;
    let own = "purple harpsichord";
    let accounts = world.accounts();
    let change = accounts.change_password(&scope, PASSWORD.into(), own.into());
    assert_eq!(code(change.await), "second_factor_required");
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
