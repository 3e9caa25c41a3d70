//! How much there is.

use super::sql::fetch_one;
use super::{Found, Store};

impl Store {
    /// How many users, conversations and messages there are.
    pub async fn count_all(&self) -> Found<(i64, i64, i64)> {
        let mut reader = self.reader().await?;
        let sql = "SELECT (SELECT COUNT(*) FROM users), (SELECT COUNT(*) FROM conversations),
                          (SELECT COUNT(*) FROM messages)";
        Ok(fetch_one!(&mut reader.conn(), (i64, i64, i64), sql)?)
    }
}
