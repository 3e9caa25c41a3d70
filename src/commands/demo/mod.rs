//! `tidings demo`: everything at once, in a temporary folder that goes with it. The server is the real one; samples
//! and bot come in from outside, over HTTP and WebSocket, as a platform and a user would.

mod answers;
mod banner;
mod bot;
mod samples;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::banner::Banner;
use self::bot::Bot;
use self::samples::{ADA, BOT, GRACE, Person, Platform, WELCOME};
use super::serve::{Server, signals};
use crate::auth::{self, AuthSettings, Names};
use crate::clock::Clock;
use crate::config::{AttachmentStore, ConversationsBy, LogLevel, Secret, Settings};
use crate::http;
use crate::telemetry;

/// How long the tokens are good that are printed and handed to the page.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Ctrl-c ends the demo soon: there are no clients that would all have to go elsewhere.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// Runs the demo until SIGTERM or ctrl-c.
pub async fn run(settings: Settings) -> Result<()> {
    // Listened for before there is a folder, so that no signal leaves one behind.
    let signals = signals()?;
    let folder = tempfile::Builder::new().prefix("tidings-demo-").tempdir().context("there is no temporary folder")?;
    let listeners = listeners(&settings)?;
    let settings = Settings { data_dir: folder.path().to_owned(), ..own_settings(settings) };
    telemetry::start(settings.log, settings.log_format);

    let tokens = Tokens::new(&settings)?;
    let stop = CancellationToken::new();
    let page = page_settings(tokens.clone());
    let with_page = |router| http::demo::with_page(router, page);
    let server = Server::start_on(settings, listeners.0, listeners.1, stop.clone(), with_page).await?;
    let result = tokio::select! {
        result = play(&server, &tokens) => result,
        () = signals => Ok(()),
    };
    println!("stopping: the demo's folder goes with it");
    server.stop(stop).await;
    folder.close().context("the temporary folder could not be removed")?;
    result
}

/// Fills the server, says how to use it, and lets the bot answer for ever.
async fn play(server: &Server, tokens: &Tokens) -> Result<()> {
    let settings = &server.app.settings;
    let api_key = &settings.api_key[0];
    let address = reachable(server.address);
    Platform::new(address, settings, tokens.clone())?.fill().await.context("the samples could not be made")?;
    let mut bot = Bot::new(address, tokens.clone());
    let socket = bot.connect().await.context("the bot could not connect")?;
    let banner = Banner { address, api_key, ada: &tokens.of(&ADA)?, grace: &tokens.of(&GRACE)? };
    println!("{banner}");
    server.announce();
    bot.run(socket).await
}

/// The settings of a demo: what is about limits, times and logs as it was given, all that is kept its own.
fn own_settings(settings: Settings) -> Settings {
    let defaults = Settings::default();
    Settings {
        database_url: None,
        public_url: None,
        migrate: true,
        attachment_store: AttachmentStore::DataDir,
        jwt_secret: Some(random_secret()),
        jwt_secret_previous: None,
        jwt_public_key_file: None,
        jwks_url: None,
        jwt_algorithms: defaults.jwt_algorithms,
        jwt_issuer: None,
        jwt_audience: None,
        jwt_user_claim: defaults.jwt_user_claim,
        api_key: vec![random_secret()],
        conversations_by: ConversationsBy::Users,
        drain_time: settings.drain_time.min(DRAIN_TIME_MAX),
        // The usual lines of a server would bury what the demo prints.
        log: if settings.log == LogLevel::Info { LogLevel::Warn } else { settings.log },
        ..settings
    }
}

/// 244 random bits, in letters that need no quoting anywhere.
fn random_secret() -> Secret {
    Secret::new(format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()))
}

/// The public and the admin listener. Where a default is taken, any free port does.
fn listeners(settings: &Settings) -> Result<(TcpListener, Option<TcpListener>)> {
    let defaults = Settings::default();
    let public = listen(settings.listen, settings.listen == defaults.listen)?;
    let is_default = settings.admin_listen == defaults.admin_listen;
    let admin = settings.admin_listen.map(|address| listen(address, is_default)).transpose()?;
    Ok((public, admin))
}

fn listen(address: SocketAddr, may_move: bool) -> Result<TcpListener> {
    let is_taken = |error: &anyhow::Error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    };
    match http::server::listen(address) {
        Err(error) if may_move && is_taken(&error) => http::server::listen(SocketAddr::new(address.ip(), 0)),
        result => result,
    }
}

/// The address to connect to for one that is listened on.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        _ => return address,
    };
    SocketAddr::new(ip, address.port())
}

/// Mints the sample users' tokens.
#[derive(Clone)]
struct Tokens {
    settings: Arc<AuthSettings>,
    clock: Clock,
}

impl Tokens {
    fn new(settings: &Settings) -> Result<Self> {
        Ok(Self { settings: Arc::new(AuthSettings::configured(settings)?), clock: Clock::system() })
    }

    /// A fresh token. It carries no names: the platform has given them.
    fn of(&self, person: &Person) -> Result<String> {
        auth::mint(&self.settings, person.id, &Names::default(), self.clock.now_s(), TOKEN_LIFETIME)
    }
}

/// What the page begins with: whom one can be, with tokens as fresh as the page.
fn page_settings(tokens: Tokens) -> http::demo::Settings {
    // Tells this demo from an earlier one at the same address, whose unsent messages a browser may still hold.
    let run = uuid::Uuid::new_v4().to_string();
    let user = move |person: &Person| -> Result<_> {
        let token = tokens.of(person)?;
        let Person { id, first_name, last_name, .. } = person;
        Ok(json!({ "id": id, "first_name": first_name, "last_name": last_name, "token": token }))
    };
    Arc::new(move || {
        Ok(json!({ "run": run, "users": [user(&ADA)?, user(&GRACE)?], "bot_id": BOT.id, "open": WELCOME }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_default_that_is_taken_gives_way_to_a_free_port_and_a_wish_does_not() {
        let taken = http::server::listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = taken.local_addr().expect("an address");
        let moved = listen(address, true).expect("another port").local_addr().expect("an address");
        assert_eq!(moved.ip(), address.ip());
        assert_ne!(moved.port(), address.port());
        assert!(listen(address, false).is_err());
    }

    #[test]
    fn nothing_of_the_operators_is_used_and_secrets_are_new_each_time() {
        let theirs = Settings {
            database_url: Some(Secret::new("postgres://production/tidings")),
            jwt_secret: Some(Secret::new("the operator's")),
            jwt_issuer: Some("the platform".to_owned()),
            api_key: vec![Secret::new("the operator's")],
            ..Settings::default()
        };
        let (one, other) = (own_settings(theirs.clone()), own_settings(theirs.clone()));
        assert_eq!((one.database_url, one.jwt_issuer), (None, None));
        assert_eq!(one.api_key.len(), 1);
        assert!(one.jwt_secret != theirs.jwt_secret && one.jwt_secret != other.jwt_secret);
        assert!(one.api_key != theirs.api_key && one.api_key != other.api_key);
    }

    #[test]
    fn an_address_that_means_every_interface_is_reached_by_loopback() {
        for (listened, reached) in
            [("0.0.0.0:8000", "127.0.0.1:8000"), ("[::]:1", "[::1]:1"), ("10.0.0.7:5", "10.0.0.7:5")]
        {
            assert_eq!(reachable(listened.parse().expect("valid")).to_string(), reached);
        }
    }
}
