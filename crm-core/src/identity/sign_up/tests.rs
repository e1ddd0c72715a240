//! The promises of open registration, on both databases.

use std::sync::Arc;

use anyhow::{Context, Result};
use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;

use super::*;
use crate::identity::fixture::*;
use crate::mail::{Mail, MailOptions, Mailer};
use crate::on_both_databases;
use crate::testing::Backend;

on_both_databases!(
    sa_40_open_registration_makes_user_tenant_and_admin_at_once,
    sa_40_a_registration_that_fails_leaves_nothing,
    of_racing_registrations_of_one_address_one_makes_an_account,
    closed_registration_is_refused_before_any_work,
    sa_41_the_sixth_registration_of_a_minute_is_refused,
    asvs_6_3_8_a_verified_registration_does_the_same_work_whoever_is_registered,
    nothing_but_a_sealed_row_waits_for_the_link,
    a_link_makes_the_account_once_with_its_password,
    of_racing_confirmations_of_one_link_one_succeeds,
    a_link_is_replaced_by_the_next_and_dies_after_a_day,
    the_second_registration_of_an_address_waits_for_a_minute_whoever_is_registered,
    a_tenants_name_that_was_taken_meanwhile_is_replaced_by_another,
    a_registration_answers_every_broken_rule_at_once,
);

const EVE: &str = "eve@example.com";
const GLOBEX: &str = "Globex";

#[derive(Default)]
struct Mailbox(Mutex<Vec<Mail>>);

impl Mailer for Mailbox {
    fn send<'a>(&'a self, mail: &'a Mail) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async {
            self.0.lock().push(mail.clone());
            Ok(())
        })
    }
}

impl Mailbox {
    /// The kind of the latest mail, and its token.
    async fn latest(&self, world: &World) -> Result<(MailKind, String)> {
        world.crm.send_mails_once().await?;
        let mails = self.0.lock();
        let mail = mails.last().context("a mail")?;
        assert!(!mail.text.contains(GLOBEX) && !mail.text.contains("Evelyn"));
        Ok((mail.kind, mail.link.clone().unwrap_or_default()))
    }
}

/// Acme with Ann, and who may register.
async fn world(backend: Backend, policy: RegistrationPolicy) -> Result<(World, Arc<Mailbox>)> {
    let mailbox = Arc::new(Mailbox::default());
    let options = MailOptions {
        mailer: Some(mailbox.clone()),
        public_url: String::new(),
    };
    let world = World::with(backend, |builder| {
        builder.registration(policy).mail(options)
    });
    let world = world.await?;
    let first = registration(world.setup().await?);
    world.accounts().register(first, request()).await?;
    Ok((world, mailbox))
}

fn sign_up(email: &str) -> SignUp {
    SignUp {
        tenant: GLOBEX.into(),
        email: email.into(),
        password: PASSWORD.into(),
        name: Some("Evelyn".into()),
    }
}

fn confirmation(token: &str) -> SignUpConfirmation {
    SignUpConfirmation {
        token: token.into(),
        password: PASSWORD.into(),
        tenant: None,
    }
}

fn made(signed_up: SignedUp) -> Result<Session> {
    match signed_up {
        SignedUp::Made(session) => Ok(session),
        SignedUp::Mailed => anyhow::bail!("nothing was made"),
    }
}

/// Users, tenants and memberships.
async fn people(world: &World) -> Result<[i64; 3]> {
    Ok([
        world.count("SELECT count(*) FROM users").await?,
        world.count("SELECT count(*) FROM tenants").await?,
        world.count("SELECT count(*) FROM memberships").await?,
    ])
}

async fn waiting(world: &World) -> Result<i64> {
    let waiting = "SELECT count(*) FROM pending_registrations";
    world.count(waiting).await
}

