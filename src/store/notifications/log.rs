//! Users' logs inside a transaction: their rows held, their next places given out, written at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::UserEvent;
use crate::protocol::server::WhichNotifications;
use crate::protocol::{Event, Notification};
use crate::store::events::Told;
use crate::store::sql::{Conn, execute, fetch_all, insert_rows, list, padded, rows, safe};

/// How many rows a statement over many users names at most.
pub(super) const ROWS_MAX: usize = 256;

/// The logs of some users, which nobody else can write until the transaction ends.
pub(super) struct UserLog {
    now: i64,
    last: BTreeMap<i64, i64>,
    erased: BTreeSet<i64>,
    entries: Vec<Entry>,
}

struct Entry {
    user_id: i64,
    event_id: i64,
    subject_id: Option<i64>,
    event: Event,
}

impl Entry {
    /// The notifications that the entry names beside its subject, as the log keeps them.
    fn data(&self) -> Option<String> {
        let ids = match &self.event {
            Event::NotificationRead { which: WhichNotifications::Some { notification_ids }, .. }
            | Event::NotificationDeleted { notification_ids, .. } => notification_ids,
            _ => return None,
        };
        Some(serde_json::json!({ "notification_ids": ids }).to_string())
    }
}

impl UserLog {
    /// Holds the rows of these users, in the order of their ids so that two servers never wait for each other.
    pub async fn open(conn: &mut Conn<'_>, now: i64, user_ids: &BTreeSet<i64>) -> Result<Self, sqlx::Error> {
        let mut log = Self { now, last: BTreeMap::new(), erased: BTreeSet::new(), entries: Vec::new() };
        let ids: Vec<i64> = user_ids.iter().copied().collect();
        for ids in ids.chunks(ROWS_MAX) {
            let ids = padded(ids);
            let sql = format!(
                "SELECT id, last_event_id, erased_at FROM users WHERE id IN ({}) ORDER BY id {}",
                list(0, ids.len()),
                conn.pick("", "FOR NO KEY UPDATE")
            );
            let held = fetch_all!(conn, (i64, i64, Option<i64>), safe(sql), |query| {
                for id in &ids {
                    query = query.bind(*id);
                }
            })?;
            for (id, last_event_id, erased_at) in held {
                log.last.insert(id, last_event_id);
                if erased_at.is_some() {
                    log.erased.insert(id);
                }
            }
        }
        Ok(log)
    }

    /// Whether somebody is there to be notified.
    pub fn takes(&self, user_id: i64) -> bool {
        self.last.contains_key(&user_id) && !self.erased.contains(&user_id)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Logs that a notification was made or has changed.
    pub fn notify(&mut self, user_id: i64, notification: Notification) {
        let subject_id = Some(notification.id);
        self.add(user_id, subject_id, Event::Notification { notification: Box::new(notification) });
    }

    /// Logs that notifications were read, and gives the event's place.
    pub fn read(&mut self, user_id: i64, which: WhichNotifications) -> i64 {
        self.add(user_id, None, Event::NotificationRead { which, unread_count: 0 })
    }

    /// Logs that notifications were deleted.
    pub fn deleted(&mut self, user_id: i64, notification_ids: Vec<i64>) {
        self.add(user_id, None, Event::NotificationDeleted { notification_ids, unread_count: 0 });
    }

    fn add(&mut self, user_id: i64, subject_id: Option<i64>, event: Event) -> i64 {
        let last = self.last.entry(user_id).or_default();
        *last += 1;
        let event_id = *last;
        self.entries.push(Entry { user_id, event_id, subject_id, event });
        event_id
    }

    /// Writes all entries, and gives them in their order, with what is unread after the whole transaction.
    pub async fn write(self, conn: &mut Conn<'_>) -> Result<Vec<UserEvent>, sqlx::Error> {
        let Self { now, last, mut entries, .. } = self;
        let head = "INSERT INTO events (topic_kind, topic_id, event_id, kind, subject_id, data, created_at)";
        insert_rows!(conn, head, "", entries, 7, |query, entry| {
            query = query
                .bind("u")
                .bind(entry.user_id)
                .bind(entry.event_id)
                .bind(entry.event.kind())
                .bind(entry.subject_id)
                .bind(entry.data())
                .bind(now);
        })?;
        let changed: BTreeSet<i64> = entries.iter().map(|entry| entry.user_id).collect();
        let changed: Vec<(i64, i64)> =
            changed.into_iter().filter_map(|id| last.get(&id).map(|last| (id, *last))).collect();
        update_users(conn, &changed).await?;
        let counting: BTreeSet<i64> = entries
            .iter()
            .filter(|entry| !matches!(entry.event, Event::Notification { .. }))
            .map(|entry| entry.user_id)
            .collect();
        let unread = unread_counts(conn, &counting.into_iter().collect::<Vec<_>>()).await?;
        for entry in &mut entries {
            if let Event::NotificationRead { unread_count, .. } | Event::NotificationDeleted { unread_count, .. } =
                &mut entry.event
            {
                *unread_count = unread.get(&entry.user_id).copied().unwrap_or_default();
            }
        }
        let told = |entry: Entry| UserEvent {
            user_id: entry.user_id,
            told: Told { event_id: Some(entry.event_id), event: entry.event, about: None, client_id: None },
        };
        Ok(entries.into_iter().map(told).collect())
    }
}

async fn update_users(conn: &mut Conn<'_>, changed: &[(i64, i64)]) -> Result<(), sqlx::Error> {
    for changed in changed.chunks(ROWS_MAX) {
        let changed = padded(changed);
        let sql = format!(
            "WITH changed (id, last_event_id) AS (VALUES {})
             UPDATE users SET last_event_id = changed.last_event_id FROM changed WHERE users.id = changed.id",
            rows(0, changed.len(), 2)
        );
        execute!(conn, safe(sql), |query| {
            for (id, last_event_id) in &changed {
                query = query.bind(*id).bind(*last_event_id);
            }
        })?;
    }
    Ok(())
}

/// How many notifications are unread, of many users; those with none are left out.
async fn unread_counts(conn: &mut Conn<'_>, user_ids: &[i64]) -> Result<HashMap<i64, i64>, sqlx::Error> {
    let mut counts = HashMap::new();
    for ids in user_ids.chunks(ROWS_MAX) {
        let ids = padded(ids);
        let sql = format!(
            "SELECT user_id, COUNT(*) FROM notifications WHERE is_read = 0 AND user_id IN ({}) GROUP BY user_id",
            list(0, ids.len())
        );
        let found = fetch_all!(conn, (i64, i64), safe(sql), |query| {
            for id in &ids {
                query = query.bind(*id);
            }
        })?;
        counts.extend(found);
    }
    Ok(counts)
}
