//! Conversations on both databases: races for a 1:1, ids, lists, counts, ends.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::{Activity, Created, NewConversation};
use crate::error::{Code, Result};
use crate::protocol::Role;
use crate::store::commit::{Actor, Change};
use crate::store::idempotency::{IdempotencyKey, Once};
use crate::store::messages::Page;
use crate::store::sql::{execute, fetch_all};
use crate::store::testing::{TestStore, both};
use crate::store::users::NewUser;

both! {
    fifty_who_open_the_same_1_to_1_at_once_open_one,
    a_1_to_1_is_found_again_from_either_side,
    a_group_has_its_owner_and_a_titled_pair_is_a_group,
    users_can_t_name_strangers_and_the_platform_makes_them,
    an_id_of_the_platform_s_is_a_conflict_where_it_is_something_else,
    ids_that_the_platform_has_taken_are_skipped,
    the_bound_on_participants_holds_at_the_bound_and_one_past_it,
    a_key_s_repeats_get_the_first_answer_however_close_they_are,
    a_refused_request_leaves_its_key_free,
    a_page_shows_the_first_twenty_and_counts_all,
    pages_miss_and_repeat_nothing_while_conversations_are_opened,
    a_cleared_1_to_1_is_hidden_until_its_next_message,
    a_deleted_conversation_leaves_nothing,
    flags_are_one_participant_s_own,
    unread_counts_equal_a_plain_count,
    participants_are_paged_by_user_id,
}

pub(super) fn new(by: Actor, participant_ids: &[i64], title: Option<&str>) -> NewConversation {
    NewConversation {
        by,
        id: None,
        owner_id: None,
        participant_ids: participant_ids.to_vec(),
        title: title.map(str::to_owned),
        participants_max: None,
    }
}

async fn know(store: &TestStore, ids: &[i64]) {
    let user = |id: &i64| NewUser {
        id: *id,
        first_name: format!("First{id}"),
        last_name: String::new(),
        username: None,
        email: None,
        avatar_url: None,
    };
    let users: Vec<NewUser> = ids.iter().map(user).collect();
    store.put_users(&users, None).await.expect("the store answers").expect("users");
}

async fn open(store: &TestStore, new: &NewConversation) -> Result<Created> {
    match store.create_conversation(new, None).await.expect("the store answers")? {
        Once::First(created) => Ok(created),
        Once::Repeated(answer) => panic!("there was no key: {answer:?}"),
    }
}

async fn fifty_who_open_the_same_1_to_1_at_once_open_one(store: TestStore) {
    know(&store, &[1, 2]).await;
    let asked: Vec<NewConversation> = (0..50).map(|index| new(Actor::User(1 + index % 2), &[1, 2], None)).collect();
    let opened = join_all(asked.iter().map(|new| open(&store, new))).await;
    let opened: Vec<Created> = opened.into_iter().map(|created| created.expect("a conversation")).collect();
    let ids: BTreeSet<i64> = opened.iter().map(|created| created.conversation.id).collect();
    assert_eq!((ids.len(), opened.iter().filter(|created| created.is_new).count()), (1, 1));
    let (_, conversations, _) = store.count_all().await.expect("counts");
    assert_eq!(conversations, 1);
}

async fn a_1_to_1_is_found_again_from_either_side(store: TestStore) {
    know(&store, &[7, 9]).await;
    let first = open(&store, &new(Actor::User(9), &[7, 9, 7], None)).await.expect("new");
    assert!(first.is_new);
    let seen = &first.conversation;
    assert_eq!((seen.kind.as_str(), seen.role, seen.participant_count), ("direct", Some(Role::Member), 2));
    assert_eq!((seen.last_event_id, seen.unread_count, seen.last_message.is_none()), (0, 0, true));
    let again = open(&store, &new(Actor::User(7), &[9], None)).await.expect("there");
    assert_eq!((again.conversation.id, again.is_new), (seen.id, false));
    let alone = open(&store, &new(Actor::User(7), &[7, 7], None)).await.expect_err("oneself alone");
    assert_eq!((alone.code, alone.field), (Code::InvalidField, Some("participant_ids")));
}

