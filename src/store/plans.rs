//! The plans of the statements that run all the time: none reads a table from end to end that grows with use.
//! The statements are those that the store itself sends, caught on their way.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::commit::{Actor, Change, Command, fingerprint};
use super::messages::Page;
use super::notifications::raise::Raise;
use super::sql::{Conn, safe};
use super::testing::{TestStore, both};
use crate::protocol::Topic;
use crate::protocol::client::NewMessage;

both!(no_hot_statement_reads_a_big_table_from_end_to_end, a_statement_without_an_index_is_found_out);

/// The tables that grow with use.
const BIG: [&str; 12] = [
    "users",
    "conversations",
    "participants",
    "messages",
    "message_revisions",
    "message_search",
    "reactions",
    "attachments",
    "events",
    "client_ids",
    "notifications",
    "notification_messages",
];

thread_local! {
    static SEEN: RefCell<Option<BTreeSet<String>>> = const { RefCell::new(None) };
}

/// Takes note of a statement while a test of plans is running on this thread.
pub(super) fn look_at(sql: &str) {
    SEEN.with_borrow_mut(|seen| _ = seen.as_mut().map(|seen| seen.insert(sql.to_owned())));
}

/// What a client's day is made of.
async fn do_all_that_is_hot(store: &TestStore) {
    let page = Page::Before(None);
    for client_id in ["1", "1"] {
        let changes = [
            Change::Send(NewMessage {
                message: "Hello".to_owned(),
                message_type: "text",
                reply_to: Some(1),
                attachment_ids: vec![1],
                data: None,
            }),
            Change::Send(NewMessage {
                message: "Hello".to_owned(),
                message_type: "text",
                reply_to: Some(1),
                attachment_ids: Vec::new(),
                data: None,
            }),
            Change::Edit { message_id: 1, text: "Better".to_owned() },
            Change::React { message_id: 1, reaction: "like".to_owned(), emoji: "👍".to_owned() },
            Change::Unreact { message_id: 1, reaction: "like".to_owned(), emoji: "👍".to_owned() },
            Change::Read { message_id: 2 },
            Change::Delete { message_id: 1 },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let (actor, fingerprint) = (Actor::User(1), fingerprint(&change));
            let client_id = Some(format!("{client_id}-{number}"));
            let command = Command { conversation_id: 1, actor, client_id, fingerprint, change };
            _ = store.commit(&[command]).await.expect("the database answers");
        }
    }
    for page in [page, Page::Before(Some(9)), Page::After(1)] {
        store.list_messages(1, 0, page, 50).await.expect("history");
        store.list_participants(1, page, 50).await.expect("participants");
        store.list_notifications(1, false, page, 50).await.expect("notifications");
        store.list_notifications(1, true, page, 50).await.expect("unread notifications");
        store.search_messages(1, "hello 東京", page, 50).await.expect("hits");
    }
    store.find_participation(1, 1).await.expect("a place");
    store.list_conversations(1, false, None, 50).await.expect("a page");
    store.list_places(1).await.expect("places");
    store.list_contacts(1, 1_000).await.expect("contacts");
    store.list_conversation_ids(1).await.expect("ids");
    store.list_receipts(1, 1).await.expect("receipts");
    store.mark_delivered(&[((1, 2), 1)].into()).await.expect("delivered marks");
    store.list_last_seen(1, 100).await.expect("presence");
    store.filter_participants(1, &[1, 2]).await.expect("participants");
    store.set_last_seen(&[1, 2], 1, true).await.expect("an update");
    store.count_unread(1, 1).await.expect("a count");
    store.count_unread_messages(1).await.expect("a count");
    store.count_unread_notifications(1).await.expect("a count");
    store.find_user(1).await.expect("a user");
    for topic in [Topic::Conversation(1), Topic::User(1)] {
        store.last_event_ids(&[topic]).await.expect("positions");
        store.read_log(topic, 0, 100).await.expect("a page of the log");
    }
    notify(store).await;
    store.find_unsettled(&[(1, 1)]).await.expect("notifications");
    store.list_unsettled_of_message(1, 0).await.expect("notifications");
}

async fn notify(store: &TestStore) {
    let raise = Raise { conversation_id: 1, up_to: 1_000, seen: Vec::new(), present: Arc::from([]) };
    store.raise_notifications(&[raise]).await.expect("notifications");
}

/// Puts something into every big table: the planner takes an empty one for small whatever it is told.
async fn fill(store: &TestStore) {
    store.put_conversation(1, &[1, 2]).await;
    store.say(1, 2, "Hello 東京", &[]).await;
    let id = store.say(1, 1, "Hello", &[]).await;
    let (reaction, emoji) = ("like".to_owned(), "👍".to_owned());
    let edit = Change::Edit { message_id: id, text: "Better".to_owned() };
    for change in [Change::React { message_id: id, reaction, emoji }, edit] {
        store.change(1, 1, change).await.expect("it is carried out");
    }
    store
        .run(
            "INSERT INTO attachments (id, uploader_id, filename, content_type, size, file_key, created_at)
             VALUES (1, 1, 'notes.txt', 'text/plain', 5, 'key', 1)",
        )
        .await;
    notify(store).await;
}

