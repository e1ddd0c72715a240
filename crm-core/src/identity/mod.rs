//! Who is calling: passwords, tokens, API keys and the accounts behind them.
//!
//! Everything here ends in a user or key of a tenant; what these may do is the policy's question.

mod account;
mod address;
mod api_key;
mod device;
mod email;
mod first_password;
#[cfg(test)]
mod fixture;
mod impersonation;
mod impersonation_end;
mod impersonator;
mod import;
mod invitation;
mod key;
mod key_rights;
mod key_set;
mod live;
mod lockout;
mod name;
mod oidc;
mod one_time;
mod opaque;
mod operator_account;
mod own;
mod passkey;
mod password;
mod password_policy;
mod refresh;
mod reset;
mod seal;
mod second_factor;
mod secret_proof;
mod service;
mod session;
mod setup;
mod sign_up;
mod standing;
mod step_up;
mod tenant_security;
mod throttle;
mod token;
mod token_key;
mod totp;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache;
use secrecy::{ExposeSecret as _, SecretBox};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::id::{ApiKeyId, TenantId};
use live::LiveSessions;
use oidc::Federation;
use refresh::Refreshing;
use throttle::Throttle;
use token::AccessTokens;

pub use account::{Accounts, ImpersonatedBy, Joined, Me, NewUser, Profile, TenantRef};
pub use address::normalize_username;
pub use api_key::{ApiKey, ApiKeys, NewApiKey};
pub use device::{OpenSession, Sessions};
pub use email::normalize_email;
pub use impersonation::{
    IMPERSONATION_LIFETIME, Impersonated, Impersonation, Impersonations, NewImpersonation,
};
pub use import::ImportedUser;
pub use invitation::{Acceptance, Invitation, InvitationView, Invitations, NewInvitation};
pub use key::{MIN_SECRET_BYTES, SigningKeys};
pub use oidc::{
    IdentityProvider, IdentityProviders, LoginProvider, OwnerProof, ProviderLogin, ProviderNonce,
    ProviderProof, ProviderSettings, UserIdentity,
};
pub use passkey::Passkey;
#[cfg(feature = "passkeys")]
pub use passkey::{NewPasskey, PasskeyCeremony, PasskeyLogin, RelyingParty};
pub use password::{MAX_PASSWORD_CHARS, PasswordCost};
pub use password_policy::{CharacterClass, MIN_PASSWORD_CHARS, PasswordPolicy};
pub use refresh::{IDLE_LIFETIME, REFRESH_LIFETIME};
pub use reset::PasswordChange;
pub use second_factor::{LoginFinish, TotpSecret};
pub use service::NewServiceAccount;
pub use session::{Login, Registration, Session};
pub use sign_up::{RegistrationPolicy, SignUp, SignUpConfirmation, SignedUp};
pub use step_up::StepUp;
pub use tenant_security::{TenantSecurity, TenantSecurityChange};
pub use throttle::network;
pub use token::{ACCESS_TOKEN_LIFETIME, bearer};
pub use token_key::{Rotation, TokenAlgorithm, TokenKey, TokenKeys};

pub(crate) use account::gather;
pub(crate) use api_key::{authenticate as authenticate_key, is_api_key};
pub(crate) use impersonation_end::tell_expired as tell_expired_impersonations;
pub(crate) use impersonator::{Impersonator, rights as impersonated_rights};
pub(crate) use invitation::{check_invited, invite_first_admin};
pub(crate) use key::mac;
pub(crate) use key_rights::{key_rights, keys_naming, principal_rights};
pub(crate) use live::{
    check_factors, find as find_live, follow, is_live, look, run as follow_until,
};
pub(crate) use name::check_name;
pub(crate) use operator_account::OperatorAccount;
pub(crate) use password::Passwords;
pub(crate) use seal::{Seal, Sealed};
pub(crate) use second_factor::{end_unproven, forget_late_logins};
pub use secret_proof::Resealed;
pub(crate) use secret_proof::check as check_secret;
pub(crate) use setup::ensure_setup_token;
pub(crate) use sign_up::forget_late_registrations;
pub(crate) use token::invalid as token_invalid;

/// The tenant of audit rows about the installation itself, which belong to no tenant.
const INSTALLATION: TenantId = crate::platform::PLATFORM;
/// What devices show people as the place that a factor is for, unless it has another name.
const APPLICATION: &str = "CRM";
/// How long a login that fails takes at least, unless it is set: more than it takes to check a hash
/// of a usual cost, the slowest of which is bcrypt's of 12.
const FAILED_LOGIN_TIME: Duration = Duration::from_millis(300);
/// Keys whose latest use is remembered.
const MOST_KEY_USES: u64 = 100_000;

