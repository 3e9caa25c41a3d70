//! Attachments: uploads until a message takes them, who may see them, and files that nobody needs any more.
//! A file's key is noted for deletion before its bytes are written, and the note goes with the transaction that
//! writes its row: whenever a server dies, no file is left that nobody knows of. Knows keys, never bytes.

use super::conversations::take_ids;
use super::idempotency::{self, IdempotencyKey, Once};
use super::messages::{ATTACHMENT_COLUMNS, AttachmentRow};
use super::sql::{Conn, execute, fetch_all, fetch_optional, insert_rows, list, padded, safe};
use super::{Found, Store};
use crate::error::Result;
use crate::protocol::Attachment;

/// How long an upload waits for its message, and an upload under way for its row.
const UPLOAD_LIFETIME_MS: i64 = 24 * 60 * 60 * 1000;
/// Uploads and files that one statement of the collector takes.
const PAGE: i64 = 256;

/// A file whose bytes are stored, to be made known.
#[derive(Clone, Debug)]
pub struct NewAttachment<'a> {
    pub uploader_id: i64,
    pub filename: &'a str,
    pub content_type: &'a str,
    pub size: i64,
    pub width: Option<i64>,
    pub height: Option<i64>,
    pub file_key: &'a str,
    /// The key and the content type.
    pub thumbnail: Option<(&'a str, &'a str)>,
}

impl Store {
    /// Notes keys for deletion, before anything is written under them.
    pub async fn reserve_files(&self, keys: &[&str]) -> Found<()> {
        let not_before = self.clock.now_ms() + UPLOAD_LIFETIME_MS;
        let mut tx = self.begin().await?;
        let head = "INSERT INTO files_to_delete (file_key, not_before)";
        insert_rows!(&mut tx.conn(), head, "", keys, 2, |query, key| {
            query = query.bind((*key).to_owned()).bind(not_before);
        })?;
        tx.commit().await
    }

    /// Writes the row of an upload whose keys were reserved; from now on its files live as long as it does.
    pub async fn insert_attachment(
        &self,
        new: NewAttachment<'_>,
        key: Option<&IdempotencyKey>,
    ) -> Found<Result<Once<Attachment>>> {
        let now = self.clock.now_ms();
        let mut tx = self.begin().await?;
        let conn = &mut tx.conn();
        match idempotency::claim(conn, key, now).await? {
            Ok(None) => {}
            Ok(Some(answer)) => return Ok(Ok(Once::Repeated(answer))),
            Err(error) => return Ok(Err(error)),
        }
        for key in [Some(new.file_key), new.thumbnail.map(|(key, _)| key)].into_iter().flatten() {
            let sql = "DELETE FROM files_to_delete WHERE file_key = $1 AND not_before > $2";
            // An upload that took too long may be half deleted already.
            if execute!(conn, sql, key, now)? == 0 {
                return Err(sqlx::Error::RowNotFound.into());
            }
        }
        let id = take_ids(conn, "attachment", 1).await?.pop().ok_or(sqlx::Error::RowNotFound)?;
        execute!(
            conn,
            "INSERT INTO attachments (id, uploader_id, filename, content_type, size, width, height, file_key,
                 thumbnail_key, thumbnail_type, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            id,
            new.uploader_id,
            new.filename,
            new.content_type,
            new.size,
            new.width,
            new.height,
            new.file_key,
            new.thumbnail.map(|(key, _)| key),
            new.thumbnail.map(|(_, content_type)| content_type),
            now
        )?;
        let row = find_row(conn, id).await?.ok_or(sqlx::Error::RowNotFound)?;
        let attachment = self.attachment(row);
        idempotency::keep(conn, key, 201, &attachment).await?;
        tx.commit().await?;
        Ok(Ok(Once::First(attachment)))
    }

    /// An attachment as this user may see it: before it is sent its uploader alone, then the participants of its
    /// conversation who have not cleared it.
    pub async fn find_attachment(&self, id: i64, user_id: i64) -> Found<Option<Attachment>> {
        let mut reader = self.reader().await?;
        let sql = format!(
            "SELECT {ATTACHMENT_COLUMNS} FROM attachments
             WHERE id = $1 AND (message_id IS NULL AND uploader_id = $2 OR EXISTS (
                 SELECT 1 FROM messages m JOIN participants p ON p.conversation_id = m.conversation_id
                 WHERE m.id = attachments.message_id AND p.user_id = $2 AND p.left_at IS NULL
                     AND m.id > p.cleared_up_to))"
        );
        let row = fetch_optional!(&mut reader.conn(), AttachmentRow, safe(sql), id, user_id)?;
        Ok(row.map(|row| self.attachment(row)))
    }

