//! The states of people as they stand in the end, when nothing has happened for a while: on each socket the last word
//! about everybody is true, on who is there and on what has reached them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Judge;
use crate::database::Rows;
use crate::expected::comes_and_goes;
use crate::history::{Endpoint, Session};

impl Judge<'_> {
    pub(super) fn judge_settled(&mut self) {
        let handed = self.handed();
        for (index, session) in self.book.sessions.iter().enumerate() {
            let mut complaints = self.misplaced_receipts(session);
            if session.spans(self.book.quiet) && session.is_live && !session.is_slow {
                complaints.extend(self.wrong_presence(session));
                complaints.extend(self.wrong_receipts(session, &handed));
            }
            let Session { device, user_id, endpoint, .. } = session;
            for complaint in complaints {
                self.blame(format!("device {device} of {user_id}, its socket {index} ({endpoint:?}): {complaint}"));
            }
        }
    }

    /// Whether somebody is online; nothing where that can't be said for sure.
    fn is_online(&self, user_id: i64) -> Option<bool> {
        let mut own = self.book.sessions.iter().filter(|session| session.user_id == user_id);
        if own.clone().any(|session| session.spans(self.book.quiet)) {
            return Some(true);
        }
        (!own.any(|session| session.touches(self.book.quiet))).then_some(false)
    }

    /// Conversations in which a socket hears of people, where its user is in them.
    fn heard_by(&self, session: &Session) -> Vec<(i64, &Rows)> {
        let hears = |id: i64| match &session.endpoint {
            Endpoint::Chat { conversation_id, .. } => *conversation_id == id,
            Endpoint::User { .. } => true,
            Endpoint::Notifications { .. } => false,
        };
        let is_in = |rows: &Rows| rows.read_up_to().contains_key(&session.user_id);
        let all = self.rows().iter().map(|(id, rows)| (*id, rows));
        all.filter(|(id, rows)| hears(*id) && is_in(rows)).collect()
    }

    /// What a socket was told of who is there that is not so.
    fn wrong_presence(&self, session: &Session) -> Vec<String> {
        let mut told: BTreeMap<i64, &str> = BTreeMap::new();
        for frame in self.before_the_end(session).filter(|frame| frame["type"] == "user_status") {
            told.extend(frame["user_id"].as_i64().zip(frame["status"].as_str()));
        }
        let people = self.heard_by(session).into_iter().flat_map(|(_, rows)| rows.read_up_to().into_keys());
        let truth: BTreeMap<i64, bool> = people
            .filter(|user_id| *user_id != session.user_id)
            .filter_map(|user_id| Some((user_id, self.is_online(user_id)?)))
            .collect();
        let wrong = truth.into_iter().filter(|(user_id, is_online)| {
            told.get(user_id).copied() != Some(if *is_online { "online" } else { "offline" })
        });
        wrong.map(|(user_id, it)| format!("{user_id} is online: {it}, but it says {:?}", told.get(&user_id))).collect()
    }

    /// The last message of each sender that a reader has been handed for sure: conversation, sender and reader.
    fn handed(&self) -> BTreeMap<(i64, i64, i64), i64> {
        let mut handed = BTreeMap::new();
        let lasting = self.book.sessions.iter().filter(|session| session.spans(self.book.quiet));
        for session in lasting {
            let sent = session.frames.iter().zip(&session.moments).filter(|(_, moment)| **moment < self.book.quiet.0);
            for frame in sent.map(|(frame, _)| frame).filter(|frame| frame["type"] == "chat_message") {
                let message = &frame["message"];
                let (Some(id), Some(sender_id), Some(message_id)) =
                    (frame["conversation_id"].as_i64(), message["sender"]["id"].as_i64(), message["id"].as_i64())
                else {
                    continue;
                };
                if sender_id != session.user_id {
                    let last = handed.entry((id, sender_id, session.user_id)).or_default();
                    *last = message_id.max(*last);
                }
            }
        }
        handed
    }

    /// A socket that resumes knows in the end how far its user's messages have reached the others.
    fn wrong_receipts(&self, session: &Session, handed: &BTreeMap<(i64, i64, i64), i64>) -> Vec<String> {
        if matches!(session.endpoint, Endpoint::Chat { since: None, .. }) {
            return Vec::new();
        }
        let mut told: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        for frame in self.before_the_end(session).filter(|frame| frame["type"] == "message_status") {
            let place = frame["conversation_id"].as_i64().zip(frame["user_id"].as_i64());
            told.extend(place.zip(frame["message_id"].as_i64()));
        }
        let mut wrong = Vec::new();
        for (id, rows) in self.heard_by(session) {
            let readers = rows.read_up_to().into_keys().filter(|user_id| *user_id != session.user_id);
            // Of what was before somebody came, not all has been handed to them.
            for reader in
                readers.filter(|user_id| [*user_id, session.user_id].iter().all(|it| !comes_and_goes(*it, rows)))
            {
                let least = handed.get(&(id, session.user_id, reader)).copied().unwrap_or_default();
                let says = told.get(&(id, reader)).copied().unwrap_or_default();
                if says < least {
                    wrong.push(format!(
                        "conversation {id}: message {least} has reached {reader}, but it was told of {says} at last"
                    ));
                }
            }
        }
        wrong
    }

    /// Receipts of messages that are not its user's own, or not of somebody else's reading.
    fn misplaced_receipts(&self, session: &Session) -> Vec<String> {
        let is_own = |frame: &Value| {
            let rows = frame["conversation_id"].as_i64().and_then(|id| self.rows().get(&id));
            let row = rows.zip(frame["message_id"].as_i64()).and_then(|(rows, id)| rows.messages.get(&id));
            let has_reader = frame["user_id"].as_i64().is_some_and(|reader| reader != session.user_id);
            has_reader && frame["status"] == "delivered" && row.is_some_and(|row| row.sender_id == session.user_id)
        };
        let receipts = session.frames.iter().filter(|frame| frame["type"] == "message_status");
        receipts
            .filter(|frame| !is_own(frame))
            .take(3)
            .map(|frame| format!("a receipt that is none: {frame}"))
            .collect()
    }

    /// What a socket was told before the clients began to go for good.
    fn before_the_end<'a>(&self, session: &'a Session) -> impl Iterator<Item = &'a Value> + use<'a> {
        let until = self.book.quiet.1;
        session.frames.iter().zip(&session.moments).filter(move |(_, moment)| **moment < until).map(|(frame, _)| frame)
    }
}
