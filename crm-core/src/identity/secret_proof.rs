//! Whether the operator's secret is that of the database, and how it is replaced by another one.
//!
//! Owns the table `secret_proofs`. A program that opens a database with another secret would refuse
//! all tokens, open no second factor, and seal new values under a key that the next program lacks: it
//! is refused instead.

use serde_json::json;
use subtle::ConstantTimeEq as _;

use super::INSTALLATION;
use super::key::SigningKeys;
use super::seal::Sealed;
use super::{oidc, second_factor, sign_up};
use crate::count::told;
use crate::crm::{Core, Crm};
use crate::db::{ColumnType, Db, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::journal::{self, Author};
use crate::schema::DataLoss;
use crate::scope::{Actor, RequestContext};
use crate::{mail, plugin};

/// The purpose of the key that is the proof.
const LABEL: &str = "proof of the secret";

/// All places of sealed values, but those of challenges, which live for minutes.
const PLACES: [Sealed; 6] = [
    second_factor::SEALED,
    oidc::SEALED,
    sign_up::SEALED,
    mail::SEALED,
    plugin::SECRETS,
    plugin::HOOK_SECRETS,
];

/// What [`Crm::reseal`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resealed {
    /// How many values were sealed anew, under the secret in use.
    pub sealed: u64,
    /// What was deleted because it opened under neither secret, in words: `2 second factors`.
    pub lost: Vec<String>,
}

impl Crm {
    /// Seals anew, under the secret in use, what is sealed under the one used before
    /// ([`Builder::previous_secret`](crate::Builder::previous_secret)), and makes the secret in use
    /// that of the database. After it the one used before is needed no more.
    ///
    /// What opens under neither secret is lost: with [`DataLoss::Accepted`] it is deleted. A second
    /// factor that goes so leaves its owner with the password and recovery codes.
    ///
    /// # Errors
    /// [`Error::Configuration`] when something would be lost without consent to that.
    pub async fn reseal(&self, loss: DataLoss, request: RequestContext) -> Result<Resealed> {
        let core = self.core.clone();
        let job = self.core.db.write(move |tx| {
            Box::pin(async move {
                let mut done = Resealed::default();
                for place in &PLACES {
                    let (sealed, lost) = reseal(tx, &core, place).await?;
                    done.sealed += sealed;
                    if lost > 0 {
                        done.lost.push(told(lost, place.words.0, place.words.1));
                    }
                }
                if loss == DataLoss::Refused && !done.lost.is_empty() {
                    return Err(lossy(&done.lost));
                }
                let proof = core.identity.tokens.root().derive(LABEL).to_vec();
                let put = Sql::new(
                    "INSERT INTO secret_proofs (place, proof) VALUES (1, $1) \
                     ON CONFLICT (place) DO UPDATE SET proof = excluded.proof",
                );
                tx.execute(put.bind(proof, ColumnType::Bytes)).await?;
                let author = Author {
                    clock: &core.clock,
                    tenant: INSTALLATION,
                    actor: Actor::Operator,
                    request: &request,
                };
                let after = json!({ "sealed": done.sealed, "lost": done.lost });
                let entity = ("secret_proofs", None);
                journal::audit_by(tx, author, "secret.reseal", entity, None, Some(after)).await?;
                Ok(done)
            })
        });
        job.await
    }
}

fn lossy(lost: &[String]) -> Error {
    let message = format!(
        "{} would be lost, sealed under neither this secret nor the one used before; give the secret \
         that they are sealed under as the one used before (CRM_PREVIOUS_SECRET_KEY), or consent to \
         losing them with --destroy-data",
        lost.join(" and ")
    );
    Error::Configuration(message.into())
}

/// Seals the values of a place anew that the secret in use does not open, and deletes those that none
/// opens. Answers how many of each there were.
async fn reseal(tx: &mut Tx<'_>, core: &Core, place: &Sealed) -> Result<(u64, u64)> {
    let (seal, table, column) = (&core.identity.seal, place.table, place.column);
    let mut select = Sql::new("SELECT ");
    select.push(column);
    let mut types = vec![ColumnType::Bytes];
    for (name, kind) in place.key {
        select.push(", ").push(name);
        types.push(*kind);
    }
    let select_from = select.push(" FROM ").push(table);
    select_from
        .push(" WHERE ")
        .push(column)
        .push(" IS NOT NULL");
    let (mut again, mut lost) = (0, 0);
    for mut row in tx.fetch_all(select.returns_shared(&types.into())).await? {
        let sealed: Vec<u8> = row.bytes()?;
        let key = row.rest();
        let label = (place.label)(Row::new(key.clone()))?;
        if seal.is_current(&label, &sealed) {
            continue;
        }
        let mut sql = match seal.open(&label, &sealed) {
            Some(secret) => {
                again += 1;
                let mut update = Sql::new("UPDATE ");
                update.push(table).push(" SET ").push(column).push(" = ");
                update.arg(seal.seal(&label, &secret)?, ColumnType::Bytes);
                update
            }
            None => {
                lost += 1;
                gone(place)
            }
        };
        for (count, ((name, kind), value)) in place.key.iter().zip(key).enumerate() {
            sql.push(if count == 0 { " WHERE " } else { " AND " });
            sql.push(name).push(" = ").arg(value, *kind);
        }
        tx.execute(sql).await?;
    }
    Ok((again, lost))
}

/// The beginning of a statement that takes a lost value away.
fn gone(place: &Sealed) -> Sql {
    let mut sql = Sql::new("");
    match place.optional {
        true => sql
            .push("UPDATE ")
            .push(place.table)
            .push(" SET ")
            .push(place.column)
            .push(" = NULL"),
        false => sql.push("DELETE FROM ").push(place.table),
    };
    sql
}

/// Refuses keys of another secret than the database's. A database that knows none yet is of this one
/// from then on.
///
/// # Errors
/// [`Error::Configuration`] saying what to give.
pub(crate) async fn check(db: &Db, keys: &SigningKeys) -> Result<()> {
    let select = || Sql::new("SELECT proof FROM secret_proofs").returns(&[ColumnType::Bytes]);
    let found = match db.fetch_optional(select()).await? {
        Some(row) => row,
        None => {
            let proof = keys.derive(LABEL).to_vec();
            let put = Sql::new(
                "INSERT INTO secret_proofs (place, proof) VALUES (1, $1) \
                 ON CONFLICT (place) DO NOTHING",
            );
            let put = put.bind(proof, ColumnType::Bytes);
            let select = select();
            db.write(move |tx| {
                Box::pin(async move {
                    tx.execute(put).await?;
                    // Of programs that start together with different secrets one is refused.
                    tx.fetch_optional(select).await
                })
            })
            .await?
            .ok_or_else(|| Error::internal("the proof that was put is not there"))?
        }
    };
    let proof: Vec<u8> = { found }.bytes()?;
    let known = [Some(keys.derive(LABEL)), keys.derive_previous(LABEL)];
    if known.iter().flatten().any(|key| proof.ct_eq(key).into()) {
        return Ok(());
    }
    Err(Error::Configuration(
        "this secret is not the one of the database: give that one (CRM_SECRET_KEY, or the key file \
         beside an SQLite database); where it is to be replaced, give it as the one used before \
         (CRM_PREVIOUS_SECRET_KEY) too, and see: crm key reseal --help"
            .into(),
    ))
}

#[cfg(test)]
mod tests;
