//! Whether a caller may see a conversation, and changes that go through whatever becomes of the caller.

use std::sync::Arc;

use super::caller::Caller;
use crate::app::App;
use crate::chat::conversation::no_conversation;
use crate::error::{Error, Result};
use crate::protocol::Topic;
use crate::store::conversations::Participation;

/// Checks that a caller may see a conversation: its participants may, and the platform, who has no place in it.
pub async fn place_of(app: &Arc<App>, caller: &Caller, id: i64) -> Result<Option<Participation>> {
    match caller.user_id() {
        Some(user_id) => app.store.find_participation(id, user_id).await?.map(Some).ok_or_else(no_conversation),
        None => {
            app.store.last_event_id(Topic::Conversation(id)).await?.ok_or_else(no_conversation)?;
            Ok(None)
        }
    }
}

/// Carries a change through even where its client hangs up meanwhile: what is stored must also be told.
pub async fn through<T: Send + 'static>(
    app: &Arc<App>,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    app.tasks.spawn(work).await.unwrap_or_else(|_| Err(Error::internal()))
}