async fn a_group_has_its_owner_and_a_titled_pair_is_a_group(store: TestStore) {
    know(&store, &[1, 2, 3]).await;
    let pair = open(&store, &new(Actor::User(2), &[1], Some("Two"))).await.expect("a group");
    assert_eq!((pair.conversation.kind.as_str(), pair.conversation.role), ("group", Some(Role::Owner)));
    assert_eq!(pair.conversation.title.as_deref(), Some("Two"));
    let same = open(&store, &new(Actor::User(2), &[1], Some("Two"))).await.expect("another group");
    assert_ne!(same.conversation.id, pair.conversation.id);
    let of_platform = NewConversation { owner_id: Some(3), ..new(Actor::Platform, &[1, 2], None) };
    let created = open(&store, &of_platform).await.expect("a group");
    assert_eq!((created.conversation.role, created.user_ids.as_slice()), (None, &[1, 2, 3][..]));
    let roles: Vec<Role> = created.conversation.participants.iter().map(|person| person.role).collect();
    assert_eq!(roles, [Role::Member, Role::Member, Role::Owner]);
}

async fn users_can_t_name_strangers_and_the_platform_makes_them(store: TestStore) {
    know(&store, &[1]).await;
    let refused = open(&store, &new(Actor::User(1), &[404], None)).await.expect_err("a stranger");
    assert_eq!((refused.code, refused.field), (Code::NotFound, Some("participant_ids")));
    assert!(store.find_user(404).await.expect("a look").is_none());
    open(&store, &new(Actor::Platform, &[1, 404], None)).await.expect("a 1:1");
    let made = store.find_user(404).await.expect("a look").expect("made");
    assert_eq!((made.first_name.as_str(), made.username), ("", None));
    let nobody = open(&store, &new(Actor::Platform, &[], None)).await.expect_err("nobody");
    assert_eq!(nobody.code, Code::InvalidField);
}

async fn an_id_of_the_platform_s_is_a_conflict_where_it_is_something_else(store: TestStore) {
    let with_id = |id, new: NewConversation| NewConversation { id: Some(id), ..new };
    let direct = with_id(70, new(Actor::Platform, &[1, 2], None));
    assert!(open(&store, &direct).await.expect("new").is_new);
    assert!(!open(&store, &direct).await.expect("the same").is_new);
    let group = with_id(80, new(Actor::Platform, &[1, 2, 3], Some("Club")));
    assert!(open(&store, &group).await.expect("new").is_new);
    assert!(!open(&store, &group).await.expect("the same").is_new);
    for (other, why) in [
        (with_id(71, new(Actor::Platform, &[1, 2], None)), "the 1:1 has another id"),
        (with_id(70, new(Actor::Platform, &[1, 3], None)), "the id is another 1:1's"),
        (with_id(80, new(Actor::Platform, &[1, 3], None)), "the id is a group's"),
        (with_id(70, new(Actor::Platform, &[1, 2], Some("Club"))), "the id is a 1:1's"),
        (with_id(80, new(Actor::Platform, &[1, 2, 3], Some("Pub"))), "another title"),
        (with_id(80, new(Actor::Platform, &[1, 2, 4], Some("Club"))), "other people"),
    ] {
        let refused = open(&store, &other).await.expect_err(why);
        assert_eq!((refused.code, refused.field), (Code::Conflict, Some("id")), "{why}");
    }
}

async fn ids_that_the_platform_has_taken_are_skipped(store: TestStore) {
    for id in 1..=30 {
        let taken = NewConversation { id: Some(id), ..new(Actor::Platform, &[1, 2], Some("Taken")) };
        open(&store, &taken).await.expect("new");
    }
    let first = open(&store, &new(Actor::Platform, &[1, 2], None)).await.expect("new");
    assert!(first.is_new && first.conversation.id > 30, "{}", first.conversation.id);
    let second = open(&store, &new(Actor::Platform, &[1, 3], None)).await.expect("new");
    assert!(second.is_new && second.conversation.id > first.conversation.id);
}

