//! One SQL text on two databases: the macros that run it on whichever there is, and the texts for
//! lists of rows. Statements use `$1` placeholders, integers, texts and nothing else.

use std::io;
use std::time::Duration;

use sqlx::{PgConnection, SqlSafeStr, SqlStr, SqliteConnection};
use tokio::time::timeout;

/// A connection, or a transaction's, of whichever database there is.
pub enum Conn<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

impl Conn<'_> {
    /// Chooses between two texts where one can't serve both.
    pub fn pick<T>(&self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }
}

/// Runs a query whose rows become `$row` (a tuple or a `FromRow`), with a method such as `fetch_all`.
/// Binds come as a list, or as a block that adds them to `$query`.
macro_rules! query_rows {
    ($method:ident, $conn:expr, $row:ty, $sql:expr, |$query:ident| $binds:block) => {
        match &mut *$conn {
            $crate::store::sql::Conn::Sqlite(conn) => {
                #[allow(unused_mut)]
                let mut $query = sqlx::query_as::<sqlx::Sqlite, $row>($crate::store::sql::seen($sql));
                $binds
                $crate::store::sql::settle($query.$method(&mut **conn)).await
            }
            $crate::store::sql::Conn::Postgres(conn) => {
                #[allow(unused_mut)]
                let mut $query = sqlx::query_as::<sqlx::Postgres, $row>($crate::store::sql::seen($sql));
                $binds
                $crate::store::sql::answered($query.$method(&mut **conn)).await
            }
        }
    };
    ($method:ident, $conn:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        $crate::store::sql::query_rows!($method, $conn, $row, $sql, |query| { $(query = query.bind($bind);)* })
    };
}

/// All rows, as a `Vec`.
macro_rules! fetch_all {
    ($($args:tt)*) => { $crate::store::sql::query_rows!(fetch_all, $($args)*) };
}

/// The first row, if there is one.
macro_rules! fetch_optional {
    ($($args:tt)*) => { $crate::store::sql::query_rows!(fetch_optional, $($args)*) };
}

/// The one row that must be there.
macro_rules! fetch_one {
    ($($args:tt)*) => { $crate::store::sql::query_rows!(fetch_one, $($args)*) };
}

/// Runs a statement; the number of rows it changed.
macro_rules! execute {
    ($conn:expr, $sql:expr, |$query:ident| $binds:block) => {
        match &mut *$conn {
            $crate::store::sql::Conn::Sqlite(conn) => {
                #[allow(unused_mut)]
                let mut $query = sqlx::query::<sqlx::Sqlite>($crate::store::sql::seen($sql));
                $binds
                $crate::store::sql::settle($query.execute(&mut **conn)).await.map(|done| done.rows_affected())
            }
            $crate::store::sql::Conn::Postgres(conn) => {
                #[allow(unused_mut)]
                let mut $query = sqlx::query::<sqlx::Postgres>($crate::store::sql::seen($sql));
                $binds
                $crate::store::sql::answered($query.execute(&mut **conn)).await.map(|done| done.rows_affected())
            }
        }
    };
    ($conn:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        $crate::store::sql::execute!($conn, $sql, |query| { $(query = query.bind($bind);)* })
    };
}

/// Inserts many rows with as few statements as a small set of statement texts allows, so that each is
/// prepared once: `insert_rows!(conn, "INSERT INTO t (a, b)", "", rows, 2, |query, row| { … })`. The number of rows
/// that were inserted or changed.
macro_rules! insert_rows {
    ($conn:expr, $head:expr, $tail:expr, $rows:expr, $columns:expr, |$query:ident, $row:ident| $binds:block) => {{
        let mut rest = &$rows[..];
        let mut outcome: Result<u64, sqlx::Error> = Ok(0);
        while let (false, Ok(before)) = (rest.is_empty(), &outcome) {
            let before = *before;
            let (chunk, after) = rest.split_at($crate::store::sql::chunk(rest.len()));
            rest = after;
            let sql = format!("{} VALUES {} {}", $head, $crate::store::sql::rows(0, chunk.len(), $columns), $tail);
            outcome = $crate::store::sql::execute!($conn, $crate::store::sql::safe(sql), |$query| {
                for $row in chunk {
                    $binds
                }
            })
            .map(|changed| before + changed);
        }
        outcome
    }};
}

pub(crate) use {execute, fetch_all, fetch_one, fetch_optional, insert_rows, query_rows};

/// The sizes of multi-row statements; few, so that few statements are prepared.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// How many of `len` rows the next statement takes.
pub(crate) fn chunk(len: usize) -> usize {
    SIZES.into_iter().find(|size| *size <= len).unwrap_or(1)
}

/// Row texts `($1, $2), ($3, $4)` for so many rows and columns, numbered after `offset` placeholders.
pub(crate) fn rows(offset: usize, rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * 6);
    let mut number = offset;
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            number += 1;
            text.push_str(if column == 0 { "$" } else { ", $" });
            text.push_str(&number.to_string());
        }
        text.push(')');
    }
    text
}

/// A text list `$1, $2, $3` for so many single values, numbered after `offset` placeholders.
pub(crate) fn list(offset: usize, len: usize) -> String {
    let list: Vec<String> = (1..=len).map(|number| format!("${}", offset + number)).collect();
    list.join(", ")
}

/// Repeats the last item until the list has one of the statement sizes, for `IN`, where that changes nothing.
pub(crate) fn padded<T: Clone>(items: &[T]) -> Vec<T> {
    let size = SIZES.into_iter().rev().find(|size| *size >= items.len()).unwrap_or(items.len());
    let mut padded = items.to_vec();
    if let Some(last) = items.last() {
        padded.resize(size, last.clone());
    }
    padded
}

/// Marks a text that this module's users built from constants and placeholders alone.
pub(crate) fn safe(sql: String) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(sql)
}

/// How long PostgreSQL may take to answer: longer than it lets a statement take, so that this ends what waits for a
/// database from which nothing comes any more, though its connections stand.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Waits for what PostgreSQL answers.
pub(crate) async fn answered<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(ANSWER_MAX, statement).await.unwrap_or_else(|_| Err(stalled()))
}

/// What is said of a database that has not answered in time.
pub(crate) fn stalled() -> sqlx::Error {
    sqlx::Error::Io(io::ErrorKind::TimedOut.into())
}

/// A statement of SQLite's under way: nothing is added to it but in the simulation, which waits for it on the spot.
#[cfg(not(test))]
pub(crate) fn settle<F: Future>(statement: F) -> F {
    statement
}
#[cfg(test)]
pub(crate) use super::simulated::settle;

/// Every statement passes here on its way to the database; the tests of their plans look on.
pub(crate) fn seen(sql: impl SqlSafeStr) -> SqlStr {
    let sql = sql.into_sql_str();
    #[cfg(test)]
    super::plans::look_at(sql.as_str());
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_texts_are_numbered_on() {
        assert_eq!(rows(1, 2, 2), "($2, $3), ($4, $5)");
        assert_eq!(list(0, 3), "$1, $2, $3");
        assert_eq!(padded(&[1, 2]), [1, 2, 2, 2]);
        assert_eq!(padded::<i32>(&[]), [] as [i32; 0]);
        assert_eq!((chunk(300), chunk(63), chunk(3)), (256, 16, 1));
    }
}
