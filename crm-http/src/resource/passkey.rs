//! Passkeys: registering and removing them, and logging in with one.
//!
//! What browsers are asked is typed, so that clients see it; what browsers answer goes through as
//! they write it, since newer ones write more.

use std::collections::HashMap;

use crm_core::Crm;
use crm_core::id::PasskeyId;
use crm_core::identity::{NewPasskey, Passkey, PasskeyCeremony, PasskeyLogin, StepUp};
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::types::{Any, ParseFromJSON};
use poem_openapi::{Object, OpenApi};
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::credential::{Caller, Origin};
use crate::payload::Strict;
use crate::problem::Problem;
use crate::resource::auth::Tokens;
use crate::wire::{Created, Instant, NoContent, Tag};

/// The operations on passkeys.
pub(crate) struct Passkeys {
    pub(crate) crm: Crm,
}

/// A passkey.
#[derive(Object)]
#[oai(rename = "Passkey")]
struct Reply {
    id: Uuid,
    /// What its owner calls it.
    name: String,
    created_at: Instant,
    /// When it last opened a session.
    #[oai(nullable)]
    last_used_at: Option<Instant>,
}

/// The caller's passkeys.
#[derive(Object)]
#[oai(rename = "Passkeys")]
struct List {
    data: Vec<Reply>,
}

/// Showing again who one is.
#[derive(Object)]
#[oai(rename = "StepUp", deny_unknown_fields)]
struct StepUpBody {
    password: String,
    /// Six digits of the device, or a recovery code; needed where time-based codes are on.
    #[oai(validator(max_length = 64))]
    code: Option<String>,
}

/// What a device made.
#[derive(Object)]
#[oai(rename = "PasskeyCreate", deny_unknown_fields)]
struct CreateBody {
    /// The token that came with the options.
    #[oai(validator(max_length = 100))]
    passkey_token: String,
    /// What to call the passkey.
    #[oai(validator(max_length = 100))]
    name: String,
    /// The `RegistrationResponseJSON` of Web Authentication: what `toJSON()` of the credential gives.
    credential: HashMap<String, Any<Value>>,
}

/// Another name.
#[derive(Object)]
#[oai(rename = "PasskeyUpdate", deny_unknown_fields)]
struct UpdateBody {
    /// What to call the passkey.
    #[oai(validator(max_length = 100))]
    name: String,
}

/// A passkey's answer.
#[derive(Object)]
#[oai(rename = "PasskeyLogin", deny_unknown_fields)]
struct LoginBody {
    /// The token that came with the options.
    #[oai(validator(max_length = 100))]
    passkey_token: String,
    /// The `AuthenticationResponseJSON` of Web Authentication: what `toJSON()` of the credential gives.
    credential: HashMap<String, Any<Value>>,
    /// The tenant's name; only members of several need to give it.
    tenant: Option<String>,
    /// Whether each request names its tenant by `X-Tenant`: one token for all tenants of the user.
    #[oai(default)]
    roaming: bool,
}

/// A login whose second step a passkey takes.
#[derive(Object)]
#[oai(rename = "PasskeyStepBegin", deny_unknown_fields)]
struct StepBeginBody {
    /// The `mfa_token` that the first step answered.
    #[oai(validator(max_length = 100))]
    mfa_token: String,
}

/// The second step of a login, taken by a passkey.
#[derive(Object)]
#[oai(rename = "PasskeyStep", deny_unknown_fields)]
struct StepBody {
    /// The `mfa_token` that the first step answered.
    #[oai(validator(max_length = 100))]
    mfa_token: String,
    /// The token that came with the options.
    #[oai(validator(max_length = 100))]
    passkey_token: String,
    /// The `AuthenticationResponseJSON` of Web Authentication: what `toJSON()` of the credential gives.
    credential: HashMap<String, Any<Value>>,
    /// The tenant's name; only members of several who named none with the password need to give it.
    tenant: Option<String>,
}

/// What a device is asked for: a new passkey.
#[derive(Object)]
#[oai(rename = "PasskeyCreation")]
struct CreationReply {
    /// To be given back with the answer, once, within five minutes.
    passkey_token: String,
    /// For `PublicKeyCredential.parseCreationOptionsFromJSON`.
    public_key: CreationOptions,
}

/// What a device is asked for: the proof that it has a passkey.
#[derive(Object)]
#[oai(rename = "PasskeyRequest")]
struct RequestReply {
    /// To be given back with the answer, once, within five minutes.
    passkey_token: String,
    /// For `PublicKeyCredential.parseRequestOptionsFromJSON`.
    public_key: RequestOptions,
}