async fn sa_40_open_registration_makes_user_tenant_and_admin_at_once(
    backend: Backend,
) -> Result<()> {
    let (world, _) = world(backend, RegistrationPolicy::Open).await?;
    let input = SignUp {
        name: None,
        ..sign_up("Eve@Example.com")
    };
    let session = made(world.accounts().sign_up(input, request()).await?)?;
    let scope = world.scope(&session.access_token).await?;
    let me = world.accounts().me(&scope).await?;
    let user = me.user.context("a user")?;
    assert_eq!((user.email.as_str(), user.name.as_str()), (EVE, "eve"));
    assert_eq!(user.email_verified_at, None, "nobody has shown that");
    assert_eq!(me.tenant.context("a tenant")?.name, GLOBEX);
    assert_eq!(me.roles.len(), 1);
    assert_eq!(me.roles[0].name, "admin");
    assert_eq!(world.audited(session.tenant_id).await?, ["auth.register"]);
    assert_eq!(world.audited(PLATFORM).await?, ["tenants.create"]);
    world.accounts().login(login_of(EVE), request()).await?;
    Ok(())
}

async fn sa_40_a_registration_that_fails_leaves_nothing(backend: Backend) -> Result<()> {
    let (world, _) = world(backend, RegistrationPolicy::Open).await?;
    let before = people(&world).await?;
    let known = world.accounts().sign_up(sign_up(ANN), request()).await;
    assert_eq!(code(known), "email_taken");
    for name in [ACME, "aCME"] {
        let input = SignUp {
            tenant: name.into(),
            ..sign_up(EVE)
        };
        let taken = world.accounts().sign_up(input, request()).await;
        assert_eq!(code(taken), "already_exists");
    }
    assert_eq!(people(&world).await?, before);
    assert!(world.audited(PLATFORM).await?.is_empty());
    Ok(())
}

async fn of_racing_registrations_of_one_address_one_makes_an_account(
    backend: Backend,
) -> Result<()> {
    let (world, _) = world(backend, RegistrationPolicy::Open).await?;
    let before = people(&world).await?;
    let accounts = world.accounts();
    let attempts = (0..5).map(|n| {
        let input = SignUp {
            tenant: format!("Globex {n}"),
            ..sign_up(EVE)
        };
        accounts.sign_up(input, request())
    });
    let mut codes: Vec<_> = join_all(attempts).await.into_iter().map(code).collect();
    codes.sort_unstable();
    let taken = "email_taken";
    assert_eq!(codes, [taken, taken, taken, taken, "no error"]);
    assert_eq!(people(&world).await?, before.map(|count| count + 1));
    Ok(())
}

async fn closed_registration_is_refused_before_any_work(backend: Backend) -> Result<()> {
    let (world, _) = world(backend, RegistrationPolicy::Closed).await?;
    let hashes = || world.crm.core.identity.passwords.hashes();
    let (before, there) = (hashes(), people(&world).await?);
    for email in [ANN, EVE, "no address"] {
        let refused = world.accounts().sign_up(sign_up(email), request()).await;
        assert_eq!(code(refused), "registration_closed");
    }
    let accounts = world.accounts();
    let refused = accounts.confirm_sign_up(confirmation("crm_rg_x"), request());
    assert_eq!(code(refused.await), "registration_closed");
    assert_eq!(
        (hashes(), people(&world).await?, waiting(&world).await?),
        (before, there, 0)
    );
    Ok(())
}

async fn sa_41_the_sixth_registration_of_a_minute_is_refused(backend: Backend) -> Result<()> {
    let (world, _) = world(backend, RegistrationPolicy::Verified).await?;
    for n in 0..5 {
        let input = sign_up(&format!("user{n}@example.com"));
        world.accounts().sign_up(input, request()).await?;
    }
    let sixth = world.accounts().sign_up(sign_up(EVE), request()).await;
    assert_eq!(code(sixth), "rate_limited");
    world.wait_a_minute();
    world.accounts().sign_up(sign_up(EVE), request()).await?;
    Ok(())
}

