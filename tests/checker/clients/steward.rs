//! Puts people into a group and out of it, one step after the other, each tried until it is sure; gives roles.
//! Because nobody else does, it knows who is in and with which role.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::http::Ask;
use super::{Part, Phase};
use crate::history::Step;

pub struct Steward {
    pub part: Part,
    pub conversation_id: i64,
    /// Who comes and goes.
    pub user_ids: Vec<i64>,
    /// Who is in, with their roles.
    pub roles: BTreeMap<i64, &'static str>,
    /// The last request with an `Idempotency-Key`: who was added, the key and the answer.
    pub keyed: Option<(i64, String, Option<i64>, Value)>,
}

/// What came of one request.
enum Tried {
    Done(Value),
    /// It does not apply any more: an earlier try took effect.
    Past,
    Unknown,
}

impl Steward {
    pub async fn run(mut self) {
        self.part.book.lock().busy += 1;
        let mut number = 0;
        while self.part.phase() == Phase::Storm {
            self.part.pause(50..900).await;
            number += 1;
            self.step(number).await;
        }
        // In the end some are in and some are not.
        for user_id in self.user_ids.clone() {
            let wants_in = self.part.rng.u8(..3) > 0;
            if wants_in != self.roles.contains_key(&user_id) {
                number += 1;
                if wants_in { self.add(user_id, number).await } else { self.remove(user_id).await }
            }
        }
        let mut book = self.part.book.lock();
        for user_id in self.user_ids.iter().filter(|user_id| !self.roles.contains_key(user_id)) {
            book.out_for_good.insert((self.conversation_id, *user_id));
        }
        book.roles.insert(self.conversation_id, self.roles.clone());
        book.busy -= 1;
    }

    async fn step(&mut self, number: usize) {
        let user_ids = self.user_ids.clone();
        let user_id = self.part.pick(&user_ids);
        let is_in = self.roles.contains_key(&user_id);
        match self.part.rng.u8(..10) {
            0 => self.repeat_keyed().await,
            1 if is_in => self.meddle(user_id).await,
            2..4 if is_in => self.give_role(user_id).await,
            _ if is_in => {
                self.remove(user_id).await;
                // At times at once back in.
                if self.part.rng.u8(..3) == 0 {
                    self.add(user_id, number).await;
                }
            }
            _ => self.add(user_id, number).await,
        }
    }

    /// Somebody who may change the group: the platform, its owner or an admin.
    fn somebody(&mut self, besides: i64) -> Option<i64> {
        let able = self.roles.iter().filter(|(user_id, role)| **role != "member" && **user_id != besides);
        let able: Vec<Option<i64>> = able.map(|(user_id, _)| Some(*user_id)).chain([None]).collect();
        self.part.pick(&able)
    }

    async fn add(&mut self, user_id: i64, number: usize) {
        let by = self.somebody(user_id);
        let path = format!("/api/v1/conversations/{}/participants", self.conversation_id);
        let key = format!("add-{}-{number}", self.part.run);
        let with_key = self.part.rng.bool();
        let body = json!({ "user_ids": [user_id] });
        let answer = self.insist(Method::POST, &path, by, Some(body), with_key.then_some(key.as_str())).await;
        if with_key {
            self.keyed = Some((user_id, key, by, answer));
        }
        self.roles.insert(user_id, "member");
        self.note(user_id, true, by, "people put in");
    }

    async fn remove(&mut self, user_id: i64) {
        if self.roles.get(&user_id) == Some(&"owner") {
            self.hand_over().await;
        }
        let leaves = self.part.rng.u8(..3) == 0;
        let by = if leaves { Some(user_id) } else { self.somebody(user_id) };
        let path = format!("/api/v1/conversations/{}/participants/{user_id}", self.conversation_id);
        self.insist(Method::DELETE, &path, by, None, None).await;
        self.roles.remove(&user_id);
        self.note(user_id, false, by, if leaves { "people leaving" } else { "people put out" });
    }

    /// Gives the group back to the one who is always in.
    async fn hand_over(&mut self) {
        let first = self.roles.keys().find(|user_id| !self.user_ids.contains(user_id)).copied();
        let Some(first) = first else { return };
        self.set_role(first, "owner", None).await;
    }

