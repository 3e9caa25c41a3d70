//! The two stores that every scenario runs on, and the databases made for them.

use std::sync::{Mutex, PoisonError};

use sqlx::{Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;

/// Which store a scenario runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Sqlite,
    Postgres,
}

/// An empty database that is nobody else's until this is dropped.
pub struct Database {
    url: String,
    folder: Option<TempDir>,
}

/// PostgreSQL databases whose test has ended. Dropping one takes a second, for it waits for a checkpoint, so they are
/// emptied and used again instead; `make test` throws the whole server away.
static EMPTY: Mutex<Vec<String>> = Mutex::new(vec![]);

impl Database {
    pub async fn create(store: Store) -> Self {
        match store {
            Store::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                Self { url: format!("sqlite://{}/tidings.db", folder.path().display()), folder: Some(folder) }
            }
            Store::Postgres => {
                let empty = EMPTY.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let url = match empty {
                    Some(url) => url,
                    None => create_on_postgres().await,
                };
                Self { url, folder: None }
            }
        }
    }

    /// The address, as `TIDINGS_DATABASE_URL` takes it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Changes rows behind the server's back: for what takes it days, such as retention.
    pub async fn execute(&self, statement: &str) {
        if self.folder.is_none() {
            return execute(&self.url, statement).await;
        }
        let mut connection = SqliteConnection::connect(&self.url).await.expect("the database opens");
        connection.execute(sqlx::AssertSqlSafe(statement)).await.expect("the statement is carried out");
        connection.close().await.expect("the connection closes");
    }

    /// Lets the server write nothing until [`Refusal::end`]; reading goes on.
    pub async fn refuse_writes(&self) -> Refusal {
        if self.folder.is_none() {
            execute(&self.url, POSTGRES_READS_ONLY).await;
            return Refusal::Postgres(self.url.clone());
        }
        let mut connection = SqliteConnection::connect(&self.url).await.expect("the database opens");
        connection.execute("BEGIN IMMEDIATE").await.expect("the writer's lock");
        Refusal::Sqlite(connection)
    }

    /// Keeps the server's writes waiting until [`Refusal::end`], for some seconds at most: then it gives up by itself.
    pub async fn hold_up_writes(&self) -> Refusal {
        if self.folder.is_some() {
            return self.refuse_writes().await;
        }
        let mut connection = PgConnection::connect(&self.url).await.expect("the database answers");
        connection.execute("BEGIN; LOCK TABLE conversations IN EXCLUSIVE MODE").await.expect("the lock");
        Refusal::HeldUp(connection)
    }

    /// PostgreSQL alone: ends all sessions, and begins none until [`Refusal::end`].
    pub async fn take_nobody_in(&self) -> Refusal {
        let (server, name) = self.url.rsplit_once('/').expect("a URL that names a database");
        let mut connection = PgConnection::connect(&format!("{server}/postgres")).await.expect("the database answers");
        let close = format!(
            "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        connection.execute(sqlx::AssertSqlSafe(close)).await.expect("it is closed");
        Refusal::Closed(connection, name.to_owned())
    }

    /// The one whole number that a query answers with.
    pub async fn number(&self, query: &str) -> i64 {
        let query = sqlx::AssertSqlSafe(query);
        if self.folder.is_none() {
            let mut connection = PgConnection::connect(&self.url).await.expect("the database answers");
            sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("one number")
        } else {
            let mut connection = SqliteConnection::connect(&self.url).await.expect("the database opens");
            sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("one number")
        }
    }
}

/// A database that takes no writes for as long as this is held.
pub enum Refusal {
    /// Somebody else is writing, and does not come to an end.
    Sqlite(SqliteConnection),
    /// As after a failover: all sessions have ended, and new ones are read-only.
    Postgres(String),
    /// Somebody else holds what every change needs.
    HeldUp(PgConnection),
    /// The database of this name takes nobody in.
    Closed(PgConnection, String),
}

impl Refusal {
    pub async fn end(self) {
        match self {
            Self::Sqlite(mut connection) => {
                connection.execute("ROLLBACK").await.expect("the lock is given up");
                connection.close().await.expect("the connection closes");
            }
            Self::HeldUp(mut connection) => {
                connection.execute("ROLLBACK").await.expect("the lock is given up");
                connection.close().await.expect("the connection closes");
            }
            Self::Closed(mut connection, name) => {
                let open = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
                connection.execute(sqlx::AssertSqlSafe(open)).await.expect("it is open again");
            }
            // Here sessions that can't write are left open on purpose: the server must find out by itself.
            Self::Postgres(url) => execute(&url, POSTGRES_WRITES_AGAIN).await,
        }
    }
}

const POSTGRES_WRITES_AGAIN: &str = "
    BEGIN READ WRITE;
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I RESET default_transaction_read_only', current_database());
    END $$;
    COMMIT;
";

const POSTGRES_READS_ONLY: &str = "
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
    END $$;
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
";

impl Drop for Database {
    fn drop(&mut self) {
        if self.folder.is_some() {
            return;
        }
        let url = self.url.clone();
        // A thread with a runtime of its own, because a drop cannot await and may happen inside another runtime.
        let emptied = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(execute(&url, EMPTY_IT));
            EMPTY.lock().unwrap_or_else(PoisonError::into_inner).push(url);
        });
        if emptied.join().is_err() && !std::thread::panicking() {
            panic!("the test's database could not be emptied");
        }
    }
}

/// Ends what a killed server may have left open, then removes all tables.
const EMPTY_IT: &str = "
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
    DROP SCHEMA public CASCADE;
    CREATE SCHEMA public;
";

async fn create_on_postgres() -> String {
    let server_url = std::env::var("TEST_POSTGRES_URL")
        .expect("TEST_POSTGRES_URL is not set: `make test` starts a PostgreSQL for the tests and sets it");
    let name = format!("tidings_test_{}", uuid::Uuid::new_v4().simple());
    execute(&server_url, &format!("CREATE DATABASE {name}")).await;
    let (server, _) = server_url.rsplit_once('/').expect("a URL that names a database");
    format!("{server}/{name}")
}

async fn execute(url: &str, statements: &str) {
    let mut connection = PgConnection::connect(url).await.expect("the tests' PostgreSQL answers");
    // All of it is written in this file, but for a name made here.
    connection.execute(sqlx::AssertSqlSafe(statements)).await.expect("the statements are carried out");
    connection.close().await.expect("the connection closes");
}
