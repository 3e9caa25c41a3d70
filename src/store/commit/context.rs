//! What a batch of commands needs to be decided, loaded with a few statements, and what it wrote.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Actor, Change, Command, EventRow, Known, KnownIds, Outcome, STATE, Use, no_conversation, other_body};
use crate::error::Result;
use crate::protocol::{Event, Person, Role, Time};
use crate::store::Store;
use crate::store::events::Told;
use crate::store::messages::{AttachmentRow, StoredMessage};
use crate::store::sql::{Conn, execute, fetch_all, insert_rows, list, padded, rows, safe};

/// A conversation's row, locked for this transaction.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Conversation {
    pub id: i64,
    pub kind: String,
    pub last_event_id: i64,
    pub last_message_id: i64,
    pub active_at: i64,
    /// The transaction's number, where the database gives it one.
    transaction_id: i64,
}

/// Somebody who is in a conversation.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub role: Role,
    pub read_up_to: i64,
    pub read_at: Option<i64>,
    pub cleared_up_to: i64,
    /// Whether the person has been erased, and so can't do anything any more.
    pub is_erased: bool,
    pub person: Person,
}

#[derive(sqlx::FromRow)]
struct MemberRow {
    conversation_id: i64,
    user_id: i64,
    role: String,
    read_up_to: i64,
    read_at: Option<i64>,
    cleared_up_to: i64,
    erased_at: Option<i64>,
    first_name: String,
    last_name: String,
    username: Option<String>,
    avatar_url: Option<String>,
}

#[derive(sqlx::FromRow)]
struct KnownRow {
    conversation_id: i64,
    user_id: i64,
    client_id: String,
    fingerprint: i64,
    kind: String,
    subject_id: Option<i64>,
    event_id: Option<i64>,
}

/// Everything one batch reads and writes.
pub(super) struct Context<'a> {
    pub store: &'a Store,
    pub now: i64,
    /// The transaction's number; none on SQLite, or where there is nothing to be changed.
    pub transaction_id: Option<i64>,
    pub conversations: BTreeMap<i64, Conversation>,
    pub members: HashMap<(i64, i64), Member>,
    pub known: KnownIds,
    /// The messages that the batch's sends reply to.
    pub replied: HashMap<i64, StoredMessage>,
    /// The attachments that the batch's sends carry, and no message has yet.
    pub uploads: HashMap<i64, AttachmentRow>,
    /// Message ids taken for the batch's sends, the next one last.
    pub message_ids: Vec<i64>,
    /// Sends that are decided and not yet written.
    pub sends: Vec<super::send::Row>,
    pub events: Vec<EventRow>,
    changed: BTreeSet<i64>,
    first_uses: Vec<(Use, Known)>,
}

impl<'a> Context<'a> {
    pub(super) async fn load(store: &'a Store, conn: &mut Conn<'_>, commands: &[Command]) -> Result<Self, sqlx::Error> {
        let ids: BTreeSet<i64> = commands.iter().map(|command| command.conversation_id).collect();
        let conversations = lock_conversations(conn, &ids.into_iter().collect::<Vec<_>>()).await?;
        let pairs: BTreeSet<(i64, i64)> = commands
            .iter()
            .filter_map(|command| Some((command.conversation_id, command.actor.user_id()?)))
            .filter(|(conversation_id, _)| conversations.contains_key(conversation_id))
            .collect();
        let members = find_members(conn, &pairs.into_iter().collect::<Vec<_>>()).await?;
        let known = find_known(conn, commands).await?;
        let sends = commands.iter().filter_map(|command| match &command.change {
            Change::Send(new) => Some(new),
            _ => None,
        });
        let (mut replies, mut uploads, mut count) = (HashSet::new(), HashSet::new(), 0);
        for new in sends {
            replies.extend(new.reply_to);
            uploads.extend(new.attachment_ids.iter().copied());
            count += 1;
        }
        let replied = store.load_messages(conn, &replies.into_iter().collect::<Vec<_>>()).await?;
        let uploads = super::send::find_uploads(conn, &uploads.into_iter().collect::<Vec<_>>()).await?;
        let mut message_ids = crate::store::conversations::take_ids(conn, "message", count).await?;
        message_ids.reverse();
        Ok(Self {
            store,
            now: store.clock.now_ms(),
            transaction_id: conversations.values().map(|row| row.transaction_id).find(|id| *id > 0),
            conversations,
            members,
            known,
            replied,
            uploads,
            message_ids,
            sends: Vec::new(),
            events: Vec::new(),
            changed: BTreeSet::new(),
            first_uses: Vec::new(),
        })
    }

