//! Users on both databases: written, revoked, and erased without a trace of what they wrote.

use futures_util::future::join_all;

use super::NewUser;
use crate::auth::Names;
use crate::error::Code;
use crate::protocol::client::NewMessage;
use crate::protocol::rest::UsersWritten;
use crate::store::commit::{Actor, Change};
use crate::store::conversations::NewConversation;
use crate::store::idempotency::{IdempotencyKey, Once};
use crate::store::messages::Page;
use crate::store::sql::{Conn, execute, fetch_all, safe};
use crate::store::testing::{TestStore, both};

both! {
    a_user_is_replaced_whole_and_keeps_the_platform_s_names,
    many_users_are_written_at_once_and_counted,
    of_many_first_writes_of_a_user_one_is_told_that_it_is_new,
    revoking_refuses_what_was_issued_up_to_that_second_for_unknown_users_too,
    an_erasure_leaves_no_text_in_any_table,
    two_people_are_erased_from_one_kept_answer,
    an_erased_user_stays_a_participant_and_can_do_nothing,
    an_erasure_may_be_repeated_and_the_platform_lifts_it,
}

fn user(id: i64, first_name: &str) -> NewUser {
    NewUser {
        id,
        first_name: first_name.to_owned(),
        last_name: "Doe".to_owned(),
        username: Some(format!("user{id}")),
        email: Some(format!("user{id}@example.org")),
        avatar_url: None,
    }
}

fn names(first_name: &str) -> Names {
    Names { first_name: Some(first_name.to_owned()), last_name: None, username: None }
}

async fn a_user_is_replaced_whole_and_keeps_the_platform_s_names(store: TestStore) {
    let (written, is_new) = store.put_user(&user(7, "Ada")).await.expect("written");
    assert_eq!((written.profile().email.as_deref(), is_new), (Some("user7@example.org"), true));
    let bare = NewUser { username: None, email: None, ..user(7, "Bea") };
    let (written, is_new) = store.put_user(&bare).await.expect("written");
    let person = written.person();
    assert_eq!((person.first_name.as_str(), person.username, written.email, is_new), ("Bea", None, None, false));
    assert_eq!(store.meet_user(7, &names("Claim")).await.expect("met").first_name, "Bea");
    assert_eq!(store.meet_user(8, &names("Claim")).await.expect("met").first_name, "Claim");
}

async fn many_users_are_written_at_once_and_counted(store: TestStore) {
    let key = IdempotencyKey { caller_id: 0, key: "import".to_owned(), fingerprint: 1 };
    store.put_user(&user(3, "Old")).await.expect("written");
    let users: Vec<NewUser> = (1..=700).rev().map(|id| user(id, "New")).collect();
    let first = store.put_users(&users, Some(&key)).await.expect("an answer").expect("in order");
    let Once::First(written) = first else { panic!("{first:?}") };
    assert_eq!(written, UsersWritten { created: 699, updated: 1 });
    let again = store.put_users(&users, Some(&key)).await.expect("an answer").expect("in order");
    let Once::Repeated(answer) = again else { panic!("{again:?}") };
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"created":699,"updated":1}"#));
    assert_eq!(store.find_users(&[3, 700, 9_999]).await.expect("found").len(), 2);
    assert_eq!(store.count_all().await.expect("counts").0, 700);
}

async fn of_many_first_writes_of_a_user_one_is_told_that_it_is_new(store: TestStore) {
    let user_7 = user(7, "Ada");
    let answers = join_all((0..20).map(|_| store.put_user(&user_7))).await;
    let new = answers.into_iter().filter(|answer| answer.as_ref().expect("written").1).count();
    assert_eq!(new, 1);
    let users: Vec<NewUser> = (1..=30).map(|id| user(id, "New")).collect();
    let reversed: Vec<NewUser> = users.iter().rev().cloned().collect();
    let lists = (0..10).map(|turn| if turn % 2 == 0 { &users } else { &reversed });
    let answers = join_all(lists.map(|users| store.put_users(users, None))).await;
    let written = answers.into_iter().map(|answer| match answer.expect("an answer").expect("in order") {
        Once::First(written) => (written.created, written.updated),
        Once::Repeated(earlier) => panic!("{earlier:?}"),
    });
    assert_eq!(written.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)), (29, 271));
}

