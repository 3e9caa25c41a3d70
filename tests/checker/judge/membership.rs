//! Who was in a group and when: the log tells it as it was done, one event for each step; roles are as they were given;
//! whoever is out hears nothing more on any socket, and hears again after coming back.

use super::Judge;
use crate::database::Rows;
use crate::history::{Endpoint, Session, Step};

/// Somebody was out of a conversation: the event that put them out (0 where they were not in it from the beginning),
/// and the one that brought them back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Absence {
    pub from: i64,
    pub until: i64,
}

impl Absence {
    /// Whether an event happened in it. The putting out and the bringing back are told to whom they concern.
    pub fn covers(self, event_id: i64) -> bool {
        self.from < event_id && event_id < self.until
    }
}

/// When somebody was out of a conversation.
pub fn absences(rows: &Rows, user_id: i64) -> Vec<Absence> {
    let own = rows.log.iter().filter(|(_, kind, subject, _)| kind.starts_with("participant_") && *subject == user_id);
    let mut absences: Vec<Absence> = Vec::new();
    for (event_id, kind, ..) in own {
        match (kind.as_str(), absences.last_mut()) {
            ("participant_removed", _) => absences.push(Absence { from: *event_id, until: i64::MAX }),
            (_, Some(last)) => last.until = *event_id,
            (_, None) => absences.push(Absence { from: 0, until: *event_id }),
        }
    }
    if absences.is_empty() && !rows.participants.contains_key(&user_id) {
        absences.push(Absence { from: 0, until: i64::MAX });
    }
    absences
}

impl Judge<'_> {
    pub(super) fn judge_membership(&mut self) {
        for (id, rows) in self.rows() {
            self.judge_steps(*id, rows);
            self.judge_roles(*id, rows);
        }
        for (index, session) in self.book.sessions.iter().enumerate() {
            if let Some(complaint) = self.wrong_end(session) {
                let Session { device, user_id, endpoint, .. } = session;
                self.blame(format!("device {device} of {user_id}, its socket {index} ({endpoint:?}): {complaint}"));
            }
        }
    }

    /// The comings and goings of the log are those that were asked for, each once, in their order.
    fn judge_steps(&mut self, id: i64, rows: &Rows) {
        let asked = self.book.steps.iter().filter(|step| step.conversation_id == id);
        let asked: Vec<(i64, bool, i64)> =
            asked.map(|Step { user_id, is_added, by, .. }| (*user_id, *is_added, by.unwrap_or_default())).collect();
        let logged = rows.log.iter().filter(|(_, kind, ..)| kind.starts_with("participant_"));
        let logged: Vec<(i64, bool, i64)> =
            logged.map(|(_, kind, user_id, by)| (*user_id, kind == "participant_added", *by)).collect();
        if let Some(at) = (0..asked.len().max(logged.len())).find(|at| asked.get(*at) != logged.get(*at)) {
            let around = |all: &[(i64, bool, i64)]| {
                format!("{:?}", &all[at.saturating_sub(3).min(all.len())..all.len().min(at + 4)])
            };
            let (asked, logged) = (around(&asked), around(&logged));
            self.blame(format!("conversation {id}: comings and goings are {logged} around {at} instead of {asked}"));
        }
        for row in rows.participants.values() {
            let is_out = absences(rows, row.user_id).last().is_some_and(|last| last.until == i64::MAX);
            if is_out != row.left_at.is_some() {
                self.blame(format!("conversation {id}: {row:?} does not go with the log"));
            }
        }
    }

    fn judge_roles(&mut self, id: i64, rows: &Rows) {
        let Some(roles) = self.book.roles.get(&id) else { return };
        let present = rows.participants.values().filter(|row| row.left_at.is_none());
        let stored: Vec<(i64, &str)> = present.map(|row| (row.user_id, row.role.as_str())).collect();
        let given: Vec<(i64, &str)> = roles.iter().map(|(user_id, role)| (*user_id, *role)).collect();
        if stored != given {
            self.blame(format!("conversation {id}: the roles are {stored:?}, but {given:?} were given"));
        }
    }

    /// What is wrong with how a socket ended, or that it did not.
    fn wrong_end(&self, session: &Session) -> Option<String> {
        let user_id = session.user_id;
        let revoked = self.book.revocations.iter().filter(|revocation| revocation.user_id == user_id);
        for revocation in revoked.filter(|revocation| session.opened < revocation.begun) {
            let Some(answered) = revocation.answered else { continue };
            let is_late = |at: std::time::Instant| at.saturating_duration_since(answered).as_secs() >= 5;
            if session.has_survived || !session.is_slow && session.last_frame_at.is_some_and(is_late) {
                return Some("it went on though the platform had ended its user's sessions".to_owned());
            }
        }
        let Endpoint::Chat { conversation_id, .. } = &session.endpoint else { return None };
        let rows = self.rows().get(conversation_id)?;
        let absences = absences(rows, user_id);
        let head = session.heads.get(conversation_id).copied().unwrap_or_default();
        if session.closed == Some(4004) && !absences.iter().any(|absence| absence.until > head) {
            return Some("it was closed with 4004 though its user was in the conversation".to_owned());
        }
        let is_out = absences.last().is_some_and(|last| last.until == i64::MAX);
        (session.has_survived && is_out).then(|| "it outlived the participation of its user".to_owned())
    }
}