    /// Decides one command, and writes it unless it is a send: those are gathered.
    pub(super) async fn decide(
        &mut self,
        conn: &mut Conn<'_>,
        command: &Command,
    ) -> Result<Result<Outcome>, sqlx::Error> {
        let Some(conversation) = self.conversations.get(&command.conversation_id).cloned() else {
            return Ok(Err(no_conversation()));
        };
        let member = match command.actor {
            Actor::Platform => None,
            Actor::User(id) => match self.members.get(&(command.conversation_id, id)) {
                Some(member) if !member.is_erased => Some(member.clone()),
                _ => return Ok(Err(no_conversation())),
            },
        };
        if let Some(known) = command.as_use().and_then(|used| self.known.get(&used)).cloned() {
            if known.fingerprint != command.fingerprint {
                return Ok(Err(other_body()));
            }
            return self.repeat(conn, command, &known).await;
        }
        if let (Change::Send(new), Some(member)) = (&command.change, &member) {
            return Ok(self.send(command, new, member));
        }
        self.write_sends(conn).await?;
        let outcome = match (&command.change, member) {
            (Change::Send(_), None) => return Ok(Err(no_conversation())),
            (Change::Read { message_id }, Some(member)) => self.read(conn, command, &member, *message_id).await?,
            (Change::Read { .. }, None) => return Ok(Err(no_conversation())),
            (
                change @ (Change::Edit { .. } | Change::Delete { .. } | Change::React { .. } | Change::Unreact { .. }),
                Some(member),
            ) => self.change_message(conn, command.conversation_id, change, &member).await?,
            (Change::Edit { .. } | Change::Delete { .. } | Change::React { .. } | Change::Unreact { .. }, None) => {
                return Ok(Err(no_conversation()));
            }
            (change, member) => self.change_members(conn, &conversation, change, member.as_ref()).await?,
        };
        if let Ok(outcome) = &outcome {
            self.remember(command, outcome);
        }
        Ok(outcome)
    }

    /// Up to where the one who asks has cleared the conversation.
    pub(super) fn cleared_up_to(&self, command: &Command) -> i64 {
        let member = command.actor.user_id().and_then(|id| self.members.get(&(command.conversation_id, id)));
        member.map_or(0, |member| member.cleared_up_to)
    }

    /// Gives a durable event its place in the conversation's log.
    pub(super) fn log(
        &mut self,
        conversation_id: i64,
        event: Event,
        actor_id: Option<i64>,
        subject_id: i64,
        data: Option<String>,
    ) -> Told {
        let event_id = match self.conversations.get_mut(&conversation_id) {
            Some(conversation) => {
                conversation.last_event_id += 1;
                conversation.last_event_id
            }
            None => 0,
        };
        self.changed.insert(conversation_id);
        let kind = event.kind();
        self.events.push(EventRow { conversation_id, event_id, kind, actor_id, subject_id, data });
        Told { event_id: Some(event_id), event, about: None, client_id: None }
    }

    /// The answer to a command that took effect before.
    async fn repeat(
        &mut self,
        conn: &mut Conn<'_>,
        command: &Command,
        known: &Known,
    ) -> Result<Result<Outcome>, sqlx::Error> {
        self.write_sends(conn).await?;
        let Some(subject_id) = known.subject_id else { return Ok(Err(super::no_message())) };
        if known.kind == "message_read" {
            let member = command.actor.user_id().and_then(|id| self.members.get(&(command.conversation_id, id)));
            let Some(member) = member else { return Ok(Err(no_conversation())) };
            let state = super::read::state(member, subject_id, self.now);
            // Where nothing has been read, the state names what was asked for, and must not be taken for a cursor.
            return Ok(Ok(known.again(state)));
        }
        let Some(stored) = self.store.load_messages(conn, &[subject_id]).await?.remove(&subject_id) else {
            return Ok(Err(super::no_message()));
        };
        let about = Some(stored.about());
        let event = match known.kind.as_str() {
            "chat_message" => Some(Event::ChatMessage { message: Box::new(stored.message) }),
            "message_edited" => Some(Event::MessageEdited { message: Box::new(stored.message) }),
            _ => self.logged(conn, command, known, stored).await?,
        };
        let Some(event) = event else { return Ok(Err(super::no_message())) };
        Ok(Ok(known.again(Told { event_id: known.event_id, event, about, client_id: None })))
    }