/// The settings of identity.
#[derive(Debug, Clone)]
pub(crate) struct IdentityOptions {
    pub(crate) password_cost: PasswordCost,
    pub(crate) access_lifetime: TimeDelta,
    pub(crate) session_lifetime: TimeDelta,
    pub(crate) session_idle: TimeDelta,
    pub(crate) login_limit: u32,
    pub(crate) failed_login_time: Duration,
    pub(crate) password_policy: PasswordPolicy,
    pub(crate) impersonation_lifetime: TimeDelta,
    pub(crate) registration: RegistrationPolicy,
    pub(crate) strict: bool,
    #[cfg(feature = "passkeys")]
    pub(crate) relying_party: Option<RelyingParty>,
}

impl Default for IdentityOptions {
    fn default() -> Self {
        Self {
            password_cost: PasswordCost::default(),
            access_lifetime: ACCESS_TOKEN_LIFETIME,
            session_lifetime: REFRESH_LIFETIME,
            session_idle: IDLE_LIFETIME,
            login_limit: 5,
            failed_login_time: FAILED_LOGIN_TIME,
            password_policy: PasswordPolicy::default(),
            impersonation_lifetime: IMPERSONATION_LIFETIME,
            registration: RegistrationPolicy::Closed,
            strict: false,
            #[cfg(feature = "passkeys")]
            relying_party: None,
        }
    }
}

impl IdentityOptions {
    /// The application's name, as passkeys have it.
    fn application(&self) -> &str {
        #[cfg(feature = "passkeys")]
        if let Some(relying_party) = &self.relying_party {
            return relying_party.shown_name();
        }
        APPLICATION
    }
}

/// What identity holds in memory.
pub(crate) struct Identity {
    pub(crate) passwords: Passwords,
    pub(crate) tokens: AccessTokens,
    pub(crate) seal: Arc<Seal>,
    live: LiveSessions,
    refreshing: Refreshing,
    throttle: Throttle,
    failed_login_time: Duration,
    /// Whom passkeys are made for, where the operator said.
    #[cfg(feature = "passkeys")]
    party: Option<passkey::Party>,
    /// What logins at identity providers hold.
    federation: Federation,
    /// The latest use that was noted of each API key.
    key_uses: Cache<(TenantId, ApiKeyId), DateTime<Utc>>,
    /// Writes that nobody waits for.
    background: TaskTracker,
    /// How long somebody acts in another's name at most.
    impersonation_lifetime: TimeDelta,
    /// Who makes an account and a tenant without being asked to.
    registration: RegistrationPolicy,
    /// Whether what [`Builder::strict_authentication`](crate::Builder::strict_authentication) tells
    /// holds.
    strict: bool,
    /// What devices show people as the place that a factor is for.
    application: String,
    /// What hides the addresses of failed logins.
    address_key: SecretBox<[u8; 32]>,
}

impl Identity {
    pub(crate) fn new(options: &IdentityOptions, keys: SigningKeys, clock: &Clock) -> Result<Self> {
        let impersonation_lifetime = options.impersonation_lifetime;
        if !(TimeDelta::seconds(1)..=IMPERSONATION_LIFETIME).contains(&impersonation_lifetime) {
            return Err(Error::Configuration(
                "acting in another's name lasts between one second and 15 minutes".into(),
            ));
        }
        Ok(Self {
            impersonation_lifetime,
            registration: options.registration,
            strict: options.strict,
            application: options.application().to_owned(),
            address_key: SecretBox::new(Box::new(keys.derive("address"))),
            passwords: Passwords::new(
                options.password_cost,
                options.password_policy.clone(),
                clock.clone(),
            )?,
            live: LiveSessions::new(),
            refreshing: Refreshing::new(&keys, options)?,
            seal: Arc::new(Seal::new(&keys, clock.clone())?),
            federation: Federation::new(&keys, clock),
            tokens: AccessTokens::new(keys, options.access_lifetime, clock.clone())?,
            throttle: Throttle::new(options.login_limit, clock.clone()),
            failed_login_time: options.failed_login_time,
            #[cfg(feature = "passkeys")]
            party: options
                .relying_party
                .as_ref()
                .map(passkey::Party::new)
                .transpose()?,
            key_uses: Cache::new(MOST_KEY_USES),
            background: TaskTracker::new(),
        })
    }

    /// Makes the first signing key when there is none. [`follow`] takes it up.
    pub(crate) async fn prepare(db: &Db, clock: &Clock) -> Result<()> {
        token_key::ensure(db, clock).await
    }

    /// What stands in audit logs for an address that nobody shall read there: equal for equal ones,
    /// and of no use without the operator's secret.
    fn address_digest(&self, address: &str) -> [u8; 32] {
        key::mac(self.address_key.expose_secret(), &[address.as_bytes()])
    }

    /// Waits until what [`afterwards`](Self::afterwards) began has ended.
    pub(crate) async fn settle(&self) {
        self.background.close();
        self.background.wait().await;
        self.background.reopen();
    }

    /// Does `work` without making anybody wait, and logs when it fails.
    fn afterwards(&self, work: impl Future<Output = Result<()>> + Send + 'static) {
        self.background.spawn(async move {
            if let Err(error) = work.await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a write after the answer failed"
                );
            }
        });
    }
}
