//! The two stores that every scenario runs on, and the databases made for them.

use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;

/// Which store a scenario runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Sqlite,
    Postgres,
}

/// A new, empty database, gone when this is dropped.
pub struct Database {
    url: String,
    kind: Kind,
}

enum Kind {
    Sqlite(TempDir),
    Postgres { server_url: String, name: String },
}

impl Database {
    pub async fn create(store: Store) -> Self {
        match store {
            Store::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let url = format!("sqlite://{}/tidings.db", folder.path().display());
                Self { url, kind: Kind::Sqlite(folder) }
            }
            Store::Postgres => {
                let server_url = std::env::var("TEST_POSTGRES_URL")
                    .expect("TEST_POSTGRES_URL is not set: `make test` starts a PostgreSQL for the tests and sets it");
                let name = format!("test_{}", uuid::Uuid::new_v4().simple());
                execute(&server_url, &format!("CREATE DATABASE {name}")).await;
                let (server, _) = server_url.rsplit_once('/').expect("a URL that names a database");
                Self { url: format!("{server}/{name}"), kind: Kind::Postgres { server_url, name } }
            }
        }
    }

    /// The address, as `TIDINGS_DATABASE_URL` takes it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Kind::Postgres { server_url, name } = &self.kind else { return };
        let (server_url, statement) = (server_url.clone(), format!("DROP DATABASE {name} WITH (FORCE)"));
        // A thread with a runtime of its own, because a drop cannot await and may happen inside another runtime.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(execute(&server_url, &statement));
        });
        if dropped.join().is_err() && !std::thread::panicking() {
            panic!("the test database {name} could not be dropped");
        }
    }
}

async fn execute(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.expect("the tests' PostgreSQL answers");
    // The name in the statement is one made above.
    connection.execute(sqlx::AssertSqlSafe(statement)).await.expect("the statement is carried out");
    connection.close().await.expect("the connection closes");
}
