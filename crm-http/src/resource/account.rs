//! One's own account: password, address, user name, and all sessions at once.

use crm_core::Crm;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use crate::credential::{Caller, Origin};
use crate::payload::Strict;
use crate::problem::Problem;
use crate::resource::auth::Tokens;
use crate::wire::{NoContent, Tag};

/// The operations on one's own account.
pub(crate) struct Account {
    pub(crate) crm: Crm,
}

/// Whose password is to be set anew.
#[derive(Object)]
#[oai(rename = "PasswordForgotten", deny_unknown_fields)]
struct ForgottenBody {
    /// The e-mail address of the account.
    #[oai(validator(max_length = 254))]
    email: String,
}

/// A new password, by a link.
#[derive(Object)]
#[oai(rename = "PasswordReset", deny_unknown_fields)]
struct ResetBody {
    /// The token of the link.
    #[oai(validator(max_length = 100))]
    token: String,
    /// The new password.
    #[oai(validator(max_length = 128))]
    password: String,
}

/// A new password, by the old one.
#[derive(Object)]
#[oai(rename = "PasswordChange", deny_unknown_fields)]
struct ChangeBody {
    current_password: String,
    /// The new password.
    #[oai(validator(max_length = 128))]
    password: String,
}

/// A new password is set.
#[derive(Object)]
#[oai(rename = "PasswordSet")]
struct SetReply {
    /// Its strength, 0 to 4, as zxcvbn estimates it.
    password_score: u8,
}

/// A new password is set, and a new session begun.
#[derive(Object)]
#[oai(rename = "PasswordChanged")]
struct ChangedReply {
    /// The strength of the new password, 0 to 4, as zxcvbn estimates it.
    password_score: u8,
    /// The session that goes on in place of all others.
    session: Tokens,
}

/// An address to have from now on.
#[derive(Object)]
#[oai(rename = "EmailChange", deny_unknown_fields)]
struct EmailBody {
    /// The new address.
    #[oai(validator(max_length = 254))]
    email: String,
    /// The password of the account.
    password: String,
}

/// A link that proves an address.
#[derive(Object)]
#[oai(rename = "EmailVerification", deny_unknown_fields)]
struct TokenBody {
    /// The token of the link.
    #[oai(validator(max_length = 100))]
    token: String,
}

/// A name to log in with.
#[derive(Object)]
#[oai(rename = "Username", deny_unknown_fields)]
struct UsernameBody {
    /// 3 to 80 letters, digits, dots, hyphens and underscores; null for none.
    #[oai(validator(max_length = 80))]
    username: Option<String>,
    /// The password of the account.
    password: String,
}

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Auth")]
impl Account {
    /// Ask for a link that sets a new password
    ///
    /// Needs no credential. The answer is the same whether the address has an account or not; one
    /// that has gets a mail, at most one a minute.
    #[oai(
        path = "/password/forgot",
        method = "post",
        operation_id = "forgot_password"
    )]
    async fn forgot(
        &self,
        origin: Origin,
        body: Strict<ForgottenBody>,
    ) -> Result<NoContent, Problem> {
        self.crm
            .accounts()
            .forgot_password(&body.0.email, origin.0)?;
        Ok(NoContent)
    }

    /// Set a new password by a link
    ///
    /// Needs the token of the mail and no other credential. It works once, for an hour, and dies with
    /// the next one. All sessions of the user end.
    #[oai(
        path = "/password/reset",
        method = "post",
        operation_id = "reset_password"
    )]
    async fn reset(
        &self,
        origin: Origin,
        body: Strict<ResetBody>,
    ) -> Result<Json<SetReply>, Problem> {
        let (token, password) = (body.0.token.into(), body.0.password.into());
        let accounts = self.crm.accounts();
        let password_score = accounts.reset_password(token, password, origin.0).await?;
        Ok(Json(SetReply { password_score }))
    }

    /// Change one's password
    ///
    /// Needs the current one, and a session that passed the second factor where the caller has one or the
    /// server authenticates strictly (409 `second_factor_required`): it takes effect at once. All sessions
    /// end, and the answer is a new one. Permission: none.
    #[oai(
        path = "/password/change",
        method = "post",
        operation_id = "change_password"
    )]
    async fn change(
        &self,
        caller: Caller,
        body: Strict<ChangeBody>,
    ) -> Result<Json<ChangedReply>, Problem> {
        let (current, new) = (body.0.current_password.into(), body.0.password.into());
        let accounts = self.crm.accounts();
        let change = accounts.change_password(&caller, current, new).await?;
        Ok(Json(ChangedReply {
            password_score: change.score,
            session: change.session.into(),
        }))
    }

    /// Log out everywhere
    ///
    /// Ends all sessions of the caller, in every tenant. Where the server authenticates strictly, 403
    /// `recent_login_required` for a session that began more than five minutes ago. Permission: none.
    #[oai(
        path = "/logout-everywhere",
        method = "post",
        operation_id = "logout_everywhere"
    )]
    async fn logout_everywhere(&self, caller: Caller) -> Result<NoContent, Problem> {
        self.crm.accounts().logout_everywhere(&caller).await?;
        Ok(NoContent)
    }

    /// Ask for a link that proves one's address
    ///
    /// Sends a mail to the address of the caller, unless it is proven; at most one a minute.
    /// Permission: none.
    #[oai(
        path = "/email/verification",
        method = "post",
        operation_id = "send_email_verification"
    )]
    async fn send_verification(&self, caller: Caller) -> Result<NoContent, Problem> {
        self.crm.accounts().send_verification(&caller).await?;
        Ok(NoContent)
    }

    /// Prove an address by a link
    ///
    /// Needs the token of the mail, and a session of the user who asked for it: somebody else may have
    /// made an account for the address, and have the mail sent there. It works once, for a day. A link
    /// that was sent to a new address makes it the user's. Permission: none.
    #[oai(path = "/email/verify", method = "post", operation_id = "verify_email")]
    async fn verify(&self, caller: Caller, body: Strict<TokenBody>) -> Result<NoContent, Problem> {
        let token = body.0.token.into();
        self.crm.accounts().verify_email(&caller, token).await?;
        Ok(NoContent)
    }

    /// Change one's address
    ///
    /// Sends a link to the new address; the change happens when it is used. The answer is the same
    /// when somebody has the address. Permission: none.
    #[oai(path = "/email/change", method = "post", operation_id = "change_email")]
    async fn change_email(
        &self,
        caller: Caller,
        body: Strict<EmailBody>,
    ) -> Result<NoContent, Problem> {
        let (email, password) = (body.0.email, body.0.password.into());
        self.crm
            .accounts()
            .change_email(&caller, &email, password)
            .await?;
        Ok(NoContent)
    }

    /// Set one's user name
    ///
    /// It is unique in the installation, and logs in where the address does. Needs the password again.
    /// Permission: none.
    #[oai(path = "/username", method = "put", operation_id = "set_username")]
    async fn set_username(
        &self,
        caller: Caller,
        body: Strict<UsernameBody>,
    ) -> Result<NoContent, Problem> {
        let (username, password) = (body.0.username.as_deref(), body.0.password.into());
        let accounts = self.crm.accounts();
        accounts.set_username(&caller, username, password).await?;
        Ok(NoContent)
    }
}
