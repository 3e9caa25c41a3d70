//! New conversations: 1:1s, of which each pair has one, and groups.

use std::collections::BTreeSet;

use super::take_ids;
use crate::error::{Error, Result};
use crate::protocol::rest::Conversation;
use crate::store::commit::Actor;
use crate::store::idempotency::{IdempotencyKey, Once, claim, keep};
use crate::store::sql::{Conn, execute, fetch_all, fetch_optional, insert_rows, list, padded, safe};
use crate::store::users::{ensure_users, find_people};
use crate::store::{Found, Store};

/// What a new conversation is to be.
#[derive(Clone, Debug)]
pub struct NewConversation {
    pub by: Actor,
    /// The platform may choose the id.
    pub id: Option<i64>,
    /// The platform may name a group's owner; a user who opens one is its owner.
    pub owner_id: Option<i64>,
    pub participant_ids: Vec<i64>,
    pub title: Option<String>,
    pub participants_max: Option<u64>,
}

/// A conversation that was asked for.
#[derive(Debug)]
pub struct Created {
    pub conversation: Conversation,
    /// Whether it was not there before.
    pub is_new: bool,
    /// Everybody who is in a new one.
    pub user_ids: Vec<i64>,
}

/// Most ids that are tried in one go for one that the platform has not taken.
const CANDIDATES_MAX: usize = 256;

type Opened = Result<Result<(i64, bool)>, sqlx::Error>;

impl NewConversation {
    /// Everybody who is to be in it, each once, in the order of their ids.
    fn people(&self) -> Result<Vec<i64>> {
        let people: BTreeSet<i64> =
            self.participant_ids.iter().copied().chain(self.by.user_id()).chain(self.owner_id).collect();
        if people.is_empty() || self.by != Actor::Platform && people.len() < 2 {
            return Err(Error::field("participant_ids", "`participant_ids` must name somebody else"));
        }
        if self.participants_max.is_some_and(|most| people.len() as u64 > most) {
            return Err(Error::too_large("participant_ids", "the conversation would have too many participants"));
        }
        Ok(people.into_iter().collect())
    }

    /// What makes a 1:1 the only one of its pair; nothing for a group.
    fn direct_key(&self, people: &[i64]) -> Option<String> {
        match people {
            [first, second] if self.title.is_none() => Some(format!("{first}:{second}")),
            _ => None,
        }
    }
}

impl Store {
    /// Opens a conversation, or finds the 1:1 that is there already. Its answer is kept under the key.
    pub async fn create_conversation(
        &self,
        new: &NewConversation,
        key: Option<&IdempotencyKey>,
    ) -> Found<Result<Once<Created>>> {
        let people = match new.people() {
            Ok(people) => people,
            Err(error) => return Ok(Err(error)),
        };
        let mut tx = self.begin().await?;
        let answer = self.create_within(&mut tx.conn(), new, people, key).await?;
        // A refusal leaves nothing behind, its key neither.
        if matches!(answer, Ok(Once::First(_))) {
            tx.commit().await?;
        }
        Ok(answer)
    }