async fn revoking_refuses_what_was_issued_up_to_that_second_for_unknown_users_too(store: TestStore) {
    store.revoke_sessions(4).await.expect("revoked");
    let now = store.clock.now_s();
    let user = store.find_user(4).await.expect("a look").expect("made");
    assert!(user.refuses_token_of(Some(now)) && user.refuses_token_of(None));
    assert!(!user.refuses_token_of(Some(now + 1)));
}

async fn send(store: &TestStore, conversation_id: i64, user_id: i64, text: &str, reply_to: Option<i64>) -> i64 {
    let data = serde_json::value::to_raw_value(&serde_json::json!({ "note": text })).expect("JSON");
    let message = text.to_owned();
    let new = NewMessage { message, message_type: "text", reply_to, attachment_ids: vec![], data: Some(data) };
    let outcome = store.change(conversation_id, user_id, Change::Send(new)).await.expect("sent");
    outcome.answer().and_then(|told| told.about).expect("about a message").message_id
}

/// All texts, of any column of any table, that hold the needle.
async fn find_everywhere(store: &TestStore, needle: &str) -> Vec<String> {
    let mut reader = store.reader().await.expect("a reader");
    let conn = &mut reader.conn();
    let columns = conn.pick(
        "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c
         WHERE t.type = 'table' AND t.name NOT IN ('message_search', 'message_search_data')",
        "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) FROM information_schema.columns
         WHERE table_schema = current_schema()",
    );
    let columns = fetch_all!(conn, (String, String), columns).expect("columns");
    assert!(columns.len() > 50, "{columns:?}");
    let mut found = vec![];
    for (table, column) in columns {
        let sql = format!(
            "SELECT CAST(\"{column}\" AS TEXT) FROM \"{table}\" WHERE LOWER(CAST(\"{column}\" AS TEXT)) LIKE $1"
        );
        let rows = fetch_all!(conn, (String,), safe(sql), format!("%{needle}%")).expect("a scan");
        found.extend(rows.into_iter().map(|(text,)| format!("{table}.{column}: {text}")));
    }
    found
}

async fn count_words(conn: &mut Conn<'_>, word: &str) -> usize {
    let sql = conn.pick(
        "SELECT rowid FROM message_search WHERE message_search MATCH $1",
        "SELECT message_id FROM message_search WHERE words @@ to_tsquery('simple', $1)",
    );
    fetch_all!(conn, (i64,), sql, word).expect("a search").len()
}

/// A word that only the user to be erased has ever written, or is called.
const NEEDLE: &str = "zaphod";

