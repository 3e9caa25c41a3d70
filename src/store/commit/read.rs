//! Reading: a cursor per participant that only moves forward.

use super::context::{Context, Member};
use super::{Command, Outcome, no_message};
use crate::error::Result;
use crate::protocol::{Event, Time};
use crate::store::events::Told;
use crate::store::sql::{Conn, execute, fetch_optional};

impl Context<'_> {
    /// Moves the cursor to the last message of somebody else at or before the one named.
    pub(super) async fn read(
        &mut self,
        conn: &mut Conn<'_>,
        command: &Command,
        member: &Member,
        message_id: i64,
    ) -> Result<Result<Outcome>, sqlx::Error> {
        let (conversation_id, user_id) = (command.conversation_id, member.person.id);
        let named: Option<(i64,)> = fetch_optional!(
            conn,
            (i64,),
            "SELECT id FROM messages WHERE id = $1 AND conversation_id = $2",
            message_id,
            conversation_id
        )?;
        if named.is_none() || message_id <= member.cleared_up_to {
            return Ok(Err(no_message()));
        }
        let last: Option<(i64,)> = fetch_optional!(
            conn,
            (i64,),
            "SELECT id FROM messages WHERE conversation_id = $1 AND id <= $2 AND sender_id <> $3 ORDER BY id DESC LIMIT 1",
            conversation_id,
            message_id,
            user_id
        )?;
        let up_to = match last {
            Some((id,)) if id > member.read_up_to => id,
            Some(_) => return Ok(Ok(Outcome::Unchanged(state(member, message_id, self.now)))),
            None => {
                let read_by = member.person.clone();
                let event = Event::MessageRead { message_id, read_by, read_at: Time(self.now) };
                return Ok(Ok(Outcome::Unchanged(Told { event_id: None, event, about: None, client_id: None })));
            }
        };
        execute!(
            conn,
            "UPDATE participants SET read_up_to = $1, read_at = $2 WHERE conversation_id = $3 AND user_id = $4",
            up_to,
            self.now,
            conversation_id,
            user_id
        )?;
        if let Some(member) = self.members.get_mut(&(conversation_id, user_id)) {
            member.read_up_to = up_to;
            member.read_at = Some(self.now);
        }
        let event = Event::MessageRead { message_id: up_to, read_by: member.person.clone(), read_at: Time(self.now) };
        Ok(Ok(Outcome::Done(vec![Told { event_id: None, event, about: None, client_id: None }])))
    }
}

/// The cursor as it stands; where nothing has been read, the message that was asked for, as of now.
pub(super) fn state(member: &Member, asked: i64, now: i64) -> Told {
    let (message_id, read_at) = match member.read_up_to {
        0 => (asked, now),
        up_to => (up_to, member.read_at.unwrap_or(now)),
    };
    let event = Event::MessageRead { message_id, read_by: member.person.clone(), read_at: Time(read_at) };
    Told { event_id: None, event, about: None, client_id: None }
}