async fn asvs_6_3_8_a_verified_registration_does_the_same_work_whoever_is_registered(
    backend: Backend,
) -> Result<()> {
    let (world, mailbox) = world(backend, RegistrationPolicy::Verified).await?;
    let passwords = &world.crm.core.identity.passwords;
    for (email, kind, waits) in [
        (ANN, MailKind::EmailInUse, 1),
        (EVE, MailKind::Registration, 2),
    ] {
        let before = passwords.hashes();
        let answer = world.accounts().sign_up(sign_up(email), request()).await?;
        assert!(matches!(answer, SignedUp::Mailed));
        assert_eq!(passwords.hashes() - before, 1, "{email}");
        assert_eq!(waiting(&world).await?, waits);
        let (sent, token) = mailbox.latest(&world).await?;
        assert_eq!(
            (sent, token.is_empty()),
            (kind, kind == MailKind::EmailInUse)
        );
    }
    let asked = "auth.registration_requested";
    assert_eq!(world.audited(PLATFORM).await?, [asked, asked]);
    Ok(())
}

async fn nothing_but_a_sealed_row_waits_for_the_link(backend: Backend) -> Result<()> {
    let (world, _) = world(backend, RegistrationPolicy::Verified).await?;
    let before = people(&world).await?;
    world.accounts().sign_up(sign_up(EVE), request()).await?;
    assert_eq!(people(&world).await?, before);
    let row = Sql::new("SELECT hash, address, sealed FROM pending_registrations")
        .returns(&[ColumnType::Bytes; 3]);
    let row = world.crm.core.db.fetch_optional(row).await?;
    let mut row = row.context("a row")?;
    for _ in 0..3 {
        let bytes: Vec<u8> = row.bytes()?;
        for word in [EVE, GLOBEX, "Evelyn", "argon2"] {
            let within = bytes
                .windows(word.len())
                .any(|part| part == word.as_bytes());
            assert!(!within, "{word} is to be read");
        }
    }
    let refused = world.accounts().login(login_of(EVE), request()).await;
    assert_eq!(code(refused), "invalid_credentials");
    Ok(())
}

async fn a_link_makes_the_account_once_with_its_password(backend: Backend) -> Result<()> {
    let (world, mailbox) = world(backend, RegistrationPolicy::Verified).await?;
    let accounts = world.accounts();
    accounts.sign_up(sign_up(EVE), request()).await?;
    let (_, token) = mailbox.latest(&world).await?;
    let of_another = SignUpConfirmation {
        password: "seven harpsichords".into(),
        ..confirmation(&token)
    };
    let refused = accounts.confirm_sign_up(of_another, request()).await;
    assert_eq!(code(refused), "invalid_credentials");
    let session = accounts
        .confirm_sign_up(confirmation(&token), request())
        .await?;
    let scope = world.scope(&session.access_token).await?;
    let me = accounts.me(&scope).await?;
    let user = me.user.context("a user")?;
    assert_eq!((user.email.as_str(), user.name.as_str()), (EVE, "Evelyn"));
    assert!(user.email_verified_at.is_some(), "the mail was read");
    assert_eq!(me.tenant.context("a tenant")?.name, GLOBEX);
    assert_eq!(world.audited(session.tenant_id).await?, ["auth.register"]);
    let again = accounts.confirm_sign_up(confirmation(&token), request());
    assert_eq!(
        refused_field(again.await),
        ("/token".into(), "invalid_token")
    );
    assert_eq!(waiting(&world).await?, 0);
    Ok(())
}

async fn of_racing_confirmations_of_one_link_one_succeeds(backend: Backend) -> Result<()> {
    let (world, mailbox) = world(backend, RegistrationPolicy::Verified).await?;
    let accounts = world.accounts();
    accounts.sign_up(sign_up(EVE), request()).await?;
    let (_, token) = mailbox.latest(&world).await?;
    let attempts = (0..5).map(|n| {
        let input = SignUpConfirmation {
            tenant: Some(format!("Globex {n}")),
            ..confirmation(&token)
        };
        accounts.confirm_sign_up(input, request())
    });
    let mut codes: Vec<_> = join_all(attempts).await.into_iter().map(code).collect();
    codes.sort_unstable();
    let late = "validation_failed";
    assert_eq!(codes, ["no error", late, late, late, late]);
    Ok(())
}

