//! Registering, logging in and out, and who one is. Only `me` needs a credential; the others make or
//! end one.

use crm_core::Crm;
use crm_core::identity::{
    Login, Me, Registration, Session, SignUp, SignUpConfirmation, SignedUp, TenantRef,
};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use crate::credential::{Caller, Origin};
use crate::payload::Strict;
use crate::problem::Problem;
use crate::resource::member::HeldRole;
use crate::wire::{Created, Instant, NoContent, Tag};

/// The operations on sessions.
pub(crate) struct Auth {
    pub(crate) crm: Crm,
}

/// A new user, and the tenant they administer.
#[derive(Object)]
#[oai(rename = "Register", deny_unknown_fields)]
struct RegisterBody {
    /// The token that the server printed at its first start; left out where registration is open.
    setup_token: Option<String>,
    /// The tenant's name.
    #[oai(validator(max_length = 100))]
    tenant: String,
    /// The user's name; needed with a setup token, and else what stands before the @ when left out.
    #[oai(validator(max_length = 100))]
    name: Option<String>,
    /// The e-mail address to log in with.
    #[oai(validator(max_length = 254))]
    email: String,
    /// At least 8 characters.
    #[oai(validator(max_length = 128))]
    password: String,
}

/// A registration whose link has come back.
#[derive(Object)]
#[oai(rename = "RegisterConfirm", deny_unknown_fields)]
struct ConfirmBody {
    /// The token of the link.
    #[oai(validator(max_length = 100))]
    token: String,
    /// The password that was given with the registration.
    #[oai(validator(max_length = 128))]
    password: String,
    /// Another name for the tenant, where the first one was taken meanwhile.
    #[oai(validator(max_length = 100))]
    tenant: Option<String>,
}

/// What came of a registration.
#[derive(ApiResponse)]
enum Registered {
    /// Account and tenant are made, and this is the session.
    #[oai(status = 201)]
    Made(Json<Tokens>),
    /// A mail is on its way to the address.
    #[oai(status = 202)]
    Mailed,
}

/// Who wants in.
#[derive(Object)]
#[oai(rename = "Login", deny_unknown_fields)]
struct LoginBody {
    /// The e-mail address, or the user name.
    #[oai(validator(max_length = 254))]
    email: String,
    /// The password.
    password: String,
    /// The tenant's name; only members of several need to give it.
    tenant: Option<String>,
    /// The password to have instead, after 403 `password_change_required`; at least 8 characters. It
    /// takes effect with the second step (`POST /auth/mfa`).
    #[oai(validator(max_length = 128))]
    new_password: Option<String>,
    /// Whether each request names its tenant by `X-Tenant`: one token for all tenants of the user.
    #[oai(default)]
    roaming: bool,
    /// Whether an operator logs in to the platform, also when they are a member of tenants.
    #[oai(default)]
    platform: bool,
}

/// A refresh token.
#[derive(Object)]
#[oai(rename = "Refresh", deny_unknown_fields)]
struct RefreshBody {
    /// The latest refresh token of the session.
    refresh_token: String,
}

/// A session.
#[derive(Object)]
#[oai(rename = "Session")]
pub(crate) struct Tokens {
    /// What to send as `Authorization: Bearer …`.
    access_token: String,
    /// Good for one exchange against a new pair.
    refresh_token: String,
    /// Seconds that the access token holds.
    expires_in: u64,
    /// The strength of the password, 0 to 4, as zxcvbn estimates it, where the answer is to one
    /// that was set.
    #[oai(nullable)]
    password_score: Option<u8>,
}

/// Who the caller is, and what they may do.
#[derive(Object)]
#[oai(rename = "Me")]
struct MeReply {
    /// The user; null for an API key.
    #[oai(nullable)]
    user: Option<Profile>,
    /// Null for an operator on the platform.
    #[oai(nullable)]
    tenant: Option<Tenant>,
    /// The roles held in the tenant.
    roles: Vec<HeldRole>,
    /// What they allow, such as `contacts.read`; `:own` at the end means own rows only. On the platform
    /// what the operator may do, such as `tenants.create`.
    permissions: Vec<String>,
    /// Who acts in the user's name; null when they do themselves. Applications show it all the time.
    #[oai(nullable)]
    impersonated_by: Option<ImpersonatedBy>,
}

/// Who acts in another's name.
#[derive(Object)]
struct ImpersonatedBy {
    /// `user:<id>` for a member of the tenant, `operator:<id>` for an operator of the platform.
    actor: String,
    name: String,
}

/// A user, as shown to themselves.
#[derive(Object)]
struct Profile {
    id: Uuid,
    email: String,
    /// The name to log in with instead of the address.
    #[oai(nullable)]
    username: Option<String>,
    /// When they showed that they read what is sent to the address.
    #[oai(nullable)]
    email_verified_at: Option<Instant>,
    name: String,
    #[oai(nullable)]
    last_login_at: Option<Instant>,
}

/// A tenant, as shown to its members.
#[derive(Object)]
pub(super) struct Tenant {
    id: Uuid,
    name: String,
}

