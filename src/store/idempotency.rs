//! First answers of REST requests that carried an `Idempotency-Key`. A key is claimed and its answer kept
//! in the transaction of the change itself, so a repeat, however close, finds either nothing or the answer.

use serde::Serialize;
use serde_json::Value;

use super::sql::{Conn, execute, fetch_all, fetch_optional};
use super::{Found, Store};
use crate::error::{Error, Result};

/// A caller's key for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// A user, or 0 for the platform.
    pub caller_id: i64,
    pub key: String,
    /// Equal for equal methods, paths and bodies.
    pub fingerprint: i64,
}

/// What was answered first.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct SavedAnswer {
    pub status: i64,
    /// JSON.
    pub body: String,
}

/// What came of a request that takes effect once.
#[derive(Debug)]
pub enum Once<T> {
    /// It took effect now.
    First(T),
    /// It had taken effect before.
    Repeated(SavedAnswer),
}

#[derive(sqlx::FromRow)]
struct Row {
    fingerprint: i64,
    status: i64,
    body: String,
}

impl Store {
    /// The answer that a key's first request got.
    pub async fn find_answer(&self, key: &IdempotencyKey) -> Found<Result<Option<SavedAnswer>>> {
        let mut reader = self.reader().await?;
        Ok(find(&mut reader.conn(), key).await?)
    }

    /// Keeps the answer of a request whose change is none the other when made twice; the first one kept
    /// is the answer of all.
    pub async fn save_answer(&self, key: &IdempotencyKey, answer: SavedAnswer) -> Found<Result<SavedAnswer>> {
        let mut tx = self.begin().await?;
        let now = self.clock.now_ms();
        match claim(&mut tx.conn(), Some(key), now).await? {
            Ok(Some(earlier)) => return Ok(Ok(earlier)),
            Err(error) => return Ok(Err(error)),
            Ok(None) => write(&mut tx.conn(), key, &answer).await?,
        }
        tx.commit().await?;
        Ok(Ok(answer))
    }
}

/// Takes a key for this transaction, or finds the answer it was used for. Where another transaction holds
/// it, waits for that one's end. Without a key there is nothing to take.
pub(super) async fn claim(
    conn: &mut Conn<'_>,
    key: Option<&IdempotencyKey>,
    now: i64,
) -> Result<Result<Option<SavedAnswer>>, sqlx::Error> {
    let Some(key) = key.filter(|_| !planted!("forget-keys")) else { return Ok(Ok(None)) };
    let claimed = execute!(
        conn,
        "INSERT INTO idempotency_keys (caller_id, key, fingerprint, status, body, created_at)
         VALUES ($1, $2, $3, 0, '', $4) ON CONFLICT (caller_id, key) DO NOTHING",
        key.caller_id,
        &key.key,
        key.fingerprint,
        now
    )?;
    if claimed == 1 {
        return Ok(Ok(None));
    }
    find(conn, key).await
}

/// Keeps the answer of a key that this transaction has claimed.
pub(super) async fn keep(
    conn: &mut Conn<'_>,
    key: Option<&IdempotencyKey>,
    status: i64,
    body: &impl Serialize,
) -> Result<(), sqlx::Error> {
    let Some(key) = key else { return Ok(()) };
    let body = serde_json::to_string(body).map_err(|error| sqlx::Error::Encode(error.into()))?;
    write(conn, key, &SavedAnswer { status, body }).await
}

async fn write(conn: &mut Conn<'_>, key: &IdempotencyKey, answer: &SavedAnswer) -> Result<(), sqlx::Error> {
    let sql = "UPDATE idempotency_keys SET status = $1, body = $2 WHERE caller_id = $3 AND key = $4";
    execute!(conn, sql, answer.status, &answer.body, key.caller_id, &key.key)?;
    Ok(())
}

async fn find(conn: &mut Conn<'_>, key: &IdempotencyKey) -> Result<Result<Option<SavedAnswer>>, sqlx::Error> {
    let sql = "SELECT fingerprint, status, body FROM idempotency_keys WHERE caller_id = $1 AND key = $2";
    let row: Option<Row> = fetch_optional!(conn, Row, sql, key.caller_id, &key.key)?;
    Ok(match row {
        Some(row) if row.fingerprint != key.fingerprint => {
            Err(Error::conflict("this `Idempotency-Key` was used for another request; take a fresh one for each"))
        }
        Some(row) => Ok(Some(SavedAnswer { status: row.status, body: row.body })),
        None => Ok(None),
    })
}

/// Takes the last message out of answers that are kept for a caller who has cleared the conversation.
pub(super) async fn forget_last_message(
    conn: &mut Conn<'_>,
    caller_id: i64,
    conversation_id: i64,
) -> Result<(), sqlx::Error> {
    let sql = "SELECT key, body FROM idempotency_keys WHERE caller_id = $1 AND body LIKE '%\"last_message\":{%'";
    for (key, body) in fetch_all!(conn, (String, String), sql, caller_id)? {
        let Ok(mut answer) = serde_json::from_str::<Value>(&body) else { continue };
        let is_of_conversation = answer["id"].as_i64() == Some(conversation_id);
        if let Some(last_message) = answer.get_mut("last_message").filter(|_| is_of_conversation) {
            *last_message = Value::Null;
            let sql = "UPDATE idempotency_keys SET body = $1 WHERE caller_id = $2 AND key = $3";
            execute!(conn, sql, answer.to_string(), caller_id, &key)?;
        }
    }
    Ok(())
}
