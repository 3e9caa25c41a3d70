//! Changes to a message that is there: edits, deletion, reactions.

use super::context::{Context, Member};
use super::{Change, Outcome, no_message};
use crate::error::{Error, Result};
use crate::protocol::{About, Event, Person, Reaction, Time};
use crate::store::events::Told;
use crate::store::messages::StoredMessage;
use crate::store::search::{insert_words, remove_words, words};
use crate::store::sql::{Conn, execute, fetch_optional};

/// What a decided change does: an event for the log, or nothing new.
type Decided = Result<Result<Outcome>, sqlx::Error>;

impl Context<'_> {
    pub(super) async fn change_message(
        &mut self,
        conn: &mut Conn<'_>,
        conversation_id: i64,
        change: &Change,
        member: &Member,
    ) -> Decided {
        let (Change::Edit { message_id, .. }
        | Change::Delete { message_id }
        | Change::React { message_id, .. }
        | Change::Unreact { message_id, .. }) = change
        else {
            return Ok(Err(Error::internal()));
        };
        let found = self.store.load_messages(conn, &[*message_id]).await?.remove(message_id);
        let Some(stored) = found.filter(|stored| stored.is_seen_by(conversation_id, member)) else {
            return Ok(Err(no_message()));
        };
        let actor = &member.person;
        match change {
            Change::Edit { text, .. } => self.edit(conn, stored, text, actor).await,
            Change::Delete { .. } => self.delete(conn, stored, actor).await,
            Change::React { reaction, emoji, .. } => self.react(conn, stored, reaction, emoji, actor).await,
            Change::Unreact { reaction, emoji, .. } => self.unreact(conn, stored, reaction, emoji, actor).await,
            _ => Ok(Err(Error::internal())),
        }
    }

    async fn edit(&mut self, conn: &mut Conn<'_>, mut stored: StoredMessage, text: &str, actor: &Person) -> Decided {
        if stored.message.sender.id != actor.id {
            return Ok(Err(Error::forbidden("only its sender edits a message")));
        }
        if stored.message.is_deleted {
            return Ok(Err(no_message()));
        }
        if text.is_empty() && stored.message.attachments.is_empty() {
            return Ok(Err(Error::field("message", "`message` may be empty only with an attachment")));
        }
        let id = stored.message.id;
        if stored.message.content == text {
            let event_id = None;
            let about = Some(stored.about());
            let event = Event::MessageEdited { message: Box::new(stored.message) };
            return Ok(Ok(Outcome::Unchanged(Told { event_id, event, about, client_id: None })));
        }
        execute!(
            conn,
            "INSERT INTO message_revisions (message_id, number, content, replaced_at)
             SELECT id, (SELECT COUNT(*) + 1 FROM message_revisions WHERE message_id = $1), content, $2
             FROM messages WHERE id = $1",
            id,
            self.now
        )?;
        remove_words(conn, &[id]).await?;
        execute!(conn, "UPDATE messages SET content = $1, edited_at = $2 WHERE id = $3", text, self.now, id)?;
        insert_words(conn, &[(id, &words(text))]).await?;
        self.quote_as(id, text);
        stored.message.content = text.to_owned();
        stored.message.edited_at = Some(Time(self.now));
        let about = stored.about();
        let event = Event::MessageEdited { message: Box::new(stored.message) };
        Ok(Ok(self.told(stored.conversation_id, event, actor, about, None)))
    }

    async fn delete(&mut self, conn: &mut Conn<'_>, stored: StoredMessage, actor: &Person) -> Decided {
        if stored.message.sender.id != actor.id {
            return Ok(Err(Error::forbidden("only its sender deletes a message")));
        }
        let id = stored.message.id;
        let deleted = |at| Event::MessageDeleted { message_id: id, deleted_by: actor.clone(), deleted_at: Time(at) };
        let about = stored.about();
        if stored.message.is_deleted {
            let at: Option<(Option<i64>,)> =
                fetch_optional!(conn, (Option<i64>,), "SELECT deleted_at FROM messages WHERE id = $1", id)?;
            let at = at.and_then(|(at,)| at).unwrap_or(self.now);
            let told = Told { event_id: None, event: deleted(at), about: Some(about), client_id: None };
            return Ok(Ok(Outcome::Unchanged(told)));
        }
        self.quote_as(id, "");
        let outcome = self.told(stored.conversation_id, deleted(self.now), actor, about, None);
        bury(conn, &[id], self.now, outcome.answer().and_then(|told| told.event_id)).await?;
        Ok(Ok(outcome))
    }

    /// Later replies of the batch to a message show what it says by then.
    fn quote_as(&mut self, message_id: i64, text: &str) {
        if let Some(replied) = self.replied.get_mut(&message_id) {
            replied.message.content = text.to_owned();
        }
    }

    async fn react(
        &mut self,
        conn: &mut Conn<'_>,
        stored: StoredMessage,
        name: &str,
        emoji: &str,
        actor: &Person,
    ) -> Decided {
        if stored.message.is_deleted {
            return Ok(Err(no_message()));
        }
        let id = stored.message.id;
        let about = stored.about();
        let own = stored.message.reactions.iter().find(|reaction| reaction.user.id == actor.id);
        if let Some(own) = own.filter(|own| own.reaction == name) {
            let event = Event::ReactionAdded { message_id: id, reaction: own.clone() };
            return Ok(Ok(Outcome::Unchanged(Told { event_id: None, event, about: Some(about), client_id: None })));
        }
        // The emoji of a reaction is as it was first sent, so that all show the same one.
        let first = stored.message.reactions.iter().find(|reaction| reaction.reaction == name);
        let emoji = first.map_or(emoji, |first| first.emoji.as_str()).to_owned();
        execute!(
            conn,
            "INSERT INTO reactions (message_id, user_id, reaction, emoji, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (message_id, user_id) DO UPDATE SET
                 reaction = excluded.reaction, emoji = excluded.emoji, created_at = excluded.created_at",
            id,
            actor.id,
            name,
            &emoji,
            self.now
        )?;
        let reaction = Reaction { reaction: name.to_owned(), emoji, user: actor.clone() };
        let data = logged(&reaction);
        let event = Event::ReactionAdded { message_id: id, reaction };
        Ok(Ok(self.told(stored.conversation_id, event, actor, about, data)))
    }

    async fn unreact(
        &mut self,
        conn: &mut Conn<'_>,
        stored: StoredMessage,
        name: &str,
        emoji: &str,
        actor: &Person,
    ) -> Decided {
        if stored.message.is_deleted {
            return Ok(Err(no_message()));
        }
        let id = stored.message.id;
        let about = stored.about();
        let own = stored.message.reactions.iter().find(|own| own.user.id == actor.id && own.reaction == name);
        let Some(own) = own else {
            let reaction = Reaction { reaction: name.to_owned(), emoji: emoji.to_owned(), user: actor.clone() };
            let event = Event::ReactionRemoved { message_id: id, reaction };
            return Ok(Ok(Outcome::Unchanged(Told { event_id: None, event, about: Some(about), client_id: None })));
        };
        execute!(conn, "DELETE FROM reactions WHERE message_id = $1 AND user_id = $2", id, actor.id)?;
        let data = logged(own);
        let event = Event::ReactionRemoved { message_id: id, reaction: own.clone() };
        Ok(Ok(self.told(stored.conversation_id, event, actor, about, data)))
    }

    /// Logs an event about a message.
    fn told(
        &mut self,
        conversation_id: i64,
        event: Event,
        actor: &Person,
        about: About,
        data: Option<String>,
    ) -> Outcome {
        let mut told = self.log(conversation_id, event, Some(actor.id), about.message_id, data);
        told.about = Some(about);
        Outcome::Done(vec![told])
    }
}

