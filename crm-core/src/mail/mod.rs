//! E-mail: what the library writes to people, and how it gets there.
//!
//! A mail is a row, written in the transaction of what it tells of and sent after it by a task of
//! its own, with retries: no request waits for a mail server, and no mail tells of what did not
//! happen. Delivery is at least once; a mail that comes twice has one `Message-ID`. Rows are
//! sealed, since they carry single-use links, and are gone once sent or out of date.
//!
//! Links begin with the public URL of the configuration; no part of a request is ever used for
//! them. Without a [`Mailer`] mails wait in the database until their links are out of date.

mod file;
mod queue;
mod smtp;
mod text;

use std::sync::Arc;

use futures::future::BoxFuture;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::identity::Seal;

pub use file::FileMailer;
pub use smtp::SmtpMailer;

pub(crate) use queue::{SEALED, enqueue, enqueue_of, run, send_waiting};
pub(crate) use text::{Letter, Link};

/// What a mail is about, so that an application can give it a form of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailKind {
    /// A link that sets a new password.
    PasswordReset,
    /// The password was changed.
    PasswordChanged,
    /// A link that proves an address.
    VerifyEmail,
    /// A link that proves the address to change to.
    ChangeEmail,
    /// The address was changed; sent to the one before.
    EmailChanged,
    /// An address to change to has an account already; sent to that address.
    EmailInUse,
    /// A link that makes the account and the tenant that somebody registered.
    Registration,
    /// A link that lets somebody into a tenant.
    Invitation,
    /// Somebody without an account is an operator of the platform now; a link that sets their
    /// password.
    NewOperator,
    /// A second factor was added or taken away.
    SecondFactorChanged,
    /// A passkey was registered or removed.
    PasskeysChanged,
    /// An identity at a tenant's provider was linked.
    IdentityLinked,
    /// A plugin kept failing and was switched off.
    PluginParked,
    /// A version of a plugin that some events went to kept failing, and gets none any more.
    PluginCanaryEnded,
}

/// A mail to one person, ready to be sent.
#[derive(Clone, Serialize, Deserialize)]
pub struct Mail {
    /// The same each time it is sent.
    pub id: Uuid,
    /// What it is about.
    pub kind: MailKind,
    /// The address it goes to.
    pub to: String,
    /// The name of whom it goes to.
    pub name: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The link in it, or the bare token when no public URL is configured.
    pub link: Option<String>,
}

/// Sends mails.
pub trait Mailer: Send + Sync + 'static {
    /// Hands a mail over for delivery.
    ///
    /// [`Error::Unavailable`] is tried again later, for as long as the mail makes sense; after any
    /// other error it is given up.
    fn send<'a>(&'a self, mail: &'a Mail) -> BoxFuture<'a, Result<()>>;
}

/// How mails are sent, and where their links lead.
#[derive(Clone, Default)]
pub struct MailOptions {
    /// What sends them; without one they wait.
    pub mailer: Option<Arc<dyn Mailer>>,
    /// The URL of the application's own pages: `/reset-password`, `/verify-email`,
    /// `/accept-invitation` and `/confirm-registration` below it get the token behind `#token=`.
    /// Without one mails carry the bare token.
    pub public_url: String,
}

/// What the library holds to send mails.
pub(crate) struct Post {
    options: MailOptions,
    seal: Arc<Seal>,
    wake: Notify,
}

impl Post {
    pub(crate) fn new(options: MailOptions, seal: Arc<Seal>) -> Self {
        Self {
            options,
            seal,
            wake: Notify::new(),
        }
    }

    /// Says that a transaction with a mail in it has committed.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for MailOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailOptions")
            .field("mailer", &self.mailer.is_some())
            .field("public_url", &self.public_url)
            .finish()
    }
}

/// The address that mails come from: `crm@example.com` or `Acme CRM <crm@example.com>`.
fn sender(from: &str) -> Result<Mailbox> {
    from.parse().map_err(|_| {
        Error::Configuration(
            "the sender of mails is no address; write it as crm@example.com or \
             Acme CRM <crm@example.com>"
                .into(),
        )
    })
}

/// The message as it travels (RFC 5322); lettre encodes every header, so that no text adds one.
fn message(mail: &Mail, from: &Mailbox) -> Result<lettre::Message> {
    let address = mail.to.parse().map_err(Error::internal)?;
    let id = format!("<{}@{}>", mail.id.simple(), from.email.domain());
    lettre::Message::builder()
        .message_id(Some(id))
        .from(from.clone())
        .to(Mailbox::new(Some(mail.name.clone()), address))
        .subject(mail.subject.as_str())
        .header(ContentType::TEXT_PLAIN)
        .body(mail.text.clone())
        .map_err(Error::internal)
}
