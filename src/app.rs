//! The server as a whole: everything long-lived hangs from here.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{ApiKeys, AuthSettings, Verifier};
use crate::chat::Chat;
use crate::chat::attachments::Attachments;
use crate::clock::Clock;
use crate::config::Settings;
use crate::files::FileStore;
use crate::hub::Hub;
use crate::protocol::Close;
use crate::protocol::server::Limits;
use crate::rate_limit::{RateLimit, UnderWay};
use crate::store::{Links, Store};

/// Over how many steps a drain is spread, at least this far apart.
const DRAIN_STEP: Duration = Duration::from_millis(100);

/// How many seconds' worth of commands or requests may come at once.
const BURST: u32 = 3;

/// One server.
pub struct App {
    pub settings: Settings,
    pub clock: Clock,
    pub store: Store,
    pub hub: Arc<Hub>,
    pub chat: Arc<Chat>,
    pub verifier: Verifier,
    pub api_keys: ApiKeys,
    pub attachments: Attachments,
    pub limits: RateLimits,
    /// Everything that runs in the background, sockets included.
    pub tasks: TaskTracker,
    /// Ends the background tasks, once the last socket has gone.
    pub shutdown: CancellationToken,
    /// How many sockets there are, from the upgrade to the end.
    pub sockets: AtomicUsize,
    is_draining: AtomicBool,
}

/// The limits that are counted by time.
pub struct RateLimits {
    pub commands: RateLimit<i64>,
    pub requests: RateLimit<i64>,
    /// As many at once as may come at once.
    pub requests_under_way: Arc<UnderWay>,
    pub handshakes: RateLimit<()>,
    pub handshakes_per_address: RateLimit<IpAddr>,
}

impl App {
    /// Opens the store and starts the background tasks.
    pub async fn start(settings: Settings, clock: Clock) -> anyhow::Result<Arc<Self>> {
        let store = open_store(&settings, &clock).await?;
        if settings.migrate {
            store.migrate().await.context("the database could not be migrated")?;
        }
        Self::start_with(settings, store, clock).await
    }

    /// Starts the background tasks on a store that has its tables.
    pub async fn start_with(settings: Settings, store: Store, clock: Clock) -> anyhow::Result<Arc<Self>> {
        let verifier = Verifier::new(AuthSettings::configured(&settings)?, clock.clone())?;
        store
            .load_link_key()
            .await
            .context("the key of attachment links could not be read; are the migrations applied?")?;
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let files = FileStore::open(&settings.attachment_store, &settings.data_dir, tasks.clone())?;
        let (hub, gaps) = Hub::new(settings.typing_expiry);
        let chat = Chat::start(&settings, (store.clone(), hub.clone(), clock.clone()), gaps, &tasks, &shutdown);
        chat.recall().await.context("who was there could not be read")?;
        let attachments = Attachments::new(&settings, store.clone(), files, tasks.clone());
        let (collector, ended) = (attachments.clone(), shutdown.clone());
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = collector.collect_often() => {}
                () = ended.cancelled() => {}
            }
        });
        let app = Arc::new(Self {
            limits: RateLimits {
                commands: RateLimit::per_second(settings.commands_per_second_max, BURST),
                requests: RateLimit::per_second(settings.requests_per_second_max, BURST),
                requests_under_way: UnderWay::new(settings.requests_per_second_max.map(|most| most * u64::from(BURST))),
                handshakes: RateLimit::per_second(settings.handshakes_per_second_max, 1),
                handshakes_per_address: RateLimit::per_second(settings.handshakes_per_address_max, 1),
            },
            api_keys: ApiKeys::new(&settings.api_key),
            settings,
            clock,
            store,
            hub,
            chat,
            verifier,
            attachments,
            tasks,
            shutdown,
            sockets: AtomicUsize::new(0),
            is_draining: AtomicBool::new(false),
        });
        app.tasks.spawn(forget_idle(app.clone()));
        Ok(app)
    }

    /// Whether the server takes no new sockets any more.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// The bounds that a client must keep, as it is told them.
    pub fn client_limits(&self) -> Limits {
        Limits {
            frame_bytes_max: self.settings.frame_bytes_max,
            text_chars_max: self.settings.text_chars_max,
            attachments_per_message_max: self.settings.attachments_per_message_max,
            attachment_bytes_max: self.settings.attachment_bytes_max,
            commands_per_second_max: self.settings.commands_per_second_max,
        }
    }

    /// Sends the sockets elsewhere, in paced batches over the drain time; returns when the last has gone,
    /// or when those that are left have had time enough.
    pub async fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        self.chat.store_seen().await;
        let mut connections = self.hub.people.connections();
        connections.sort_unstable_by_key(|outbox| outbox.id);
        let steps = (self.settings.drain_time.as_millis() / DRAIN_STEP.as_millis()).max(1) as usize;
        let batch = connections.len().div_ceil(steps).max(1);
        for connections in connections.chunks(batch) {
            for outbox in connections {
                outbox.close(Close::ServiceRestart { retry_after_ms: 500 + fastrand::u64(..2_000) });
            }
            tokio::time::sleep(DRAIN_STEP.min(self.settings.drain_time)).await;
        }
        // Sockets that were being admitted when the drain began.
        let patience = tokio::time::Instant::now() + Duration::from_secs(5);
        while self.sockets.load(Ordering::Relaxed) > 0 && tokio::time::Instant::now() < patience {
            for outbox in self.hub.people.connections() {
                outbox.close(Close::ServiceRestart { retry_after_ms: 500 + fastrand::u64(..2_000) });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the background tasks: what was accepted is stored, then the store is closed.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(Duration::from_secs(10), self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "some tasks did not end in time");
        }
        self.store.close().await;
    }
}

/// Connects to the database that the settings name.
pub async fn open_store(settings: &Settings, clock: &Clock) -> anyhow::Result<Store> {
    let public_url = settings.public_url.as_ref().map(|url| url.as_str().to_owned());
    let links = Links::new(public_url, settings.attachment_link_lifetime);
    Store::open(settings.effective_database_url().expose(), clock.clone(), Arc::new(links)).await
}

async fn forget_idle(app: Arc<App>) {
    let mut sweeps = tokio::time::interval(Duration::from_secs(60));
    loop {
        tokio::select! {
            biased;
            _ = sweeps.tick() => {}
            () = app.shutdown.cancelled() => return,
        }
        app.limits.commands.forget_idle();
        app.limits.requests.forget_idle();
        app.limits.handshakes_per_address.forget_idle();
    }
}
