//! Second factors: setting one up, and the second step of a login.

use crm_core::identity::{LoginFinish, TotpSecret};
use crm_core::{Crm, Read, Update};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use secrecy::{ExposeSecret as _, SecretString};

use crate::credential::{Caller, Origin};
use crate::payload::Strict;
use crate::problem::Problem;
use crate::resource::auth::Tokens;
use crate::wire::{NoContent, Tag};

/// The operations on second factors.
pub(crate) struct SecondFactor {
    pub(crate) crm: Crm,
}

/// The password again, before something that outlives the session.
#[derive(Object)]
#[oai(rename = "TotpBegin", deny_unknown_fields)]
struct BeginBody {
    password: String,
}

/// A code of the device.
#[derive(Object)]
#[oai(rename = "TotpConfirm", deny_unknown_fields)]
struct ConfirmBody {
    /// Six digits.
    #[oai(validator(max_length = 64))]
    code: String,
}

/// Password and code again.
#[derive(Object)]
#[oai(rename = "SecondFactorProof", deny_unknown_fields)]
struct ProofBody {
    password: String,
    /// Six digits of the device, or a recovery code.
    #[oai(validator(max_length = 64))]
    code: String,
}

/// The second step of a login.
#[derive(Object)]
#[oai(rename = "LoginFinish", deny_unknown_fields)]
struct FinishBody {
    /// The `mfa_token` that the first step answered.
    #[oai(validator(max_length = 100))]
    mfa_token: String,
    /// Six digits of the device, or a recovery code; left out when only the tenant was missing.
    #[oai(validator(max_length = 64))]
    code: Option<String>,
    /// The tenant's name; only members of several who named none with the password need to give it.
    tenant: Option<String>,
}

/// A login that needs a second factor which is not there yet.
#[derive(Object)]
#[oai(rename = "LoginEnroll", deny_unknown_fields)]
struct EnrollBody {
    /// The `mfa_token` that the first step answered.
    #[oai(validator(max_length = 100))]
    mfa_token: String,
}

/// A new secret for an authenticator application, shown this once.
#[derive(Object)]
#[oai(rename = "TotpSecret")]
struct SecretReply {
    /// In base32, to type.
    secret: String,
    /// As an `otpauth:` URI, for a QR code.
    uri: String,
}

/// Recovery codes, shown this once.
#[derive(Object)]
#[oai(rename = "RecoveryCodes")]
struct CodesReply {
    /// Each works once in place of a code of the device.
    recovery_codes: Vec<String>,
}

/// What the tenant asks of logins.
#[derive(Object)]
#[oai(rename = "LoginRequirements")]
struct Requirements {
    /// Whether members are let in only with a second factor.
    second_factor: bool,
}

/// What the tenant is to ask of logins.
#[derive(Object)]
#[oai(rename = "LoginRequirementsChange", deny_unknown_fields)]
struct RequirementsBody {
    /// Whether members are let in only with a second factor.
    second_factor: bool,
}

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Auth")]
impl SecondFactor {
    /// Begin a second factor
    ///
    /// Answers a secret for an authenticator application (TOTP, RFC 6238); it counts once it is
    /// confirmed. Permission: none.
    #[oai(path = "/totp", method = "post", operation_id = "begin_totp")]
    async fn begin(
        &self,
        caller: Caller,
        body: Strict<BeginBody>,
    ) -> Result<Json<SecretReply>, Problem> {
        let password = body.0.password.into();
        let secret = self.crm.accounts().begin_totp(&caller, password).await?;
        Ok(Json(secret.into()))
    }

    /// Confirm a second factor
    ///
    /// With a code of the device; answers recovery codes. From now on logins ask for a code.
    /// Permission: none.
    #[oai(path = "/totp/confirm", method = "post", operation_id = "confirm_totp")]
    async fn confirm(
        &self,
        caller: Caller,
        body: Strict<ConfirmBody>,
    ) -> Result<Json<CodesReply>, Problem> {
        let accounts = self.crm.accounts();
        let codes = accounts.confirm_totp(&caller, &body.0.code).await?;
        Ok(Json(codes.into()))
    }

    /// Take one's second factor away
    ///
    /// Needs password and code. Permission: none.
    #[oai(path = "/totp/disable", method = "post", operation_id = "disable_totp")]
    async fn disable(&self, caller: Caller, body: Strict<ProofBody>) -> Result<NoContent, Problem> {
        let (password, code) = (body.0.password.into(), body.0.code);
        self.crm
            .accounts()
            .disable_totp(&caller, password, &code)
            .await?;
        Ok(NoContent)
    }

