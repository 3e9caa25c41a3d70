//! What is found, on both databases: each word, each script, nobody else's.

use super::*;
use crate::store::commit::Change;
use crate::store::testing::{TestStore, both};

both!(
    a_message_is_found_by_the_beginnings_of_all_words_whatever_their_case,
    scripts_without_spaces_are_found_by_any_run,
    nothing_that_is_typed_is_an_operator,
    an_edited_message_is_found_by_what_it_says_now_and_a_deleted_one_not_at_all,
    only_what_the_searcher_can_see_is_found,
    pages_miss_and_repeat_nothing,
    long_texts_and_words_are_taken,
);

async fn found(store: &TestStore, user_id: i64, q: &str) -> Vec<i64> {
    let (hits, has_more) = store.search_messages(user_id, q, Page::Before(None), 100).await.unwrap();
    assert!(!has_more);
    hits.into_iter().map(|hit| hit.stored.message.id).collect()
}

async fn a_message_is_found_by_the_beginnings_of_all_words_whatever_their_case(store: TestStore) {
    store.put_conversation(1, &[1, 2]).await;
    let a = store.say(1, 1, "The Quick brown fox, isn't it? STRASSE 2024", &[]).await;
    let b = store.say(1, 2, "quicksilver Ελλάς е́лка", &[]).await;
    for (q, ids) in [
        ("quick", &[b, a][..]),
        ("QUI", &[b, a]),
        ("quick fox", &[a]),
        ("fo  QU", &[a]),
        ("uick", &[]),
        ("quick cat", &[]),
        ("isn't", &[a]),
        ("straße", &[a]),
        ("202", &[a]),
        ("ΕΛΛΆΣ", &[b]),
        ("ЕЛ", &[]),
        ("Е́Л", &[b]),
    ] {
        assert_eq!(found(&store, 1, q).await, ids, "{q}");
        assert_eq!(found(&store, 2, q).await, ids, "{q}");
    }
}

async fn scripts_without_spaces_are_found_by_any_run(store: TestStore) {
    store.put_conversation(1, &[1]).await;
    let tokyo = store.say(1, 1, "明日は東京タワーへ行きます", &[]).await;
    let kyoto = store.say(1, 1, "京都 and 東方, 𠮷野家", &[]).await;
    let thai = store.say(1, 1, "สวัสดีครับ", &[]).await;
    let hangul = store.say(1, 1, "안녕하세요 세계", &[]).await;
    let devanagari = store.say(1, 1, "नमस्ते दुनिया", &[]).await;
    for (q, ids) in [
        ("東京", &[tokyo][..]),
        ("京", &[kyoto, tokyo]),
        ("東", &[kyoto, tokyo]),
        ("京東", &[]),
        ("京タ", &[tokyo]),
        ("東方 AND", &[kyoto]),
        ("𠮷野", &[kyoto]),
        ("สดี", &[thai]),
        ("สวัสดี ครับ", &[thai]),
        ("ดีส", &[]),
        ("안녕", &[hangul]),
        ("녕", &[]),
        ("नमस्", &[devanagari]),
    ] {
        assert_eq!(found(&store, 1, q).await, ids, "{q}");
    }
}

async fn nothing_that_is_typed_is_an_operator(store: TestStore) {
    store.put_conversation(1, &[1]).await;
    let a = store.say(1, 1, "alpha \"beta\" 100% o'neil c:\\temp 👍", &[]).await;
    let b = store.say(1, 1, "gamma or near words", &[]).await;
    for (q, ids) in [
        ("alpha OR gamma", &[][..]),
        ("or", &[b]),
        ("NOT near", &[]),
        ("words:near", &[b]),
        ("{words} : gamma", &[b]),
        ("^gamma", &[b]),
        ("-alpha", &[a]),
        ("alpha | gamma", &[]),
        ("!alpha", &[a]),
        ("\"alpha beta", &[a]),
        ("bet*", &[a]),
        ("*eta", &[]),
        ("100%", &[a]),
        ("1%", &[a]),
        ("al_ha", &[]),
        ("o'neil", &[a]),
        ("c:\\temp", &[a]),
        ("');DROP TABLE messages;--", &[]),
        ("alpha <-> beta", &[a]),
        ("alpha:*", &[a]),
        ("NEAR(gamma words, 1)", &[]),
        ("👍", &[]),
        ("%", &[]),
        ("*", &[]),
    ] {
        assert_eq!(found(&store, 1, q).await, ids, "{q}");
    }
}

