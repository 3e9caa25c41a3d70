//! A whole server for the fuzzer to talk to: on a loopback port, with an embedded database in a temporary folder.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::Value;
use tempfile::TempDir;
use tidings::app::App;
use tidings::auth::{AuthError, AuthSettings, Names, mint};
use tidings::chat::message;
use tidings::clock::Clock;
use tidings::config::Sources;
use tidings::http;
use tidings::protocol::client::{Endpoint, NewMessage};
use tidings::protocol::notification::{Addressees, NewNotification};
use tidings::protocol::{About, Topic};
use tidings::store::commit::{Actor, Change, Outcome};
use tidings::store::conversations::NewConversation;
use tidings::store::idempotency::Once;
use tidings::store::messages::Page;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// How long an answer may take; longer counts as none.
const DEADLINE: Duration = Duration::from_secs(20);
/// Frames that answer no command and come when they come.
const BACKGROUND: [&str; 6] =
    ["user_status", "message_status", "notification", "typing_indicator", "participant_added", "conversation_updated"];

/// The server, and all that is needed to make a new scene in it.
pub struct World {
    app: Arc<App>,
    address: SocketAddr,
    next_user_id: i64,
}

thread_local! {
    /// Goes with the process, where that ends well.
    static FOLDER: TempDir =
        tempfile::Builder::new().prefix("tidings-fuzz.").tempdir().expect("a temporary folder");
    /// Never dropped: a runtime can't end while its thread does.
    static WORLD: RefCell<ManuallyDrop<(Runtime, World)>> = RefCell::new(ManuallyDrop::new(World::start()));
}

impl World {
    fn start() -> (Runtime, Self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let folder = FOLDER.with(|folder| folder.path().to_str().expect("a path in UTF-8").to_owned());
        let flags = [
            ("data_dir", folder.as_str()),
            ("listen", "127.0.0.1:0"),
            ("admin_listen", "off"),
            ("jwt_secret", "the secret of the fuzzed server, and a long one"),
            ("heartbeat_interval", "off"),
            ("handshakes_per_second_max", "off"),
            ("handshakes_per_address_max", "off"),
            ("commands_per_second_max", "off"),
        ];
        let flags: HashMap<_, _> = flags.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let settings = Sources { flags, ..Sources::default() }.settings().expect("settings");
        let (app, address) = runtime.block_on(async {
            let listener = http::server::listen(settings.listen).expect("a listener");
            let address = listener.local_addr().expect("an address");
            let app = App::start(settings, Clock::system()).await.expect("a server");
            let router = http::router(&app);
            app.tasks.spawn(http::server::serve(app.clone(), listener, router, CancellationToken::new()));
            (app, address)
        });
        (runtime, Self { app, address, next_user_id: 1 })
    }

    /// Runs one input in the world.
    pub fn run(input: impl AsyncFnOnce(&mut World)) {
        WORLD.with_borrow_mut(|world| {
            let (runtime, world) = &mut **world;
            runtime.block_on(input(world));
        });
    }

    /// Two new people in a conversation with a few messages, and a notification for the first of them.
    pub async fn scene(&mut self) -> Scene {
        let app = &self.app;
        let (user_id, other_id) = (self.next_user_id, self.next_user_id + 1);
        self.next_user_id += 2;
        let new = NewConversation {
            by: Actor::Platform,
            id: None,
            owner_id: None,
            participant_ids: vec![user_id, other_id],
            title: None,
            participants_max: None,
        };
        let Once::First(created) = app.chat.open_conversation(new, None).await.expect("a conversation") else {
            panic!("without a key nothing is repeated");
        };
        let conversation_id = created.conversation.id;
        // Muted, so that no notification of a message comes in between.
        let muted_until = Some(Some(i64::MAX));
        app.store.set_flags(conversation_id, user_id, None, muted_until).await.expect("flags").expect("a participant");
        let sends = [other_id, user_id, other_id].map(|sender_id| {
            let new = NewMessage {
                message: "Hello there!".to_owned(),
                message_type: "text",
                reply_to: None,
                attachment_ids: vec![],
                data: None,
            };
            (sender_id, Change::Send(new))
        });
        let sent = self.commit(conversation_id, sends).await;
        let message_ids: Vec<i64> = sent.iter().map(|about| about.message_id).collect();
        self.commit(conversation_id, [(other_id, Change::Delete { message_id: message_ids[2] })]).await;
        let last_event_id = app.store.last_event_id(Topic::Conversation(conversation_id)).await.expect("a position");
        let last_event_id = last_event_id.expect("the conversation");
        let notification = NewNotification {
            title: "News".to_owned(),
            message: "There is news".to_owned(),
            notification_type: "system".to_owned(),
            data: serde_json::value::RawValue::from_string("{}".to_owned()).expect("JSON"),
            action_url: None,
        };
        app.chat.inbox.send(Addressees::Users(vec![user_id]), notification, None).await.expect("a notification");
        let page = app.store.list_notifications(user_id, false, Page::Before(None), 1).await.expect("a page");
        let notification_id = page.notifications.first().expect("the notification").id;
        let auth = AuthSettings::configured(&app.settings).expect("settings for tokens");
        let mint = |user_id| {
            mint(&auth, user_id, &Names::default(), app.clock.now_s(), Duration::from_secs(86_400)).expect("a token")
        };
        let (token, other_token) = (mint(user_id), mint(other_id));
        let app = app.clone();
        Scene { app, user_id, conversation_id, message_ids, notification_id, last_event_id, token, other_token }
    }

