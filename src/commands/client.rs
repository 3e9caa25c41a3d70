//! A connection as a client of any server that speaks the guide, for the commands that examine one.
//! Knows what an address says and how to get a socket, not what is said on it.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_tls, tungstenite};
use url::Url;

use crate::config::Secret;
use crate::ids::parse_id;

/// Offered so that a server that knows it greets at once with `connected`.
const SUBPROTOCOL: &str = "tidings.v1";

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Which of the contract's sockets an address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Chat(i64),
    Notifications(i64),
    User(i64),
    Unknown,
}

/// A socket's address, with the token in its query where there is one.
pub struct Endpoint {
    url: Url,
}

impl Endpoint {
    /// Reads an address; a token that is given apart takes the place of one within it.
    pub fn parse(text: &str, token: Option<&Secret>) -> Result<Self, String> {
        let mut url = Url::parse(text).map_err(|error| format!("it is no address: {error}"))?;
        if !matches!(url.scheme(), "ws" | "wss") {
            return Err(format!("it begins with {}:// and must begin with ws:// or wss://", url.scheme()));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("it has no host".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it names a user before the host, which no socket asks for".into());
        }
        url.set_fragment(None);
        if let Some(token) = token {
            let others: Vec<(String, String)> =
                url.query_pairs().filter(|(name, _)| name != "token").map(|(n, v)| (n.into(), v.into())).collect();
            url.query_pairs_mut().clear().extend_pairs(others).append_pair("token", token.expose());
        }
        Ok(Self { url })
    }

    /// The address without its query, fit to be shown.
    pub fn shown(&self) -> &str {
        &self.url[..url::Position::AfterPath]
    }

    pub fn place(&self) -> Place {
        let segments: Vec<&str> = self.url.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let [.., "ws", kind, id] = segments[..] else { return Place::Unknown };
        match (kind, parse_id(id)) {
            ("chat", Some(id)) => Place::Chat(id),
            ("notifications", Some(id)) => Place::Notifications(id),
            ("user", Some(id)) => Place::User(id),
            _ => Place::Unknown,
        }
    }

    pub fn token(&self) -> Option<String> {
        let (_, token) = self.url.query_pairs().find(|(name, value)| name == "token" && !value.is_empty())?;
        Some(token.into_owned())
    }

    /// `host:port`, as it is connected to.
    pub fn authority(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or(80);
        format!("{}:{port}", self.url.host_str().unwrap_or_default())
    }

    /// A connection to the server, below HTTP.
    pub async fn reach(&self) -> io::Result<TcpStream> {
        match timeout(CONNECT_TIME_MAX, TcpStream::connect(self.authority())).await {
            Ok(stream) => stream,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 s")),
        }
    }

    /// An open socket and the server's answer to the handshake. A server that knows no subprotocols is asked again
    /// without one.
    pub async fn connect(&self, origin: Option<&str>) -> Result<(Socket, Response), tungstenite::Error> {
        let no_subprotocol = ProtocolError::SecWebSocketSubProtocolError(SubProtocolError::NoSubProtocol);
        match self.handshake(origin, Some(SUBPROTOCOL)).await {
            Err(tungstenite::Error::Protocol(error)) if error == no_subprotocol => self.handshake(origin, None).await,
            result => result,
        }
    }

    async fn handshake(
        &self,
        origin: Option<&str>,
        subprotocol: Option<&'static str>,
    ) -> Result<(Socket, Response), tungstenite::Error> {
        let mut request = self.url.as_str().into_client_request()?;
        if let Some(origin) = origin {
            let origin = HeaderValue::from_str(origin).map_err(tungstenite::http::Error::from)?;
            request.headers_mut().insert(ORIGIN, origin);
        }
        if let Some(subprotocol) = subprotocol {
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        }
        let stream = self.reach().await?;
        stream.set_nodelay(true)?;
        match timeout(HANDSHAKE_TIME_MAX, client_async_tls(request, stream)).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to the handshake within 10 s").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text, None).unwrap_or_else(|problem| panic!("{text}: {problem}"))
    }

    #[test]
    fn an_address_names_one_of_the_sockets() {
        for (text, place) in [
            ("ws://h/ws/chat/1/", Place::Chat(1)),
            ("wss://h:1/prefix/ws/notifications/2", Place::Notifications(2)),
            ("ws://h/ws/user/3/?since=1", Place::User(3)),
            ("ws://h/ws/chat/0/", Place::Unknown),
            ("ws://h/ws/talk/1/", Place::Unknown),
            ("ws://h/", Place::Unknown),
        ] {
            assert_eq!(endpoint(text).place(), place, "{text}");
        }
    }

    #[test]
    fn what_is_no_socket_address_is_refused() {
        for text in
            ["", "localhost:8000/ws/chat/1/", "http://h/ws/chat/1/", "ws://", "/ws/chat/1/", "ws://u:p@h/ws/chat/1/"]
        {
            assert!(Endpoint::parse(text, None).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_given_apart_replaces_the_one_in_the_address_and_is_never_shown() {
        let endpoint = Endpoint::parse("ws://h/ws/chat/1/?token=old&since=5", Some(&Secret::new("a.b+c&d")));
        let endpoint = endpoint.expect("valid");
        assert_eq!(endpoint.token().as_deref(), Some("a.b+c&d"));
        assert_eq!(endpoint.url.query(), Some("since=5&token=a.b%2Bc%26d"));
        assert_eq!(endpoint.shown(), "ws://h/ws/chat/1/");
    }

    #[test]
    fn the_port_follows_from_the_scheme_where_none_is_given() {
        assert_eq!(endpoint("ws://h/").authority(), "h:80");
        assert_eq!(endpoint("wss://h/").authority(), "h:443");
        assert_eq!(endpoint("ws://[::1]:8000/").authority(), "[::1]:8000");
    }
}
