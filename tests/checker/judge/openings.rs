//! A conversation that is opened again under its `Idempotency-Key` is one conversation, and is answered as at first;
//! two people have one 1:1, however many open it at once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Judge;
use crate::history::Opening;

impl Judge<'_> {
    pub(super) fn judge_openings(&mut self) {
        let mut pairs: BTreeMap<&[i64], (BTreeSet<i64>, usize)> = BTreeMap::new();
        for opening in &self.book.openings {
            let Opening { title, people, answers, .. } = opening;
            let Some((status, body)) = answers.first() else {
                self.blame(format!("never answered: {opening:?}"));
                continue;
            };
            if !answers.iter().all(|answer| is_the_same(&answers[0], answer)) || !matches!(status, 200 | 201) {
                self.blame(format!("opening a conversation was not answered with the same again: {opening:?}"));
            }
            let id = body["id"].as_i64().unwrap_or_default();
            let found = &self.evidence.opened[&opening.place()];
            if *found != people.iter().map(|user_id| (id, *user_id)).collect::<Vec<_>>() {
                self.blame(format!("{found:?} are in what {people:?} opened: {opening:?}"));
            }
            if title.is_none() {
                let (ids, news) = pairs.entry(people).or_default();
                ids.insert(id);
                *news += usize::from(*status == 201);
            }
        }
        for (people, (ids, news)) in pairs {
            let was_there = self.book.pairs.iter().any(|pair| pair == people);
            if ids.len() != 1 || news != usize::from(!was_there) {
                self.blame(format!("the 1:1 of {people:?} is {ids:?} and was new {news} times"));
            }
        }
    }
}

/// Whether an answer is the first one again; only what has been cleared since is shown no more.
fn is_the_same((first_status, first): &(u16, Value), (status, body): &(u16, Value)) -> bool {
    let mut expected = first.clone();
    if body["last_message"].is_null() {
        expected["last_message"] = Value::Null;
    }
    first_status == status && expected == *body
}