fn logged(reaction: &Reaction) -> Option<String> {
    Some(serde_json::json!({ "reaction": reaction.reaction, "emoji": reaction.emoji }).to_string())
}

/// Turns messages into tombstones: nothing of what they held is left. An event tells of it, unless they are erased.
pub(in crate::store) async fn bury(
    conn: &mut Conn<'_>,
    ids: &[i64],
    now: i64,
    event_id: Option<i64>,
) -> Result<(), sqlx::Error> {
    remove_words(conn, ids).await?;
    for id in ids {
        execute!(
            conn,
            "UPDATE messages SET content = '', data = NULL, edited_at = NULL, deleted_at = $1, deleted_event_id = $2
             WHERE id = $3",
            now,
            event_id,
            *id
        )?;
        execute!(conn, "DELETE FROM message_revisions WHERE message_id = $1", *id)?;
        execute!(conn, "DELETE FROM reactions WHERE message_id = $1", *id)?;
        execute!(
            conn,
            "INSERT INTO files_to_delete (file_key)
             SELECT file_key FROM attachments WHERE message_id = $1
             UNION SELECT thumbnail_key FROM attachments WHERE message_id = $1 AND thumbnail_key IS NOT NULL",
            *id
        )?;
        execute!(conn, "DELETE FROM attachments WHERE message_id = $1", *id)?;
    }
    Ok(())
}
