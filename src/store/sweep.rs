//! Deletes what has had its time.

use std::time::Duration;

use super::sql::execute;
use super::{Found, Store};

/// How long commands that are no messages, and REST requests, are remembered for a retry.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How many rows are deleted at a time.
const SLICE: i64 = 1_000;

impl Store {
    /// Deletes remembered commands after seven days and, where a retention is set, old events; never messages.
    pub async fn sweep(&self, now: i64, events_retention: Option<Duration>) -> Found<()> {
        let before = now - REMEMBERED.as_millis() as i64;
        self.delete_before(
            before,
            "DELETE FROM client_ids WHERE (topic_kind, topic_id, user_id, client_id) IN
                 (SELECT topic_kind, topic_id, user_id, client_id FROM client_ids WHERE created_at < $1 LIMIT $2)",
        )
        .await?;
        self.delete_before(
            before,
            "DELETE FROM idempotency_keys WHERE (caller_id, key) IN
                 (SELECT caller_id, key FROM idempotency_keys WHERE created_at < $1 LIMIT $2)",
        )
        .await?;
        let Some(retention) = events_retention else { return Ok(()) };
        let before = now - i64::try_from(retention.as_millis()).unwrap_or(i64::MAX).min(now);
        // The oldest first: what is left of a log is its end.
        self.delete_before(
            before,
            "DELETE FROM events WHERE (topic_kind, topic_id, event_id) IN
                 (SELECT topic_kind, topic_id, event_id FROM events WHERE created_at < $1
                  ORDER BY created_at, event_id LIMIT $2)",
        )
        .await
    }

    /// Deletes slice by slice, so that others write in between.
    async fn delete_before(&self, before: i64, sql: &'static str) -> Found<()> {
        loop {
            let mut tx = self.begin().await?;
            let deleted = execute!(&mut tx.conn(), sql, before, SLICE)?;
            tx.commit().await?;
            if (deleted as i64) < SLICE {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::fetch_one;
    use crate::store::testing::{TestStore, both};

    both!(what_has_had_its_time_goes_however_much_it_is);

    async fn what_has_had_its_time_goes_however_much_it_is(store: TestStore) {
        store
            .run(
                "WITH RECURSIVE numbers (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n < 2500)
                 INSERT INTO idempotency_keys (caller_id, key, fingerprint, status, body, created_at)
                 SELECT 0, CAST(n AS TEXT), 0, 200, '', n FROM numbers",
            )
            .await;
        store
            .run(
                "WITH RECURSIVE numbers (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n < 2500)
                 INSERT INTO events (topic_kind, topic_id, event_id, kind, subject_id, created_at)
                 SELECT 'c', 1, n, 'message_deleted', 1, n FROM numbers",
            )
            .await;
        let now = REMEMBERED.as_millis() as i64 + 2_401;
        store.sweep(now, Some(REMEMBERED)).await.expect("a sweep");
        for table in ["SELECT COUNT(*) FROM idempotency_keys", "SELECT COUNT(*) FROM events"] {
            let mut reader = store.reader().await.expect("a connection");
            let (left,): (i64,) = fetch_one!(&mut reader.conn(), (i64,), table).expect("a count");
            assert_eq!(left, 100, "{table}");
        }
    }
}
