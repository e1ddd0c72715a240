//! Registering the first user, with the token of the first start.

use super::*;

on_both_databases!(
    registering_makes_tenant_user_and_admin_at_once,
    of_racing_registrations_with_one_token_one_succeeds,
    a_registration_that_fails_leaves_no_trace_and_the_token_unused,
    a_registration_answers_every_broken_rule_at_once,
    a_dead_setup_token_is_told_before_the_values_are_judged,
    the_setup_token_holds_24_hours_and_until_the_next_start,
    with_a_user_there_is_no_setup_token,
    a_setup_token_does_not_outlive_the_first_user_of_the_operator,
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

async fn a_dead_setup_token_is_told_before_the_values_are_judged(backend: Backend) -> Result<()> {
    let world = World::empty(backend).await?;
    let replaced = world.setup().await?;
    let used = world.setup().await?;
    let weak = async |token: SecretString| {
        let input = Registration {
            password: "short".into(),
            ..registration(token)
        };
        world.accounts().register(input, request()).await
    };
    assert_eq!(refused_field(weak(used.clone()).await).1, "too_short");
    let first = registration(used.clone());
    world.accounts().register(first, request()).await?;
    let mut answers = Vec::new();
    for dead in [replaced, used, "crm_setup_AAAA".into()] {
        let refused = weak(dead).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), "setup_token_invalid");
        answers.push(refused.to_string());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "they are told alike");
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
    let weak = Registration {
        password: "short".into(),
        ..registration(token.clone())
    };
    for input in [weak, registration(token)] {
        let refused = world.accounts().register(input, request()).await;
        assert_eq!(code(refused), "setup_token_invalid");
    }
    Ok(())
}
