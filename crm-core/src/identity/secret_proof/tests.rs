//! The promises of the database's secret, on both databases.

use anyhow::{Context, Result};
use secrecy::ExposeSecret as _;

use super::*;
use crate::id::UserId;
use crate::identity::fixture::*;
use crate::on_both_databases;
use crate::testing::Backend;
use crate::value::Value;

on_both_databases!(
    another_secret_opens_no_database,
    a_secret_is_replaced_and_nothing_is_lost,
    what_was_sealed_under_a_lost_secret_goes_with_consent_only,
);

/// What a wrong code is answered with, once the secret that it is held against was opened.
const OPENS: &str = "validation_failed";
const NEW: &str = "fedcba9876543210fedcba9876543210";

/// Ann with a second factor begun, and a mail that waits.
async fn sealed(backend: Backend) -> Result<World> {
    let (world, session) = World::new(backend).await?;
    let ann = world.scope(&session.access_token).await?;
    world.accounts().begin_totp(&ann, PASSWORD.into()).await?;
    Ok(world)
}

/// What is left of Ann's second factor: whether it still opens.
async fn factor(crm: &Crm) -> Result<&'static str> {
    let ann = crm.accounts().login(login_of(ANN), request()).await?;
    let ann = crm
        .authenticate(ann.access_token.expose_secret(), request())
        .await?;
    Ok(code(crm.accounts().confirm_totp(&ann, "000000").await))
}

async fn another_secret_opens_no_database(backend: Backend) -> Result<()> {
    let world = sealed(backend).await?;
    let refused = world.process_of(|builder| builder.secret(NEW.into())).await;
    let Err(Error::Configuration(line)) = refused else {
        panic!("the database was opened with another secret");
    };
    assert!(line.contains("not the one of the database"), "{line}");
    assert_eq!(factor(&world.crm).await?, OPENS);
    Ok(())
}

async fn a_secret_is_replaced_and_nothing_is_lost(backend: Backend) -> Result<()> {
    let world = sealed(backend).await?;
    let old = world.accounts().login(login_of(ANN), request()).await?;
    let both = |builder: crate::Builder| builder.secret(NEW.into()).previous_secret(SECRET.into());
    let crm = world.process_of(both).await?;
    // Until it is replaced, processes with either go on.
    assert_eq!(factor(&crm).await?, OPENS);
    assert_eq!(factor(&world.crm).await?, OPENS);
    let token = old.access_token.expose_secret();
    crm.authenticate(token, request()).await?;

    let done = crm.reseal(DataLoss::Refused, request()).await?;
    assert_eq!((done.sealed, done.lost.len()), (1, 0));
    let again = crm.reseal(DataLoss::Refused, request()).await?;
    assert_eq!(again, Resealed::default());
    crm.close().await;

    let new = world
        .process_of(|builder| builder.secret(NEW.into()))
        .await?;
    assert_eq!(factor(&new).await?, OPENS);
    let refreshed = new.accounts().refresh(old.refresh_token, request()).await?;
    let token = refreshed.access_token.expose_secret();
    new.authenticate(token, request()).await?;
    new.close().await;
    assert!(world.other_process().await.is_err(), "the old one is over");
    let audited = world.audited(INSTALLATION).await?;
    assert!(audited.contains(&"secret.reseal".to_owned()), "{audited:?}");
    Ok(())
}

async fn what_was_sealed_under_a_lost_secret_goes_with_consent_only(
    backend: Backend,
) -> Result<()> {
    let world = sealed(backend).await?;
    let lost = |builder: crate::Builder| builder.secret(NEW.into()).foreign_secret();
    let crm = world.process_of(lost).await?;
    let refused = crm.reseal(DataLoss::Refused, request()).await;
    let Err(Error::Configuration(line)) = refused else {
        panic!("something was lost without consent");
    };
    assert!(line.contains("1 second factor would be lost"), "{line}");
    assert_eq!(factor(&world.crm).await?, OPENS, "nothing was changed");

    let done = crm.reseal(DataLoss::Accepted, request()).await?;
    assert_eq!(done.lost, ["1 second factor"]);
    crm.close().await;
    let new = world
        .process_of(|builder| builder.secret(NEW.into()))
        .await?;
    assert_eq!(factor(&new).await?, "no_second_factor");
    new.close().await;
    Ok(())
}

#[test]
fn every_sealed_column_is_among_the_places() {
    let scripts = crm_migrations::sqlite().iter().map(|one| one.up);
    let mut found = Vec::new();
    for script in scripts {
        let mut table = "";
        for line in script.lines() {
            let mut words = line.split([' ', ',']).filter(|word| !word.is_empty());
            match (words.next(), words.next()) {
                (Some("CREATE"), Some("TABLE")) => table = words.next().unwrap_or_default(),
                (Some(column @ ("sealed" | "client_secret")), Some("BLOB")) => {
                    found.push((table, column));
                }
                _ => {}
            }
        }
    }
    found.retain(|(table, _)| *table != "passkey_ceremonies");
    let mut places: Vec<_> = PLACES.iter().map(|one| (one.table, one.column)).collect();
    places.sort_unstable();
    found.sort_unstable();
    assert_eq!(places, found);
}

#[test]
fn every_label_is_made_of_its_key() -> Result<()> {
    for place in &PLACES {
        let values = place.key.iter().map(|(name, kind)| match kind {
            ColumnType::Uuid => Value::from(UserId::from(uuid::Uuid::from_u128(7))),
            ColumnType::Text => Value::from(*name),
            _ => Value::from(vec![7_u8; 32]),
        });
        let label = (place.label)(Row::new(values.collect()));
        assert!(
            label.context(place.table)?.contains("07"),
            "{}",
            place.table
        );
    }
    Ok(())
}
