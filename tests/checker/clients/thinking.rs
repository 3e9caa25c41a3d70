//! What a device does next: new commands, and those of its user's other devices once more.

use super::device::Device;
use crate::history::{Body, Upload};

const REACTIONS: [&str; 3] = ["like", "love", "wow"];

impl Device {
    /// A new command.
    pub(super) async fn think(&mut self) -> usize {
        let conversation_id = self.conversation();
        self.memory.commands += 1;
        let name = format!("{}-{}-{}", self.run, self.index, self.memory.commands);
        let known = self.memory.messages.iter().filter(|(id, ..)| *id == conversation_id);
        let known: Vec<(i64, i64)> = known.map(|(_, id, sender)| (*id, *sender)).collect();
        let any = (!known.is_empty()).then(|| known[self.rng.usize(..known.len())].0);
        let own: Vec<i64> = known.iter().filter(|(_, sender)| *sender == self.user_id).map(|(id, _)| *id).collect();
        let own = (!own.is_empty()).then(|| own[self.rng.usize(..own.len())]);
        let reaction = REACTIONS[self.rng.usize(..REACTIONS.len())];
        let body = match (self.rng.u8(..20), any, own) {
            (0..3, _, Some(message_id)) => Body::Edit { message_id, text: format!("edit {name}") },
            (3, _, Some(message_id)) => Body::Delete { message_id },
            (4..7, Some(message_id), _) => Body::React { message_id, reaction },
            (7..9, Some(message_id), _) => Body::Unreact { message_id, reaction },
            (9..11, Some(message_id), _) => Body::Read { message_id },
            (roll, _, _) => {
                let filler =
                    if matches!(roll, 11 | 13) { "🙂".repeat(self.rng.usize(1..7_900)) } else { String::new() };
                let reply_to = any.filter(|_| matches!(roll, 12 | 14 | 15));
                let attachment = if roll == 16 { self.attachment(&name).await } else { None };
                Body::Send { text: format!("{filler}text {name}"), reply_to, attachment }
            }
        };
        let command = self.book.lock().add(self.user_id, conversation_id, name, body);
        self.memory.pending.push(command);
        command
    }

    /// One of its conversations; seldom one that it has been put out of.
    fn conversation(&mut self) -> i64 {
        let conversations = self.conversations.clone();
        let first = self.pick(&conversations);
        if self.memory.out.contains(&first) && self.rng.u8(..4) > 0 { self.pick(&conversations) } else { first }
    }

    /// A file that has just been uploaded, or at times one that another message has already.
    async fn attachment(&mut self, name: &str) -> Option<i64> {
        let user_id = self.user_id;
        if self.rng.u8(..4) == 0 {
            let used = self.book.lock().uploads.iter().rev().find(|upload| upload.user_id == user_id).map(|it| it.id);
            if used.is_some() {
                return used;
            }
        }
        let text = format!("the file of {name}");
        let request = self.http.upload(user_id, &format!("{name}.txt"), &text);
        let (status, answer) = self.answer(request, Some(user_id), false).await?;
        let Some(id) = answer["id"].as_i64().filter(|_| status == 201) else {
            self.fault(format!("an upload was refused: {status} {answer}"));
            return None;
        };
        self.book.lock().uploads.push(Upload { id, user_id, text });
        Some(id)
    }

    /// A command of the same user that another device of theirs has sent, perhaps this moment, or one of long ago.
    pub(super) fn somebody_elses(&mut self) -> Option<usize> {
        let long_ago = self.rng.bool();
        let candidates: Vec<usize> = {
            let book = self.book.lock();
            let fits = |index: &usize| {
                let command = &book.commands[*index];
                command.user_id == self.user_id && self.conversations.contains(&command.conversation_id)
            };
            let recent = book.commands.len().saturating_sub(if long_ago { usize::MAX } else { 60 });
            (recent..book.commands.len()).filter(fits).collect()
        };
        (!candidates.is_empty()).then(|| self.pick(&candidates))
    }
}
