//! Erasing a user: names, texts, files, and what of them stands elsewhere. In small transactions, so that
//! nobody waits long; each can be done again, so an erasure that a crash broke off is simply repeated.

use serde_json::Value;

use super::commit::change::bury;
use super::sql::{Conn, execute, fetch_all, fetch_one, list, padded, safe};
use super::{Found, Store};
use crate::protocol::Person;

/// What an erased user is called from then on.
const ERASED: (&str, &str) = ("Deleted", "user");
/// Messages, or other rows to be changed, in one transaction.
const PAGE: i64 = 256;
/// How many notifications one read looks over.
const LOOK_OVER: i64 = 10_000;
/// How long a time's answers one read looks over.
const ANSWERS_MS: i64 = 60 * 60 * 1000;

impl Store {
    /// Somebody erased, as others see them.
    pub fn erased_person(id: i64) -> Person {
        let (first_name, last_name) = (ERASED.0.to_owned(), ERASED.1.to_owned());
        Person { id, first_name, last_name, username: None, avatar_url: None }
    }

    /// Erases a user. They stay participants; an unknown id is refused from then on as well.
    pub async fn erase_user(&self, user_id: i64) -> Found<()> {
        self.erase_names(user_id).await?;
        let mut after = 0;
        while let Some(last) = self.bury_some(user_id, after).await? {
            after = last;
        }
        self.bury_rest(user_id).await?;
        while self.delete_some(user_id).await? {}
        self.rename_in_notifications(user_id).await?;
        self.rename_in_answers(user_id).await?;
        self.forget_written_pages().await
    }

    async fn erase_names(&self, user_id: i64) -> Found<()> {
        let now = self.clock.now_ms();
        let mut tx = self.begin().await?;
        execute!(
            &mut tx.conn(),
            "INSERT INTO users (id, first_name, last_name, created_at, erased_at) VALUES ($1, $2, $3, $4, $4)
             ON CONFLICT (id) DO UPDATE SET
                 first_name = excluded.first_name, last_name = excluded.last_name, username = NULL, email = NULL,
                 avatar_url = NULL, last_seen_at = NULL, is_online = 0, erased_at = COALESCE(users.erased_at, excluded.erased_at)",
            user_id,
            ERASED.0,
            ERASED.1,
            now
        )?;
        tx.commit().await
    }

