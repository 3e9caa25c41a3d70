//! Stores for the tests of this layer and of those above it: every scenario runs on SQLite and on PostgreSQL.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;

use super::commit::{Actor, Change, Command, Outcome, fingerprint};
use super::sql::{execute, fetch_one, insert_rows};
use super::users::ensure_users;
use super::{Links, Store};
use crate::clock::Clock;
use crate::error::Error;
use crate::protocol::Topic;
use crate::protocol::client::NewMessage;

/// When the tests' clock begins.
pub(crate) const START_MS: i64 = 1_758_709_800_000;
/// How long links are good.
pub(crate) const LINK_LIFETIME: Duration = Duration::from_secs(300);

/// An empty store of its own, and the clock it goes by.
pub(crate) struct TestStore {
    store: Store,
    pub clock: Clock,
    _folder: Option<TempDir>,
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl TestStore {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}/tidings.db", folder.path().display());
        Self::open(&url, Some(folder)).await
    }

    /// A schema of the tests' database; `make test` throws the whole server away.
    pub async fn postgres() -> Self {
        let url = std::env::var("TEST_POSTGRES_URL")
            .expect("TEST_POSTGRES_URL is not set: `make test` starts a PostgreSQL for the tests and sets it");
        let schema = format!("tidings_test_{}", uuid::Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&url).await.expect("the tests' PostgreSQL answers");
        // The name is made here.
        let create = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
        connection.execute(create).await.expect("the schema is made");
        connection.close().await.expect("the connection closes");
        Self::open(&format!("{url}?options[search_path]={schema}"), None).await
    }

    async fn open(url: &str, folder: Option<TempDir>) -> Self {
        let clock = Clock::manual(START_MS);
        let links = Arc::new(Links::new(None, LINK_LIFETIME));
        let store = Store::open(url, clock.clone(), links).await.expect("the store opens");
        store.migrate().await.expect("the tables are made");
        store.load_link_key().await.expect("the key is made");
        Self { store, clock, _folder: folder }
    }

    /// Makes a conversation of these users, who are made where they are not there yet.
    pub async fn put_conversation(&self, id: i64, user_ids: &[i64]) {
        let now = self.clock.now_ms();
        let mut tx = self.begin().await.expect("a transaction");
        ensure_users(&mut tx.conn(), user_ids, now).await.expect("users");
        let sql = "INSERT INTO conversations (id, kind, active_at, created_at, updated_at)
                   VALUES ($1, 'group', $2, $2, $2)";
        execute!(&mut tx.conn(), sql, id, now).expect("a conversation");
        let head = "INSERT INTO participants (conversation_id, user_id, role, joined_at)";
        insert_rows!(&mut tx.conn(), head, "", user_ids, 4, |query, user_id| {
            query = query.bind(id).bind(*user_id).bind("member").bind(now);
        })
        .expect("participants");
        tx.commit().await.expect("a commit");
    }

    /// Runs statements that no part of the product has.
    pub async fn run(&self, sql: &'static str) {
        let mut tx = self.begin().await.expect("a transaction");
        execute!(&mut tx.conn(), sql).expect("the statement is carried out");
        tx.commit().await.expect("a commit");
    }

    /// How many events a topic's log holds.
    pub async fn count_events(&self, topic: Topic) -> i64 {
        let (kind, id) = topic.key();
        let sql = "SELECT COUNT(*) FROM events WHERE topic_kind = $1 AND topic_id = $2";
        let mut reader = self.reader().await.expect("a connection");
        let (count,): (i64,) = fetch_one!(&mut reader.conn(), (i64,), sql, kind, id).expect("a count");
        count
    }

    /// Sets a column of somebody's place in a conversation.
    pub async fn set_participant(&self, conversation_id: i64, user_id: i64, column: &'static str, value: i64) {
        let mut tx = self.begin().await.expect("a transaction");
        let sql = format!("UPDATE participants SET {column} = $1 WHERE conversation_id = $2 AND user_id = $3");
        execute!(&mut tx.conn(), super::sql::safe(sql), value, conversation_id, user_id).expect("an update");
        tx.commit().await.expect("a commit");
    }

    /// Carries out one change.
    pub async fn change(&self, conversation_id: i64, user_id: i64, change: Change) -> Result<Outcome, Error> {
        let fingerprint = fingerprint(&change);
        let actor = Actor::User(user_id);
        let command = Command { conversation_id, actor, client_id: None, fingerprint, change };
        self.commit(&[command]).await.expect("the database answers").remove(0)
    }

    /// Sends a text, perhaps with attachments, and gives the message's id.
    pub async fn say(&self, conversation_id: i64, user_id: i64, text: &str, attachment_ids: &[i64]) -> i64 {
        let new = NewMessage {
            message: text.to_owned(),
            message_type: "text",
            reply_to: None,
            attachment_ids: attachment_ids.to_vec(),
            data: None,
        };
        let outcome = self.change(conversation_id, user_id, Change::Send(new)).await.expect("a message");
        outcome.answer().and_then(|told| told.about).expect("an event about a message").message_id
    }
}

/// Makes two tests of each scenario named, `sqlite::…` and `postgres::…`; each takes its own [`TestStore`].
macro_rules! both {
    ($($scenario:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $scenario() {
                super::$scenario($crate::store::testing::TestStore::sqlite().await).await
            })+
        }
        mod postgres {
            $(#[tokio::test] async fn $scenario() {
                super::$scenario($crate::store::testing::TestStore::postgres().await).await
            })+
        }
    };
}
pub(crate) use both;
