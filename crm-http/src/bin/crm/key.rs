//! `crm key`

use chrono::TimeDelta;
use clap::Subcommand;
use crm_core::count::told;
use crm_core::identity::{Rotation, TokenAlgorithm, TokenKey};

use crate::Outcome;
use crate::migrate::consent;
use crate::purge::age;
use crate::settings::{Settings, request};
use crate::stdout::say;
use crate::token::AccessTokens;

/// List, rotate and revoke the keys that sign access tokens; replace the secret
///
/// The keys follow from the secret (CRM_SECRET_KEY) and are stored nowhere else; the database says
/// which there are. Running servers take up a change within a second, without a restart.
#[derive(Subcommand)]
pub(crate) enum Key {
    /// List the keys: name, algorithm, from when on it signs, what became of it, and which one signs now
    List,
    /// Make a new key; the present one goes on verifying for a while
    ///
    /// EdDSA (Ed25519) and ES256 keys are published at /.well-known/jwks.json, so that others can
    /// verify access tokens; HS256 is the fastest and never published.
    #[command(after_long_help = "\
Examples:
  crm key rotate
  crm key rotate --algorithm EdDSA --lead 10m --overlap 1h")]
    Rotate {
        /// HS256, EdDSA or ES256; when left out, that of the latest key
        #[arg(long, value_parser = algorithm)]
        algorithm: Option<TokenAlgorithm>,
        /// How long the new key is known before it signs
        #[arg(long, default_value = "10s", value_parser = age, value_name = "TIME")]
        lead: TimeDelta,
        /// How long the old key verifies after that; at least as long as its tokens live, which
        /// --access-lifetime says
        #[arg(long, default_value = "1h", value_parser = age, value_name = "TIME")]
        overlap: TimeDelta,
        #[command(flatten)]
        tokens: AccessTokens,
    },
    /// Revoke a key: all tokens it signed die at once, and a new one signs
    ///
    /// Sessions go on: clients get a new access token with their refresh token.
    #[command(after_long_help = "Example:\n  crm key revoke nT3cZ5xQ0h2K")]
    Revoke {
        /// The key's name, as listed
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
    /// Replace the secret: seal anew what the database keeps sealed under the one used before
    ///
    /// Second factors, client secrets and the secrets of plugins are sealed under the secret, and
    /// only the database's own is accepted. Servers that have both go on with either; after this
    /// command they need the new one alone. Sessions go on.
    #[command(after_long_help = "\
To replace it, start all servers with the new secret and the one used before, then:
  CRM_SECRET_KEY_FILE=new.key CRM_PREVIOUS_SECRET_KEY_FILE=old.key crm key reseal

On SQLite, while no server runs, with a new secret made beside the database:
  mv crm.db.key old.key && CRM_PREVIOUS_SECRET_KEY_FILE=old.key crm key reseal

When the one used before is lost:
  crm key reseal --destroy-data")]
    Reseal {
        /// Consent to losing what is sealed under a secret that is not given
        #[arg(long)]
        destroy_data: bool,
    },
}

fn algorithm(name: &str) -> Result<TokenAlgorithm, String> {
    name.parse()
        .map_err(|_| "the algorithms are HS256, EdDSA and ES256".to_owned())
}

impl Key {
    pub(crate) async fn run(self, settings: Settings) -> Outcome {
        let builder = match &self {
            Self::Rotate { tokens, .. } => settings
                .builder_of_present()?
                .access_lifetime(tokens.access_lifetime),
            Self::Reseal { .. } => settings.builder_of_resealed()?,
            _ => settings.builder_of_present()?,
        };
        let crm = builder.build().await?;
        let keys = crm.token_keys();
        match self {
            Self::List => {
                for key in keys.list().await? {
                    say!("{}", line(&key));
                }
            }
            Self::Rotate {
                algorithm,
                lead,
                overlap,
                tokens: _,
            } => {
                let latest = keys.list().await?.pop().map(|key| key.algorithm);
                let algorithm = algorithm.or(latest).unwrap_or(TokenAlgorithm::Hs256);
                let rotation = Rotation {
                    algorithm,
                    lead,
                    overlap,
                };
                let made = keys.rotate(rotation, request(&crm)).await?;
                say!("{}", line(&made));
            }
            Self::Revoke { kid } => match keys.revoke(&kid, request(&crm)).await {
                Err(crm_core::Error::NotFound) => {
                    return Err(
                        format!("there is no key {kid:?}; list them with: crm key list").into(),
                    );
                }
                done => done?,
            },
            Self::Reseal { destroy_data } => {
                let loss = consent(destroy_data);
                let done = crm.reseal(loss, request(&crm)).await?;
                let sealed = told(done.sealed, "value", "values");
                say!("{sealed} sealed anew; the secret in use is that of the database");
                for lost in done.lost {
                    say!("lost: {lost}");
                }
            }
        }
        crm.close().await;
        Ok(())
    }
}

fn line(key: &TokenKey) -> String {
    let at = |instant: chrono::DateTime<chrono::Utc>| instant.format("%FT%TZ");
    let (kid, algorithm) = (&key.kid, key.algorithm.name());
    let end = match (key.revoked_at, key.ends_at) {
        (Some(revoked), _) => format!(" revoked {}", at(revoked)),
        (None, Some(end)) => format!(" verifies until {}", at(end)),
        (None, None) => String::new(),
    };
    let now = if key.signs { " (signs now)" } else { "" };
    format!(
        "{kid} {algorithm} signs from {}{end}{now}",
        at(key.starts_at)
    )
}