    /// Makes changes to a conversation before anybody listens to it.
    async fn commit(&self, conversation_id: i64, changes: impl IntoIterator<Item = (i64, Change)>) -> Vec<About> {
        let command = |(user_id, change)| message::change(conversation_id, Actor::User(user_id), None, change);
        let commands: Vec<_> = changes.into_iter().map(command).collect();
        let outcomes = self.app.store.commit(&commands).await.expect("the store takes it");
        let about = |outcome: Result<Outcome, _>| outcome.expect("a change").answer().and_then(|told| told.about);
        outcomes.into_iter().map(|outcome| about(outcome).expect("about a message")).collect()
    }

    /// A socket of the scene's first person, that has seen everything so far.
    pub async fn connect(&self, scene: &Scene, endpoint: Endpoint) -> Socket {
        let path = match endpoint {
            Endpoint::Chat => format!("chat/{}/?since={}", scene.conversation_id, scene.last_event_id),
            Endpoint::Notifications => format!("notifications/{}/?since=0", scene.user_id),
            Endpoint::User => format!("user/{}/?", scene.user_id),
        };
        let mut socket = self.open(&path, &scene.token).await;
        let greeted = if endpoint == Endpoint::User { "connected" } else { "resumed" };
        while socket.frame().await["type"] != greeted {}
        socket
    }

    /// The `event_id`s that the other person of the scene is shown from the beginning.
    pub async fn log_of(&self, scene: &Scene) -> Vec<i64> {
        let path = format!("chat/{}/?since=0", scene.conversation_id);
        let mut socket = self.open(&path, &scene.other_token).await;
        let mut log = Vec::new();
        loop {
            let frame = socket.frame().await;
            log.extend(frame["event_id"].as_i64());
            if frame["type"] == "resumed" {
                assert_eq!(frame["last_event_id"].as_i64(), log.last().copied());
                return log;
            }
        }
    }

    async fn open(&self, path: &str, token: &str) -> Socket {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        let url = format!("ws://{}/ws/{path}&token={token}", self.address);
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("a handshake");
        Socket(socket)
    }
}

/// Who and what an input is about.
pub struct Scene {
    app: Arc<App>,
    pub user_id: i64,
    pub conversation_id: i64,
    message_ids: Vec<i64>,
    notification_id: i64,
    pub last_event_id: i64,
    token: String,
    other_token: String,
}

impl Scene {
    /// A frame with what its placeholders stand for.
    pub fn fill_in(&self, frame: &str) -> String {
        let mut filled = frame.replace("@c", &self.conversation_id.to_string());
        for (placeholder, id) in ["@1", "@2", "@3"].into_iter().zip(&self.message_ids) {
            filled = filled.replace(placeholder, &id.to_string());
        }
        filled.replace("@n", &self.notification_id.to_string()).replace("@t", &self.token)
    }

    /// The close code that a token gets, if it is not good.
    pub fn judge(&self, token: &str) -> Result<(), u16> {
        match self.app.verifier.verify(token).now_or_never().expect("a shared secret asks no network") {
            Ok(verified) if verified.user_id == self.user_id => Ok(()),
            Ok(_) => Err(4005),
            Err(AuthError::Expired) => Err(4002),
            Err(_) => Err(4001),
        }
    }
}

/// What came of a frame.
pub enum Answer {
    Frame(Value),
    Close(u16),
}

/// A socket, as its client has it.
pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    pub async fn send(&mut self, frame: &str) {
        self.0.send(Message::text(frame)).await.expect("the server reads on");
    }

    /// The next frame that answers something.
    pub async fn answer(&mut self) -> Answer {
        loop {
            let answer = self.next().await;
            let Answer::Frame(frame) = &answer else { return answer };
            if !BACKGROUND.contains(&frame["type"].as_str().expect("a type")) {
                return answer;
            }
        }
    }

    /// The next frame, of a socket that stays open.
    pub async fn frame(&mut self) -> Value {
        match self.next().await {
            Answer::Frame(frame) => frame,
            Answer::Close(code) => panic!("closed with {code}"),
        }
    }

    async fn next(&mut self) -> Answer {
        let mut next = timeout(DEADLINE, self.0.next()).await.expect("an answer in time");
        while let Some(Ok(Message::Ping(_))) = next {
            next = timeout(DEADLINE, self.0.next()).await.expect("an answer in time");
        }
        match next {
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(text.as_str()).expect("the server sends JSON");
                assert!(frame.is_object() && frame["type"].is_string(), "{frame}");
                Answer::Frame(frame)
            }
            Some(Ok(Message::Close(Some(close)))) => Answer::Close(close.code.into()),
            other => panic!("{other:?}"),
        }
    }
}
