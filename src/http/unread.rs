//! What a request's handler leaves of its body. A connection on which it is not read can't take another request, and one
//! that is closed over it may take the answer along.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;

/// How much is read and dropped: the largest upload by default, and some more.
const BYTES_MAX: usize = 32 * 1024 * 1024;
const TIME_MAX: Duration = Duration::from_secs(5);

/// A body that comes back when it is dropped before its end.
pub(super) struct Kept {
    body: Option<Incoming>,
    unread: Arc<Mutex<Option<Incoming>>>,
}

/// What has come back.
pub(super) struct Unread(Arc<Mutex<Option<Incoming>>>);

pub(super) fn keep(body: Incoming) -> (Kept, Unread) {
    let unread = Arc::new(Mutex::new(None));
    (Kept { body: Some(body), unread: unread.clone() }, Unread(unread))
}

impl Unread {
    /// Reads what is left and drops it. Whether that was all; a client that waits to be asked for it is not asked.
    pub(super) async fn read_to_end(self, is_waited_for: bool) -> bool {
        let Some(mut body) = self.0.lock().take() else { return true };
        if is_waited_for {
            return false;
        }
        let read = async {
            let mut count = 0;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                count += frame.data_ref().map_or(0, Bytes::len);
                if count > BYTES_MAX {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(TIME_MAX, read).await.unwrap_or(false)
    }
}

impl Body for Kept {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.unread.lock() = Some(body);
        }
    }
}
