//! Messages that come with the commits of other processes: PostgreSQL's LISTEN and NOTIFY, on a
//! connection of their own. SQLite has none.

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use super::error::Translate;
use super::{Backend, ColumnType, Db, Dialect, Sql, Tx};
use crate::error::Result;

/// The name that the connection goes by in `pg_stat_activity`.
const NAME: &str = "crm listen";

/// What a listener hears.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A message.
    Message(String),
    /// The connection was lost and is there again: messages may have been missed.
    Gap,
}

/// Hears the messages of one channel.
pub(crate) struct Listener(PgListener);

impl Db {
    /// Listens to a channel; `None` where the database has none.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) when there is no connection to be had.
    pub(crate) async fn listen(&self, channel: &'static str) -> Result<Option<Listener>> {
        let Backend::Postgres(database) = &self.backend else {
            return Ok(None);
        };
        let options: PgConnectOptions = (*database.options()).clone();
        // One connection, kept for as long as somebody listens.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_with(options.application_name(NAME))
            .await
            .translate()?;
        let mut listener = PgListener::connect_with(&pool).await.translate()?;
        listener.listen(channel).await.translate()?;
        Ok(Some(Listener(listener)))
    }
}

impl Listener {
    /// Waits for the next message.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) when the connection is lost and cannot be
    /// made again.
    pub(crate) async fn next(&mut self) -> Result<Heard> {
        let heard = self.0.try_recv().await.translate()?;
        Ok(match heard {
            Some(message) => Heard::Message(message.payload().to_owned()),
            None => Heard::Gap,
        })
    }
}

impl Tx<'_> {
    /// Sends a message with the commit of this transaction, to whoever listens to the channel.
    pub(crate) async fn notify(&mut self, channel: &'static str, message: String) -> Result<()> {
        if self.dialect() == Dialect::Sqlite {
            return Ok(());
        }
        let notify = Sql::new("SELECT pg_notify($1, $2)")
            .bind(channel, ColumnType::Text)
            .bind(message, ColumnType::Text);
        self.execute(notify).await.map(drop)
    }
}
