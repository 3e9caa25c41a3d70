//! What was uploaded: shown to whom its message is shown, with the bytes it came with, and gone with its message.

use super::Judge;
use super::clearing::cleared_up_to;

impl Judge<'_> {
    pub(super) fn judge_attachments(&mut self) {
        for upload in &self.book.uploads {
            let holders = self.rows().values().filter_map(|rows| {
                let message_id =
                    rows.attachments.iter().find(|(_, ids)| ids.contains(&upload.id)).map(|(id, _)| *id)?;
                Some((rows, message_id))
            });
            let holders: Vec<_> = holders.collect();
            let was_sent = self.is_taken(upload.id);
            let (may_see, is_there) = match &holders[..] {
                [] => (!was_sent, !was_sent),
                [(rows, message_id)] => {
                    let is_in = rows.read_up_to().contains_key(&upload.user_id);
                    // What a clear hides is asked for elsewhere.
                    if *message_id <= cleared_up_to(rows, upload.user_id) {
                        continue;
                    }
                    (is_in, true)
                }
                _ => {
                    self.blame(format!("{upload:?} is in several messages"));
                    continue;
                }
            };
            let Some((status, download)) = self.evidence.files.get(&upload.id) else { continue };
            if *status != if may_see { 200 } else { 404 } {
                self.blame(format!("{upload:?} is answered with {status}, seen: {may_see}"));
            }
            if let Some((status, text)) = download {
                let is_right = if is_there { *status == 200 && *text == upload.text } else { *status == 404 };
                if !is_right {
                    self.blame(format!("the file of {upload:?} is answered with {status} and {text:?}"));
                }
            }
        }
    }
}
