//! The promises of users and of what they are told about themselves, on both databases.

use anyhow::Result;
use chrono::TimeDelta;
use secrecy::ExposeSecret;

use super::*;
use crate::identity::Login;
use crate::identity::fixture::*;
use crate::on_both_databases;
use crate::testing::Backend;

const BOB: &str = "bob@example.com";

on_both_databases!(
    a_new_user_logs_in_with_the_first_password,
    an_existing_user_joins_and_keeps_name_and_password,
    a_member_is_not_made_twice,
    nobody_makes_a_member_who_may_do_more_than_they,
    an_unknown_role_makes_no_user,
    permissions_on_own_rows_are_marked,
    an_operator_token_opens_the_scope_of_a_member,
    a_tenant_has_a_name_of_its_own,
    a_first_password_is_ones_own_where_it_was_used_before,
);

fn new_user(email: &str, roles: &[&str]) -> NewUser {
    NewUser {
        email: email.into(),
        name: "Bob".into(),
        password: PASSWORD.into(),
        roles: roles.iter().map(ToString::to_string).collect(),
    }
}

async fn a_new_user_logs_in_with_the_first_password(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let permit = world.scope(&ann.access_token).await?.permit("members")?;
    let joined = world
        .accounts()
        .create_user(&permit, new_user(BOB, &["viewer"]))
        .await?;
    assert!(!joined.existed);
    let session = world.accounts().login(login_of(BOB), request()).await?;
    assert_eq!(
        (session.user_id, session.tenant_id),
        (joined.user_id, ann.tenant_id)
    );
    let audited = world.audited(ann.tenant_id).await?;
    assert_eq!(audited, ["auth.register", "members.create", "auth.login"]);
    Ok(())
}

async fn an_existing_user_joins_and_keeps_name_and_password(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let beta = world.other_tenant("Beta").await?;
    let permit = world.crm.operator(beta, request()).permit("members")?;
    let input = NewUser {
        password: "another password".into(),
        ..new_user(ANN, &["viewer"])
    };
    let joined = world.accounts().create_user(&permit, input).await?;
    assert_eq!(
        joined,
        Joined {
            user_id: ann.user_id,
            existed: true,
            password_score: None,
        }
    );

    let at_beta = |password: &str| Login {
        password: password.into(),
        tenant: Some("Beta".into()),
        ..login_of(ANN)
    };
    let taken = world
        .accounts()
        .login(at_beta("another password"), request())
        .await;
    assert_eq!(code(taken), "invalid_credentials");
    let session = world.accounts().login(at_beta(PASSWORD), request()).await?;
    let me = world
        .accounts()
        .me(&world.scope(&session.access_token).await?)
        .await?;
    assert_eq!(me.user.map(|user| user.name).as_deref(), Some("Ann"));
    assert_eq!(me.roles.len(), 1);
    assert_eq!(me.roles[0].name, "viewer");
    Ok(())
}

async fn a_member_is_not_made_twice(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let again = world.member(ann.tenant_id, ANN, &["viewer"]).await;
    assert_eq!(code(again), "already_member");
    let me = world
        .accounts()
        .me(&world.scope(&ann.access_token).await?)
        .await?;
    assert_eq!(me.roles.len(), 1, "nor given more roles");
    Ok(())
}

async fn nobody_makes_a_member_who_may_do_more_than_they(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let permit = world.scope(&ann.access_token).await?.permit("roles")?;
    let hiring = role::NewRole {
        name: "hiring".into(),
        permissions: vec!["members.create".into(), "records.read".into()],
        ..role::NewRole::default()
    };
    world.crm.roles().create(&permit, hiring).await?;
    world.member(ann.tenant_id, BOB, &["hiring"]).await?;
    let bob = world.accounts().login(login_of(BOB), request()).await?;
    let permit = world.scope(&bob.access_token).await?.permit("members")?;

    let admin = world
        .accounts()
        .create_user(&permit, new_user("c@example.com", &["admin"]))
        .await;
    assert_eq!(code(admin), "forbidden");
    assert_eq!(
        world.count("SELECT count(*) FROM users").await?,
        2,
        "nothing was written"
    );
    world
        .accounts()
        .create_user(&permit, new_user("c@example.com", &["viewer"]))
        .await?;

    let other = world.scope(&ann.access_token).await?.permit("roles")?;
    let wrong = world
        .accounts()
        .create_user(&other, new_user("d@example.com", &[]))
        .await;
    assert_eq!(
        code(wrong),
        "forbidden",
        "a permit of another object opens nothing"
    );
    Ok(())
}