/// `PublicKeyCredentialCreationOptionsJSON` of Web Authentication Level 3.
#[derive(Object)]
#[oai(rename = "PasskeyCreationOptions", rename_all = "camelCase")]
struct CreationOptions {
    rp: RelyingParty,
    user: User,
    /// Random bytes in base64url.
    challenge: String,
    pub_key_cred_params: Vec<Algorithm>,
    /// Milliseconds.
    timeout: u32,
    /// Passkeys that the caller has already.
    #[oai(default)]
    exclude_credentials: Vec<Descriptor>,
    authenticator_selection: Selection,
    attestation: String,
    extensions: Any<Map<String, Value>>,
}

/// `PublicKeyCredentialRequestOptionsJSON` of Web Authentication Level 3.
#[derive(Object)]
#[oai(rename = "PasskeyRequestOptions", rename_all = "camelCase")]
struct RequestOptions {
    /// Random bytes in base64url.
    challenge: String,
    /// Milliseconds.
    timeout: u32,
    rp_id: String,
    /// Passkeys that will do; empty for any of the application's.
    #[oai(default)]
    allow_credentials: Vec<Descriptor>,
    user_verification: String,
}

/// The application that the passkey is for.
#[derive(Object)]
#[oai(rename = "PasskeyRelyingParty")]
struct RelyingParty {
    id: String,
    name: String,
}

/// The user, as devices show and know them.
#[derive(Object)]
#[oai(rename = "PasskeyUser", rename_all = "camelCase")]
struct User {
    /// Random bytes in base64url.
    id: String,
    name: String,
    display_name: String,
}

/// A kind of key that will do.
#[derive(Object)]
#[oai(rename = "PasskeyAlgorithm")]
struct Algorithm {
    #[oai(rename = "type")]
    kind: String,
    /// Its number at IANA's COSE registry.
    alg: i64,
}

/// A passkey, as devices know it.
#[derive(Object)]
#[oai(rename = "PasskeyDescriptor")]
struct Descriptor {
    #[oai(rename = "type")]
    kind: String,
    /// Its id in base64url.
    id: String,
}

/// Which devices will do.
#[derive(Object)]
#[oai(rename = "PasskeySelection", rename_all = "camelCase")]
struct Selection {
    resident_key: String,
    require_resident_key: bool,
    user_verification: String,
}

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Auth")]
impl Passkeys {
    /// List my passkeys
    ///
    /// Permission: none.
    #[oai(path = "/passkeys", method = "get", operation_id = "list_passkeys")]
    async fn list(&self, caller: Caller) -> Result<Json<List>, Problem> {
        let passkeys = self.crm.accounts().passkeys(&caller).await?;
        let data = passkeys.into_iter().map(Reply::from).collect();
        Ok(Json(List { data }))
    }