async fn the_bound_on_participants_holds_at_the_bound_and_one_past_it(store: TestStore) {
    let bounded = |ids: &[i64]| NewConversation { participants_max: Some(3), ..new(Actor::Platform, ids, None) };
    open(&store, &bounded(&[1, 2, 3])).await.expect("at the bound");
    let refused = open(&store, &bounded(&[1, 2, 3, 4])).await.expect_err("past it");
    assert_eq!((refused.code, refused.field), (Code::TooLarge, Some("participant_ids")));
}

fn key(name: &str, fingerprint: i64) -> IdempotencyKey {
    IdempotencyKey { caller_id: 1, key: name.to_owned(), fingerprint }
}

async fn a_key_s_repeats_get_the_first_answer_however_close_they_are(store: TestStore) {
    know(&store, &[1, 2, 3]).await;
    let (group, key) = (new(Actor::User(1), &[2, 3], Some("Once")), key("k", 5));
    let answers = join_all((0..40).map(|_| store.create_conversation(&group, Some(&key)))).await;
    let (mut first, mut repeated) = (vec![], vec![]);
    for answer in answers {
        match answer.expect("the store answers").expect("in order") {
            Once::First(created) => first.push(serde_json::to_string(&created.conversation).expect("JSON")),
            Once::Repeated(answer) => repeated.push(answer),
        }
    }
    assert_eq!((first.len(), repeated.len()), (1, 39));
    assert!(repeated.iter().all(|answer| answer.status == 201 && answer.body == first[0]), "{repeated:?}");
    assert_eq!(store.count_all().await.expect("counts").1, 1);
    let other = IdempotencyKey { fingerprint: 6, ..key.clone() };
    let refused = store.create_conversation(&group, Some(&other)).await.expect("an answer").expect_err("another body");
    assert_eq!(refused.code, Code::Conflict);
    let of_other_caller = IdempotencyKey { caller_id: 2, ..key };
    let answer = store.create_conversation(&group, Some(&of_other_caller)).await.expect("an answer");
    assert!(matches!(answer, Ok(Once::First(_))));
}

async fn a_refused_request_leaves_its_key_free(store: TestStore) {
    know(&store, &[1]).await;
    let (asked, key) = (new(Actor::User(1), &[2], None), key("again", 5));
    let refused = store.create_conversation(&asked, Some(&key)).await.expect("an answer");
    assert_eq!(refused.expect_err("a stranger").code, Code::NotFound);
    assert_eq!(store.find_answer(&key).await.expect("a look").expect("no conflict"), None);
    know(&store, &[2]).await;
    let opened = store.create_conversation(&asked, Some(&key)).await.expect("an answer");
    assert!(matches!(opened, Ok(Once::First(_))));
}

async fn a_page_shows_the_first_twenty_and_counts_all(store: TestStore) {
    let everybody: Vec<i64> = (1..=21).collect();
    let twenty = open(&store, &new(Actor::Platform, &everybody[..20], None)).await.expect("new").conversation;
    assert_eq!((twenty.participants.len(), twenty.participant_count), (20, 20));
    store.clock.advance_ms(1_000);
    let one_more = Change::AddParticipants { user_ids: vec![40, 21], participants_max: None };
    know(&store, &[40, 21]).await;
    let command = crate::store::commit::Command {
        conversation_id: twenty.id,
        actor: Actor::Platform,
        client_id: None,
        fingerprint: 0,
        change: one_more,
    };
    store.commit(&[command]).await.expect("the store answers").remove(0).expect("added");
    let seen = store.find_conversation(twenty.id, Some(3)).await.expect("a look").expect("a member");
    assert_eq!((seen.participants.len(), seen.participant_count, seen.last_event_id), (20, 22, 2));
    let shown: Vec<i64> = seen.participants.iter().map(|person| person.person.id).collect();
    assert_eq!(shown, everybody[..20]);
    assert!(store.find_conversation(twenty.id, Some(99)).await.expect("a look").is_none());
    assert!(store.find_conversation(twenty.id, None).await.expect("a look").is_some());
}

