//! Mails as files, for development: one `.eml` per mail, which any mail program opens.

use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use lettre::message::Mailbox;

use super::{Mail, Mailer, message, sender};
use crate::error::{Error, Result};

/// Writes each mail into a folder, as `<id>.eml`.
#[derive(Debug)]
pub struct FileMailer {
    folder: PathBuf,
    from: Mailbox,
}

impl FileMailer {
    /// Makes the folder when it is missing.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it cannot be made, or `from` is no address.
    pub fn new(folder: impl AsRef<Path>, from: &str) -> Result<Self> {
        let folder = folder.as_ref().to_owned();
        std::fs::create_dir_all(&folder).map_err(|error| {
            Error::Configuration(format!("{} cannot be made: {error}", folder.display()).into())
        })?;
        let from = sender(from)?;
        Ok(Self { folder, from })
    }
}

impl Mailer for FileMailer {
    fn send<'a>(&'a self, mail: &'a Mail) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let text = message(mail, &self.from)?.formatted();
            let path = self.folder.join(format!("{}.eml", mail.id.simple()));
            tokio::fs::write(path, text)
                .await
                .map_err(|error| Error::Unavailable {
                    message: "the folder of mails cannot be written to".into(),
                    source: Some(error.into()),
                })
        })
    }
}
