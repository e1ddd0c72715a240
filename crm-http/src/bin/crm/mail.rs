//! How the server sends mails, as its options say.

use std::sync::Arc;

use clap::Args;
use crm_core::Error;
use crm_core::mail::{FileMailer, MailOptions, Mailer, SmtpMailer};

#[derive(Args)]
pub(crate) struct Mail {
    /// What sends mails: smtps://USER:PASSWORD@HOST, smtp://USER:PASSWORD@HOST?tls=required,
    /// smtp://localhost:25, or file:DIR, which writes them there; goes with --mail-from. Without it mails
    /// wait
    #[arg(
        long,
        env = "CRM_MAIL",
        hide_env_values = true,
        value_name = "URL",
        requires = "from"
    )]
    mail: Option<String>,

    /// The address that mails come from
    #[arg(
        id = "from",
        long = "mail-from",
        env = "CRM_MAIL_FROM",
        value_name = "ADDRESS"
    )]
    from: Option<String>,

    /// The URL of the pages that links in mails lead to, below which are /reset-password,
    /// /verify-email, /accept-invitation and /confirm-registration; the public URL when left out, and
    /// without either mails carry codes to enter
    #[arg(long, env = "CRM_APP_URL", value_parser = super::serve::public_url, value_name = "URL")]
    app_url: Option<String>,
}

impl Mail {
    /// The options of the library.
    ///
    /// # Errors
    /// When a URL, the folder or the sender's address is unfit.
    pub(crate) fn options(&self, public_url: &str) -> Result<MailOptions, Error> {
        let from = self.from.as_deref().unwrap_or_default();
        let mailer: Option<Arc<dyn Mailer>> = match self.mail.as_deref() {
            None => None,
            Some(url) => Some(match url.strip_prefix("file:") {
                Some(folder) => Arc::new(FileMailer::new(folder, from)?),
                None => Arc::new(SmtpMailer::new(url, from)?),
            }),
        };
        Ok(MailOptions {
            mailer,
            public_url: self.app_url(public_url).to_owned(),
        })
    }

    /// Where the application's pages are.
    pub(crate) fn app_url<'a>(&'a self, public_url: &'a str) -> &'a str {
        let url = self.app_url.as_deref().unwrap_or(public_url);
        url.trim_end_matches('/')
    }
}
