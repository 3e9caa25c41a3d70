//! `tidings serve`: the server, from its settings to its drained end.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::auth::{AuthSettings, Verifier};
use crate::clock::Clock;
use crate::config::Settings;
use crate::{http, telemetry};

/// Runs the server until SIGTERM or ctrl-c.
pub async fn run(settings: Settings) -> Result<()> {
    telemetry::start(settings.log, settings.log_format);
    // Listened for before anybody is served, so that nobody is cut off by one that comes early.
    let signals = signals()?;
    let shutdown = CancellationToken::new();
    let server = Server::start(settings, shutdown.clone()).await?;
    server.announce();
    signals.await;
    tracing::info!("stopping: sockets are told to connect elsewhere");
    server.stop(shutdown).await;
    tracing::info!("stopped");
    Ok(())
}

/// A server that listens.
pub struct Server {
    pub app: Arc<App>,
    pub address: SocketAddr,
}

impl Server {
    /// Opens the store, then the listeners. They close when the token is cancelled.
    pub async fn start(settings: Settings, stop: CancellationToken) -> Result<Self> {
        // What is wrong with the keys is said first, and with the ports before anything is opened.
        Verifier::new(AuthSettings::configured(&settings)?, Clock::system())?;
        let listener = http::server::listen(settings.listen)?;
        let admin = settings.admin_listen.map(http::server::listen).transpose()?;
        Self::start_on(settings, listener, admin, stop, |router| router).await
    }

    /// The same on listeners that are there already; `complete` may add to the public router.
    pub async fn start_on(
        settings: Settings,
        listener: TcpListener,
        admin: Option<TcpListener>,
        stop: CancellationToken,
        complete: impl FnOnce(http::Router) -> http::Router,
    ) -> Result<Self> {
        let address = listener.local_addr()?;
        let app = App::start(settings, Clock::system()).await?;
        serve(&app, listener, complete(http::router(&app)), &stop);
        if let Some(admin) = admin {
            serve(&app, admin, http::admin_router(&app), &stop);
        }
        Ok(Self { app, address })
    }

    /// Says where the server listens.
    pub fn announce(&self) {
        telemetry::announce(self.app.settings.log_format, &format!("listening on http://{}", self.address));
    }

    /// Drains the sockets, closes the listeners, and stores what was accepted.
    pub async fn stop(self, stop: CancellationToken) {
        self.app.drain().await;
        stop.cancel();
        self.app.stop().await;
    }
}

fn serve(app: &Arc<App>, listener: TcpListener, router: http::Router, stop: &CancellationToken) {
    app.tasks.spawn(http::server::serve(app.clone(), listener, router, stop.clone()));
}

/// Listens for SIGTERM and ctrl-c from now on; the future ends with the first one.
pub(super) fn signals() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
