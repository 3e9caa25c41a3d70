//! Users as the platform writes them, and what it takes from them: their sessions.

use super::{COLUMNS, User, ensure_users, find_user};
use crate::protocol::rest::UsersWritten;
use crate::store::idempotency::{IdempotencyKey, Once, claim, keep};
use crate::store::sql::{Conn, execute, fetch_all, insert_rows, list, padded, safe};
use crate::store::{Found, Store};

/// A user, all of it: what is absent is emptied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    pub id: i64,
    pub first_name: String,
    pub last_name: String,
    pub username: Option<String>,
    pub email: Option<String>,
    pub avatar_url: Option<String>,
}

impl Store {
    /// Writes a user, who keeps these names from now on whatever tokens say. One who had been erased may
    /// come again. Whether the user is new.
    pub async fn put_user(&self, new: &NewUser) -> Found<(User, bool)> {
        let mut tx = self.begin().await?;
        let conn = &mut tx.conn();
        let written = upsert(conn, std::slice::from_ref(new), self.clock.now_ms()).await?;
        let user = find_user(conn, new.id).await?.ok_or(sqlx::Error::RowNotFound)?;
        tx.commit().await?;
        Ok((user, written.created == 1))
    }

    /// Writes many users, all or none of them; no id may be there twice. The answer is kept under the key.
    pub async fn put_users(
        &self,
        new: &[NewUser],
        key: Option<&IdempotencyKey>,
    ) -> Found<crate::error::Result<Once<UsersWritten>>> {
        let now = self.clock.now_ms();
        let mut new = new.to_vec();
        // Rows are held in the order of ids, so that two requests never wait for each other.
        new.sort_by_key(|user| user.id);
        let mut tx = self.begin().await?;
        let conn = &mut tx.conn();
        match claim(conn, key, now).await? {
            Ok(Some(earlier)) => return Ok(Ok(Once::Repeated(earlier))),
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
        let written = upsert(conn, &new, now).await?;
        keep(conn, key, 200, &written).await?;
        tx.commit().await?;
        Ok(Ok(Once::First(written)))
    }

    /// Users by id, in no order; unknown ids are left out.
    pub async fn find_users(&self, ids: &[i64]) -> Found<Vec<User>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids = padded(ids);
        let mut reader = self.reader().await?;
        let sql = format!("SELECT {COLUMNS} FROM users WHERE id IN ({})", list(0, ids.len()));
        Ok(fetch_all!(&mut reader.conn(), User, safe(sql), |query| {
            for id in &ids {
                query = query.bind(*id);
            }
        })?)
    }

    /// From now on refuses all tokens of a user that were issued up to this second. The user need not be
    /// known yet: the token of one who has never come may be the one to be refused.
    pub async fn revoke_sessions(&self, user_id: i64) -> Found<()> {
        let mut tx = self.begin().await?;
        execute!(
            &mut tx.conn(),
            "INSERT INTO users (id, tokens_valid_after, created_at) VALUES ($1, $2, $3)
             ON CONFLICT (id) DO UPDATE SET tokens_valid_after = excluded.tokens_valid_after
             WHERE users.tokens_valid_after IS NULL OR users.tokens_valid_after < excluded.tokens_valid_after",
            user_id,
            self.clock.now_s(),
            self.clock.now_ms()
        )?;
        tx.commit().await
    }
}

async fn upsert(conn: &mut Conn<'_>, new: &[NewUser], now: i64) -> Result<UsersWritten, sqlx::Error> {
    // Whoever inserts a row has made the user: a look beforehand would not see what others insert meanwhile.
    let ids: Vec<i64> = new.iter().map(|user| user.id).collect();
    let created = ensure_users(conn, &ids, now).await? as i64;
    insert_rows!(
        conn,
        "INSERT INTO users (id, first_name, last_name, username, email, avatar_url, is_managed, created_at)",
        "ON CONFLICT (id) DO UPDATE SET
             first_name = excluded.first_name, last_name = excluded.last_name, username = excluded.username,
             email = excluded.email, avatar_url = excluded.avatar_url, is_managed = 1, erased_at = NULL",
        new,
        8,
        |query, user| {
            query = query
                .bind(user.id)
                .bind(&user.first_name)
                .bind(&user.last_name)
                .bind(&user.username)
                .bind(&user.email)
                .bind(&user.avatar_url)
                .bind(1_i64)
                .bind(now);
        }
    )?;
    Ok(UsersWritten { created, updated: new.len() as i64 - created })
}