async fn fill(store: &TestStore) -> i64 {
    store.put_user(&user(1, "Ada")).await.expect("written");
    let erased = NewUser {
        username: Some("zaphod42".to_owned()),
        email: Some("zaphod@example.org".to_owned()),
        avatar_url: Some("https://example.org/zaphod.png".to_owned()),
        ..user(2, "Zaphod")
    };
    store.put_user(&erased).await.expect("written");
    store.put_conversation(5, &[1, 2, 3]).await;
    let message_id = send(store, 5, 2, "zaphod was here", None).await;
    let edit = Change::Edit { message_id, text: "zaphod is here".to_owned() };
    store.change(5, 2, edit).await.expect("edited");
    let more: Vec<i64> = vec![send(store, 5, 2, "Zaphod again", None).await];
    let react = Change::React { message_id, reaction: "like".to_owned(), emoji: "👍".to_owned() };
    store.change(5, 1, react).await.expect("reacted");
    send(store, 5, 1, "an answer", Some(more[0])).await;

    let mut tx = store.begin().await.expect("a transaction");
    let conn = &mut tx.conn();
    for (id, name, message, linked) in [(1, "file-1", "NULL", 2), (2, "file-2", "1", 2), (3, "file-3", "NULL", 1)] {
        let message = message.replace('1', &message_id.to_string());
        let sql = format!(
            "INSERT INTO attachments (id, uploader_id, message_id, filename, content_type, size, file_key,
                 thumbnail_key, created_at)
             VALUES ($1, $2, {message}, $3, 'image/png', 1, $4, $5, 0)"
        );
        let filename = if linked == 2 { "zaphod.png" } else { "other.png" };
        execute!(conn, safe(sql), id, linked, filename, name, format!("{name}-small")).expect("an attachment");
    }
    for (id, user_id, text, sender_id) in [
        (1, 1, "You have a new message from Zaphod Doe", 2),
        (2, 3, "You have 3 new messages from Zaphod Doe", 2),
        (3, 3, "You have a new message from Ada Doe", 1),
        (4, 2, "Welcome, Zaphod", 1),
        (5, 1, "You have 3 new messages", 2),
    ] {
        execute!(
            conn,
            "INSERT INTO notifications (id, user_id, title, message, notification_type, data, is_read, conversation_id,
                 message_id, created_at)
             VALUES ($1, $2, 'New Message', $3, 'message', $4, $5, 5, $6, 0)",
            id,
            user_id,
            text,
            format!(r#"{{"conversation_id":5,"count":3,"message_id":9,"sender_id":{sender_id}}}"#),
            1_i64,
            message_id
        )
        .expect("a notification");
    }
    tx.commit().await.expect("a commit");

    // Answers to others that show the person and the message.
    let asked = NewConversation {
        by: Actor::User(1),
        id: None,
        owner_id: None,
        participant_ids: vec![2],
        title: None,
        participants_max: None,
    };
    let key = |key: &str| IdempotencyKey { caller_id: 1, key: key.to_owned(), fingerprint: 1 };
    let opened = store.create_conversation(&asked, Some(&key("one"))).await.expect("an answer").expect("opened");
    let Once::First(created) = opened else { panic!("{opened:?}") };
    let last = send(store, created.conversation.id, 2, "zaphod in private", None).await;
    send(store, created.conversation.id, 1, "yes?", Some(last)).await;
    store.create_conversation(&asked, Some(&key("two"))).await.expect("an answer").expect("found");
    message_id
}

async fn an_erasure_leaves_no_text_in_any_table(store: TestStore) {
    let message_id = fill(&store).await;
    let before = find_everywhere(&store, NEEDLE).await;
    for table in ["users", "messages", "message_revisions", "attachments", "notifications", "idempotency_keys"] {
        assert!(before.iter().any(|found| found.starts_with(table)), "{table} has nothing to be erased: {before:#?}");
    }
    assert!(count_words(&mut store.reader().await.expect("a reader").conn(), NEEDLE).await > 0);

    store.erase_user(2).await.expect("erased");
    assert_eq!(find_everywhere(&store, NEEDLE).await, Vec::<String>::new());
    let mut reader = store.reader().await.expect("a reader");
    assert_eq!(count_words(&mut reader.conn(), NEEDLE).await, 0);
    let texts = fetch_all!(&mut reader.conn(), (i64, String), "SELECT id, message FROM notifications ORDER BY id");
    let expected = [
        (1, "You have a new message from Deleted user"),
        (2, "You have 3 new messages from Deleted user"),
        (3, "You have a new message from Ada Doe"),
        (5, "You have 3 new messages"),
    ];
    assert_eq!(texts.expect("rows"), expected.map(|(id, text)| (id, text.to_owned())));
    let files = fetch_all!(&mut reader.conn(), (String,), "SELECT file_key FROM files_to_delete ORDER BY file_key");
    let files: Vec<String> = files.expect("rows").into_iter().map(|(key,)| key).collect();
    assert_eq!(files, ["file-1", "file-1-small", "file-2", "file-2-small"]);

    let stored = store.find_message(message_id, 1).await.expect("a look").expect("a tombstone");
    assert!(stored.message.is_deleted && stored.message.content.is_empty() && stored.message.reactions.is_empty());
    assert_eq!(stored.message.sender.display_name(), "Deleted user");
    assert!(store.list_revisions(message_id).await.expect("a look").is_empty());
    let (history, _) = store.list_messages(5, 0, Page::Before(None), 10).await.expect("a page");
    let answer = &history[0].message;
    assert_eq!(
        (answer.content.as_str(), answer.reply_to.as_ref().expect("a reply").content.as_str()),
        ("an answer", "")
    );
}

