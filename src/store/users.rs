//! Users: who they are, made from what the platform or a token says of them.

mod provision;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::sql::{Conn, execute, fetch_all, fetch_optional, insert_rows, list, padded, safe};
use super::{Found, Store};
use crate::auth::Names;
use crate::protocol::Person;
use crate::protocol::rest::Profile;
pub use provision::NewUser;

/// A user's row, as far as a connection needs it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct User {
    pub id: i64,
    pub first_name: String,
    pub last_name: String,
    pub username: Option<String>,
    pub email: Option<String>,
    pub avatar_url: Option<String>,
    pub is_managed: i64,
    pub last_event_id: i64,
    pub last_seen_at: Option<i64>,
    /// Tokens issued at or before this second are refused.
    pub tokens_valid_after: Option<i64>,
    pub erased_at: Option<i64>,
}

impl User {
    pub fn person(&self) -> Person {
        Person {
            id: self.id,
            first_name: self.first_name.clone(),
            last_name: self.last_name.clone(),
            username: self.username.clone(),
            avatar_url: self.avatar_url.clone(),
        }
    }

    /// The user as the platform, and the user, see it.
    pub fn profile(&self) -> Profile {
        Profile { person: self.person(), email: self.email.clone() }
    }

    /// Whether a token issued then (in seconds) is refused by a revocation or an erasure.
    pub fn refuses_token_of(&self, issued_at: Option<i64>) -> bool {
        self.erased_at.is_some()
            || self.tokens_valid_after.is_some_and(|after| issued_at.is_none_or(|issued_at| issued_at <= after))
    }
}

const COLUMNS: &str = "id, first_name, last_name, username, email, avatar_url, is_managed, last_event_id, last_seen_at, \
                       tokens_valid_after, erased_at";

impl Store {
    /// A user by id.
    pub async fn find_user(&self, id: i64) -> Found<Option<User>> {
        let mut reader = self.reader().await?;
        Ok(find_user(&mut reader.conn(), id).await?)
    }

    /// The user of an accepted token: made when new, and given the token's names unless the platform
    /// keeps them. Reads only, where nothing changes.
    pub async fn meet_user(&self, id: i64, names: &Names) -> Found<User> {
        if let Some(user) = self.find_user(id).await?
            && !user.would_change(names)
        {
            return Ok(user);
        }
        let mut tx = self.begin().await?;
        execute!(
            &mut tx.conn(),
            "INSERT INTO users (id, first_name, last_name, username, created_at)
             VALUES ($1, COALESCE($2, ''), COALESCE($3, ''), $4, $5)
             ON CONFLICT (id) DO UPDATE SET
                 first_name = COALESCE($2, users.first_name),
                 last_name = COALESCE($3, users.last_name),
                 username = COALESCE($4, users.username)
             WHERE users.is_managed = 0 AND users.erased_at IS NULL",
            id,
            &names.first_name,
            &names.last_name,
            &names.username,
            self.clock.now_ms()
        )?;
        let user = find_user(&mut tx.conn(), id).await?;
        tx.commit().await?;
        Ok(user.ok_or(sqlx::Error::RowNotFound)?)
    }
}

impl User {
    fn would_change(&self, names: &Names) -> bool {
        let differs = |claim: &Option<String>, known: &str| claim.as_deref().is_some_and(|claim| claim != known);
        self.is_managed == 0
            && self.erased_at.is_none()
            && (differs(&names.first_name, &self.first_name)
                || differs(&names.last_name, &self.last_name)
                || names.username.is_some() && names.username != self.username)
    }
}

pub(super) async fn find_user(conn: &mut Conn<'_>, id: i64) -> Result<Option<User>, sqlx::Error> {
    fetch_optional!(conn, User, safe(format!("SELECT {COLUMNS} FROM users WHERE id = $1")), id)
}

/// Makes users without names of those ids that are not there yet; how many that were.
pub(super) async fn ensure_users(conn: &mut Conn<'_>, ids: &[i64], now: i64) -> Result<u64, sqlx::Error> {
    insert_rows!(conn, "INSERT INTO users (id, created_at)", "ON CONFLICT (id) DO NOTHING", ids, 2, |query, id| {
        query = query.bind(*id).bind(now);
    })
}

/// The columns of a [`Person`], as [`find_people`] reads them.
#[derive(sqlx::FromRow)]
struct PersonRow {
    id: i64,
    first_name: String,
    last_name: String,
    username: Option<String>,
    avatar_url: Option<String>,
}

/// People by id; an id without a user is left out.
pub(super) async fn find_people(conn: &mut Conn<'_>, ids: &[i64]) -> Result<HashMap<i64, Person>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let ids = padded(ids);
    let list = list(0, ids.len());
    let sql = format!("SELECT id, first_name, last_name, username, avatar_url FROM users WHERE id IN ({list})");
    let rows = fetch_all!(conn, PersonRow, safe(sql), |query| {
        for id in &ids {
            query = query.bind(*id);
        }
    })?;
    let person = |row: PersonRow| Person {
        id: row.id,
        first_name: row.first_name,
        last_name: row.last_name,
        username: row.username,
        avatar_url: row.avatar_url,
    };
    Ok(rows.into_iter().map(|row| (row.id, person(row))).collect())
}
