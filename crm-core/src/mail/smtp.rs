//! Mails over SMTP (RFC 5321), encrypted unless the URL says that the server is on this machine.

use std::time::Duration;

use futures::future::BoxFuture;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use super::{Mail, Mailer, message, sender};
use crate::error::{Error, Result};

/// How long one step of the conversation may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Hands mails to a mail server.
#[derive(Debug)]
pub struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl SmtpMailer {
    /// The server is `smtps://user:password@host` (TLS from the beginning, port 465),
    /// `smtp://user:password@host?tls=required` (STARTTLS, port 587), or `smtp://host:25` for one
    /// on this machine.
    ///
    /// # Errors
    /// [`Error::Configuration`] when the URL names no server, or one of another machine without
    /// encryption, or `from` is no address. The URL may hold a password and is not repeated.
    pub fn new(url: &str, from: &str) -> Result<Self> {
        let unfit = || {
            Error::Configuration(
                "the mail server is named by a URL: smtps://USER:PASSWORD@HOST or \
                 smtp://USER:PASSWORD@HOST?tls=required; without TLS only on this machine"
                    .into(),
            )
        };
        let parsed = url::Url::parse(url).map_err(|_| unfit())?;
        let host = parsed.host_str().ok_or_else(unfit)?;
        let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        let encrypted = parsed.scheme() == "smtps"
            || parsed
                .query_pairs()
                .any(|(name, value)| name == "tls" && value == "required");
        if !local && !encrypted {
            return Err(unfit());
        }
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|_| unfit())?
            .timeout(Some(PATIENCE))
            .build();
        let from = sender(from)?;
        Ok(Self { transport, from })
    }
}

impl Mailer for SmtpMailer {
    fn send<'a>(&'a self, mail: &'a Mail) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let message = message(mail, &self.from)?;
            match self.transport.send(message).await {
                Ok(_) => Ok(()),
                // 5yz: the server will never take it (RFC 5321 §4.2.1).
                Err(error) if error.is_permanent() => Err(Error::internal(error)),
                Err(error) => Err(Error::Unavailable {
                    message: "the mail server does not take mail".into(),
                    source: Some(error.into()),
                }),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: &str = "Acme CRM <crm@acme.example>";

    #[test]
    fn asvs_12_2_1_a_server_elsewhere_is_spoken_to_with_tls_only() {
        for url in [
            "smtps://ann:secret@mail.example",
            "smtp://ann:secret@mail.example:587?tls=required",
            "smtp://127.0.0.1:2525",
            "smtp://localhost",
        ] {
            assert!(SmtpMailer::new(url, FROM).is_ok(), "{url}");
        }
        for url in [
            "smtp://ann:secret@mail.example",
            "smtp://mail.example?tls=opportunistic",
            "http://mail.example?tls=required",
            "mail.example",
            "",
        ] {
            let refused = SmtpMailer::new(url, FROM).unwrap_err().to_string();
            assert!(refused.contains("smtps://USER:PASSWORD@HOST"), "{url}");
            assert!(!refused.contains("secret"), "{refused}");
        }
        assert!(SmtpMailer::new("smtp://localhost", "nobody").is_err());
    }
}