    /// Turns a page of the user's messages into tombstones; where it ended, unless it was the last.
    async fn bury_some(&self, user_id: i64, after: i64) -> Found<Option<i64>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT id, conversation_id FROM messages
                   WHERE sender_id = $1 AND id > $2 AND deleted_at IS NULL ORDER BY id LIMIT $3";
        let page = fetch_all!(&mut reader.conn(), (i64, i64), sql, user_id, after, PAGE)?;
        drop(reader);
        let Some((last, _)) = page.last().copied() else { return Ok(None) };
        let (ids, conversations): (Vec<i64>, Vec<i64>) = page.into_iter().unzip();
        let mut tx = self.begin().await?;
        lock(&mut tx.conn(), &conversations).await?;
        bury_alive(&mut tx.conn(), &ids, self.clock.now_ms()).await?;
        tx.commit().await?;
        Ok(Some(last))
    }

    /// Turns the messages into tombstones that were on their way when the names were erased: whoever holds a
    /// conversation after that sees that its sender is erased.
    async fn bury_rest(&self, user_id: i64) -> Found<()> {
        let mut tx = self.begin().await?;
        let conn = &mut tx.conn();
        let sql = "SELECT conversation_id FROM participants WHERE user_id = $1 AND left_at IS NULL";
        let conversations: Vec<i64> = fetch_all!(conn, (i64,), sql, user_id)?.into_iter().map(|(id,)| id).collect();
        lock(conn, &conversations).await?;
        let sql = "SELECT id FROM messages WHERE sender_id = $1 AND deleted_at IS NULL ORDER BY id";
        let rest: Vec<i64> = fetch_all!(conn, (i64,), sql, user_id)?.into_iter().map(|(id,)| id).collect();
        bury_alive(conn, &rest, self.clock.now_ms()).await?;
        tx.commit().await
    }

    /// Deletes uploads, notifications and answers of the user's own; whether there may be more.
    async fn delete_some(&self, user_id: i64) -> Found<bool> {
        let mut tx = self.begin().await?;
        let conn = &mut tx.conn();
        let uploads = "SELECT id FROM attachments WHERE uploader_id = $1 AND message_id IS NULL ORDER BY id LIMIT 256";
        let sql = format!(
            "INSERT INTO files_to_delete (file_key)
             SELECT file_key FROM attachments WHERE id IN ({uploads})
             UNION SELECT thumbnail_key FROM attachments WHERE id IN ({uploads}) AND thumbnail_key IS NOT NULL"
        );
        execute!(conn, safe(sql), user_id)?;
        let sql = format!("DELETE FROM attachments WHERE id IN ({uploads})");
        let uploads = execute!(conn, safe(sql), user_id)?;
        let sql = "DELETE FROM notifications WHERE id IN
                       (SELECT id FROM notifications WHERE user_id = $1 ORDER BY id LIMIT $2)";
        let notifications = execute!(conn, sql, user_id, PAGE)?;
        execute!(conn, "DELETE FROM idempotency_keys WHERE caller_id = $1", user_id)?;
        tx.commit().await?;
        Ok(uploads + notifications > 0)
    }

    /// Takes the name out of what other people's notifications say of messages.
    async fn rename_in_notifications(&self, user_id: i64) -> Found<()> {
        let mut reader = self.reader().await?;
        let (end,): (i64,) = fetch_one!(&mut reader.conn(), (i64,), "SELECT COALESCE(MAX(id), 0) FROM notifications")?;
        let mut after = 0;
        while after < end {
            let found = fetch_all!(
                &mut reader.conn(),
                (i64, String, String),
                "SELECT id, message, data FROM notifications WHERE id > $1 AND id <= $2
                 AND conversation_id IS NOT NULL AND notification_type = 'message' AND data LIKE $3",
                after,
                after + LOOK_OVER,
                format!("%\"sender_id\":{user_id}%")
            )?;
            after += LOOK_OVER;
            let is_from = |data: &str| {
                let data: Value = serde_json::from_str(data).unwrap_or_default();
                data["sender_id"].as_i64() == Some(user_id)
            };
            let named = found.into_iter().filter(|(_, _, data)| is_from(data));
            let renamed: Vec<(i64, String)> =
                named.filter_map(|(id, message, _)| Some((id, without_name(&message)?))).collect();
            for renamed in renamed.chunks(PAGE as usize) {
                let mut tx = self.begin().await?;
                for (id, message) in renamed {
                    let sql = "UPDATE notifications SET message = $1 WHERE id = $2";
                    execute!(&mut tx.conn(), sql, message, *id)?;
                }
                tx.commit().await?;
            }
        }
        Ok(())
    }

    /// Takes the person and their messages out of answers that are kept for repeated requests of others.
    async fn rename_in_answers(&self, user_id: i64) -> Found<()> {
        let mut after = -1;
        loop {
            let mut reader = self.reader().await?;
            let sql = "SELECT MIN(created_at) FROM idempotency_keys WHERE created_at > $1";
            let (next,): (Option<i64>,) = fetch_one!(&mut reader.conn(), (Option<i64>,), sql, after)?;
            drop(reader);
            let Some(from) = next else { return Ok(()) };
            self.rename_in_answers_of(user_id, from, from + ANSWERS_MS).await?;
            after = from + ANSWERS_MS - 1;
        }
    }

    /// The same for the answers of a stretch of time.
    async fn rename_in_answers_of(&self, user_id: i64, from: i64, until: i64) -> Found<()> {
        let mut reader = self.reader().await?;
        let sql = "SELECT caller_id, key, body FROM idempotency_keys
                   WHERE created_at >= $1 AND created_at < $2 AND body LIKE $3";
        // Whatever follows: an answer that was rewritten before has its fields in another order.
        let person = format!("%\"id\":{user_id}%");
        let found = fetch_all!(&mut reader.conn(), (i64, String, String), sql, from, until, person)?;
        drop(reader);
        for (caller_id, key, body) in found {
            let Ok(kept) = serde_json::from_str::<Value>(&body) else { continue };
            let mut answer = kept.clone();
            erase_within(&mut answer, user_id);
            if answer == kept {
                continue;
            }
            let mut tx = self.begin().await?;
            let sql = "UPDATE idempotency_keys SET body = $1 WHERE caller_id = $2 AND key = $3";
            execute!(&mut tx.conn(), sql, answer.to_string(), caller_id, &key)?;
            tx.commit().await?;
        }
        Ok(())
    }
}

