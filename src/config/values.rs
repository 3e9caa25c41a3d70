//! The types of settings that are more than a number, a time or a text. Knows nothing of where a value came from.

use std::fmt;

/// A text that is never printed: not in logs, not in `Debug` output, not in errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Declares an enum of words: how each is written in settings, and nothing else is allowed.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word that stands for it in settings.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            pub(super) fn parse(text: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().copied().find(|value| value.as_str().eq_ignore_ascii_case(text));
                found.ok_or_else(|| "is none of them".into())
            }
        }
    };
}

words! {
    /// How a token may be signed. `none` is not among them, on purpose.
    JwtAlgorithm {
        Hs256 = "HS256",
        Hs384 = "HS384",
        Hs512 = "HS512",
        Rs256 = "RS256",
        Rs384 = "RS384",
        Rs512 = "RS512",
        Es256 = "ES256",
        Es384 = "ES384",
        EdDsa = "EdDSA",
    }
}

words! {
    /// Who may open conversations and change who takes part in them.
    ConversationsBy {
        Users = "users",
        /// The platform alone, with its server key.
        Platform = "platform",
    }
}

words! {
    /// The least severe of the program's own log lines that are written.
    LogLevel {
        Off = "off",
        Error = "error",
        Warn = "warn",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
}

words! {
    LogFormat {
        Text = "text",
        Json = "json",
    }
}

/// Where the bytes of attachments are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachmentStore {
    /// In a folder of the data directory.
    DataDir,
    /// In an S3 bucket. The prefix has no slash at either end and may be empty.
    S3 { bucket: String, prefix: String },
}

/// The content types that may be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentTypes(pub(super) Vec<String>);

impl AttachmentTypes {
    /// Whether a content type (without parameters) is in the list; `image/*` stands for all that begin with `image/`.
    pub fn allow(&self, content_type: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => content_type.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start)),
            None => pattern.eq_ignore_ascii_case(content_type),
        })
    }
}

/// The reactions that messages take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reactions {
    /// Any single emoji, which is then its own name.
    Any,
    /// These, in the order in which they were given.
    Named(Vec<NamedReaction>),
}

/// A reaction's name on the wire and the emoji that is shown for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedReaction {
    pub name: String,
    pub emoji: String,
}

/// How the world reaches the server: an http or https address with a host, no user, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    pub(super) base: String,
    pub(super) host: String,
}

impl PublicUrl {
    /// The address without a slash at its end, to put a path behind.
    pub fn as_str(&self) -> &str {
        &self.base
    }

    /// The host alone, in lower case and without the port; an IPv6 address has its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }
}
