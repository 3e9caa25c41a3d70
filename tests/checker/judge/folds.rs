//! What a client that resumed again and again makes of all it saw is what a newcomer makes of the replay, and what REST
//! and the store say.

use std::collections::{BTreeMap, BTreeSet};

use super::Judge;
use super::clearing::cleared_up_to;
use super::membership::absences;
use crate::fold::Fold;
use crate::history::{Endpoint, Session};

impl Judge<'_> {
    pub(super) fn judge_folds(&mut self) {
        for ((id, user_id), fold) in &self.evidence.rest {
            let rows = &self.rows()[id];
            if let Some(text) = fold.compare_rows(rows, cleared_up_to(rows, *user_id)) {
                self.blame(format!("conversation {id}: what REST says to {user_id} is not the store's: {text}"));
            }
        }
        let mut newcomers = BTreeMap::new();
        for ((id, user_id), frames) in &self.evidence.fresh {
            let mut newcomer = Fold::default();
            frames.iter().for_each(|frame| newcomer.take(frame));
            let rows = &self.rows()[id];
            newcomer.keep(rows);
            newcomer.compare_rows(rows, cleared_up_to(rows, *user_id)).into_iter().for_each(|text| {
                self.blame(format!("conversation {id}: what {user_id} is shown is not the store's: {text}"));
            });
            newcomers.insert((*id, *user_id), newcomer);
        }
        for ((device, user_id), mut folds) in self.folds() {
            for (id, fold) in &mut folds {
                let Some(newcomer) = newcomers.get(&(*id, user_id)) else { continue };
                let rows = &self.rows()[id];
                fold.clear(cleared_up_to(rows, user_id));
                fold.keep(rows);
                if let Some(difference) = fold.difference(newcomer) {
                    self.blame(format!(
                        "conversation {id}: device {device} of {user_id} did not converge: {difference}"
                    ));
                }
            }
        }
    }

    /// What each client that came to its end makes of each conversation it is in.
    fn folds(&self) -> BTreeMap<(usize, i64), BTreeMap<i64, Fold>> {
        let mut devices: BTreeMap<(usize, i64), BTreeMap<i64, Fold>> = BTreeMap::new();
        let mut survivors = BTreeSet::new();
        for session in &self.book.sessions {
            let Session { device, user_id, .. } = session;
            let folds = devices.entry((*device, *user_id)).or_default();
            match &session.endpoint {
                Endpoint::Chat { since: None, .. } | Endpoint::Notifications { .. } => continue,
                // Whoever begins anew forgets what was before.
                Endpoint::Chat { conversation_id, since: Some(0), .. } => _ = folds.remove(conversation_id),
                Endpoint::Chat { .. } => {}
                Endpoint::User { cursors, .. } => folds.retain(|id, _| cursors.get(id).is_some_and(|since| *since > 0)),
            }
            let is_followed = |id: &i64| match &session.endpoint {
                Endpoint::User { cursors, .. } => cursors.contains_key(id),
                _ => true,
            };
            for frame in &session.frames {
                if let Some(id) = frame["conversation_id"].as_i64().filter(is_followed) {
                    folds.entry(id).or_default().take(frame);
                }
            }
            if session.has_survived {
                survivors.insert((*device, *user_id));
            }
        }
        devices.retain(|device, folds| {
            folds.retain(|id, _| {
                let rows = self.rows().get(id);
                rows.is_some_and(|rows| absences(rows, device.1).last().is_none_or(|last| last.until < i64::MAX))
            });
            survivors.contains(device)
        });
        devices
    }
}
