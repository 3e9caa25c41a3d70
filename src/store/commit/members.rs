//! Changes to a group: who is in it, what they may do, what it is called.

use super::context::{Context, Conversation, Member, find_members};
use super::{Change, Outcome};
use crate::error::{Error, Result};
use crate::protocol::server::ConversationTitle;
use crate::protocol::{Event, Role};
use crate::store::sql::{Conn, execute, fetch_one, fetch_optional};
use crate::store::users::find_people;

type Decided = Result<Result<Outcome>, sqlx::Error>;

impl Context<'_> {
    /// Decides a change to a group; `actor` is nobody for the platform, which may do all of them.
    pub(super) async fn change_members(
        &mut self,
        conn: &mut Conn<'_>,
        conversation: &Conversation,
        change: &Change,
        actor: Option<&Member>,
    ) -> Decided {
        if conversation.kind != "group" {
            return Ok(Err(Error::forbidden("that is for groups; a 1:1 keeps its two people and has no title")));
        }
        let leaves = matches!(change, Change::RemoveParticipant { user_id } if actor.is_some_and(|actor| actor.person.id == *user_id));
        if actor.is_some_and(|actor| actor.role == Role::Member) && !leaves {
            return Ok(Err(Error::forbidden("only an owner or admin of the group may do that")));
        }
        match change {
            Change::AddParticipants { user_ids, participants_max } => {
                self.add(conn, conversation.id, user_ids, *participants_max, actor).await
            }
            Change::RemoveParticipant { user_id } => self.remove(conn, conversation.id, *user_id, actor).await,
            Change::SetRole { user_id, role } => self.set_role(conn, conversation.id, *user_id, *role, actor).await,
            Change::SetTitle { title } => self.set_title(conn, conversation.id, title.as_deref(), actor).await,
            _ => Ok(Err(Error::internal())),
        }
    }

    async fn add(
        &mut self,
        conn: &mut Conn<'_>,
        id: i64,
        user_ids: &[i64],
        participants_max: Option<u64>,
        actor: Option<&Member>,
    ) -> Decided {
        if actor.is_none() {
            crate::store::users::ensure_users(conn, user_ids, self.now).await?;
        }
        let mut people = find_people(conn, user_ids).await?;
        let pairs: Vec<(i64, i64)> = user_ids.iter().map(|user_id| (id, *user_id)).collect();
        let present = find_members(conn, &pairs).await?;
        let mut fresh = Vec::new();
        for user_id in user_ids {
            if present.contains_key(&(id, *user_id)) {
                continue;
            }
            match people.remove(user_id) {
                Some(person) => fresh.push(person),
                None if fresh.iter().any(|known: &crate::protocol::Person| known.id == *user_id) => {}
                None => return Ok(Err(Error { field: Some("user_ids"), ..Error::not_found("a user is unknown") })),
            }
        }
        let (count,): (i64,) = fetch_one!(
            conn,
            (i64,),
            "SELECT COUNT(*) FROM participants WHERE conversation_id = $1 AND left_at IS NULL",
            id
        )?;
        if participants_max.is_some_and(|most| count as u64 + fresh.len() as u64 > most) {
            return Ok(Err(Error::too_large("user_ids", "the conversation would have too many participants")));
        }
        let by = actor.map(|actor| actor.person.clone());
        let mut told = Vec::with_capacity(fresh.len());
        for person in fresh {
            let user_id = person.id;
            let event = Event::ParticipantAdded { user: person, role: Role::Member, by: by.clone() };
            let data = Some(r#"{"role":"member"}"#.to_owned());
            told.push(self.log(id, event, by.as_ref().map(|by| by.id), user_id, data));
            let joined_event_id = told.last().and_then(|told| told.event_id).unwrap_or_default();
            self.insert_participant(conn, id, user_id, joined_event_id).await?;
        }
        Ok(Ok(Outcome::Done(told)))
    }

    /// Puts somebody into a group, who then sees all its history as read.
    async fn insert_participant(
        &mut self,
        conn: &mut Conn<'_>,
        id: i64,
        user_id: i64,
        joined_event_id: i64,
    ) -> Result<(), sqlx::Error> {
        let last: Option<(i64,)> = fetch_optional!(
            conn,
            (i64,),
            "SELECT id FROM messages WHERE conversation_id = $1 AND sender_id <> $2 ORDER BY id DESC LIMIT 1",
            id,
            user_id
        )?;
        execute!(
            conn,
            "INSERT INTO participants (conversation_id, user_id, role, read_up_to, read_at, joined_at, joined_event_id)
             VALUES ($1, $2, 'member', $3, $4, $4, $5)
             ON CONFLICT (conversation_id, user_id) DO UPDATE SET
                 role = 'member', read_up_to = excluded.read_up_to, read_at = excluded.read_at,
                 joined_at = excluded.joined_at, joined_event_id = excluded.joined_event_id,
                 left_at = NULL, archived_at = NULL, muted_until = NULL",
            id,
            user_id,
            last.map_or(0, |(id,)| id),
            self.now,
            joined_event_id
        )?;
        Ok(())
    }

    async fn remove(&mut self, conn: &mut Conn<'_>, id: i64, user_id: i64, actor: Option<&Member>) -> Decided {
        let Some(leaver) = find_members(conn, &[(id, user_id)]).await?.remove(&(id, user_id)) else {
            return Ok(Err(Error::not_found("that user is not in the conversation")));
        };
        let leaves = actor.is_some_and(|actor| actor.person.id == user_id);
        if !leaves && leaver.role == Role::Owner && actor.is_some_and(|actor| actor.role != Role::Owner) {
            return Ok(Err(Error::forbidden("an admin can't put the owner out")));
        }
        execute!(
            conn,
            "UPDATE participants SET left_at = $1 WHERE conversation_id = $2 AND user_id = $3",
            self.now,
            id,
            user_id
        )?;
        self.members.remove(&(id, user_id));
        if leaver.role == Role::Owner {
            self.pass_on(conn, id).await?;
        }
        let by = actor.map(|actor| actor.person.clone());
        let by_id = by.as_ref().map(|by| by.id);
        let data = Some(serde_json::json!({ "role": leaver.role }).to_string());
        let event = Event::ParticipantRemoved { user: leaver.person, role: leaver.role, by };
        Ok(Ok(Outcome::Done(vec![self.log(id, event, by_id, user_id, data)])))
    }

    /// Makes the longest-serving admin, or else member, the owner of a group whose owner has gone.
    async fn pass_on(&mut self, conn: &mut Conn<'_>, id: i64) -> Result<(), sqlx::Error> {
        let heir: Option<(i64,)> = fetch_optional!(
            conn,
            (i64,),
            "SELECT user_id FROM participants WHERE conversation_id = $1 AND left_at IS NULL
             ORDER BY CASE role WHEN 'owner' THEN 0 WHEN 'admin' THEN 1 ELSE 2 END, joined_at, user_id LIMIT 1",
            id
        )?;
        if let Some((heir,)) = heir {
            self.write_role(conn, id, heir, Role::Owner).await?;
        }
        Ok(())
    }

    async fn set_role(
        &mut self,
        conn: &mut Conn<'_>,
        id: i64,
        user_id: i64,
        role: Role,
        actor: Option<&Member>,
    ) -> Decided {
        let Some(member) = find_members(conn, &[(id, user_id)]).await?.remove(&(id, user_id)) else {
            return Ok(Err(Error::not_found("that user is not in the conversation")));
        };
        let is_owner = actor.is_none_or(|actor| actor.role == Role::Owner);
        if !is_owner && (role == Role::Owner || member.role == Role::Owner) {
            return Ok(Err(Error::forbidden("only the owner hands the group over")));
        }
        if member.role == Role::Owner && role != Role::Owner {
            return Ok(Err(Error::conflict("a group needs an owner: make somebody else the owner instead")));
        }
        if role == Role::Owner && member.role != Role::Owner {
            execute!(conn, "UPDATE participants SET role = 'admin' WHERE conversation_id = $1 AND role = 'owner'", id)?;
            for ((conversation_id, _), member) in &mut self.members {
                if *conversation_id == id && member.role == Role::Owner {
                    member.role = Role::Admin;
                }
            }
        }
        self.write_role(conn, id, user_id, role).await?;
        Ok(Ok(Outcome::Done(Vec::new())))
    }

    async fn write_role(&mut self, conn: &mut Conn<'_>, id: i64, user_id: i64, role: Role) -> Result<(), sqlx::Error> {
        execute!(
            conn,
            "UPDATE participants SET role = $1 WHERE conversation_id = $2 AND user_id = $3",
            role.as_str(),
            id,
            user_id
        )?;
        if let Some(member) = self.members.get_mut(&(id, user_id)) {
            member.role = role;
        }
        Ok(())
    }

    async fn set_title(
        &mut self,
        conn: &mut Conn<'_>,
        id: i64,
        title: Option<&str>,
        actor: Option<&Member>,
    ) -> Decided {
        let sql = "SELECT title FROM conversations WHERE id = $1";
        let (today,): (Option<String>,) = fetch_one!(conn, (Option<String>,), sql, id)?;
        if today.as_deref() == title {
            return Ok(Ok(Outcome::Done(Vec::new())));
        }
        execute!(conn, "UPDATE conversations SET title = $1 WHERE id = $2", title, id)?;
        let by = actor.map(|actor| actor.person.clone());
        let by_id = by.as_ref().map(|by| by.id);
        let conversation = ConversationTitle { id, title: title.map(str::to_owned) };
        let event = Event::ConversationUpdated { conversation, by, archived: None, muted: None };
        Ok(Ok(Outcome::Done(vec![self.log(id, event, by_id, id, None)])))
    }
}
