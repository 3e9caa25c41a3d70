//! The servers and what befalls them: they are slow, die and come back, are stopped, and hear of each other's events by a
//! bus that can't be relied on.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::book::{Book, Outcome};
use super::client::Client;
use super::fold::Fold;
use crate::app::App;
use crate::auth::{self, AuthSettings, Names};
use crate::chat::{Reply, delivery, encode_told};
use crate::clock::Clock;
use crate::config::{Secret, Settings};
use crate::http;
use crate::protocol::Topic;
use crate::protocol::client::NewMessage;
use crate::store::Store;
use crate::store::commit::{Actor, Change, Command, fingerprint};
use crate::store::conversations::NewConversation;
use crate::store::simulated::{Committed, Database, Seams, Witness};

/// How long things go wrong, and how long all may take to come right after that: quiet topics compare their position
/// with the store's every 15 s, once they have been quiet for as long.
const TROUBLE: Duration = Duration::from_millis(1_300);
const SETTLING: Duration = Duration::from_secs(60);
const START_MS: i64 = 1_758_709_800_000;
const USERS: i64 = 3;
/// How many bytes are on their way in each direction at most.
const NETWORK_BYTES: [usize; 3] = [300, 2_000, 20_000];
/// More commands at once than a topic parks events.
const STORM: usize = 300;

/// Plays a seed to its end, or to the first thing that is wrong.
pub fn run(seed: u64) -> Outcome {
    let database = Database::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    fastrand::seed(seed);
    runtime.block_on(async {
        let world = World::new(seed, database);
        world.clone().play(seed).await;
        world.book.close()
    })
}

/// One server process.
#[derive(Clone)]
pub struct Server {
    app: Arc<App>,
    router: http::Router,
    seams: Arc<Seams>,
    /// Cancelled when it dies: then all its connections are gone.
    pub died: CancellationToken,
    stop: CancellationToken,
}

/// All that there is in one run.
pub struct World {
    pub book: Book,
    pub clock: Clock,
    /// Cancelled when nobody is to do anything any more.
    pub end: CancellationToken,
    database: Database,
    settings: Settings,
    begin: Instant,
    rng: Mutex<fastrand::Rng>,
    servers: Vec<Mutex<Option<Server>>>,
    tasks: TaskTracker,
    own: Weak<Self>,
}