impl From<TenantRef> for Tenant {
    fn from(tenant: TenantRef) -> Self {
        Self {
            id: tenant.id.0,
            name: tenant.name,
        }
    }
}

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Auth")]
impl Auth {
    /// Register
    ///
    /// Makes a tenant with the built-in roles and the user as its admin, and logs them in. The first
    /// user of an installation needs the setup token that the server printed, and no other credential.
    /// Without one the server decides: 403 `registration_closed`, which is the default; 202 and a mail
    /// with a link for `POST /auth/register/confirm`, the same whether the address has an account or
    /// not, or 429 when it was registered less than a minute before; or 201 at once, where 409
    /// `email_taken` tells who has an account. Where the server authenticates strictly, the session comes
    /// after a second step: 401 `second_factor_required`.
    #[oai(path = "/register", method = "post", operation_id = "register")]
    async fn register(
        &self,
        origin: Origin,
        body: Strict<RegisterBody>,
    ) -> Result<Registered, Problem> {
        let (body, accounts) = (body.0, origin.accounts(&self.crm));
        let Some(setup_token) = body.setup_token else {
            let input = SignUp {
                tenant: body.tenant,
                email: body.email,
                password: body.password.into(),
                name: body.name,
            };
            return Ok(accounts.sign_up(input, origin.0).await?.into());
        };
        let first = Registration {
            setup_token: setup_token.into(),
            tenant: body.tenant,
            email: body.email,
            password: body.password.into(),
            name: body.name.unwrap_or_default(),
        };
        let session = accounts.register(first, origin.0).await?;
        Ok(Registered::Made(Json(session.into())))
    }

    /// Confirm a registration
    ///
    /// Needs the token of the mail, which works once, for 24 hours, and the password that was given
    /// with the registration; no other credential. Makes the user and the tenant, and logs them in. 409
    /// `already_exists` when the tenant's name was taken meanwhile: name another one.
    #[oai(
        path = "/register/confirm",
        method = "post",
        operation_id = "confirm_registration"
    )]
    async fn confirm(
        &self,
        origin: Origin,
        body: Strict<ConfirmBody>,
    ) -> Result<Created<Tokens>, Problem> {
        let (body, accounts) = (body.0, origin.accounts(&self.crm));
        let input = SignUpConfirmation {
            token: body.token.into(),
            password: body.password.into(),
            tenant: body.tenant,
        };
        let session = accounts.confirm_sign_up(input, origin.0).await?;
        Ok(Created(session.into()))
    }

    /// Log in
    ///
    /// Needs no credential. A wrong password and an unknown address get the same answer. Members of
    /// several tenants who name none of them get 422 on `tenant`, which lists them; whoever has a second
    /// factor, or is asked for one in any of them, gets that answer to the second step (`POST /auth/mfa`).
    /// A roaming login is asked for one where any tenant of its user's requires it, whichever it names.
    /// Where the server authenticates strictly, a password that somebody else set is answered 403
    /// `password_change_required`, until a login brings a `new_password`, and holds for 7 days. The new one
    /// holds once the second step is passed; until then the old one does. That answer, 401
    /// `second_factor_required`, has its `password_score`.
    #[oai(path = "/login", method = "post", operation_id = "login")]
    async fn login(
        &self,
        origin: Origin,
        body: Strict<LoginBody>,
    ) -> Result<Json<Tokens>, Problem> {
        let body = body.0;
        let mut accounts = origin.accounts(&self.crm);
        if body.roaming {
            accounts = accounts.roaming();
        }
        if body.platform {
            accounts = accounts.on_platform();
        }
        let login = Login {
            email: body.email,
            password: body.password.into(),
            tenant: body.tenant,
            new_password: body.new_password.map(Into::into),
        };
        Ok(Json(accounts.login(login, origin.0).await?.into()))
    }

    /// Exchange a refresh token
    ///
    /// Answers a new pair; the token given is spent. Giving a spent one again ends the session, but
    /// for 10 seconds, while its successor is unused: then it gets that same successor, so that
    /// requests which race each other agree.
    #[oai(path = "/refresh", method = "post", operation_id = "refresh")]
    async fn refresh(
        &self,
        origin: Origin,
        body: Strict<RefreshBody>,
    ) -> Result<Json<Tokens>, Problem> {
        let token = body.0.refresh_token.into();
        Ok(Json(
            origin
                .accounts(&self.crm)
                .refresh(token, origin.0)
                .await?
                .into(),
        ))
    }

    /// Log out
    ///
    /// Ends the session that the refresh token belongs to; a token that opens nothing is no error
    /// (RFC 7009). Its access tokens end with it.
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    async fn logout(
        &self,
        origin: Origin,
        body: Strict<RefreshBody>,
    ) -> Result<NoContent, Problem> {
        self.crm
            .accounts()
            .logout(body.0.refresh_token.into(), origin.0)
            .await?;
        Ok(NoContent)
    }

    /// Who am I
    ///
    /// Any credential will do. Permission: none.
    #[oai(path = "/me", method = "get", operation_id = "me")]
    async fn me(&self, caller: Caller) -> Result<Json<MeReply>, Problem> {
        Ok(Json(self.crm.accounts().me(&caller).await?.into()))
    }
}

impl From<SignedUp> for Registered {
    fn from(signed_up: SignedUp) -> Self {
        match signed_up {
            SignedUp::Made(session) => Self::Made(Json(session.into())),
            SignedUp::Mailed => Self::Mailed,
        }
    }
}

impl From<Session> for Tokens {
    fn from(session: Session) -> Self {
        Self {
            access_token: session.access_token.expose_secret().to_owned(),
            refresh_token: session.refresh_token.expose_secret().to_owned(),
            expires_in: session.expires_in,
            password_score: session.password_score,
        }
    }
}

impl From<Me> for MeReply {
    fn from(me: Me) -> Self {
        Self {
            user: me.user.map(|user| Profile {
                id: user.id.0,
                email: user.email,
                username: user.username,
                email_verified_at: user.email_verified_at.map(Instant),
                name: user.name,
                last_login_at: user.last_login_at.map(Instant),
            }),
            tenant: me.tenant.map(Tenant::from),
            roles: me.roles.into_iter().map(HeldRole::from).collect(),
            permissions: me.permissions,
            impersonated_by: me.impersonated_by.map(|by| ImpersonatedBy {
                actor: by.actor,
                name: by.name,
            }),
        }
    }
}
