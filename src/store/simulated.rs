//! The store of the simulation: SQLite in memory, shared by all its servers. A statement is waited for on the spot and
//! takes no simulated time, so that nothing depends on the machine; what takes time, and where a server may die, are
//! the seams: before a connection is taken, and between a commit and what is told of it.

use std::cell::OnceCell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor, SqliteConnection};
use tokio::sync::OwnedMutexGuard;

use super::commit::{Command, Outcome};
use super::{Db, Fault, Links, Store};
use crate::clock::Clock;
use crate::error::Result;
use crate::store::events::Told;

/// What was committed: the conversation, the command's `client_id` and its events.
pub(crate) type Committed = (i64, Option<String>, Vec<Told>);

/// The one connection, taken in turns.
#[derive(Clone)]
pub(crate) struct Database(Arc<tokio::sync::Mutex<SqliteConnection>>);

pub(crate) type Turn = OwnedMutexGuard<SqliteConnection>;

thread_local! {
    /// The database of this thread's simulations, where there are any: one after the other has it.
    static DATABASE: OnceCell<Database> = const { OnceCell::new() };
}

impl Database {
    /// An empty database with all tables. From now on this thread waits for its statements on the spot.
    ///
    /// A simulation is one transaction, whose savepoints are its servers' transactions. It is rolled back before the
    /// next begins, which leaves no trace of it but prepared statements.
    pub(crate) fn new() -> Self {
        let database = DATABASE.with(|database| database.get_or_init(Self::open).clone());
        let mut turn = database.0.clone().try_lock_owned().expect("the simulation before is over");
        wait(turn.execute("ROLLBACK; BEGIN")).expect("SQLite rolls back");
        database
    }

    fn open() -> Self {
        let options = SqliteConnectOptions::new()
            .in_memory(true)
            .foreign_keys(true)
            .statement_cache_capacity(256)
            // As many rows as there ever are, so that nobody waits for another row at a time.
            .row_buffer_size(10_000)
            .disable_statement_logging();
        let mut connection = wait(options.connect()).expect("SQLite opens");
        wait(sqlx::migrate!("migrations/sqlite").run(&mut connection)).expect("the tables are made");
        wait(connection.execute("BEGIN")).expect("SQLite begins");
        Self(Arc::new(tokio::sync::Mutex::new(connection)))
    }

    pub(super) async fn turn(&self) -> Turn {
        self.0.clone().lock_owned().await
    }

    pub(super) async fn begin(&self, seams: Option<Arc<Seams>>) -> sqlx::Result<Transaction> {
        let mut turn = self.turn().await;
        wait(turn.execute("SAVEPOINT server"))?;
        Ok(Transaction { turn, seams, is_open: true })
    }
}

/// A transaction; dropped while it is open it leaves nothing.
pub(crate) struct Transaction {
    turn: Turn,
    seams: Option<Arc<Seams>>,
    is_open: bool,
}

impl Transaction {
    pub(super) fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.turn
    }

    pub(super) async fn commit(mut self) -> sqlx::Result<()> {
        if self.seams.as_ref().is_some_and(|seams| seams.is_dead.load(Ordering::Relaxed)) {
            // A dead server's transaction is rolled back, and that is the last of it.
            drop(self);
            return std::future::pending().await;
        }
        self.is_open = false;
        wait(self.turn.execute("RELEASE server")).map(|_| ())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.is_open {
            let _ = wait(self.turn.execute("ROLLBACK TO server; RELEASE server"));
        }
    }
}

/// Who hears of what a server commits.
pub(crate) trait Witness: Send + Sync {
    /// It is in the store, and nobody has been told.
    fn committed(&self, committed: &[Committed]);
    /// It is being told here, and published to other servers.
    fn told(&self, committed: Vec<Committed>);
}

/// Where one server of the simulation is slow, or dies.
pub(crate) struct Seams {
    rng: Mutex<fastrand::Rng>,
    is_dead: AtomicBool,
    witness: Box<dyn Witness>,
}

impl Seams {
    pub(crate) fn new(seed: u64, witness: impl Witness + 'static) -> Arc<Self> {
        let rng = Mutex::new(fastrand::Rng::with_seed(seed));
        Arc::new(Self { rng, is_dead: AtomicBool::new(false), witness: Box::new(witness) })
    }

    /// From now on nothing of this server comes past a seam any more.
    pub(crate) fn die(&self) {
        self.is_dead.store(true, Ordering::Relaxed);
    }

    async fn pass(&self) {
        let wait_ms = match self.rng.lock().u8(..32) {
            0 => 60,
            1..6 => 4,
            6..16 => 1,
            _ => 0,
        };
        if wait_ms > 0 {
            let wait_ms = self.rng.lock().u64(..wait_ms) + 1;
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        if self.is_dead.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }
}

impl Store {
    /// A server's own way to the simulated database.
    pub(crate) fn simulated(database: Database, seams: Option<Arc<Seams>>, clock: Clock) -> Self {
        let links = Arc::new(Links::new(None, Duration::from_secs(300)));
        Self { db: Db::Simulated(database), clock, links, lost_commits: Arc::default(), seams }
    }

    pub(super) async fn pass_seam(&self) {
        if let Some(seams) = &self.seams {
            seams.pass().await;
        }
    }

    /// Lets the simulation know what a commit made, and may let this server die before anybody is told.
    pub(super) async fn committed(
        &self,
        commands: &[Command],
        outcome: &std::result::Result<Vec<Result<Outcome>>, Fault>,
    ) {
        let (Some(seams), Ok(outcomes)) = (&self.seams, outcome) else { return };
        let done = commands.iter().zip(outcomes).filter_map(|(command, outcome)| match outcome {
            Ok(Outcome::Done(events)) => Some((command.conversation_id, command.client_id.clone(), events.clone())),
            _ => None,
        });
        let done: Vec<Committed> = done.collect();
        seams.witness.committed(&done);
        seams.pass().await;
        seams.witness.told(done);
    }
}

/// A statement of a test: in a simulation it is over before anything else happens.
pub(crate) async fn settle<F: Future>(statement: F) -> F::Output {
    if DATABASE.with(|database| database.get().is_some()) { wait(statement) } else { statement.await }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future while nothing else happens on this thread.
fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