impl World {
    fn new(seed: u64, database: Database) -> Arc<Self> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let servers = (0..rng.usize(1..=3)).map(|_| Mutex::new(None)).collect();
        Arc::new_cyclic(|own| Self {
            book: Book::new(),
            clock: Clock::of_runtime(START_MS),
            end: CancellationToken::new(),
            database,
            settings: settings(),
            begin: Instant::now(),
            rng: Mutex::new(rng),
            servers,
            tasks: TaskTracker::new(),
            own: own.clone(),
        })
    }

    /// Whether things still go wrong.
    pub fn is_trouble(&self) -> bool {
        self.begin.elapsed() < TROUBLE
    }

    /// Whether there is more than one server, so that one of them may know less than the store does.
    pub fn has_many_servers(&self) -> bool {
        self.servers.len() > 1
    }

    /// The conversations that somebody is in: all are in the group, the first two have a 1:1.
    pub fn conversations_of(&self, user_id: i64) -> &'static [i64] {
        if user_id <= 2 { &[1, 2] } else { &[1] }
    }

    /// A token for a user, good for longer than a run.
    pub fn token_of(&self, user_id: i64) -> &'static str {
        static TOKENS: OnceLock<Vec<String>> = OnceLock::new();
        let tokens = TOKENS.get_or_init(|| {
            let settings = AuthSettings::configured(&self.settings).expect("valid settings");
            let (now_s, lifetime) = (START_MS / 1_000, Duration::from_secs(3_600));
            let mint = |user_id| auth::mint(&settings, user_id, &Names::default(), now_s, lifetime).expect("a token");
            (1..=USERS).map(mint).collect()
        });
        &tokens[user_id as usize - 1]
    }

    /// Connects to one of the servers, where it is up.
    pub fn connect(&self, rng: &mut fastrand::Rng) -> Option<(usize, Server, DuplexStream)> {
        let index = rng.usize(..self.servers.len());
        let server = self.servers[index].lock().clone()?;
        let (near, far) = tokio::io::duplex(NETWORK_BYTES[rng.usize(..NETWORK_BYTES.len())]);
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let (router, stop) = (server.router.clone(), server.stop.clone());
        server.app.tasks.spawn(http::server::serve_stream(far, peer, router, stop));
        Some((index, server, near))
    }

    fn chance(&self, of: std::ops::Range<u64>) -> u64 {
        self.rng.lock().u64(of)
    }

    async fn pause(&self, ms: std::ops::Range<u64>) {
        sleep(Duration::from_millis(self.chance(ms))).await;
    }

    async fn play(self: Arc<Self>, seed: u64) {
        self.furnish().await;
        for index in 0..self.servers.len() {
            self.tasks.spawn(self.clone().live(index));
        }
        let mut clients = Vec::new();
        for index in 0..self.chance(2..5) {
            let rng = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(index));
            let client = Client::new(index, index as i64 % USERS + 1, rng, self.clone());
            clients.push(client.session.clone());
            self.tasks.spawn(client.run());
        }
        sleep(TROUBLE).await;
        let patience = Instant::now() + SETTLING;
        loop {
            sleep(Duration::from_secs(1)).await;
            let mut open: Vec<String> =
                clients.iter().flat_map(|session| session.lock().open_ends(&self.book)).collect();
            if open.is_empty() {
                let truth = self.truth().await;
                open = clients.iter().flat_map(|session| session.lock().differences(&truth)).collect();
            }
            if open.is_empty() || self.book.has_faults() {
                break;
            }
            if Instant::now() > patience {
                open.into_iter().for_each(|open| self.book.fault(open));
            }
        }
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Makes the users and their conversations.
    async fn furnish(&self) {
        let store = Store::simulated(self.database.clone(), None, self.clock.clone());
        for (id, participant_ids) in [(1, (1..=USERS).collect()), (2, vec![1, 2])] {
            let new = NewConversation {
                by: Actor::Platform,
                id: Some(id),
                owner_id: None,
                participant_ids,
                title: None,
                participants_max: None,
            };
            store.create_conversation(&new, None).await.expect("the store answers").expect("a conversation");
        }
    }

    /// What the store holds: each conversation's messages, and where each user's notifications have come to.
    async fn truth(&self) -> Truth {
        let store = Store::simulated(self.database.clone(), None, self.clock.clone());
        let mut truth = Truth::default();
        let topics = [Topic::Conversation(1), Topic::Conversation(2)].into_iter().chain((1..=USERS).map(Topic::User));
        for topic in topics {
            let log = store.read_log(topic, 0, i64::MAX).await.expect("the store answers");
            let (fold, key) = match topic {
                Topic::Conversation(id) => (truth.folds.entry(id).or_default(), id),
                Topic::User(id) => (&mut Fold::default(), -id),
            };
            for told in &log.events {
                fold.take(&serde_json::from_slice(&encode_told(topic, told)).expect("a frame is JSON"));
            }
            let last = log.events.iter().filter_map(|told| told.event_id).next_back();
            truth.last.insert(key, last.unwrap_or_default());
        }
        truth
    }

    // A server's life.

    async fn live(self: Arc<Self>, index: usize) {
        loop {
            let server = self.start(index).await;
            *self.servers[index].lock() = Some(server.clone());
            self.book.tell(format!("server {index} is up"));
            self.pause(100..900).await;
            if self.is_trouble() && self.chance(0..100) == 0 {
                self.storm(&server);
                self.pause(0..300).await;
            }
            if !self.is_trouble() {
                return self.end.cancelled().await;
            }
            *self.servers[index].lock() = None;
            if self.chance(0..4) == 0 {
                self.book.count(|totals| &mut totals.drains);
                self.book.tell(format!("server {index} is told to stop"));
                server.app.drain().await;
                server.stop.cancel();
                server.app.stop().await;
                // A peer that takes nothing in holds its socket, which is a connection's task and its own, for a while.
                let held = 2 * server.app.sockets.load(Ordering::Relaxed);
                if server.app.tasks.len() > held {
                    self.book.fault(format!("{} tasks did not end with their server", server.app.tasks.len() - held));
                }
                self.book.tell(format!("server {index} has stopped"));
            } else {
                self.book.count(|totals| &mut totals.crashes);
                self.book.tell(format!("server {index} dies"));
            }
            server.seams.die();
            server.died.cancel();
            self.pause(1..400).await;
        }
    }

    async fn start(self: &Arc<Self>, index: usize) -> Server {
        static ROUTER: OnceLock<http::Router<Arc<App>>> = OnceLock::new();
        let seams = Seams::new(self.chance(0..u64::MAX), Network { index, world: self.own.clone() });
        let store = Store::simulated(self.database.clone(), Some(seams.clone()), self.clock.clone());
        let app = App::start_with(self.settings.clone(), store, self.clock.clone()).await.expect("a server starts");
        let (died, stop) = (CancellationToken::new(), CancellationToken::new());
        let router = ROUTER.get_or_init(|| http::stateless_router(&self.settings)).clone().with_state(app.clone());
        Server { router, app, seams, died, stop }
    }

    /// Asks for much at once, and waits for no answer.
    fn storm(&self, server: &Server) {
        self.book.count(|totals| &mut totals.storms);
        self.book.tell("a storm".to_owned());
        for number in 0..STORM {
            let new = NewMessage {
                message: format!("one of a storm, {number}"),
                message_type: "text",
                reply_to: None,
                attachment_ids: Vec::new(),
                data: None,
            };
            let change = Change::Send(new);
            let (conversation_id, actor, client_id) = (1, Actor::User(1), None);
            let command = Command { conversation_id, actor, client_id, fingerprint: fingerprint(&change), change };
            server.app.chat.submit(command, Reply::Waiter(oneshot::channel().0));
        }
    }

    /// Carries what one server tells to the others; while there is trouble not always, not once, not in order.
    fn publish(self: &Arc<Self>, from: usize, committed: Vec<Committed>) {
        for (conversation_id, _, events) in committed {
            let topic = Topic::Conversation(conversation_id);
            for told in events.into_iter().filter(|told| told.event_id.is_some()) {
                for to in (0..self.servers.len()).filter(|to| *to != from) {
                    let copies =
                        if self.is_trouble() { [0, 1, 1, 1, 1, 1, 1, 2][self.chance(0..8) as usize] } else { 1 };
                    if copies == 0 {
                        self.book.count(|totals| &mut totals.lost);
                    }
                    for _ in 0..copies {
                        let delay = if self.chance(0..4) == 0 { self.chance(0..300) } else { self.chance(0..10) };
                        let (world, told) = (self.clone(), told.clone());
                        self.tasks.spawn(async move {
                            sleep(Duration::from_millis(delay)).await;
                            if let Some(server) = world.servers[to].lock().clone() {
                                server.app.hub.deliver(topic, delivery(topic, &told));
                            }
                        });
                    }
                }
            }
        }
    }
}

/// What the store holds in the end.
#[derive(Default)]
pub struct Truth {
    pub folds: BTreeMap<i64, Fold>,
    /// The last event that there is still something to show of; of users' notifications by the id with a minus.
    pub last: BTreeMap<i64, i64>,
}

/// One server's way to the others.
struct Network {
    index: usize,
    world: Weak<World>,
}

impl Witness for Network {
    fn committed(&self, committed: &[Committed]) {
        if let Some(world) = self.world.upgrade() {
            world.book.commit(committed);
        }
    }

    fn told(&self, committed: Vec<Committed>) {
        if let Some(world) = self.world.upgrade() {
            world.publish(self.index, committed);
        }
    }
}

fn settings() -> Settings {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a temporary folder"));
    Settings {
        jwt_secret: Some(Secret::new("a secret of the simulation")),
        data_dir: folder.path().to_owned(),
        outbox_frames_max: 24,
        drain_time: Duration::from_millis(300),
        presence_grace: Duration::from_secs(2),
        commands_per_second_max: None,
        handshakes_per_second_max: None,
        handshakes_per_address_max: None,
        ..Settings::default()
    }
}
