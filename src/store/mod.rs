//! What is kept: the only SQL. SQLite with one writer and a pool of readers, or PostgreSQL; the same
//! statements on both. Knows nothing of sockets, HTTP or who is connected.

mod attachments;
pub mod commit;
pub mod conversations;
mod erasure;
pub mod events;
pub mod idempotency;
mod links;
pub mod messages;
pub mod notifications;
pub mod participants;
#[cfg(test)]
mod plans;
pub mod presence;
pub mod search;
#[cfg(test)]
pub(crate) mod simulated;
pub(crate) mod sql;
mod stats;
mod sweep;
#[cfg(test)]
pub(crate) mod testing;
mod unread;
pub mod users;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPoolOptions, PgSeverity};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor, PgPool, Postgres, Sqlite, SqlitePool, Transaction};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::error::Error;
pub use attachments::NewAttachment;
pub use links::Links;
use sql::{Conn, fetch_one};

/// A fault of the database. Its texts name tables and columns, not values.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Nothing was stored.
    #[error(transparent)]
    Failed(#[from] sqlx::Error),
    /// There was no connection to be had: nothing was even tried, whatever the database says why.
    #[error(transparent)]
    OutOfReach(sqlx::Error),
    /// The answer to a COMMIT got lost: all was stored, or nothing.
    #[error("the answer to a commit is lost: {0}")]
    Unknown(sqlx::Error),
}

impl From<Fault> for Error {
    /// The one place where a database's fault is logged.
    fn from(fault: Fault) -> Self {
        tracing::warn!(error = %fault, "the store failed");
        match fault {
            Fault::Failed(_) | Fault::OutOfReach(_) => Self::unavailable(),
            Fault::Unknown(_) => Self::unknown(),
        }
    }
}

impl Fault {
    /// Whether the database itself refused a statement, as against being out of reach or held up.
    pub fn is_refusal(&self) -> bool {
        let Self::Failed(error) = self else { return false };
        matches!(error, sqlx::Error::Database(error)
            if !is_not_writable(error.as_ref()) && !is_held_up(error.as_ref()) && !has_ended(error.as_ref()))
            || matches!(error, sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_))
    }
}

type Found<T> = Result<T, Fault>;

/// The database and what rendering its rows needs.
#[derive(Clone)]
pub struct Store {
    db: Db,
    clock: Clock,
    links: Arc<Links>,
    lost_commits: Arc<Notify>,
    #[cfg(test)]
    seams: Option<Arc<simulated::Seams>>,
}

/// When a session last said that it can't write.
type Doubt = Arc<Mutex<Option<Instant>>>;
/// How long all sessions are looked at before they are used, after one of them could not write.
const DOUBT: Duration = Duration::from_secs(60);

#[derive(Clone)]
enum Db {
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres {
        pool: PgPool,
        doubt: Doubt,
    },
    #[cfg(test)]
    Simulated(simulated::Database),
}

/// A connection for reading.
pub struct Reader(Held);

enum Held {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
    #[cfg(test)]
    Simulated(simulated::Turn),
}

impl Reader {
    fn conn(&mut self) -> Conn<'_> {
        match &mut self.0 {
            Held::Sqlite(conn) => Conn::Sqlite(conn),
            Held::Postgres(conn) => Conn::Postgres(conn),
            #[cfg(test)]
            Held::Simulated(turn) => Conn::Sqlite(turn),
        }
    }
}

/// A transaction that writes; dropped without [`Tx::commit`] it leaves nothing.
pub struct Tx(Open);