/// Holds conversations until the end of the transaction, in the order of their ids.
async fn lock(conn: &mut Conn<'_>, ids: &[i64]) -> Result<(), sqlx::Error> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    for ids in ids.chunks(PAGE as usize) {
        let ids = padded(ids);
        let sql = format!(
            "SELECT id FROM conversations WHERE id IN ({}) ORDER BY id {}",
            list(0, ids.len()),
            conn.pick("", "FOR UPDATE")
        );
        fetch_all!(conn, (i64,), safe(sql), |query| {
            for id in &ids {
                query = query.bind(*id);
            }
        })?;
    }
    Ok(())
}

/// Turns those of the messages into tombstones that are none yet; their conversations are held.
async fn bury_alive(conn: &mut Conn<'_>, ids: &[i64], now: i64) -> Result<(), sqlx::Error> {
    for ids in ids.chunks(PAGE as usize) {
        let ids = padded(ids);
        let sql = format!("SELECT id FROM messages WHERE id IN ({}) AND deleted_at IS NULL", list(0, ids.len()));
        let alive = fetch_all!(conn, (i64,), safe(sql), |query| {
            for id in &ids {
                query = query.bind(*id);
            }
        })?;
        bury(conn, &alive.into_iter().map(|(id,)| id).collect::<Vec<_>>(), now, None).await?;
    }
    Ok(())
}

/// What a notification of messages says once its sender is erased; nothing where it names nobody.
fn without_name(message: &str) -> Option<String> {
    let (count, _) = message.split_once(" from ")?;
    Some(format!("{count} from {} {}", ERASED.0, ERASED.1))
}

/// Erases a person, and the messages of theirs, wherever they stand in an answer.
fn erase_within(value: &mut Value, user_id: i64) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| erase_within(item, user_id)),
        Value::Object(fields) => {
            let is_theirs = fields.get("sender").is_some_and(|sender| sender["id"] == user_id);
            if is_theirs && fields.contains_key("content") {
                fields.insert("content".to_owned(), Value::String(String::new()));
                if fields.contains_key("is_deleted") {
                    fields.insert("is_deleted".to_owned(), Value::Bool(true));
                    fields.insert("data".to_owned(), Value::Null);
                    fields.insert("edited_at".to_owned(), Value::Null);
                    fields.insert("attachments".to_owned(), Value::Array(Vec::new()));
                    fields.insert("reactions".to_owned(), Value::Array(Vec::new()));
                }
            }
            if fields.get("id").is_some_and(|id| *id == user_id) && fields.contains_key("first_name") {
                fields.insert("first_name".to_owned(), ERASED.0.into());
                fields.insert("last_name".to_owned(), ERASED.1.into());
                for name in ["username", "avatar_url", "email"] {
                    if let Some(field) = fields.get_mut(name) {
                        *field = Value::Null;
                    }
                }
            }
            fields.values_mut().for_each(|field| erase_within(field, user_id));
        }
        _ => {}
    }
}
