//! The accept loop: connections to requests to the router, within time and size, until told to stop.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::under_way::{Answer, Keeper, Unstalled};
use super::unread;
use crate::app::App;

/// The address at the other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// How many connections the system may hold that are not yet accepted.
const BACKLOG: u32 = 4_096;
/// How long a client may take to send the head of a request, and may keep a connection open without one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Most bytes of a request's head: a token of 16 KiB and its surroundings fit.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long a request may take that is under way when the server stops; its body may never end.
const LAST_REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long to wait when the system has no more sockets to give, and how often that is said.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);
const EXHAUSTED_SAID: Duration = Duration::from_secs(10);

/// Listens on an address.
pub fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let listen = || -> std::io::Result<TcpListener> {
        let socket = socket?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| format!("can't listen on {address}"))
}

/// Serves connections until `stop`; those under way end after the request that they are in.
pub async fn serve(app: Arc<App>, listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut said_at: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, stop) = (router.clone(), stop.clone());
                app.tasks.spawn(connection(stream, peer, router, stop));
            }
            Err(error) => {
                if said_at.is_none_or(|at| at.elapsed() > EXHAUSTED_SAID) {
                    tracing::warn!(%error, "a connection could not be accepted");
                    said_at = Some(Instant::now());
                }
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    // Frames are small and wait for nobody.
    let _ = stream.set_nodelay(true);
    serve_stream(stream, peer, router, stop).await;
}

/// Serves what is asked on one connection, until it ends or is told to.
pub async fn serve_stream(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) {
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer.ip()));
        answer(router.clone(), request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Unstalled::new(stream)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(LAST_REQUEST_TIME, connection).await;
        }
    }
}

/// Answers a request; what is left of its body is read first, or the client would lose the connection, and maybe the answer.
async fn answer(router: Router, mut request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let keeper = Keeper::default();
    request.extensions_mut().insert(keeper.clone());
    let in_pieces = |response: Response<Body>| response.map(|body| Answer::new(body, keeper));
    if request.body().is_end_stream() {
        return router.oneshot(request.map(Body::new)).await.map(in_pieces);
    }
    let is_waited_for = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let (body, unread) = unread::keep(body);
    let mut response = router.oneshot(Request::from_parts(parts, Body::new(body))).await?;
    if !unread.read_to_end(is_waited_for).await {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(in_pieces(response))
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn router() -> Router {
        let read = async |body: Result<Bytes, axum::extract::rejection::BytesRejection>| match body {
            Ok(body) => body.len().to_string(),
            Err(_) => "the body did not come".to_owned(),
        };
        let refuse = async || (axum::http::StatusCode::UNAUTHORIZED, "refused");
        Router::new()
            .route("/read", post(read))
            .route("/refuse", post(refuse))
            .route("/large", post(async || vec![b'x'; 8 * 1024 * 1024]))
    }

    fn peer() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 4_000))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_fast_enough_is_waited_for_and_one_that_does_not_is_not() {
        for (bytes_per_second, comes) in [(2_048, true), (512, false), (0, false)] {
            let (mut near, far) = duplex(64 * 1024);
            let serving = serve_stream(far, peer(), router(), CancellationToken::new());
            let asking = async move {
                near.write_all(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 102400\r\n\r\n")
                    .await
                    .expect("the head");
                let mut left = 102_400;
                let mut answer = Vec::new();
                while left > 0 && answer.is_empty() {
                    let count = left.min(bytes_per_second);
                    near.write_all(&vec![b'x'; count]).await.expect("it is taken in");
                    left -= count;
                    let second = tokio::time::sleep(Duration::from_secs(1));
                    tokio::select! {
                        _ = near.read_buf(&mut answer) => {}
                        () = second => {}
                    }
                }
                while !answer.windows(4).any(|window| window == b"\r\n\r\n") || answer.ends_with(b"\r\n\r\n") {
                    assert!(near.read_buf(&mut answer).await.expect("an answer") > 0);
                }
                String::from_utf8(answer).expect("text")
            };
            let began = Instant::now();
            let (answer, ()) = tokio::join!(asking, serving);
            assert_eq!(answer.ends_with("102400"), comes, "{answer}");
            assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_answered_before_its_body_is_read_leaves_the_connection_whole() {
        let (mut near, far) = duplex(64 * 1024);
        let asking = async move {
            for size in [20, 200_000] {
                let head = format!("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n");
                near.write_all(head.as_bytes()).await.expect("the head");
                // Simulated time passes when all that can be done with the head has been done.
                tokio::time::sleep(Duration::from_millis(1)).await;
                near.write_all(&vec![b'x'; size]).await.expect("the body is taken in");
                let mut answer = Vec::new();
                while !answer.ends_with(b"refused") {
                    assert!(near.read_buf(&mut answer).await.expect("an answer") > 0, "{answer:?}");
                }
                assert!(answer.starts_with(b"HTTP/1.1 401"), "{answer:?}");
            }
        };
        tokio::join!(asking, serve_stream(far, peer(), router(), CancellationToken::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_is_not_kept() {
        let (mut near, far) = duplex(1_024);
        near.write_all(b"POST /large HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("the head");
        let began = Instant::now();
        serve_stream(far, peer(), router(), CancellationToken::new()).await;
        assert!((60..120).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_answer_comes_whole() {
        let (mut near, far) = duplex(1_024);
        near.write_all(b"POST /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("the head");
        let mut answer = Vec::new();
        let serving = serve_stream(far, peer(), router(), CancellationToken::new());
        tokio::join!(serving, async { near.read_to_end(&mut answer).await.expect("an answer") });
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        assert!(String::from_utf8_lossy(&answer[..head]).to_lowercase().contains("content-length: 8388608\r\n"));
        assert_eq!(answer.len() - head, 8 * 1024 * 1024);
    }
}
