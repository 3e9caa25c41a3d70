//! What an unread `message` notification says: its count and its sender, by a query over the messages
//! that it counts.

use std::collections::HashMap;

use super::log::ROWS_MAX;
use crate::protocol::{Notification, Person, Time};
use crate::store::events::empty_object;
use crate::store::sql::{Conn, execute, fetch_all, list, padded, rows, safe};
use crate::store::users::find_people;

/// The title of every notification of messages.
pub(super) const TITLE: &str = "New Message";
/// Their type.
pub(super) const TYPE: &str = "message";

/// How an unread notification of messages stands against the conversation.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Tally {
    pub id: i64,
    pub user_id: i64,
    conversation_id: i64,
    /// 0 where the user has left, or the conversation is gone.
    pub is_member: i64,
    /// Messages it counts, deleted ones too.
    pub counted: i64,
    /// Those that are not deleted.
    pub alive: i64,
    /// Those that the user has neither read nor cleared.
    pub unread: i64,
    /// Those that the user has not cleared, read or not: how many, from how many people, and the last one.
    said: i64,
    senders: i64,
    last_message_id: Option<i64>,
}

/// Tallies those of the notifications that are unread.
pub(super) async fn tally(conn: &mut Conn<'_>, ids: &[i64]) -> Result<Vec<Tally>, sqlx::Error> {
    let mut tallies = Vec::with_capacity(ids.len());
    for ids in ids.chunks(ROWS_MAX) {
        let ids = padded(ids);
        let sql = format!(
            "SELECT n.id, n.user_id, n.conversation_id, COUNT(p.user_id) AS is_member,
                    COUNT(c.message_id) AS counted, COUNT(m.id) AS alive,
                    COUNT(CASE WHEN m.id > p.read_up_to AND m.id > p.cleared_up_to THEN 1 END) AS unread,
                    COUNT(CASE WHEN m.id > p.cleared_up_to THEN 1 END) AS said,
                    COUNT(DISTINCT CASE WHEN m.id > p.cleared_up_to THEN m.sender_id END) AS senders,
                    MAX(CASE WHEN m.id > p.cleared_up_to THEN m.id END) AS last_message_id
             FROM notifications n
             LEFT JOIN participants p
                  ON p.conversation_id = n.conversation_id AND p.user_id = n.user_id AND p.left_at IS NULL
             LEFT JOIN notification_messages c ON c.notification_id = n.id
             LEFT JOIN messages m ON m.id = c.message_id AND m.deleted_at IS NULL
             WHERE n.id IN ({}) AND n.is_read = 0 AND n.conversation_id IS NOT NULL
             GROUP BY n.id, n.user_id, n.conversation_id ORDER BY n.user_id, n.id",
            list(0, ids.len())
        );
        tallies.extend(fetch_all!(conn, Tally, safe(sql), |query| {
            for id in &ids {
                query = query.bind(*id);
            }
        })?);
    }
    Ok(tallies)
}

/// Writes what the notifications say as they are tallied, and gives them as they stand then. One
/// without a message stays as it is.
pub(super) async fn rewrite(conn: &mut Conn<'_>, tallies: &[Tally]) -> Result<Vec<(i64, Notification)>, sqlx::Error> {
    let mut rewritten = Vec::with_capacity(tallies.len());
    for tallies in tallies.chunks(ROWS_MAX) {
        let ids: Vec<i64> = tallies.iter().filter_map(|tally| tally.last_message_id).collect();
        let messages = find_messages(conn, &ids).await?;
        let senders: Vec<i64> = messages.values().map(|(sender_id, _)| *sender_id).collect();
        let people = find_people(conn, &senders).await?;
        let render = |tally: &Tally| {
            let message_id = tally.last_message_id?;
            let (sender_id, created_at) = *messages.get(&message_id)?;
            let data = serde_json::json!({
                "conversation_id": tally.conversation_id,
                "sender_id": sender_id,
                "message_id": message_id,
                "count": tally.said + i64::from(planted!("count-one-more")),
            });
            let notification = Notification {
                id: tally.id,
                title: TITLE.to_owned(),
                message: text(tally.said, tally.senders, people.get(&sender_id)),
                notification_type: TYPE.to_owned(),
                timestamp: Time(created_at),
                is_read: false,
                data: serde_json::value::to_raw_value(&data).unwrap_or_else(|_| empty_object()),
                action_url: None,
            };
            Some((tally.user_id, message_id, notification))
        };
        let rendered: Vec<(i64, i64, Notification)> = tallies.iter().filter_map(render).collect();
        update(conn, &rendered).await?;
        rewritten.extend(rendered.into_iter().map(|(user_id, _, notification)| (user_id, notification)));
    }
    Ok(rewritten)
}

fn text(count: i64, senders: i64, sender: Option<&Person>) -> String {
    let name = sender.map_or_else(|| "Someone".to_owned(), Person::display_name);
    match (count, senders) {
        (1, _) => format!("You have a new message from {name}"),
        (_, 1) => format!("You have {count} new messages from {name}"),
        _ => format!("You have {count} new messages"),
    }
}

/// The sender and the time of messages.
async fn find_messages(conn: &mut Conn<'_>, ids: &[i64]) -> Result<HashMap<i64, (i64, i64)>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let ids = padded(&ids);
    let sql = format!("SELECT id, sender_id, created_at FROM messages WHERE id IN ({})", list(0, ids.len()));
    let found = fetch_all!(conn, (i64, i64, i64), safe(sql), |query| {
        for id in &ids {
            query = query.bind(*id);
        }
    })?;
    Ok(found.into_iter().map(|(id, sender_id, created_at)| (id, (sender_id, created_at))).collect())
}

async fn update(conn: &mut Conn<'_>, rendered: &[(i64, i64, Notification)]) -> Result<(), sqlx::Error> {
    if rendered.is_empty() {
        return Ok(());
    }
    let rendered = padded(rendered);
    let sql = format!(
        "WITH rendered (id, message, data, message_id, created_at) AS (VALUES {})
         UPDATE notifications SET message = rendered.message, data = rendered.data,
                message_id = rendered.message_id, created_at = rendered.created_at
         FROM rendered WHERE notifications.id = rendered.id",
        rows(0, rendered.len(), 5)
    );
    execute!(conn, safe(sql), |query| {
        for (_, message_id, notification) in &rendered {
            query = query
                .bind(notification.id)
                .bind(&notification.message)
                .bind(notification.data.get())
                .bind(*message_id)
                .bind(notification.timestamp.0);
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_the_sender_unless_there_are_several() {
        let john = Person {
            id: 1,
            first_name: "John".to_owned(),
            last_name: "Doe".to_owned(),
            username: None,
            avatar_url: None,
        };
        assert_eq!(text(1, 1, Some(&john)), "You have a new message from John Doe");
        assert_eq!(text(3, 1, Some(&john)), "You have 3 new messages from John Doe");
        assert_eq!(text(3, 2, Some(&john)), "You have 3 new messages");
        assert_eq!(text(1, 1, None), "You have a new message from Someone");
    }
}