    async fn give_role(&mut self, user_id: i64) {
        if self.roles[&user_id] == "owner" {
            return self.hand_over().await;
        }
        let role = ["admin", "admin", "member", "owner"][self.part.rng.usize(..4)];
        let owner = self.roles.iter().find(|(_, role)| **role == "owner").map(|(user_id, _)| *user_id);
        let by = if self.part.rng.bool() { owner } else { None };
        self.set_role(user_id, role, by).await;
    }

    async fn set_role(&mut self, user_id: i64, role: &'static str, by: Option<i64>) {
        let path = format!("/api/v1/conversations/{}/participants/{user_id}", self.conversation_id);
        self.insist(Method::PATCH, &path, by, Some(json!({ "role": role })), None).await;
        if role == "owner" {
            self.roles.values_mut().filter(|role| **role == "owner").for_each(|role| *role = "admin");
        }
        self.roles.insert(user_id, role);
        self.part.book.lock().saw("roles given");
    }

    /// A member tries what only others may.
    async fn meddle(&mut self, user_id: i64) {
        if self.roles[&user_id] != "member" {
            return;
        }
        let path = format!("/api/v1/conversations/{}/participants", self.conversation_id);
        let ask = Ask::new(Method::POST, &path, Some(user_id)).body(json!({ "user_ids": self.user_ids }));
        let ask = Ask { is_patient: true, ..ask };
        if let Some((status, answer)) = self.part.ask(ask).await
            && status != 403
        {
            self.part.fault(format!("a member who may not add anybody was answered {status}: {answer}"));
        }
    }

    /// A request that is repeated long after it was answered changes nothing, and is answered alike.
    async fn repeat_keyed(&mut self) {
        let Some((user_id, key, by, first)) = self.keyed.clone() else { return };
        // Whoever asks must still be allowed to.
        if by.is_some_and(|by| self.roles.get(&by).is_none_or(|role| *role == "member")) {
            return;
        }
        let path = format!("/api/v1/conversations/{}/participants", self.conversation_id);
        let body = json!({ "user_ids": [user_id] });
        let ask = Ask { is_patient: true, ..Ask::new(Method::POST, &path, by).body(body).key(&key) };
        if let Some((status, answer)) = self.part.ask(ask).await
            && (status, &answer) != (200, &first)
        {
            self.part.fault(format!("a repeated request got {status} {answer} instead of 200 {first}"));
        }
    }

    fn note(&mut self, user_id: i64, is_added: bool, by: Option<i64>, what: &'static str) {
        let conversation_id = self.conversation_id;
        let mut book = self.part.book.lock();
        book.steps.push(Step { conversation_id, user_id, is_added, by });
        book.saw(what);
    }

    /// Asks until it is sure that it came about, and gives the answer.
    async fn insist(
        &mut self,
        method: Method,
        path: &str,
        by: Option<i64>,
        body: Option<Value>,
        key: Option<&str>,
    ) -> Value {
        let mut is_repeated = false;
        loop {
            let mut ask = Ask::new(method.clone(), path, by);
            ask.body = body.clone();
            ask.key = key;
            ask.is_patient = true;
            match tried(self.part.ask(ask).await, &method, is_repeated) {
                Ok(Tried::Done(answer)) => return answer,
                Ok(Tried::Past) => return Value::Null,
                Ok(Tried::Unknown) => {}
                Err(refusal) => {
                    self.part.fault(format!("{method} {path} by {by:?} was refused: {refusal}"));
                    return Value::Null;
                }
            }
            is_repeated = true;
            self.part.pause(10..150).await;
        }
    }
}

fn tried(answer: Option<(u16, Value)>, method: &Method, is_repeated: bool) -> Result<Tried, String> {
    match answer {
        None => Ok(Tried::Unknown),
        Some((200 | 204, answer)) => Ok(Tried::Done(answer)),
        // Gone already; or the group was handed over, and the one who did it owns it no longer.
        Some((404, _)) if is_repeated && *method == Method::DELETE => Ok(Tried::Past),
        Some((403, _)) if is_repeated && *method == Method::PATCH => Ok(Tried::Past),
        Some((status, answer)) => Err(format!("{status} {answer}")),
    }
}