    /// What an earlier delete or reaction did.
    async fn logged(
        &mut self,
        conn: &mut Conn<'_>,
        command: &Command,
        known: &Known,
        stored: StoredMessage,
    ) -> Result<Option<Event>, sqlx::Error> {
        let message_id = stored.message.id;
        let Some(user_id) = command.actor.user_id() else { return Ok(None) };
        let Some(member) = self.members.get(&(command.conversation_id, user_id)) else { return Ok(None) };
        let person = member.person.clone();
        let reaction = |name: &str, emoji: &str| crate::protocol::Reaction {
            reaction: name.to_owned(),
            emoji: emoji.to_owned(),
            user: person.clone(),
        };
        Ok(match &command.change {
            Change::Delete { .. } => {
                let deleted_at: Vec<(Option<i64>,)> =
                    fetch_all!(conn, (Option<i64>,), "SELECT deleted_at FROM messages WHERE id = $1", message_id)?;
                let deleted_at = deleted_at.first().and_then(|(at,)| *at).unwrap_or(self.now);
                Some(Event::MessageDeleted { message_id, deleted_by: person, deleted_at: Time(deleted_at) })
            }
            Change::React { reaction: name, emoji, .. } if known.kind == "reaction_added" => {
                Some(Event::ReactionAdded { message_id, reaction: reaction(name, emoji) })
            }
            Change::Unreact { reaction: name, emoji, .. } => {
                Some(Event::ReactionRemoved { message_id, reaction: reaction(name, emoji) })
            }
            _ => None,
        })
    }

    /// Keeps what a command's `client_id` did, for a retry. Messages keep it in their own row.
    fn remember(&mut self, command: &Command, outcome: &Outcome) {
        let (Some(used), Some(told)) = (command.as_use(), outcome.answer()) else { return };
        let subject_id = match &told.event {
            Event::MessageRead { message_id, .. } => Some(*message_id),
            _ => told.about.map(|about| about.message_id),
        };
        let known = Known {
            fingerprint: command.fingerprint,
            kind: told.event.kind().to_owned(),
            subject_id,
            event_id: match outcome {
                Outcome::Done(_) => told.event_id.or(Some(STATE)),
                Outcome::Unchanged(_) | Outcome::Repeated(_) => None,
            },
        };
        self.known.insert(used.clone(), known.clone());
        self.first_uses.push((used, known));
    }

    /// Writes all that the batch has gathered.
    pub(super) async fn write(mut self, conn: &mut Conn<'_>) -> Result<(), sqlx::Error> {
        self.write_sends(conn).await?;
        let now = self.now;
        insert_rows!(
            conn,
            "INSERT INTO events (topic_kind, topic_id, event_id, kind, actor_id, subject_id, data, created_at)",
            "",
            self.events,
            8,
            |query, row| {
                query = query
                    .bind("c")
                    .bind(row.conversation_id)
                    .bind(row.event_id)
                    .bind(row.kind)
                    .bind(row.actor_id)
                    .bind(row.subject_id)
                    .bind(&row.data)
                    .bind(now);
            }
        )?;
        insert_rows!(
            conn,
            "INSERT INTO client_ids
                 (topic_kind, topic_id, user_id, client_id, fingerprint, kind, subject_id, event_id, created_at)",
            "",
            self.first_uses,
            9,
            |query, row| {
                let ((conversation_id, user_id, client_id), known) = row;
                query = query
                    .bind("c")
                    .bind(*conversation_id)
                    .bind(*user_id)
                    .bind(client_id)
                    .bind(known.fingerprint)
                    .bind(&known.kind)
                    .bind(known.subject_id)
                    .bind(known.event_id)
                    .bind(now);
            }
        )?;
        let changed: Vec<Conversation> =
            self.changed.iter().filter_map(|id| self.conversations.get(id)).cloned().collect();
        update_conversations(conn, &changed, now).await
    }
}

impl Known {
    /// What the command did, once more: it took effect, or changed nothing even then.
    fn again(&self, told: Told) -> Outcome {
        if self.event_id.is_some() { Outcome::Repeated(told) } else { Outcome::Unchanged(told) }
    }
}

impl StoredMessage {
    /// Whether a command may name the message: one of its conversation, and not hidden from who asks.
    pub(super) fn is_seen_by(&self, conversation_id: i64, member: &Member) -> bool {
        self.conversation_id == conversation_id
            && (planted!("name-cleared") || !self.about().is_hidden(member.cleared_up_to))
    }
}

impl Command {
    fn as_use(&self) -> Option<Use> {
        Some((self.conversation_id, self.actor.user_id()?, self.client_id.clone()?))
    }
}