    async fn create_within(
        &self,
        conn: &mut Conn<'_>,
        new: &NewConversation,
        people: Vec<i64>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Result<Once<Created>>, sqlx::Error> {
        let now = self.clock.now_ms();
        match claim(conn, key, now).await? {
            Ok(Some(earlier)) => return Ok(Ok(Once::Repeated(earlier))),
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
        match new.by {
            Actor::Platform => {
                ensure_users(conn, &people, now).await?;
            }
            Actor::User(_) if !are_known(conn, &people).await? => {
                return Ok(Err(Error { field: Some("participant_ids"), ..Error::not_found("a user is unknown") }));
            }
            Actor::User(_) => {}
        }
        let direct_key = new.direct_key(&people);
        let (id, is_new) = match open(conn, new, &people, direct_key.as_deref(), now).await? {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        if is_new {
            insert_participants(conn, new, id, &people, direct_key.is_some(), now).await?;
        } else if let Some(user_id) = new.by.user_id() {
            // What had been cleared before stays hidden, but the conversation is in the list again.
            let sql = "UPDATE participants SET cleared_at = NULL
                       WHERE conversation_id = $1 AND user_id = $2 AND cleared_at IS NOT NULL";
            execute!(conn, sql, id, user_id)?;
        }
        let conversation = self.load_conversations(conn, new.by.user_id(), &[id]).await?.pop();
        let conversation = conversation.ok_or(sqlx::Error::RowNotFound)?;
        keep(conn, key, if is_new { 201 } else { 200 }, &conversation).await?;
        Ok(Ok(Once::First(Created { conversation, is_new, user_ids: people })))
    }
}

/// Makes the conversation's row, or finds the one that is meant; whether it is new.
async fn open(
    conn: &mut Conn<'_>,
    new: &NewConversation,
    people: &[i64],
    direct_key: Option<&str>,
    now: i64,
) -> Opened {
    if let Some(direct_key) = direct_key
        && let Some(id) = find_direct(conn, direct_key).await?
    {
        return Ok(if new.id.is_none_or(|wanted| wanted == id) { Ok((id, false)) } else { Err(taken()) });
    }
    let Some(id) = new.id else { return open_somewhere(conn, new, direct_key, now).await };
    if insert(conn, id, new, direct_key, now).await? {
        return Ok(Ok((id, true)));
    }
    let is_same = match direct_key {
        Some(direct_key) => find_direct(conn, direct_key).await? == Some(id),
        None => is_same_group(conn, id, new, people).await?,
    };
    Ok(if is_same { Ok((id, false)) } else { Err(taken()) })
}

/// Makes the row under the next id that the platform has not taken for another conversation.
async fn open_somewhere(conn: &mut Conn<'_>, new: &NewConversation, direct_key: Option<&str>, now: i64) -> Opened {
    let mut count = 1;
    loop {
        for id in free_ids(conn, count).await? {
            if insert(conn, id, new, direct_key, now).await? {
                return Ok(Ok((id, true)));
            }
            // Either the id has been taken just now, or somebody else has opened the same 1:1.
            if let Some(direct_key) = direct_key
                && let Some(id) = find_direct(conn, direct_key).await?
            {
                return Ok(Ok((id, false)));
            }
        }
        count = (count * 4).min(CANDIDATES_MAX);
    }
}

async fn insert(
    conn: &mut Conn<'_>,
    id: i64,
    new: &NewConversation,
    direct_key: Option<&str>,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let inserted = execute!(
        conn,
        "INSERT INTO conversations (id, kind, direct_key, title, active_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $5, $5) ON CONFLICT DO NOTHING",
        id,
        if direct_key.is_some() { "direct" } else { "group" },
        direct_key,
        &new.title,
        now
    )?;
    Ok(inserted == 1)
}

async fn find_direct(conn: &mut Conn<'_>, direct_key: &str) -> Result<Option<i64>, sqlx::Error> {
    let sql = "SELECT id FROM conversations WHERE direct_key = $1";
    let row: Option<(i64,)> = fetch_optional!(conn, (i64,), sql, direct_key)?;
    Ok(row.map(|(id,)| id))
}

/// Whether the group under this id is the one that is asked for again: the same title, people and owner.
async fn is_same_group(
    conn: &mut Conn<'_>,
    id: i64,
    new: &NewConversation,
    people: &[i64],
) -> Result<bool, sqlx::Error> {
    let sql = "SELECT title FROM conversations WHERE id = $1 AND kind = 'group'";
    let row: Option<(Option<String>,)> = fetch_optional!(conn, (Option<String>,), sql, id)?;
    if row.is_none_or(|(title,)| title != new.title) {
        return Ok(false);
    }
    let sql = "SELECT user_id, role FROM participants WHERE conversation_id = $1 AND left_at IS NULL ORDER BY user_id";
    let members = fetch_all!(conn, (i64, String), sql, id)?;
    let owner = members.iter().find(|(_, role)| role == "owner").map(|(user_id, _)| *user_id);
    Ok((new.owner_id.is_none() || new.owner_id == owner) && members.iter().map(|(id, _)| id).eq(people))
}

fn taken() -> Error {
    Error { field: Some("id"), ..Error::conflict("that id, or that 1:1, belongs to another conversation") }
}

/// The next ids, without those that the platform has taken.
async fn free_ids(conn: &mut Conn<'_>, count: usize) -> Result<Vec<i64>, sqlx::Error> {
    let candidates = take_ids(conn, "conversation", count).await?;
    let ids = padded(&candidates);
    let sql = format!("SELECT id FROM conversations WHERE id IN ({})", list(0, ids.len()));
    let taken = fetch_all!(conn, (i64,), safe(sql), |query| {
        for id in &ids {
            query = query.bind(*id);
        }
    })?;
    Ok(candidates.into_iter().filter(|id| !taken.contains(&(*id,))).collect())
}

async fn are_known(conn: &mut Conn<'_>, people: &[i64]) -> Result<bool, sqlx::Error> {
    for ids in people.chunks(256) {
        if find_people(conn, ids).await?.len() < ids.len() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn insert_participants(
    conn: &mut Conn<'_>,
    new: &NewConversation,
    id: i64,
    people: &[i64],
    is_direct: bool,
    now: i64,
) -> Result<(), sqlx::Error> {
    let owner_id = new.by.user_id().or(new.owner_id).filter(|_| !is_direct);
    let head = "INSERT INTO participants (conversation_id, user_id, role, joined_at)";
    insert_rows!(conn, head, "", people, 4, |query, user_id| {
        let role = if Some(*user_id) == owner_id { "owner" } else { "member" };
        query = query.bind(id).bind(*user_id).bind(role).bind(now);
    })?;
    Ok(())
}