    /// Make new recovery codes
    ///
    /// In place of those that are left. Needs password and code. Permission: none.
    #[oai(
        path = "/totp/recovery-codes",
        method = "post",
        operation_id = "renew_recovery_codes"
    )]
    async fn renew(
        &self,
        caller: Caller,
        body: Strict<ProofBody>,
    ) -> Result<Json<CodesReply>, Problem> {
        let (password, code) = (body.0.password.into(), body.0.code);
        let accounts = self.crm.accounts();
        let codes = accounts
            .renew_recovery_codes(&caller, password, &code)
            .await?;
        Ok(Json(codes.into()))
    }

    /// Finish a login
    ///
    /// The second step after 401 `second_factor_required`. Needs its `mfa_token`, good for five
    /// minutes and five tries, and no other credential. A code works once. 422 on `tenant` when the code
    /// was right and the user has several tenants, which it names: send one with the same `mfa_token`.
    /// Tries count for the limit of logins (429), and wrong codes as failed logins of the account; a
    /// `new_password` of the first step takes effect here.
    #[oai(path = "/mfa", method = "post", operation_id = "finish_login")]
    async fn finish(
        &self,
        origin: Origin,
        body: Strict<FinishBody>,
    ) -> Result<Json<Tokens>, Problem> {
        let (body, accounts) = (body.0, origin.accounts(&self.crm));
        let finish = LoginFinish {
            token: body.mfa_token.into(),
            code: body.code,
            tenant: body.tenant,
        };
        let session = accounts.finish_login(finish, origin.0).await?;
        Ok(Json(session.into()))
    }

    /// Set a second factor up in the middle of a login
    ///
    /// For who has none in a tenant that requires one: `mfa_enrolled` was false. The first code of the
    /// device finishes the login (`POST /auth/mfa`) and confirms it. Counts for the limit of logins (429).
    #[oai(
        path = "/mfa/enroll",
        method = "post",
        operation_id = "enroll_at_login"
    )]
    async fn enroll(
        &self,
        origin: Origin,
        body: Strict<EnrollBody>,
    ) -> Result<Json<SecretReply>, Problem> {
        let token = body.0.mfa_token.into();
        let accounts = self.crm.accounts();
        Ok(Json(
            accounts.enroll_at_login(&token, &origin.0).await?.into(),
        ))
    }

    /// Get what the tenant asks of logins
    ///
    /// Permission: `members.read`.
    #[oai(
        path = "/requirements",
        method = "get",
        operation_id = "get_login_requirements"
    )]
    async fn requirements(&self, caller: Caller) -> Result<Json<Requirements>, Problem> {
        let permit = caller.permit::<Read>("members")?;
        let second_factor = self.crm.accounts().requires_second_factor(&permit).await?;
        Ok(Json(Requirements { second_factor }))
    }

    /// Set what the tenant asks of logins
    ///
    /// Sessions in the tenant that began without the second factor that is asked for from now on end; API
    /// keys go on, and roaming sessions elsewhere enter the tenant again with a code (`POST
    /// /auth/tenant`). Whoever asks for it has passed one of their own: 409 `second_factor_missing` for
    /// those who have none yet, `second_factor_required` for a session that began without.
    /// Permission: `members.update`.
    #[oai(
        path = "/requirements",
        method = "put",
        operation_id = "set_login_requirements"
    )]
    async fn set_requirements(
        &self,
        caller: Caller,
        body: Strict<RequirementsBody>,
    ) -> Result<Json<Requirements>, Problem> {
        let permit = caller.permit::<Update>("members")?;
        let second_factor = body.0.second_factor;
        self.crm
            .accounts()
            .require_second_factor(&permit, second_factor)
            .await?;
        Ok(Json(Requirements { second_factor }))
    }
}

impl From<TotpSecret> for SecretReply {
    fn from(totp: TotpSecret) -> Self {
        Self {
            secret: totp.secret.expose_secret().to_owned(),
            uri: totp.uri.expose_secret().to_owned(),
        }
    }
}

impl From<Vec<SecretString>> for CodesReply {
    fn from(codes: Vec<SecretString>) -> Self {
        let codes = codes.iter().map(|code| code.expose_secret().to_owned());
        Self {
            recovery_codes: codes.collect(),
        }
    }
}
