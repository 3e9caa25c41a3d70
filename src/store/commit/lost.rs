//! The answer to a COMMIT may get lost with its connection, and then nobody knows whether it took effect. PostgreSQL
//! does, for a transaction whose number is known. SQLite has no such answer to lose: what it fails to commit it undoes.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::store::sql::fetch_one;
use crate::store::{Fault, Found, Store};

/// How long the database is asked; longer than a restart of it takes.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// Whether an error is the database's own word that it has not committed, such as of a deferred constraint.
pub(in crate::store) fn is_refusal(error: &sqlx::Error) -> bool {
    // 08: the connection; 57P: the session was ended, and that may have been after the commit.
    matches!(error, sqlx::Error::Database(error)
        if error.code().is_some_and(|code| !code.starts_with("08") && !code.starts_with("57P")))
}

impl Store {
    /// Finds out whether a transaction took effect whose COMMIT was not answered: an error where it did not.
    pub(super) async fn find_out(&self, transaction_id: i64, lost: sqlx::Error) -> Found<()> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.status_of(transaction_id).await.as_deref() {
                Ok("committed") => return Ok(()),
                Ok("aborted") => return Err(Fault::Failed(lost)),
                // It is still under way, or the database is out of reach.
                _ if Instant::now() < give_up => sleep(PAUSE).await,
                _ => return Err(Fault::Unknown(lost)),
            }
        }
    }

    async fn status_of(&self, transaction_id: i64) -> Found<String> {
        let mut reader = self.reader().await?;
        let sql = "SELECT COALESCE(pg_xact_status(CAST(CAST($1 AS TEXT) AS xid8)), 'forgotten')";
        let (status,): (String,) = fetch_one!(&mut reader.conn(), (String,), sql, transaction_id.to_string())?;
        Ok(status)
    }
}