async fn a_link_is_replaced_by_the_next_and_dies_after_a_day(backend: Backend) -> Result<()> {
    let (world, mailbox) = world(backend, RegistrationPolicy::Verified).await?;
    let accounts = world.accounts();
    let ask = async || {
        accounts.sign_up(sign_up(EVE), request()).await?;
        anyhow::Ok(mailbox.latest(&world).await?.1)
    };
    let first = ask().await?;
    world.wait_a_minute();
    let second = ask().await?;
    assert_ne!(second, first);
    let dead = accounts.confirm_sign_up(confirmation(&first), request());
    assert_eq!(code(dead.await), "validation_failed");
    world.clock.advance(LIFETIME);
    let dead = accounts.confirm_sign_up(confirmation(&second), request());
    assert_eq!(code(dead.await), "validation_failed");
    assert_eq!(waiting(&world).await?, 1);
    forget_late_registrations(&world.crm.core).await?;
    assert_eq!(waiting(&world).await?, 0);
    Ok(())
}

async fn the_second_registration_of_an_address_waits_for_a_minute_whoever_is_registered(
    backend: Backend,
) -> Result<()> {
    let (world, mailbox) = world(backend, RegistrationPolicy::Verified).await?;
    for email in [ANN, EVE] {
        world.accounts().sign_up(sign_up(email), request()).await?;
    }
    let (_, first) = mailbox.latest(&world).await?;
    world.clock.advance(TimeDelta::seconds(20));
    for email in [ANN, EVE] {
        let input = SignUp {
            password: "seven harpsichords".into(),
            ..sign_up(email)
        };
        let Err(Error::TooMany { retry_after, .. }) =
            world.accounts().sign_up(input, request()).await
        else {
            anyhow::bail!("{email} was taken again");
        };
        assert_eq!(retry_after.as_secs(), 40, "{email}");
    }
    let (_, still) = mailbox.latest(&world).await?;
    assert_eq!(still, first, "no other mail");
    world.wait_a_minute();
    world.accounts().sign_up(sign_up(ANN), request()).await?;
    Ok(())
}

async fn a_tenants_name_that_was_taken_meanwhile_is_replaced_by_another(
    backend: Backend,
) -> Result<()> {
    let (world, mailbox) = world(backend, RegistrationPolicy::Verified).await?;
    let accounts = world.accounts();
    accounts.sign_up(sign_up(EVE), request()).await?;
    let (_, token) = mailbox.latest(&world).await?;
    world.other_tenant(GLOBEX).await?;
    let before = people(&world).await?;
    let taken = accounts.confirm_sign_up(confirmation(&token), request());
    assert_eq!(code(taken.await), "already_exists");
    assert_eq!(people(&world).await?, before);
    let input = SignUpConfirmation {
        tenant: Some("Initech".into()),
        ..confirmation(&token)
    };
    accounts.confirm_sign_up(input, request()).await?;
    Ok(())
}

async fn a_registration_answers_every_broken_rule_at_once(backend: Backend) -> Result<()> {
    let (world, _) = world(backend, RegistrationPolicy::Verified).await?;
    let input = SignUp {
        tenant: " ".into(),
        email: "eve".into(),
        password: "short".into(),
        name: Some("E\u{7}".into()),
    };
    let Err(Error::Invalid(fields)) = world.accounts().sign_up(input, request()).await else {
        anyhow::bail!("it was accepted");
    };
    let pointers: Vec<_> = fields.iter().map(|field| field.pointer.as_str()).collect();
    assert_eq!(pointers, ["/email", "/name", "/tenant", "/password"]);
    Ok(())
}

#[tokio::test]
async fn links_without_a_mailer_refuse_to_start() {
    let refused = crate::Crm::builder()
        .database("sqlite::memory:")
        .secret("0123456789abcdef0123456789abcdef".into())
        .registration(RegistrationPolicy::Verified)
        .build();
    let Err(Error::Configuration(message)) = refused.await else {
        panic!("it started");
    };
    assert!(message.contains("mail"), "{message}");
}