async fn pages_miss_and_repeat_nothing_while_conversations_are_opened(store: TestStore) {
    let mut expected = BTreeSet::new();
    for other in 2..=14 {
        // Several of the same moment, so that the order needs the id.
        store.clock.advance_ms(i64::from(other % 3 == 0));
        expected.insert(open(&store, &new(Actor::Platform, &[1, other], None)).await.expect("new").conversation.id);
    }
    let (mut after, mut seen): (Option<Activity>, Vec<i64>) = (None, vec![]);
    let mut other = 100;
    loop {
        let page = store.list_conversations(1, false, after, 3).await.expect("a page");
        seen.extend(page.conversations.iter().map(|conversation| conversation.id));
        open(&store, &new(Actor::Platform, &[1, other], None)).await.expect("new");
        other += 1;
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen.len(), 13, "{seen:?}");
    assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert!(seen.is_sorted_by(|first, second| first > second), "{seen:?}");
}

async fn a_cleared_1_to_1_is_hidden_until_its_next_message(store: TestStore) {
    know(&store, &[1, 2]).await;
    let id = open(&store, &new(Actor::User(1), &[2], None)).await.expect("new").conversation.id;
    let listed = async |user_id| {
        let page = store.list_conversations(user_id, false, None, 50).await.expect("a page");
        page.conversations.len()
    };
    let old = store.say(id, 2, "before", &[]).await;
    assert_eq!(store.clear_conversation(id, 1).await.expect("cleared"), Some(old));
    assert_eq!(store.clear_conversation(id, 3).await.expect("nothing"), None);
    assert_eq!((listed(1).await, listed(2).await), (0, 1));
    let seen = store.find_conversation(id, Some(1)).await.expect("a look").expect("still a participant");
    assert_eq!((seen.unread_count, seen.last_message.is_none()), (0, true));

    let again = open(&store, &new(Actor::User(1), &[2], None)).await.expect("there");
    assert!(!again.is_new && again.conversation.last_message.is_none());
    assert_eq!(listed(1).await, 1);

    store.clear_conversation(id, 1).await.expect("cleared again");
    assert_eq!(listed(1).await, 0);
    store.say(id, 2, "after", &[]).await;
    assert_eq!(listed(1).await, 1);
    let seen = store.find_conversation(id, Some(1)).await.expect("a look").expect("a participant");
    assert_eq!((seen.unread_count, seen.last_message.map(|message| message.content)), (1, Some("after".to_owned())));
}