async fn an_edited_message_is_found_by_what_it_says_now_and_a_deleted_one_not_at_all(store: TestStore) {
    store.put_conversation(1, &[1]).await;
    let id = store.say(1, 1, "first draft", &[]).await;
    let edit = |text: &str| Change::Edit { message_id: id, text: text.to_owned() };
    store.change(1, 1, edit("second draft")).await.unwrap();
    assert_eq!(found(&store, 1, "first").await, [0; 0]);
    assert_eq!(found(&store, 1, "draft").await, [id]);
    store.change(1, 1, edit("👍")).await.unwrap();
    assert_eq!(found(&store, 1, "second").await, [0; 0]);
    store.change(1, 1, edit("third")).await.unwrap();
    assert_eq!(found(&store, 1, "third").await, [id]);
    store.change(1, 1, Change::Delete { message_id: id }).await.unwrap();
    assert_eq!(found(&store, 1, "third").await, [0; 0]);
}

async fn only_what_the_searcher_can_see_is_found(store: TestStore) {
    store.put_conversation(1, &[1, 2, 3]).await;
    store.put_conversation(2, &[2]).await;
    let a = store.say(1, 1, "needle", &[]).await;
    let b = store.say(1, 2, "needle again", &[]).await;
    let c = store.say(2, 2, "needle elsewhere", &[]).await;
    assert_eq!(found(&store, 1, "needle").await, [b, a]);
    assert_eq!(found(&store, 2, "needle").await, [c, b, a]);
    assert_eq!(found(&store, 4, "needle").await, [0; 0]);
    store.set_participant(1, 1, "cleared_up_to", a).await;
    assert_eq!(found(&store, 1, "needle").await, [b]);
    store.set_participant(1, 3, "left_at", 1).await;
    assert_eq!(found(&store, 3, "needle").await, [0; 0]);
}

async fn pages_miss_and_repeat_nothing(store: TestStore) {
    store.put_conversation(1, &[1]).await;
    store.put_conversation(2, &[2]).await;
    let mut ids = Vec::new();
    for number in 0..7 {
        ids.push(store.say(1, 1, &format!("needle {number}"), &[]).await);
        store.say(2, 2, "needle", &[]).await;
    }
    let page = async |page, limit| {
        let (hits, has_more) = store.search_messages(1, "need", page, limit).await.unwrap();
        (hits.into_iter().map(|hit| hit.stored.message.id).collect::<Vec<_>>(), has_more)
    };
    assert_eq!(page(Page::Before(None), 3).await, (vec![ids[6], ids[5], ids[4]], true));
    assert_eq!(page(Page::Before(Some(ids[4])), 3).await, (vec![ids[3], ids[2], ids[1]], true));
    assert_eq!(page(Page::Before(Some(ids[1])), 3).await, (vec![ids[0]], false));
    assert_eq!(page(Page::After(ids[0]), 4).await, (vec![ids[1], ids[2], ids[3], ids[4]], true));
    assert_eq!(page(Page::After(ids[4]), 2).await, (vec![ids[5], ids[6]], false));
}

async fn long_texts_and_words_are_taken(store: TestStore) {
    store.put_conversation(1, &[1]).await;
    let han: String = (0..8_000).filter_map(|number| char::from_u32(0x4E00 + number)).collect();
    let endless: String = (0..400_000).map(|number| format!("{number:x} ")).collect();
    store.say(1, 1, &endless, &[]).await;
    for text in ["é".repeat(8_000), han, "的".repeat(7_999) + "確", "a ".repeat(4_000), "😀".repeat(8_000)] {
        let id = store.say(1, 1, &text, &[]).await;
        let run: String = text.chars().skip(text.chars().count() - 2).collect();
        let (hits, _) = store.search_messages(1, &run, Page::Before(None), 1).await.unwrap();
        assert_eq!(hits.first().map(|hit| hit.stored.message.id), (run != "😀😀").then_some(id));
    }
}
