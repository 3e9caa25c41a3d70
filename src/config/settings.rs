//! The settings, each declared once. Knows nothing of flags, variables or files: it asks a lookup for texts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::kinds::{self, Kind};
use super::values::{
    AttachmentStore, AttachmentTypes, ConversationsBy, JwtAlgorithm, LogFormat, LogLevel, PublicUrl, Reactions, Secret,
};

/// What flags, help and the reference say of one setting.
#[derive(Debug)]
pub struct Setting {
    /// The key in the file; the variable and the flag are made from it.
    pub name: &'static str,
    pub section: &'static str,
    /// As it would be written; empty where there is none.
    pub default: &'static str,
    pub allowed: &'static str,
    /// One sentence.
    pub meaning: &'static str,
}

impl Setting {
    /// `TIDINGS_LISTEN` for `listen`.
    pub fn variable(&self) -> String {
        format!("TIDINGS_{}", self.name.to_ascii_uppercase())
    }

    /// `admin-listen` for `admin_listen`, without the dashes before it.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// Gives each setting's text, where there is one, and takes the problems found in it.
pub(super) trait Lookup {
    fn text(&mut self, name: &'static str) -> Option<String>;
    fn refuse(&mut self, name: &'static str, problem: String);
}

fn read<T>(lookup: &mut impl Lookup, name: &'static str, kind: &Kind<T>, default: &str) -> T {
    if let Some(text) = lookup.text(name) {
        match (kind.parse)(&text) {
            Ok(value) => return value,
            Err(problem) => {
                let shown = if kind.sensitive { "the value".into() } else { format!("`{text}`") };
                lookup.refuse(name, format!("{shown} {problem}; allowed is {}", kind.allowed));
            }
        }
    }
    (kind.parse)(default).expect("the default of a setting is a value of its kind")
}

macro_rules! settings {
    ($($section:literal { $(#[doc = $meaning:literal] $name:ident: $type:ty = $kind:ident, $default:literal;)* })*) => {
        /// All that can be set, parsed.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $($(#[doc = $meaning] pub $name: $type,)*)*
        }

        /// Every setting, in the order of the reference.
        pub const SETTINGS: &[Setting] = &[$($(Setting {
            name: stringify!($name),
            section: $section,
            default: $default,
            allowed: kinds::$kind.allowed,
            meaning: $meaning,
        },)*)*];

        impl Settings {
            pub(super) fn read(lookup: &mut impl Lookup) -> Self {
                Self { $($($name: read(lookup, stringify!($name), &kinds::$kind, $default),)*)* }
            }
        }
    };
}

settings! {
    "Listeners" {
        /// Where clients connect; port 0 takes any free port, which the ready line names.
        listen: SocketAddr = ADDRESS, "127.0.0.1:8000";
        /// A second listener for operators alone: `/healthz` and `/readyz`.
        admin_listen: Option<SocketAddr> = ADDRESS_OR_OFF, "127.0.0.1:9000";
        /// How the world reaches the server, for absolute links; its host is an allowed origin.
        public_url: Option<PublicUrl> = PUBLIC_URL, "";
        /// The web pages that may connect, besides those of the server's own host.
        allowed_origins: Vec<String> = ORIGINS, "";
        /// The proxies whose `Forwarded` or `X-Forwarded-For` header tells the client's address.
        trusted_proxies: Vec<IpNet> = NETWORKS, "";
    }
    "Store" {
        /// The database; without it, `tidings.db` in the data directory. Folders and file are made.
        database_url: Option<Secret> = DATABASE_URL, "";
        /// The folder of the embedded database and of attachments.
        data_dir: PathBuf = PATH, "tidings-data";
        /// Whether `serve` applies migrations at start; `tidings migrate` always does.
        migrate: bool = SWITCH, "on";
        /// Where attachments are kept; credentials for S3 come from the usual `AWS_…` variables.
        attachment_store: AttachmentStore = ATTACHMENT_STORE, "data-dir";
    }
    "Tokens" {
        /// The shared secret of HS256, HS384 and HS512; best 32 random bytes or more.
        jwt_secret: Option<Secret> = SECRET_OPTIONAL, "";
        /// A secret that is accepted as well, while the old one is being replaced.
        jwt_secret_previous: Option<Secret> = SECRET_OPTIONAL, "";
        /// A file with one or more public keys in PEM form, for RS*, ES* and EdDSA.
        jwt_public_key_file: Option<PathBuf> = PATH_OPTIONAL, "";
        /// Where the platform publishes its public keys as a JSON Web Key Set.
        jwks_url: Option<String> = WEB_URL_OPTIONAL, "";
        /// The signature algorithms that are accepted; each needs a key that can check it.
        jwt_algorithms: Vec<JwtAlgorithm> = ALGORITHMS, "HS256";
        /// What the claim `iss` must be, where set.
        jwt_issuer: Option<String> = TEXT_OPTIONAL, "";
        /// What the claim `aud` must be or contain, where set.
        jwt_audience: Option<String> = TEXT_OPTIONAL, "";
        /// The claim with the user's id; `sub` is taken where it is missing.
        jwt_user_claim: String = TEXT, "user_id";
        /// How far clocks may differ when `exp` and `nbf` are checked.
        jwt_leeway: Duration = DURATION, "0s";
        /// The platform's own keys for the platform routes, sent as `Authorization: Bearer`.
        api_key: Vec<Secret> = SECRETS, "";
    }
    "Chat" {
        /// Who may open conversations: users themselves or the platform alone.
        conversations_by: ConversationsBy = CONVERSATIONS_BY, "users";
        /// The reactions that messages take.
        reactions: Reactions = REACTIONS, "like=👍,love=❤️,laugh=😂,wow=😮,sad=😢,angry=😠";
        /// The content types that may be uploaded, as found by looking into the file.
        attachment_types: AttachmentTypes = ATTACHMENT_TYPES, "image/*,audio/*,video/*,text/*,application/pdf,application/rtf,application/msword,application/vnd.ms-excel,application/vnd.ms-powerpoint,application/vnd.openxmlformats-officedocument.*,application/vnd.oasis.opendocument.*,application/zip";
        /// How many characters a text has at most.
        text_chars_max: Option<u64> = COUNT_OR_OFF, "8000";
        /// How large an attachment is at most.
        attachment_bytes_max: Option<u64> = SIZE_OR_OFF, "25MiB";
        /// How many attachments a message has at most.
        attachments_per_message_max: Option<u64> = COUNT_OR_OFF, "10";
        /// How many people take part in a conversation at most.
        participants_max: Option<u64> = COUNT_OR_OFF, "10000";
        /// How long a link to an attachment is good.
        attachment_link_lifetime: Duration = LINK_LIFETIME, "5m";
        /// How long the logs of events are kept for resuming; messages are never deleted by it.
        events_retention: Option<Duration> = DURATION_OR_OFF, "off";
        /// How long someone is shown typing after the last sign of it.
        typing_expiry: Duration = TYPING_EXPIRY, "6s";
        /// How long after the last connection someone is still shown online.
        presence_grace: Duration = DURATION_OFF_IS_ZERO, "10s";
    }
    "Connections" {
        /// How often a ping is sent; a peer that is silent for two of these is closed with 4010.
        heartbeat_interval: Option<Duration> = DURATION_OR_OFF, "25s";
        /// How long before a token expires its connection is warned.
        token_warning: Option<Duration> = DURATION_OR_OFF, "60s";
        /// Over how long connections are told to go elsewhere before the server ends.
        drain_time: Duration = DURATION_OFF_IS_ZERO, "20s";
        /// How large a frame from a client is at most; a larger one closes with 1009.
        frame_bytes_max: Option<u64> = FRAME_SIZE_OR_OFF, "64KiB";
        /// How large the body of a request is at most, uploads aside.
        request_bytes_max: Option<u64> = SIZE_OR_OFF, "2MiB";
        /// How many bytes wait for a slow reader before it is closed with 4009.
        outbox_bytes_max: u64 = OUTBOX_SIZE, "1MiB";
        /// How many frames wait for a slow reader before it is closed with 4009.
        outbox_frames_max: u64 = OUTBOX_COUNT, "1024";
        /// How many connections a user has at most; one more is closed with 4007.
        connections_per_user_max: Option<u64> = COUNT_OR_OFF, "20";
        /// How many connections this server holds at most; one more is answered with 503.
        connections_max: Option<u64> = COUNT_OR_OFF, "off";
        /// How many handshakes a second this server takes; more are answered with 503.
        handshakes_per_second_max: Option<u64> = COUNT_OR_OFF, "2000";
        /// How many handshakes a second one address makes; more are answered with 429.
        handshakes_per_address_max: Option<u64> = COUNT_OR_OFF, "100";
        /// How many frames a second a user sends, in bursts of three seconds' worth.
        commands_per_second_max: Option<u64> = COUNT_OR_OFF, "20";
        /// How many requests a second a user makes, in bursts of three seconds' worth.
        requests_per_second_max: Option<u64> = COUNT_OR_OFF, "50";
    }
    "Logs" {
        /// The least severe of the program's own lines that are written; those of libraries begin at `warn`.
        log: LogLevel = LOG_LEVEL, "info";
        /// How log lines are written.
        log_format: LogFormat = LOG_FORMAT, "text";
    }
}

impl Settings {
    /// The database's address: the one that was set, or the embedded one in the data directory.
    pub fn effective_database_url(&self) -> Secret {
        let embedded = || Secret::new(format!("sqlite://{}/tidings.db", self.data_dir.display()));
        self.database_url.clone().unwrap_or_else(embedded)
    }
}

/// Nothing is set, nothing is refused.
struct Nothing;

impl Lookup for Nothing {
    fn text(&mut self, _name: &'static str) -> Option<String> {
        None
    }

    fn refuse(&mut self, _name: &'static str, _problem: String) {}
}

impl Default for Settings {
    fn default() -> Self {
        Self::read(&mut Nothing)
    }
}
