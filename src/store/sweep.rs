//! Deletes what has had its time.

use std::time::Duration;

use super::sql::execute;
use super::{Found, Store};

/// How long commands that are no messages, and REST requests, are remembered for a retry.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Store {
    /// Deletes remembered commands after seven days and, where a retention is set, old events; never messages.
    pub async fn sweep(&self, now: i64, events_retention: Option<Duration>) -> Found<()> {
        let before = now - REMEMBERED.as_millis() as i64;
        let mut tx = self.begin().await?;
        execute!(&mut tx.conn(), "DELETE FROM client_ids WHERE created_at < $1", before)?;
        execute!(&mut tx.conn(), "DELETE FROM idempotency_keys WHERE created_at < $1", before)?;
        if let Some(retention) = events_retention {
            let before = now - i64::try_from(retention.as_millis()).unwrap_or(i64::MAX).min(now);
            execute!(&mut tx.conn(), "DELETE FROM events WHERE created_at < $1", before)?;
        }
        tx.commit().await
    }
}