    /// An attachment's row, for whoever holds a link to it.
    pub async fn find_attachment_row(&self, id: i64) -> Found<Option<AttachmentRow>> {
        let mut reader = self.reader().await?;
        Ok(find_row(&mut reader.conn(), id).await?)
    }

    /// Forgets uploads that no message took in time, and notes their files for deletion.
    pub async fn expire_uploads(&self) -> Found<()> {
        let before = self.clock.now_ms() - UPLOAD_LIFETIME_MS;
        loop {
            let mut tx = self.begin().await?;
            // A message that takes one at this moment holds its row, and is seen once the row is free.
            let sql = "DELETE FROM attachments WHERE message_id IS NULL AND id IN (
                           SELECT id FROM attachments WHERE message_id IS NULL AND created_at < $1 LIMIT $2)
                       RETURNING file_key, thumbnail_key";
            let gone = fetch_all!(&mut tx.conn(), (String, Option<String>), sql, before, PAGE)?;
            let keys: Vec<String> =
                gone.iter().flat_map(|(file, thumbnail)| [Some(file), thumbnail.as_ref()]).flatten().cloned().collect();
            insert_rows!(&mut tx.conn(), "INSERT INTO files_to_delete (file_key)", "", keys, 1, |query, key| {
                query = query.bind(key.clone());
            })?;
            tx.commit().await?;
            if (gone.len() as i64) < PAGE {
                return Ok(());
            }
        }
    }

    /// Keys whose files may be deleted now, in order, from after this one on: a page, or nothing at the end.
    pub async fn list_files_to_delete(&self, after: &str) -> Found<Vec<String>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT file_key FROM files_to_delete WHERE file_key > $1 AND not_before <= $2
                   ORDER BY file_key LIMIT $3";
        let rows = fetch_all!(&mut reader.conn(), (String,), sql, after, self.clock.now_ms(), PAGE)?;
        Ok(rows.into_iter().map(|(key,)| key).collect())
    }

    /// Takes note that files are deleted.
    pub async fn forget_files(&self, keys: &[String]) -> Found<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let keys = padded(keys);
        let mut tx = self.begin().await?;
        let sql = format!("DELETE FROM files_to_delete WHERE file_key IN ({})", list(0, keys.len()));
        execute!(&mut tx.conn(), safe(sql), |query| {
            for key in &keys {
                query = query.bind(key.clone());
            }
        })?;
        tx.commit().await
    }
}