    /// Begin a passkey
    ///
    /// Answers what to ask the device for. Needs the password, and a code where time-based codes are
    /// on; who has passkeys alone does this after logging in with one, or gets 409
    /// `second_factor_required`. Permission: none.
    #[oai(
        path = "/passkeys/options",
        method = "post",
        operation_id = "begin_passkey"
    )]
    async fn begin(
        &self,
        caller: Caller,
        body: Strict<StepUpBody>,
    ) -> Result<Json<CreationReply>, Problem> {
        let proof = body.0.into();
        let begun = self.crm.accounts().begin_passkey(&caller, proof).await?;
        Ok(Json(CreationReply {
            passkey_token: token(&begun),
            public_key: typed(begun.options)?,
        }))
    }

    /// Register a passkey
    ///
    /// With what the device made. It opens sessions from now on, alone or as the second step behind a
    /// password. Permission: none.
    #[oai(path = "/passkeys", method = "post", operation_id = "create_passkey")]
    async fn create(
        &self,
        caller: Caller,
        body: Strict<CreateBody>,
    ) -> Result<Created<Reply>, Problem> {
        let new = NewPasskey {
            token: body.0.passkey_token.into(),
            name: body.0.name,
            credential: credential(body.0.credential),
        };
        let made = self.crm.accounts().finish_passkey(&caller, new).await?;
        Ok(Created(made.into()))
    }

    /// Rename a passkey
    ///
    /// Permission: none.
    #[oai(
        path = "/passkeys/:passkey_id",
        method = "patch",
        operation_id = "update_passkey"
    )]
    async fn update(
        &self,
        caller: Caller,
        passkey_id: Path<Uuid>,
        body: Strict<UpdateBody>,
    ) -> Result<Json<Reply>, Problem> {
        let (accounts, id) = (self.crm.accounts(), PasskeyId(passkey_id.0));
        let renamed = accounts.rename_passkey(&caller, id, &body.0.name).await?;
        Ok(Json(renamed.into()))
    }

    /// Remove a passkey
    ///
    /// Needs the password, which stays a way to log in, and a code where time-based codes are on; who
    /// has passkeys alone does this after logging in with one, or gets 409 `second_factor_required`.
    /// Sessions that it opened go on. Permission: none.
    #[oai(
        path = "/passkeys/:passkey_id/remove",
        method = "post",
        operation_id = "delete_passkey"
    )]
    async fn delete(
        &self,
        caller: Caller,
        passkey_id: Path<Uuid>,
        body: Strict<StepUpBody>,
    ) -> Result<NoContent, Problem> {
        let (accounts, id) = (self.crm.accounts(), PasskeyId(passkey_id.0));
        accounts.remove_passkey(&caller, id, body.0.into()).await?;
        Ok(NoContent)
    }

    /// Begin a login with a passkey
    ///
    /// Answers what to ask the device for: any passkey that it has for this application, so that
    /// nobody types a name. Needs no credential.
    #[oai(
        path = "/passkeys/login/options",
        method = "post",
        operation_id = "begin_passkey_login"
    )]
    async fn begin_login(&self) -> Result<Json<RequestReply>, Problem> {
        let begun = self.crm.accounts().begin_passkey_login().await?;
        request(begun)
    }

    /// Log in with a passkey
    ///
    /// Needs no other credential. A passkey counts as two factors: no second step follows. Whatever
    /// is wrong gets the same answer; only a tenant that is to be named is asked for.
    #[oai(
        path = "/passkeys/login",
        method = "post",
        operation_id = "passkey_login"
    )]
    async fn login(
        &self,
        origin: Origin,
        body: Strict<LoginBody>,
    ) -> Result<Json<Tokens>, Problem> {
        let body = body.0;
        let accounts = match body.roaming {
            true => origin.accounts(&self.crm).roaming(),
            false => origin.accounts(&self.crm),
        };
        let login = PasskeyLogin {
            token: body.passkey_token.into(),
            credential: credential(body.credential),
            tenant: body.tenant,
        };
        Ok(Json(accounts.passkey_login(login, origin.0).await?.into()))
    }

    /// Begin the second step of a login with a passkey
    ///
    /// After 401 `second_factor_required` with `mfa_passkey`. Needs its `mfa_token`, and no other
    /// credential.
    #[oai(
        path = "/mfa/passkey/options",
        method = "post",
        operation_id = "begin_passkey_step"
    )]
    async fn begin_step(
        &self,
        origin: Origin,
        body: Strict<StepBeginBody>,
    ) -> Result<Json<RequestReply>, Problem> {
        let (accounts, token) = (self.crm.accounts(), body.0.mfa_token.into());
        request(accounts.begin_passkey_step(&token, &origin.0).await?)
    }

    /// Finish a login with a passkey
    ///
    /// In place of a code. A wrong answer counts as a wrong code does.
    #[oai(
        path = "/mfa/passkey",
        method = "post",
        operation_id = "finish_login_by_passkey"
    )]
    async fn finish_step(
        &self,
        origin: Origin,
        body: Strict<StepBody>,
    ) -> Result<Json<Tokens>, Problem> {
        let body = body.0;
        let login = PasskeyLogin {
            token: body.passkey_token.into(),
            credential: credential(body.credential),
            tenant: body.tenant,
        };
        let accounts = origin.accounts(&self.crm);
        let challenge = body.mfa_token.into();
        let finished = accounts.finish_login_by_passkey(challenge, login, origin.0);
        Ok(Json(finished.await?.into()))
    }
}

fn token(begun: &PasskeyCeremony) -> String {
    begun.token.expose_secret().to_owned()
}

fn request(begun: PasskeyCeremony) -> Result<Json<RequestReply>, Problem> {
    Ok(Json(RequestReply {
        passkey_token: token(&begun),
        public_key: typed(begun.options)?,
    }))
}

/// The options in the form that the document shows.
fn typed<T: ParseFromJSON>(options: Value) -> Result<T, Problem> {
    let unlike = |_| crm_core::Error::internal("webauthn-rs asks for something else").into();
    T::parse_from_json(Some(options)).map_err(unlike)
}

fn credential(members: HashMap<String, Any<Value>>) -> Value {
    let members = members.into_iter().map(|(name, Any(value))| (name, value));
    Value::Object(members.collect())
}

impl From<StepUpBody> for StepUp {
    fn from(body: StepUpBody) -> Self {
        Self {
            password: body.password.into(),
            code: body.code,
        }
    }
}

impl From<Passkey> for Reply {
    fn from(passkey: Passkey) -> Self {
        Self {
            id: passkey.id.0,
            name: passkey.name,
            created_at: Instant(passkey.created_at),
            last_used_at: passkey.last_used_at.map(Instant),
        }
    }
}