async fn two_people_are_erased_from_one_kept_answer(store: TestStore) {
    for (id, name) in [(1, "Ada"), (2, "Zaphod"), (3, "Trillian")] {
        store.put_user(&user(id, name)).await.expect("written");
    }
    let asked = NewConversation {
        by: Actor::User(1),
        id: None,
        owner_id: None,
        participant_ids: vec![2, 3],
        title: None,
        participants_max: None,
    };
    // Kept long after others, so that they are not looked over in one go.
    for key in ["early", "late"] {
        let key = IdempotencyKey { caller_id: 1, key: key.to_owned(), fingerprint: 1 };
        store.create_conversation(&asked, Some(&key)).await.expect("an answer").expect("opened");
        store.clock.advance_ms(5 * 60 * 60 * 1000);
    }
    for (id, name) in [(2, "zaphod"), (3, "trillian")] {
        assert!(find_everywhere(&store, name).await.len() > 2);
        store.erase_user(id).await.expect("erased");
        assert_eq!(find_everywhere(&store, name).await, Vec::<String>::new());
    }
}

async fn an_erased_user_stays_a_participant_and_can_do_nothing(store: TestStore) {
    store.put_conversation(5, &[1, 2]).await;
    let before = store.say(5, 2, "words", &[]).await;
    let log = store.last_event_id(crate::protocol::Topic::Conversation(5)).await.expect("a look");
    store.erase_user(2).await.expect("erased");
    assert_eq!(store.last_event_id(crate::protocol::Topic::Conversation(5)).await.expect("a look"), log);
    assert!(store.find_participation(5, 2).await.expect("a look").is_some());
    let seen = store.find_conversation(5, Some(1)).await.expect("a look").expect("a participant");
    assert_eq!((seen.participant_count, seen.unread_count), (2, 0));
    assert!(seen.last_message.is_some_and(|message| message.id == before && message.is_deleted));
    let new = NewMessage {
        message: "still here".to_owned(),
        message_type: "text",
        reply_to: None,
        attachment_ids: vec![],
        data: None,
    };
    let refused = store.change(5, 2, Change::Send(new)).await.expect_err("erased");
    assert_eq!(refused.code, Code::NotFound);
}

async fn an_erasure_may_be_repeated_and_the_platform_lifts_it(store: TestStore) {
    store.put_conversation(5, &[1, 2]).await;
    for _ in 0..300 {
        store.say(5, 2, "words", &[]).await;
    }
    store.erase_user(2).await.expect("erased");
    let erased_at = store.find_user(2).await.expect("a look").expect("still there").erased_at;
    store.clock.advance_ms(5_000);
    store.erase_user(2).await.expect("erased again");
    store.erase_user(404).await.expect("erased before it came");
    let user_2 = store.find_user(2).await.expect("a look").expect("still there");
    assert_eq!((user_2.erased_at, user_2.display()), (erased_at, "Deleted user".to_owned()));
    assert!(user_2.refuses_token_of(Some(i64::MAX)));
    assert_eq!(store.meet_user(2, &names("Back")).await.expect("met").first_name, "Deleted");
    assert!(store.meet_user(404, &names("Back")).await.expect("met").refuses_token_of(Some(i64::MAX)));
    store.revoke_sessions(2).await.expect("revoked");
    let (lifted, is_new) = store.put_user(&user(2, "Back")).await.expect("written");
    assert_eq!((lifted.erased_at, lifted.first_name.as_str(), is_new), (None, "Back", false));
    assert!(lifted.refuses_token_of(Some(store.clock.now_s())), "the revocation stays");
    let (history, _) = store.list_messages(5, 0, Page::Before(None), 100).await.expect("a page");
    assert!(history.iter().all(|stored| stored.message.is_deleted));
}

impl super::User {
    fn display(&self) -> String {
        self.person().display_name()
    }
}
