//! What a request's handler leaves of its body. A connection on which it is not read can't take another request, and one
//! that is closed over it may take the answer along.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep};

/// How much is read and dropped: the largest upload by default, and some more.
const BYTES_MAX: usize = 32 * 1024 * 1024;
const TIME_MAX: Duration = Duration::from_secs(5);

/// How long a body may take, and how fast it must come beyond that: one that does not end is not waited for.
const BEGINNING: Duration = Duration::from_secs(30);
const BYTES_PER_SECOND_MIN: u64 = 1024;

/// A body that comes back when it is dropped before its end, and fails when it comes too slowly.
pub(super) struct Kept {
    body: Option<Incoming>,
    unread: Arc<Mutex<Option<Incoming>>>,
    began: Instant,
    received: u64,
    too_late: Pin<Box<Sleep>>,
}

/// What has come back.
pub(super) struct Unread(Arc<Mutex<Option<Incoming>>>);

pub(super) fn keep(body: Incoming) -> (Kept, Unread) {
    let unread = Arc::new(Mutex::new(None));
    let (began, too_late) = (Instant::now(), Box::pin(sleep(BEGINNING)));
    (Kept { body: Some(body), unread: unread.clone(), began, received: 0, too_late }, Unread(unread))
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
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                let due = self.began + BEGINNING + Duration::from_secs(self.received / BYTES_PER_SECOND_MIN);
                self.too_late.as_mut().reset(due);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(io::Error::other(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(self.too_late.as_mut().poll(context));
                Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
            }
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
