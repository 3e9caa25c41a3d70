//! Clears a 1:1 for one of its two people while they speak on, and while sockets of that one are on their way: what came
//! before is hidden from that one alone, and is not there for what they ask.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::device::NO_MESSAGE;
use super::http::Ask;
use super::wire::{Connect, Gone, PATIENCE};
use super::{Part, Phase};
use crate::history::{Body, Clear, Endpoint};

pub struct Clearer {
    pub part: Part,
    pub user_ids: [i64; 2],
    pub conversation_id: i64,
    /// Begins sockets while this one clears.
    pub joiner: Part,
}

impl Clearer {
    pub async fn run(mut self) {
        while self.part.phase() == Phase::Storm {
            self.part.pause(500..3_000).await;
            let user_id = self.part.pick(&self.user_ids);
            let Self { part, joiner, conversation_id, .. } = &mut self;
            tokio::join!(clear(part, user_id, *conversation_id), come(joiner, user_id, *conversation_id));
        }
    }
}

async fn clear(part: &mut Part, user_id: i64, conversation_id: i64) {
    // At times when a socket that is about to come is nearly there.
    part.pause(0..15).await;
    let (index, floor) = {
        let mut book = part.book.lock();
        let floor = book.newest.get(&conversation_id).copied().unwrap_or_default();
        let begun = book.tick();
        book.clears.push(Clear { conversation_id, user_id, begun, answered: None, floor });
        (book.clears.len() - 1, floor)
    };
    let path = format!("/api/v1/conversations/{conversation_id}");
    match part.ask(Ask::new(Method::DELETE, &path, Some(user_id))).await {
        Some((204, _)) => {
            {
                let mut book = part.book.lock();
                book.clears[index].answered = Some(book.tick());
                book.saw("clears");
            }
            ask_for_hidden(part, user_id, conversation_id, floor).await;
        }
        Some((status, answer)) => part.fault(format!("a clear was refused: {status} {answer}")),
        // It may have happened all the same.
        None => {}
    }
}

/// What is hidden from somebody is not there for them by REST either.
async fn ask_for_hidden(part: &mut Part, user_id: i64, conversation_id: i64, message_id: i64) {
    if message_id == 0 {
        return;
    }
    let (one, all) = (format!("/api/v1/messages/{message_id}"), format!("/api/v1/conversations/{conversation_id}"));
    let asks = [
        (Method::GET, one.clone(), None),
        (Method::PATCH, one.clone(), Some(json!({ "message": "a hidden text" }))),
        (Method::DELETE, one.clone(), None),
        (Method::GET, format!("{one}/history"), None),
        (Method::PUT, format!("{one}/reactions/like"), None),
        (Method::DELETE, format!("{one}/reactions/like"), None),
        (Method::POST, format!("{all}/read"), Some(json!({ "message_id": message_id }))),
        (Method::POST, format!("{all}/messages"), Some(json!({ "message": "a reply", "reply_to": message_id }))),
    ];
    for _ in 0..3 {
        let (method, path, body) = part.pick(&asks);
        let ask = Ask { body, is_patient: true, ..Ask::new(method.clone(), &path, Some(user_id)) };
        if let Some((status, answer)) = part.ask(ask).await {
            if status != 404 {
                let what = format!("{method} {path}, which {user_id} has cleared");
                part.fault(format!("{what}, was answered {status} {answer}"));
            }
            part.book.lock().saw("requests for what is hidden");
        }
    }
}

/// A socket that comes while its user clears, and stays for a while.
async fn come(part: &mut Part, user_id: i64, conversation_id: i64) {
    // What is said of what is hidden must be said while it is there.
    let stay = Duration::from_millis(part.rng.u64(300..2_500));
    let _ = stay_there(part, user_id, conversation_id, stay).await;
}

async fn stay_there(part: &mut Part, user_id: i64, conversation_id: i64, stay: Duration) -> Result<(), Gone> {
    let endpoint = Endpoint::Chat { conversation_id, since: Some(0), opted_in: true };
    let path = format!("/ws/chat/{conversation_id}/?since=0");
    let connect = Connect { device: part.index, user_id, endpoint, path, is_slow: false, offers: false };
    let mut wire = part.connect(connect).await.ok_or(Gone)?;
    let until = Instant::now() + stay;
    let is_resumed = |frame: &Value| frame["type"] == "resumed";
    wire.read_until(PATIENCE.as_millis() as u64, |_| {}, is_resumed).await?;
    while Instant::now() < until && part.phase() == Phase::Storm {
        // The answer shows that nothing of before is on its way any more.
        let client_id = format!("come-{}-{}", wire.session, part.rng.u32(..));
        part.book.lock().send(wire.session, &client_id);
        let mut frame = Body::Read { message_id: NO_MESSAGE }.frame();
        frame["client_id"] = json!(client_id);
        wire.send(&frame).await?;
        wire.read_until(100, |_| {}, |_| false).await?;
    }
    Ok(())
}
