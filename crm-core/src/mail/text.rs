//! The words of mails, in plain text.

use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{Mail, MailKind, MailOptions};

/// A single-use link.
pub(crate) struct Link<'a> {
    pub(crate) token: &'a SecretString,
    /// How long it holds, in words.
    pub(crate) holds: &'static str,
}

/// A mail about to be written.
pub(crate) struct Letter<'a> {
    pub(crate) kind: MailKind,
    pub(crate) to: &'a str,
    pub(crate) name: &'a str,
    /// The tenant it is about, if it is about one.
    pub(crate) tenant: Option<&'a str>,
    /// The name of whoever has it sent, where that is told; of the plugin, where it is about one.
    pub(crate) by: Option<&'a str>,
    pub(crate) link: Option<Link<'a>>,
}

impl Letter<'_> {
    /// The mail, with its link below the public URL; without one it carries a code.
    pub(super) fn write(&self, id: Uuid, options: &MailOptions) -> Mail {
        let (word, follow) = match base(options) {
            "" => ("code", "enter the code"),
            _ => ("link", "follow the link"),
        };
        let tenant = self.tenant.unwrap_or("the CRM");
        let subject = match self.kind {
            MailKind::PasswordReset => "Set a new password".to_owned(),
            MailKind::PasswordChanged => "Your password was changed".to_owned(),
            MailKind::VerifyEmail => "Confirm your e-mail address".to_owned(),
            MailKind::ChangeEmail => "Confirm your new e-mail address".to_owned(),
            MailKind::EmailChanged => "Your e-mail address was changed".to_owned(),
            MailKind::EmailInUse => "You have an account already".to_owned(),
            MailKind::Registration => "Confirm your registration".to_owned(),
            MailKind::Invitation => format!("You are invited to {tenant}"),
            MailKind::NewOperator => "You are an operator of the CRM now".to_owned(),
            MailKind::SecondFactorChanged => "Your second factor was changed".to_owned(),
            MailKind::PasskeysChanged => "Your passkeys were changed".to_owned(),
            MailKind::IdentityLinked => "Another way to log in was added".to_owned(),
            MailKind::PluginParked => format!("A plugin of {tenant} was switched off"),
            MailKind::PluginCanaryEnded => format!("The trial of a plugin of {tenant} was ended"),
        };
        let parked = format!(
            "The plugin {} of {tenant} kept failing and was switched off. What it guards stays \
             refused, and its webhooks take no messages. Its run records say why it failed; enable it \
             again once that is mended.",
            self.by.unwrap_or_default()
        );
        let ended = format!(
            "A version of the plugin {} of {tenant} that was tried on some of the events kept failing, \
             and gets none any more; the active version goes on. Its run records say why it failed.",
            self.by.unwrap_or_default()
        );
        let invited = match self.by {
            Some(by) => format!(
                "{by} invites you to become a member of {tenant}. If you do not know why, do nothing."
            ),
            None => format!(
                "You are invited to become a member of {tenant}. If you do not know why, do nothing."
            ),
        };
        let registered = format!(
            "Somebody, probably you, wants to make an account for this address. If it was you, \
             {follow} and give the password that you chose. If it was not you, do nothing: there is no \
             account yet."
        );
        let appointed = format!(
            "You were made an operator of this CRM: somebody who looks after its tenants. Set a \
             password first, then log in with this address; you set up a second factor there. Once the \
             {word} has ended, ask for a new password."
        );
        let body = match self.kind {
            MailKind::PasswordReset => {
                "Somebody, probably you, asked for a new password of your account. If it was not \
                 you, do nothing: your password stays as it is."
            }
            MailKind::PasswordChanged => {
                "The password of your account was changed, and all sessions but the one that did it \
                 have ended. If it was not you, set a new password at once and tell your \
                 administrator."
            }
            MailKind::VerifyEmail => {
                "Please confirm that this address is yours, where you are logged in. If you have \
                 made no account, do nothing."
            }
            MailKind::ChangeEmail => {
                "Somebody, probably you, wants to use this address for their account: confirm it \
                 where you are logged in. If it was not you, do nothing."
            }
            MailKind::EmailChanged => {
                "The address of your account was changed to another one. If it was not you, tell \
                 your administrator."
            }
            MailKind::EmailInUse => {
                "Somebody, probably you, wanted to use this address for an account. It has one \
                 already: log in with it, or set a new password."
            }
            MailKind::Registration => registered.as_str(),
            MailKind::Invitation => invited.as_str(),
            MailKind::NewOperator => appointed.as_str(),
            MailKind::SecondFactorChanged => {
                "The second factor of your account was set up or taken away. If it was not you, \
                 set a new password at once and tell your administrator."
            }
            MailKind::PasskeysChanged => {
                "A passkey of your account was registered or removed. If it was not you, remove the \
                 passkeys that are not yours, set a new password at once and tell your administrator."
            }
            MailKind::IdentityLinked => {
                "An identity at your organisation's provider was linked to your membership, so that \
                 you can log in by it. If it was not you, unlink it and tell your administrator."
            }
            MailKind::PluginParked => parked.as_str(),
            MailKind::PluginCanaryEnded => ended.as_str(),
        };
        let link = self.link.as_ref().map(|link| self.url(link, options));
        let action = match (&link, &self.link) {
            (Some(url), Some(link)) => {
                format!(
                    "\n\nThe {word}:\n\n{url}\n\nIt works once, for {}.",
                    link.holds
                )
            }
            _ => String::new(),
        };
        Mail {
            id,
            kind: self.kind,
            to: self.to.to_owned(),
            name: self.name.to_owned(),
            subject,
            text: format!("Hello {},\n\n{body}{action}\n", self.name),
            link,
        }
    }

    /// The token stands in the fragment, which browsers send to nobody.
    fn url(&self, link: &Link<'_>, options: &MailOptions) -> String {
        let token = link.token.expose_secret();
        let page = match self.kind {
            MailKind::PasswordReset | MailKind::NewOperator => "reset-password",
            MailKind::Invitation => "accept-invitation",
            MailKind::Registration => "confirm-registration",
            _ => "verify-email",
        };
        match base(options) {
            "" => token.to_owned(),
            base => format!("{base}/{page}#token={token}"),
        }
    }
}

/// The URL below which links lead; empty where mails carry codes.
fn base(options: &MailOptions) -> &str {
    options.public_url.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: MailKind, public_url: &str) -> String {
        let token = SecretString::from("crm_xx_token");
        let letter = Letter {
            kind,
            to: "eve@globex.example",
            name: "Eve",
            tenant: None,
            by: None,
            link: Some(Link {
                token: &token,
                holds: "24 hours",
            }),
        };
        let options = MailOptions {
            mailer: None,
            public_url: public_url.to_owned(),
        };
        letter.write(Uuid::nil(), &options).text
    }

    #[test]
    fn a_mail_says_link_where_it_has_one_and_code_otherwise() {
        for kind in [
            MailKind::PasswordReset,
            MailKind::VerifyEmail,
            MailKind::ChangeEmail,
            MailKind::Registration,
            MailKind::Invitation,
            MailKind::NewOperator,
        ] {
            let linked = text(kind, "https://app.example/");
            assert!(
                linked.contains("\nThe link:\n\nhttps://app.example/"),
                "{linked}"
            );
            assert!(linked.contains("#token=crm_xx_token\n"), "{linked}");
            assert!(!linked.contains("code"), "{linked}");
            let bare = text(kind, "");
            assert!(bare.contains("\nThe code:\n\ncrm_xx_token\n"), "{bare}");
            assert!(!bare.contains("link"), "{bare}");
        }
    }
}
