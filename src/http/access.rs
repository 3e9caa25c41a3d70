//! What a caller may see, and changes that go through whatever becomes of the caller.

use std::sync::Arc;

use super::caller::{Caller, UserCaller};
use crate::app::App;
use crate::chat::conversation::no_conversation;
use crate::error::{Error, Result};
use crate::protocol::Topic;
use crate::store::conversations::Participation;
use crate::store::messages::StoredMessage;

/// How a caller sees a conversation.
pub struct Place {
    pub last_event_id: i64,
    pub cleared_up_to: i64,
    /// The platform has none.
    pub participation: Option<Participation>,
}

/// Checks that a caller may see a conversation: its participants may, and the platform, who has no part in it.
pub async fn place_of(app: &Arc<App>, caller: &Caller, id: i64) -> Result<Place> {
    match caller.user_id() {
        Some(user_id) => {
            let found = app.store.find_participation(id, user_id).await?.ok_or_else(no_conversation)?;
            let (last_event_id, cleared_up_to) = (found.last_event_id, found.cleared_up_to);
            Ok(Place { last_event_id, cleared_up_to, participation: Some(found) })
        }
        None => {
            let last_event_id = app.store.last_event_id(Topic::Conversation(id)).await?.ok_or_else(no_conversation)?;
            Ok(Place { last_event_id, cleared_up_to: 0, participation: None })
        }
    }
}

/// Checks that a caller may see a message: of a conversation they are in, and not cleared by them.
pub async fn visible_message(app: &Arc<App>, caller: &UserCaller, id: i64) -> Result<StoredMessage> {
    let found = app.store.find_message(id, caller.id()).await?;
    found.ok_or_else(|| Error::not_found("there is no such message"))
}

/// Carries a change through even where its client hangs up meanwhile: what is stored must also be told.
pub async fn through<T: Send + 'static>(
    app: &Arc<App>,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    app.tasks.spawn(work).await.unwrap_or_else(|_| Err(Error::internal()))
}