enum Open {
    Sqlite(Transaction<'static, Sqlite>),
    /// With whom to tell that the answer to its COMMIT was lost.
    Postgres(Transaction<'static, Postgres>, Arc<Notify>),
    #[cfg(test)]
    Simulated(simulated::Transaction),
}

impl Tx {
    fn conn(&mut self) -> Conn<'_> {
        match &mut self.0 {
            Open::Sqlite(tx) => Conn::Sqlite(tx),
            Open::Postgres(tx, _) => Conn::Postgres(tx),
            #[cfg(test)]
            Open::Simulated(tx) => Conn::Sqlite(tx.conn()),
        }
    }

    #[cfg(feature = "planted-bugs")]
    #[expect(clippy::disallowed_methods, reason = "what is wrong with it is the point")]
    fn commit_later(self) {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.commit().await
        });
    }

    async fn commit(self) -> Found<()> {
        match self.0 {
            Open::Sqlite(tx) => tx.commit().await?,
            Open::Postgres(tx, lost_commits) => sql::answered(tx.commit()).await.map_err(|error| {
                if commit::lost::is_refusal(&error) {
                    return Fault::Failed(error);
                }
                lost_commits.notify_one();
                Fault::Unknown(error)
            })?,
            #[cfg(test)]
            Open::Simulated(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// How long a command waits for a connection before it is answered with `unavailable`.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// Most connections to PostgreSQL, and most readers of SQLite.
const CONNECTIONS_MAX: u32 = 16;
const READERS_MAX: u32 = 8;

impl Store {
    /// Connects. An embedded database's folder and file are made when they are missing.
    pub async fn open(url: &str, clock: Clock, links: Arc<Links>) -> anyhow::Result<Self> {
        let db = if url.starts_with("sqlite:") { open_sqlite(url).await? } else { open_postgres(url).await? };
        Ok(Self {
            db,
            clock,
            links,
            lost_commits: Arc::default(),
            #[cfg(test)]
            seams: None,
        })
    }

    /// Brings the tables up to this version.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        match &self.db {
            Db::Sqlite { writer, .. } => sqlx::migrate!("migrations/sqlite").run(writer).await?,
            Db::Postgres { pool, .. } => {
                // A migration takes the time it takes, and another server's is waited for.
                let mut connection = pool.acquire().await?.detach();
                connection.execute("SET statement_timeout = 0; SET lock_timeout = 0").await?;
                sqlx::migrate!("migrations/postgres").run(&mut connection).await?;
                connection.close().await?;
            }
            #[cfg(test)]
            Db::Simulated(_) => {}
        }
        Ok(())
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Found<()> {
        let mut reader = self.reader().await?;
        let _: (i64,) = fetch_one!(&mut reader.conn(), (i64,), "SELECT CAST(1 AS BIGINT)")?;
        Ok(())
    }

    /// Empties SQLite's write-ahead log, which may still hold pages as they were before an erasure.
    async fn forget_written_pages(&self) -> Found<()> {
        if let Db::Sqlite { writer, .. } = &self.db {
            // Where somebody reads all the time, the log is overwritten in its turn.
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(writer).await?;
        }
        Ok(())
    }

    /// Waits for a commit whose answer was lost: it may have made events that nobody has been told of.
    pub async fn commit_was_lost(&self) {
        self.lost_commits.notified().await;
    }

    /// Waits for the connections to close, so that everything is on disk.
    pub async fn close(&self) {
        match &self.db {
            Db::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Db::Postgres { pool, .. } => pool.close().await,
            #[cfg(test)]
            Db::Simulated(_) => {}
        }
    }

    /// Now, by the clock that rows are stamped with.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// How many committers may work side by side.
    pub fn committers(&self) -> usize {
        match &self.db {
            Db::Sqlite { .. } => 1,
            Db::Postgres { .. } => 4,
            #[cfg(test)]
            Db::Simulated(_) => 1,
        }
    }

    async fn reader(&self) -> Found<Reader> {
        #[cfg(test)]
        self.pass_seam().await;
        Ok(Reader(match &self.db {
            Db::Sqlite { readers, .. } => Held::Sqlite(readers.acquire().await.map_err(Fault::OutOfReach)?),
            Db::Postgres { pool, .. } => Held::Postgres(pool.acquire().await.map_err(Fault::OutOfReach)?),
            #[cfg(test)]
            Db::Simulated(database) => Held::Simulated(database.turn().await),
        }))
    }

    async fn begin(&self) -> Found<Tx> {
        #[cfg(test)]
        self.pass_seam().await;
        Ok(Tx(match &self.db {
            Db::Sqlite { writer, .. } => {
                Open::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await.map_err(Fault::OutOfReach)?)
            }
            Db::Postgres { pool, .. } => {
                let tx = sql::answered(begin_whole(pool)).await.map_err(Fault::OutOfReach)?;
                Open::Postgres(tx, self.lost_commits.clone())
            }
            #[cfg(test)]
            Db::Simulated(database) => Open::Simulated(database.begin(self.seams.clone()).await?),
        }))
    }

    /// Takes note of an outcome's fault, if it has one.
    fn noted<T>(&self, outcome: Found<T>) -> Found<T> {
        if let Err(fault) = &outcome {
            self.note(fault);
        }
        outcome
    }

    /// Takes note of a fault: after one that says the session can't write, connections are looked at
    /// before they are used again, or a failed-over server's old sessions would be kept for days.
    fn note(&self, fault: &Fault) {
        if let (
            Db::Postgres { doubt, .. },
            Fault::Failed(sqlx::Error::Database(error)) | Fault::OutOfReach(sqlx::Error::Database(error)),
        ) = (&self.db, fault)
            && is_not_writable(error.as_ref())
        {
            *doubt.lock() = Some(Instant::now());
        }
    }
}

/// Begins in a task of its own. Were the caller dropped meanwhile, because its client has hung up, sqlx would give the
/// connection back with the transaction open: it counts none whose `BEGIN` it has not seen answered.
#[expect(
    clippy::disallowed_methods,
    reason = "it ends with the answer to `BEGIN`, and what nobody waits for is rolled back"
)]
async fn begin_whole(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.begin().await }).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

