//! What commands of one batch see of each other.

use super::*;
use crate::store::testing::{TestStore, both};

both!(a_reply_shows_a_message_as_the_commands_before_it_left_it);

fn command(user_id: i64, change: Change) -> Command {
    let fingerprint = fingerprint(&change);
    Command { conversation_id: 1, actor: Actor::User(user_id), client_id: None, fingerprint, change }
}

async fn a_reply_shows_a_message_as_the_commands_before_it_left_it(store: TestStore) {
    store.put_conversation(1, &[1, 2]).await;
    let id = store.say(1, 1, "First", &[]).await;
    let reply = || {
        let (message, message_type) = ("Yes".to_owned(), "text");
        Change::Send(NewMessage { message, message_type, reply_to: Some(id), attachment_ids: Vec::new(), data: None })
    };
    let edit = Change::Edit { message_id: id, text: "Second".to_owned() };
    let delete = Change::Delete { message_id: id };
    let batch = [command(2, reply()), command(1, edit), command(2, reply()), command(1, delete), command(2, reply())];
    let outcomes = store.commit(&batch).await.expect("the database answers");
    let extract =
        |outcome: &Result<Outcome>| match outcome.as_ref().expect("it is carried out").answer().map(|told| &told.event)
        {
            Some(Event::ChatMessage { message }) => message.reply_to.as_ref().expect("a reply").content.clone(),
            other => panic!("{other:?}"),
        };
    assert_eq!([0, 2, 4].map(|index| extract(&outcomes[index])), ["First", "Second", ""]);
}

#[tokio::test]
async fn after_a_full_disk_sqlite_takes_writes_again() {
    let store = TestStore::sqlite().await;
    store.put_conversation(1, &[1, 2]).await;
    let send = |text: String| {
        let message_type = "text";
        Change::Send(NewMessage { message: text, message_type, reply_to: None, attachment_ids: Vec::new(), data: None })
    };
    // A connection's own bound on the size of the file does what a full disk does.
    store.run("PRAGMA max_page_count = 1").await;
    let mut sent = 0;
    let fault = loop {
        match store.commit(&[command(1, send("x".repeat(8_000)))]).await {
            Ok(_) => sent += 1,
            Err(fault) => break fault,
        }
        assert!(sent < 1_000, "the file has no bound");
    };
    assert!(!fault.is_refusal(), "{fault}");
    store.commit(&[command(1, send("There is room again".to_owned()))]).await.expect("it is stored");
    assert_eq!(store.count_events(crate::protocol::Topic::Conversation(1)).await, sent + 1);
}