async fn a_deleted_conversation_leaves_nothing(store: TestStore) {
    know(&store, &[1, 2, 3]).await;
    let id = open(&store, &new(Actor::User(1), &[2, 3], None)).await.expect("new").conversation.id;
    let other = open(&store, &new(Actor::User(1), &[2], None)).await.expect("new").conversation.id;
    store.say(id, 1, "gone", &[]).await;
    let kept = store.say(other, 1, "kept", &[]).await;
    let deleted = store.delete_conversation(id).await.expect("deleted").expect("was there");
    assert_eq!(deleted.iter().map(|participant| participant.user.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(store.delete_conversation(id).await.expect("nothing").is_none());
    let mut reader = store.reader().await.expect("a reader");
    for sql in ["SELECT topic_id FROM events WHERE topic_kind = 'c'", "SELECT conversation_id FROM messages"] {
        let left = fetch_all!(&mut reader.conn(), (i64,), sql).expect("rows");
        assert_eq!(left, [(other,)], "{sql}");
    }
    assert!(store.find_message(kept, 1).await.expect("a look").is_some());
}

async fn flags_are_one_participant_s_own(store: TestStore) {
    store.put_conversation(5, &[1, 2]).await;
    let now = store.clock.now_ms();
    let flags = store.set_flags(5, 1, Some(true), Some(Some(now + 1_000))).await.expect("set").expect("a participant");
    assert!(flags.archived && flags.muted);
    let ids = async |archived| {
        let page = store.list_conversations(1, archived, None, 50).await.expect("a page");
        page.conversations.iter().map(|conversation| conversation.muted).collect::<Vec<_>>()
    };
    assert_eq!((ids(true).await, ids(false).await), (vec![true], vec![]));
    store.clock.advance_ms(1_000);
    assert_eq!(ids(true).await, [false]);
    let others = store.find_conversation(5, Some(2)).await.expect("a look").expect("a participant");
    assert!(!others.archived && !others.muted);
    let flags = store.set_flags(5, 1, Some(false), Some(None)).await.expect("set").expect("a participant");
    assert!(!flags.archived && !flags.muted);
    assert_eq!(store.set_flags(5, 9, Some(true), None).await.expect("nothing"), None);
}

/// One step of a random trace; users are 1 to 3, messages are named by their place.
#[derive(Clone, Debug)]
enum Step {
    Say(i64),
    Delete(usize),
    Read(i64, usize),
    Clear(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let user = || 1..=3_i64;
    prop_oneof![
        4 => user().prop_map(Step::Say),
        1 => any::<usize>().prop_map(Step::Delete),
        2 => (user(), any::<usize>()).prop_map(|(user, place)| Step::Read(user, place)),
        1 => user().prop_map(Step::Clear),
    ]
}

async fn unread_counts_equal_a_plain_count(store: TestStore) {
    let mut runner = TestRunner::default();
    for id in 1..=12 {
        let trace = proptest::collection::vec(step(), 1..30).new_tree(&mut runner).expect("a trace").current();
        store.put_conversation(id, &[1, 2, 3]).await;
        // Each message's id, its sender, and whether it is there; for each user what is read or cleared.
        let mut messages: Vec<(i64, i64, bool)> = vec![];
        let mut seen_up_to = [0_i64; 4];
        let mut cleared_up_to = [0_i64; 4];
        for step in &trace {
            let place = |place: usize| place % messages.len().max(1);
            match step {
                Step::Say(user) => messages.push((store.say(id, *user, "words", &[]).await, *user, true)),
                Step::Delete(at) if !messages.is_empty() => {
                    let at = place(*at);
                    let (message_id, sender, _) = messages[at];
                    let deleted = store.change(id, sender, Change::Delete { message_id }).await;
                    assert_eq!(deleted.is_ok(), message_id > cleared_up_to[sender as usize], "{deleted:?}");
                    messages[at].2 &= deleted.is_err();
                }
                Step::Read(user, at) if !messages.is_empty() => {
                    let message_id = messages[place(*at)].0;
                    let read = store.change(id, *user, Change::Read { message_id }).await;
                    assert_eq!(read.is_ok(), message_id > cleared_up_to[*user as usize], "{read:?}");
                    seen_up_to[*user as usize] = seen_up_to[*user as usize].max(message_id);
                }
                Step::Clear(user) => {
                    store.clear_conversation(id, *user).await.expect("cleared");
                    cleared_up_to[*user as usize] = messages.last().map_or(0, |(id, ..)| *id);
                    seen_up_to[*user as usize] = cleared_up_to[*user as usize];
                }
                Step::Delete(_) | Step::Read(..) => {}
            }
            for user in 1..=3 {
                let is_unread = |(id, sender, is_there): &&(i64, i64, bool)| {
                    *is_there && *sender != user && *id > seen_up_to[user as usize]
                };
                let expected = messages.iter().filter(is_unread).count() as i64;
                let counted = store.find_conversation(id, Some(user)).await.expect("a look").expect("a participant");
                assert_eq!(counted.unread_count, expected, "user {user} after {step:?} of {trace:?}");
            }
        }
    }
}

async fn participants_are_paged_by_user_id(store: TestStore) {
    store.put_conversation(5, &[4, 1, 3, 2, 5]).await;
    let mut tx = store.begin().await.expect("a transaction");
    let sql = "UPDATE participants SET left_at = 1 WHERE user_id = 3";
    execute!(&mut tx.conn(), sql).expect("an update");
    tx.commit().await.expect("a commit");
    let page = async |page| {
        let (participants, has_more) = store.list_participants(5, page, 2).await.expect("a page");
        (participants.iter().map(|participant| participant.user.id).collect::<Vec<_>>(), has_more)
    };
    assert_eq!(page(Page::Before(None)).await, (vec![5, 4], true));
    assert_eq!(page(Page::Before(Some(4))).await, (vec![2, 1], false));
    assert_eq!(page(Page::After(0)).await, (vec![1, 2], true));
    assert_eq!(page(Page::After(2)).await, (vec![4, 5], false));
    assert!(store.find_participant(5, 3).await.expect("a look").is_none());
    assert_eq!(store.find_participant(5, 4).await.expect("a look").expect("a participant").read_up_to, 0);
}