async fn find_row(conn: &mut Conn<'_>, id: i64) -> Result<Option<AttachmentRow>, sqlx::Error> {
    let sql = format!("SELECT {ATTACHMENT_COLUMNS} FROM attachments WHERE id = $1");
    fetch_optional!(conn, AttachmentRow, safe(sql), id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::commit::Change;
    use crate::store::testing::{START_MS, TestStore, both};

    both!(
        an_upload_is_its_uploaders_until_it_is_sent_and_then_the_participants,
        what_is_cleared_left_or_deleted_is_gone,
        a_key_is_noted_until_its_row_is_written,
        an_upload_that_took_too_long_is_refused,
        uploads_that_no_message_took_are_forgotten_after_a_day,
        files_to_delete_come_in_pages,
    );

    async fn upload(store: &TestStore, uploader_id: i64, key: &str) -> Found<Attachment> {
        let thumbnail = format!("{key}t");
        store.reserve_files(&[key, &thumbnail]).await.unwrap();
        insert(store, uploader_id, key, &thumbnail).await
    }

    async fn insert(store: &TestStore, uploader_id: i64, key: &str, thumbnail: &str) -> Found<Attachment> {
        let new = NewAttachment {
            uploader_id,
            filename: "a b.png",
            content_type: "image/png",
            size: 7,
            width: Some(3),
            height: Some(2),
            file_key: key,
            thumbnail: Some((thumbnail, "image/jpeg")),
        };
        match store.insert_attachment(new, None).await?.unwrap() {
            Once::First(attachment) => Ok(attachment),
            Once::Repeated(answer) => panic!("{answer:?}"),
        }
    }

    async fn sees(store: &TestStore, id: i64, user_ids: [i64; 3]) -> [bool; 3] {
        let mut seen = [false; 3];
        for (seen, user_id) in seen.iter_mut().zip(user_ids) {
            *seen = store.find_attachment(id, user_id).await.unwrap().is_some();
        }
        seen
    }

    /// All that is noted, whatever its time.
    async fn noted(store: &TestStore) -> Vec<String> {
        let mut reader = store.reader().await.unwrap();
        let sql = "SELECT file_key FROM files_to_delete ORDER BY file_key";
        let rows = fetch_all!(&mut reader.conn(), (String,), sql).unwrap();
        rows.into_iter().map(|(key,)| key).collect()
    }

    async fn an_upload_is_its_uploaders_until_it_is_sent_and_then_the_participants(store: TestStore) {
        store.put_conversation(1, &[1, 2]).await;
        store.put_conversation(2, &[1, 3]).await;
        let made = upload(&store, 1, "k").await.unwrap();
        assert_eq!((made.size, made.width, made.height), (7, Some(3), Some(2)));
        let (address, query) = made.url.split_once('?').unwrap();
        assert_eq!(address, format!("/api/v1/attachments/{}/a%20b.png", made.id));
        assert!(store.links().verify(made.id, query, START_MS).is_some());
        assert!(made.thumbnail_url.is_some());
        assert_eq!(sees(&store, made.id, [1, 2, 3]).await, [true, false, false]);
        store.say(1, 1, "", &[made.id]).await;
        assert_eq!(sees(&store, made.id, [1, 2, 3]).await, [true, true, false]);
        assert_eq!(store.find_attachment(made.id + 1, 1).await.unwrap().map(|found| found.id), None);
    }

    async fn what_is_cleared_left_or_deleted_is_gone(store: TestStore) {
        store.put_conversation(1, &[1, 2, 3]).await;
        let made = upload(&store, 1, "k").await.unwrap();
        let message_id = store.say(1, 1, "see", &[made.id]).await;
        store.set_participant(1, 2, "cleared_up_to", message_id).await;
        store.set_participant(1, 3, "left_at", START_MS).await;
        assert_eq!(sees(&store, made.id, [1, 2, 3]).await, [true, false, false]);
        store.change(1, 1, Change::Delete { message_id }).await.unwrap();
        assert_eq!(sees(&store, made.id, [1, 2, 3]).await, [false; 3]);
        assert!(store.find_attachment_row(made.id).await.unwrap().is_none());
        assert_eq!(store.list_files_to_delete("").await.unwrap(), ["k", "kt"]);
        store.forget_files(&["k".into(), "kt".into()]).await.unwrap();
        assert_eq!(noted(&store).await, [""; 0]);
    }

    async fn a_key_is_noted_until_its_row_is_written(store: TestStore) {
        store.put_conversation(1, &[1]).await;
        store.reserve_files(&["k", "kt"]).await.unwrap();
        assert_eq!(noted(&store).await, ["k", "kt"]);
        assert_eq!(store.list_files_to_delete("").await.unwrap(), [""; 0]);
        insert(&store, 1, "k", "kt").await.unwrap();
        assert_eq!(noted(&store).await, [""; 0]);
    }

    async fn an_upload_that_took_too_long_is_refused(store: TestStore) {
        store.put_conversation(1, &[1]).await;
        store.reserve_files(&["k", "kt", "l", "lt"]).await.unwrap();
        store.clock.advance_ms(UPLOAD_LIFETIME_MS - 1);
        insert(&store, 1, "k", "kt").await.unwrap();
        assert_eq!(store.list_files_to_delete("").await.unwrap(), [""; 0]);
        store.clock.advance_ms(1);
        assert!(insert(&store, 1, "l", "lt").await.is_err());
        assert_eq!(store.list_files_to_delete("").await.unwrap(), ["l", "lt"]);
    }

    async fn uploads_that_no_message_took_are_forgotten_after_a_day(store: TestStore) {
        store.put_conversation(1, &[1]).await;
        let sent = upload(&store, 1, "s").await.unwrap();
        let left = upload(&store, 1, "u").await.unwrap();
        store.say(1, 1, "", &[sent.id]).await;
        store.clock.advance_ms(UPLOAD_LIFETIME_MS);
        store.expire_uploads().await.unwrap();
        assert_eq!(noted(&store).await, [""; 0]);
        store.clock.advance_ms(1);
        store.expire_uploads().await.unwrap();
        assert_eq!(store.list_files_to_delete("").await.unwrap(), ["u", "ut"]);
        assert!(store.find_attachment(left.id, 1).await.unwrap().is_none());
        assert!(store.find_attachment(sent.id, 1).await.unwrap().is_some());
    }

    async fn files_to_delete_come_in_pages(store: TestStore) {
        let keys: Vec<String> = (0..PAGE + 1).map(|number| format!("{number:04}")).collect();
        store.reserve_files(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
        store.clock.advance_ms(UPLOAD_LIFETIME_MS);
        let page = store.list_files_to_delete("").await.unwrap();
        assert_eq!(page, keys[..PAGE as usize]);
        assert_eq!(store.list_files_to_delete(&page[page.len() - 1]).await.unwrap(), keys[PAGE as usize..]);
        assert_eq!(store.list_files_to_delete(&keys[PAGE as usize]).await.unwrap(), [""; 0]);
    }
}