/// Loads conversations and, on PostgreSQL, holds their rows until the end of the transaction, in the
/// order of their ids so that two servers never wait for each other.
async fn lock_conversations(conn: &mut Conn<'_>, ids: &[i64]) -> Result<BTreeMap<i64, Conversation>, sqlx::Error> {
    let ids = padded(ids);
    let sql = format!(
        "SELECT id, kind, last_event_id, last_message_id, active_at, {} AS transaction_id
         FROM conversations WHERE id IN ({}) ORDER BY id {}",
        conn.pick("0", "CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)"),
        list(0, ids.len()),
        conn.pick("", "FOR UPDATE")
    );
    let rows = fetch_all!(conn, Conversation, safe(sql), |query| {
        for id in &ids {
            query = query.bind(*id);
        }
    })?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

pub(super) async fn find_members(
    conn: &mut Conn<'_>,
    pairs: &[(i64, i64)],
) -> Result<HashMap<(i64, i64), Member>, sqlx::Error> {
    if pairs.is_empty() {
        return Ok(HashMap::new());
    }
    let pairs = padded(pairs);
    let sql = format!(
        "SELECT p.conversation_id, p.user_id, p.role, p.read_up_to, p.read_at, p.cleared_up_to, u.erased_at,
                u.first_name, u.last_name, u.username, u.avatar_url
         FROM participants p JOIN users u ON u.id = p.user_id
         WHERE (p.conversation_id, p.user_id) IN (VALUES {}) AND p.left_at IS NULL",
        rows(0, pairs.len(), 2)
    );
    let found = fetch_all!(conn, MemberRow, safe(sql), |query| {
        for (conversation_id, user_id) in &pairs {
            query = query.bind(*conversation_id).bind(*user_id);
        }
    })?;
    let member = |row: MemberRow| Member {
        role: Role::parse(&row.role).unwrap_or(Role::Member),
        read_up_to: row.read_up_to,
        read_at: row.read_at,
        cleared_up_to: row.cleared_up_to,
        is_erased: row.erased_at.is_some(),
        person: Person {
            id: row.user_id,
            first_name: row.first_name,
            last_name: row.last_name,
            username: row.username,
            avatar_url: row.avatar_url,
        },
    };
    Ok(found.into_iter().map(|row| ((row.conversation_id, row.user_id), member(row))).collect())
}

/// Finds the earlier uses of the batch's `client_id`s, by messages and by other commands.
async fn find_known(conn: &mut Conn<'_>, commands: &[Command]) -> Result<KnownIds, sqlx::Error> {
    let uses: Vec<Use> = commands.iter().filter_map(Command::as_use).collect();
    if uses.is_empty() || planted!("forget-client-ids") {
        return Ok(KnownIds::new());
    }
    let uses = padded(&uses);
    let values = rows(0, uses.len(), 3);
    let sql = format!(
        "SELECT conversation_id, sender_id AS user_id, client_id, fingerprint, 'chat_message' AS kind, id AS subject_id, event_id
         FROM messages WHERE (conversation_id, sender_id, client_id) IN (VALUES {values})
         UNION ALL
         SELECT topic_id, user_id, client_id, fingerprint, kind, subject_id, event_id
         FROM client_ids WHERE topic_kind = 'c' AND (topic_id, user_id, client_id) IN (VALUES {values})"
    );
    let found = fetch_all!(conn, KnownRow, safe(sql), |query| {
        for (conversation_id, user_id, client_id) in &uses {
            query = query.bind(*conversation_id).bind(*user_id).bind(client_id);
        }
    })?;
    let known = |row: KnownRow| Known {
        fingerprint: row.fingerprint,
        kind: row.kind,
        subject_id: row.subject_id,
        event_id: row.event_id,
    };
    Ok(found.into_iter().map(|row| ((row.conversation_id, row.user_id, row.client_id.clone()), known(row))).collect())
}

/// Writes the positions of all changed conversations with one statement.
async fn update_conversations(conn: &mut Conn<'_>, changed: &[Conversation], now: i64) -> Result<(), sqlx::Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let changed = padded(changed);
    let sql = format!(
        "WITH changed (id, last_event_id, last_message_id, active_at) AS (VALUES {})
         UPDATE conversations SET last_event_id = changed.last_event_id, last_message_id = changed.last_message_id,
                active_at = changed.active_at, updated_at = $1
         FROM changed WHERE conversations.id = changed.id",
        rows(1, changed.len(), 4)
    );
    execute!(conn, safe(sql), |query| {
        query = query.bind(now);
        for row in &changed {
            query = query.bind(row.id).bind(row.last_event_id).bind(row.last_message_id).bind(row.active_at);
        }
    })?;
    Ok(())
}