fn is_not_writable(error: &dyn sqlx::error::DatabaseError) -> bool {
    // 25006: read-only transaction; 57P01 to 57P03: shutting down or starting; 53: out of resources.
    error.code().is_some_and(|code| code == "25006" || code.starts_with("57P0") || code.starts_with("53"))
        || is_sqlite_out_of_room(error)
}

/// A lock or a statement that took too long, a deadlock, a failed serialisation: the same may well succeed later.
fn is_held_up(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| matches!(code.as_ref(), "55P03" | "57014" | "40P01" | "40001"))
}

/// PostgreSQL has ended the session, for whatever reason.
fn has_ended(error: &dyn sqlx::error::DatabaseError) -> bool {
    let error = error.try_downcast_ref::<PgDatabaseError>();
    error.is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// SQLite's full disk (13), read-only file (8), I/O error (10) and lock (5): faults of the place, not of the statement.
fn is_sqlite_out_of_room(error: &dyn sqlx::error::DatabaseError) -> bool {
    let code = error.code().and_then(|code| code.parse::<i64>().ok());
    error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some()
        && code.is_some_and(|code| matches!(code & 0xff, 5 | 8 | 10 | 13))
}

async fn open_sqlite(url: &str) -> anyhow::Result<Db> {
    let options = SqliteConnectOptions::from_str(url)?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .pragma("journal_size_limit", "67108864")
        // What is deleted is overwritten, also what merging the search index leaves behind.
        .pragma("secure_delete", "ON")
        .pragma("cache_size", "-16384")
        .statement_cache_capacity(256)
        .disable_statement_logging();
    if let Some(folder) = options.get_filename().parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .map_err(|error| anyhow::anyhow!("can't make the database's folder {}: {error}", folder.display()))?;
    }
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        // After some faults, such as a full disk, SQLite has rolled back by itself, and sqlx still counts a transaction.
        .before_acquire(|conn, _| Box::pin(async { Ok(!conn.is_in_transaction()) }))
        .connect_with(options.clone())
        .await
        .map_err(|error| anyhow::anyhow!("can't open the database {}: {error}", options.get_filename().display()))?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_lifetime(None)
        .connect_lazy_with(options.read_only(true));
    Ok(Db::Sqlite { writer, readers })
}

async fn open_postgres(url: &str) -> anyhow::Result<Db> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| anyhow::anyhow!("the database URL is not one of PostgreSQL: {error}"))?
        .application_name("tidings")
        .options([
            ("statement_timeout", "15s"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "60s"),
        ])
        .statement_cache_capacity(256)
        .disable_statement_logging();
    let doubt = Doubt::default();
    let in_doubt = doubt.clone();
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .before_acquire(move |conn, _| {
            let in_doubt = in_doubt.clone();
            Box::pin(async move {
                if in_doubt.lock().is_none_or(|since| since.elapsed() > DOUBT) {
                    return Ok(true);
                }
                let (read_only,): (String,) =
                    sqlx::query_as("SHOW transaction_read_only").fetch_one(&mut *conn).await?;
                Ok(read_only == "off" && conn.ping().await.is_ok())
            })
        })
        .connect_with(options)
        .await
        .map_err(|error| anyhow::anyhow!("can't reach PostgreSQL: {error}"))?;
    Ok(Db::Postgres { pool, doubt })
}
