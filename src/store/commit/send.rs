//! New messages: decided in memory from what the batch has loaded, written together.

use std::collections::HashMap;

use super::context::{Context, Member};
use super::{Command, Known, Outcome};
use crate::error::{Error, Result};
use crate::protocol::client::NewMessage;
use crate::protocol::{About, Event, Message, ReplyTo, Time};
use crate::store::messages::{ATTACHMENT_COLUMNS, AttachmentRow};
use crate::store::search::words;
use crate::store::sql::{Conn, execute, fetch_all, insert_rows, list, padded, rows, safe};

/// A message to be inserted.
pub(super) struct Row {
    conversation_id: i64,
    id: i64,
    event_id: i64,
    sender_id: i64,
    client_id: Option<String>,
    fingerprint: i64,
    content: String,
    message_type: &'static str,
    reply_to_id: Option<i64>,
    data: Option<String>,
    attachment_ids: Vec<i64>,
    words: String,
}

impl Context<'_> {
    /// Decides a send. What it will insert is gathered for [`Context::write_sends`].
    pub(super) fn send(&mut self, command: &Command, new: &NewMessage, member: &Member) -> Result<Outcome> {
        let conversation_id = command.conversation_id;
        let reply_to = self.reply_to(conversation_id, new.reply_to, member)?;
        let mut attachments = Vec::with_capacity(new.attachment_ids.len());
        for id in &new.attachment_ids {
            let upload = self.uploads.get(id).filter(|upload| upload.uploader_id == member.person.id);
            attachments.push(self.store.attachment(upload.cloned().ok_or_else(no_attachment)?));
        }
        for id in &new.attachment_ids {
            self.uploads.remove(id);
        }
        // Ids were taken for every send of the batch.
        let id = self.message_ids.pop().ok_or_else(Error::internal)?;
        let message = Message {
            id,
            content: new.message.clone(),
            sender: member.person.clone(),
            timestamp: Time(self.now),
            message_type: new.message_type.to_owned(),
            reply_to,
            attachments,
            reactions: Vec::new(),
            data: new.data.clone(),
            edited_at: None,
            is_deleted: false,
        };
        let event = Event::ChatMessage { message: Box::new(message) };
        let mut told = self.log(conversation_id, event, Some(member.person.id), id, None);
        told.about = Some(About { message_id: id, sender_id: member.person.id, reply_to_id: new.reply_to });
        let event_id = told.event_id.unwrap_or_default();
        if let Some(conversation) = self.conversations.get_mut(&conversation_id) {
            conversation.last_message_id = id;
            conversation.active_at = self.now;
        }
        if let Some(client_id) = &command.client_id {
            let known = Known {
                fingerprint: command.fingerprint,
                kind: "chat_message".to_owned(),
                subject_id: Some(id),
                event_id: Some(event_id),
            };
            self.known.insert((conversation_id, member.person.id, client_id.clone()), known);
        }
        self.sends.push(Row {
            conversation_id,
            id,
            event_id,
            sender_id: member.person.id,
            client_id: command.client_id.clone(),
            fingerprint: command.fingerprint,
            content: new.message.clone(),
            message_type: new.message_type,
            reply_to_id: new.reply_to,
            data: new.data.as_ref().map(|data| data.get().to_owned()),
            attachment_ids: new.attachment_ids.clone(),
            words: words(&new.message),
        });
        Ok(Outcome::Done(vec![told]))
    }

    fn reply_to(&self, conversation_id: i64, reply_to: Option<i64>, member: &Member) -> Result<Option<ReplyTo>> {
        let Some(id) = reply_to else { return Ok(None) };
        let replied = self.replied.get(&id).filter(|replied| replied.is_seen_by(conversation_id, member));
        let replied = replied.ok_or_else(|| Error {
            field: Some("reply_to"),
            ..Error::not_found("a reply must name a message of the same conversation")
        })?;
        let message = &replied.message;
        Ok(Some(ReplyTo { id, content: message.content.clone(), sender: message.sender.clone() }))
    }

    /// Inserts the sends gathered so far.
    pub(super) async fn write_sends(&mut self, conn: &mut Conn<'_>) -> Result<(), sqlx::Error> {
        if self.sends.is_empty() {
            return Ok(());
        }
        let sends = std::mem::take(&mut self.sends);
        let now = self.now;
        insert_rows!(
            conn,
            "INSERT INTO messages (id, conversation_id, event_id, sender_id, client_id, fingerprint, content,
                 message_type, reply_to_id, data, created_at)",
            "",
            sends,
            11,
            |query, row| {
                query = query
                    .bind(row.id)
                    .bind(row.conversation_id)
                    .bind(row.event_id)
                    .bind(row.sender_id)
                    .bind(&row.client_id)
                    .bind(row.fingerprint)
                    .bind(&row.content)
                    .bind(row.message_type)
                    .bind(row.reply_to_id)
                    .bind(&row.data)
                    .bind(now);
            }
        )?;
        let links: Vec<(i64, i64, i64)> = sends
            .iter()
            .flat_map(|row| row.attachment_ids.iter().enumerate().map(|(index, id)| (*id, row.id, index as i64)))
            .collect();
        link_attachments(conn, &links).await?;
        let texts: Vec<(i64, &str)> = sends.iter().map(|row| (row.id, row.words.as_str())).collect();
        crate::store::search::insert_words(conn, &texts).await
    }
}

fn no_attachment() -> Error {
    Error {
        field: Some("attachment_ids"),
        ..Error::not_found("an attachment is unknown, somebody else's, or in a message already")
    }
}

async fn link_attachments(conn: &mut Conn<'_>, links: &[(i64, i64, i64)]) -> Result<(), sqlx::Error> {
    if links.is_empty() {
        return Ok(());
    }
    let links = padded(links);
    let sql = format!(
        "WITH link (id, message_id, position) AS (VALUES {})
         UPDATE attachments SET message_id = link.message_id, position = link.position
         FROM link WHERE attachments.id = link.id",
        rows(0, links.len(), 3)
    );
    execute!(conn, safe(sql), |query| {
        for (id, message_id, position) in &links {
            query = query.bind(*id).bind(*message_id).bind(*position);
        }
    })?;
    Ok(())
}

/// The attachments among these ids that no message has yet; on PostgreSQL they are held, so that two
/// conversations can't take the same one.
pub(super) async fn find_uploads(conn: &mut Conn<'_>, ids: &[i64]) -> Result<HashMap<i64, AttachmentRow>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let ids = padded(ids);
    let sql = format!(
        "SELECT {ATTACHMENT_COLUMNS} FROM attachments WHERE id IN ({}) {} ORDER BY id {}",
        list(0, ids.len()),
        if planted!("share-attachments") { "" } else { "AND message_id IS NULL" },
        conn.pick("", "FOR UPDATE")
    );
    let found = fetch_all!(conn, AttachmentRow, safe(sql), |query| {
        for id in &ids {
            query = query.bind(*id);
        }
    })?;
    Ok(found.into_iter().map(|row| (row.id, row)).collect())
}