async fn an_unknown_role_makes_no_user(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let unknown = world
        .member(ann.tenant_id, BOB, &["viewer", "emperor"])
        .await;
    assert_eq!(
        refused_field(unknown),
        ("/roles/1".to_owned(), "unknown_role")
    );
    assert_eq!(world.count("SELECT count(*) FROM users").await?, 1);
    Ok(())
}

async fn permissions_on_own_rows_are_marked(backend: Backend) -> Result<()> {
    let modules = crate::module::default_modules();
    let world = World::with(backend, |builder| builder.modules(modules)).await?;
    let input = registration(world.setup().await?);
    let ann = world.accounts().register(input, request()).await?;
    let permit = world.scope(&ann.access_token).await?.permit("roles")?;
    let reviewer = role::NewRole {
        name: "reviewer".into(),
        permissions: vec!["contacts.read:own".into(), "roles.read".into()],
        ..role::NewRole::default()
    };
    world.crm.roles().create(&permit, reviewer).await?;
    world.member(ann.tenant_id, BOB, &["reviewer"]).await?;
    let bob = world.accounts().login(login_of(BOB), request()).await?;
    let me = world
        .accounts()
        .me(&world.scope(&bob.access_token).await?)
        .await?;
    assert_eq!(me.permissions, ["roles.read", "contacts.read:own"]);
    Ok(())
}

async fn an_operator_token_opens_the_scope_of_a_member(backend: Backend) -> Result<()> {
    let (world, ann) = World::new(backend).await?;
    let accounts = world.accounts();
    let token = accounts.operator_token(ACME, ANN, request()).await?;
    let scope = world
        .crm
        .authenticate(token.expose_secret(), request())
        .await?;
    assert_eq!(
        (scope.actor(), scope.tenant()),
        (Actor::User(ann.user_id), ann.tenant_id)
    );
    assert_eq!(
        world.audited(ann.tenant_id).await?,
        ["auth.register", "auth.operator_token"]
    );

    world.other_tenant("Beta").await?;
    for (tenant, email) in [("Beta", ANN), ("Nowhere", ANN), (ACME, BOB)] {
        let refused = accounts.operator_token(tenant, email, request()).await;
        assert_eq!(code(refused), "not_found", "{tenant} {email}");
    }
    Ok(())
}

async fn a_tenant_has_a_name_of_its_own(backend: Backend) -> Result<()> {
    let world = World::empty(backend).await?;
    let tenants = world.crm.tenants();
    let made = tenants.create("  Zeta ", request()).await?;
    assert_eq!(made.name, "Zeta");
    let again = tenants.create("Zeta", request()).await;
    assert_eq!(code(again), "already_exists");
    assert_eq!(
        refused_field(tenants.create(" ", request()).await),
        ("/name".into(), "required")
    );
    let other = tenants.create("Alpha", request()).await?;
    assert_eq!(tenants.list().await?, [other, made.clone()]);
    assert_eq!(tenants.find_by_name("Zeta").await?, Some(made.clone()));
    assert_eq!(tenants.find_by_name(" zETA").await?, Some(made.clone()));
    assert_eq!(tenants.find_by_name("Omega").await?, None);
    assert_eq!(world.audited(made.id).await?, ["tenants.create"]);
    let permit = world.crm.operator(made.id, request()).permit("roles")?;
    let roles = world.crm.roles().list(&permit).await?;
    let mut names: Vec<_> = roles.iter().map(|role| role.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["admin", "manager", "member", "viewer"]);
    Ok(())
}

async fn a_first_password_is_ones_own_where_it_was_used_before(backend: Backend) -> Result<()> {
    const CARL: &str = "carl@example.com";
    let (world, ann) = World::new(backend).await?;
    for email in [BOB, CARL] {
        world.member(ann.tenant_id, email, &["viewer"]).await?;
    }
    world.accounts().login(login_of(BOB), request()).await?;

    let world = world.made_strict().await?;
    for carls in ["password_change_required", "invalid_credentials"] {
        let bob = world.accounts().login(login_of(BOB), request()).await;
        assert_eq!(code(bob), "second_factor_required");
        let carl = world.accounts().login(login_of(CARL), request()).await;
        assert_eq!(code(carl), carls);
        world.clock.advance(TimeDelta::days(8));
    }
    Ok(())
}
