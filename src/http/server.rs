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
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

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
/// How long to wait when the system has no more sockets to give.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

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
                tracing::warn!(%error, "a connection could not be accepted");
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
        .serve_connection(TokioIo::new(stream), service)
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
async fn answer(router: Router, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if request.body().is_end_stream() {
        return router.oneshot(request.map(Body::new)).await;
    }
    let is_waited_for = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let (body, unread) = unread::keep(body);
    let mut response = router.oneshot(Request::from_parts(parts, Body::new(body))).await?;
    if !unread.read_to_end(is_waited_for).await {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
