//! Clears a 1:1 for one of its two people while they speak on: what came before is hidden from that one alone.

use reqwest::Method;

use super::http::Ask;
use super::{Part, Phase};
use crate::history::Clear;

pub struct Clearer {
    pub part: Part,
    pub user_ids: [i64; 2],
    pub conversation_id: i64,
}

impl Clearer {
    pub async fn run(mut self) {
        while self.part.phase() == Phase::Storm {
            self.part.pause(1_000..6_000).await;
            let user_id = self.part.pick(&self.user_ids);
            self.clear(user_id).await;
        }
    }

    async fn clear(&mut self, user_id: i64) {
        let conversation_id = self.conversation_id;
        let index = {
            let mut book = self.part.book.lock();
            let floor = book.newest.get(&conversation_id).copied().unwrap_or_default();
            let begun = book.tick();
            book.clears.push(Clear { conversation_id, user_id, begun, answered: None, floor });
            book.clears.len() - 1
        };
        let path = format!("/api/v1/conversations/{conversation_id}");
        match self.part.ask(Ask::new(Method::DELETE, &path, Some(user_id))).await {
            Some((204, _)) => {
                let mut book = self.part.book.lock();
                book.clears[index].answered = Some(book.tick());
                book.saw("clears");
            }
            Some((status, answer)) => self.part.fault(format!("a clear was refused: {status} {answer}")),
            // It may have happened all the same.
            None => {}
        }
    }
}