async fn no_hot_statement_reads_a_big_table_from_end_to_end(store: TestStore) {
    fill(&store).await;
    SEEN.set(Some(BTreeSet::new()));
    do_all_that_is_hot(&store).await;
    let seen = SEEN.take().expect("statements");
    assert!(seen.len() > 40, "only {} statements were seen", seen.len());
    let mut complaints = vec![];
    for sql in &seen {
        complaints.extend(scans(&store, sql).await.into_iter().map(|scan| format!("{scan}\nin {sql}\n")));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

async fn a_statement_without_an_index_is_found_out(store: TestStore) {
    fill(&store).await;
    let scan = "SELECT m.id FROM participants p JOIN messages m ON m.id = p.read_up_to WHERE p.user_id = $1 AND p.left_at IS NULL AND m.content = $2";
    assert_eq!(scans(&store, scan).await, [] as [&str; 0]);
    for scan in [
        "SELECT id FROM messages WHERE content = $1",
        "SELECT m.id FROM messages m WHERE m.created_at > 5 ORDER BY m.id LIMIT 5",
        "UPDATE users SET last_name = '' WHERE first_name = $1",
        "SELECT u.id FROM participants p JOIN users u ON u.id = p.user_id WHERE p.role = $1",
    ] {
        assert_eq!(scans(&store, scan).await.len(), 1, "{scan}");
    }
}

/// The places in a statement's plan where a big table is read from end to end.
async fn scans(store: &TestStore, sql: &str) -> Vec<String> {
    let mut tx = store.begin().await.expect("a transaction");
    match tx.conn() {
        Conn::Sqlite(conn) => {
            let explain = safe(format!("EXPLAIN QUERY PLAN {sql}"));
            let rows: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(explain).fetch_all(conn).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
            let names = names_of_big_tables(sql);
            let steps = rows.into_iter().map(|(_, _, _, step)| step);
            steps
                .filter(|step| is_scan(step) && names.iter().any(|name| step.split(' ').nth(1) == Some(name)))
                .collect()
        }
        Conn::Postgres(conn) => {
            let plan = plan_on_postgres(conn, sql).await;
            let mut found = vec![];
            find_scans(&plan[0]["Plan"], &mut found);
            found
        }
    }
}

/// Whether a step of SQLite's has no condition on the index it goes by. A search by words goes by its own.
fn is_scan(step: &str) -> bool {
    step.starts_with("SCAN ") && !step.contains("VIRTUAL TABLE INDEX")
}

/// The big tables as a statement names them: each by its alias, where it has one.
fn names_of_big_tables(sql: &str) -> Vec<&str> {
    let words: Vec<&str> = sql.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let is_table = |at: &usize| BIG.contains(&words[*at]);
    let alias = |at: usize| match words.get(at + 1) {
        Some(word) if *word == word.to_lowercase() => word,
        _ => words[at],
    };
    (0..words.len()).filter(is_table).map(alias).collect()
}

/// The plan for any values, of tables that the planner takes for large.
async fn plan_on_postgres(conn: &mut sqlx::PgConnection, sql: &str) -> serde_json::Value {
    let settings = "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
                    SET LOCAL plan_cache_mode = force_generic_plan; DEALLOCATE ALL;
                    UPDATE pg_class SET reltuples = 1000000, relpages = 1
                    WHERE relnamespace = CAST(current_schema() AS regnamespace) AND relkind IN ('r', 'i');";
    sqlx::raw_sql(settings).execute(&mut *conn).await.expect("settings");
    let count = (1..).take_while(|number| sql.contains(&format!("${number}"))).count();
    // Types that the statement itself does not tell are numbers, or an id and a text, or those of a `client_id`.
    let of = |types: &[&str]| types.iter().cycle().take(count).copied().collect::<Vec<_>>().join(", ");
    let mut error = None;
    for types in [String::new(), of(&["bigint"]), of(&["bigint", "text"]), of(&["bigint", "bigint", "text"])] {
        let types = if types.is_empty() { types } else { format!("({types})") };
        sqlx::raw_sql("SAVEPOINT before").execute(&mut *conn).await.expect("a savepoint");
        let prepare = safe(format!("PREPARE hot {types} AS {sql}"));
        match sqlx::raw_sql(prepare).execute(&mut *conn).await {
            Ok(_) => {
                let values = vec!["NULL"; count].join(", ");
                let values = if count == 0 { values } else { format!("({values})") };
                let explain = safe(format!("EXPLAIN (FORMAT JSON) EXECUTE hot {values}"));
                let row = sqlx::raw_sql(explain).fetch_one(&mut *conn).await.expect("a plan");
                let text: &str = sqlx::Row::try_get_unchecked(&row, 0).expect("a text");
                return serde_json::from_str(text).expect("JSON");
            }
            Err(refused) => error = Some(refused),
        }
        sqlx::raw_sql("ROLLBACK TO before").execute(&mut *conn).await.expect("a rollback");
    }
    panic!("{error:?}: {sql}");
}

/// Reads of big tables without a condition on an index.
fn find_scans(node: &serde_json::Value, found: &mut Vec<String>) {
    let is_big = node["Relation Name"].as_str().is_some_and(|table| BIG.contains(&table));
    let kind = node["Node Type"].as_str().unwrap_or_default();
    let is_guided = match kind {
        "Index Scan" | "Index Only Scan" => node.get("Index Cond").is_some(),
        "Seq Scan" => false,
        // A bitmap's condition is on the index below it; a change's rows come from below.
        _ => true,
    };
    let is_unguided_bitmap = kind == "Bitmap Index Scan" && node.get("Index Cond").is_none();
    if is_big && !is_guided || is_unguided_bitmap {
        found.push(format!("{kind} of {} {}", node["Relation Name"], node["Index Name"]));
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        find_scans(child, found);
    }
}
