//! The one error that clients see, on sockets and over REST: a stable code, a sentence a developer
//! can act on, and nothing of the inside.

use std::borrow::Cow;

/// What went wrong, as the contract names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    InvalidJson,
    UnknownType,
    InvalidField,
    TooLarge,
    RateLimited,
    NotFound,
    Forbidden,
    Conflict,
    Unsupported,
    Unavailable,
    Internal,
    MissingToken,
    InvalidToken,
    TokenExpired,
    SessionRevoked,
}

impl Code {
    /// The code's text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::UnknownType => "unknown_type",
            Self::InvalidField => "invalid_field",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::NotFound => "not_found",
            Self::Forbidden => "forbidden",
            Self::Conflict => "conflict",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::MissingToken => "missing_token",
            Self::InvalidToken => "invalid_token",
            Self::TokenExpired => "token_expired",
            Self::SessionRevoked => "session_revoked",
        }
    }
}

/// A refusal, told to the one who asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Error {
    pub code: Code,
    /// A sentence a developer can act on. Never holds a token or message text.
    pub message: Cow<'static, str>,
    /// The field at fault, where one is.
    pub field: Option<&'static str>,
    /// When trying again makes sense, where it does.
    pub retry_after_ms: Option<u64>,
}

/// What a fallible operation of the product returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), field: None, retry_after_ms: None }
    }

    /// A field that is missing, of the wrong type or out of range.
    pub fn field(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field), ..Self::new(Code::InvalidField, message) }
    }

    pub fn too_large(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field), ..Self::new(Code::TooLarge, message) }
    }

    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Forbidden, message)
    }

    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Conflict, message)
    }

    /// The store or another part is out of reach or overloaded; nothing was changed.
    pub fn unavailable() -> Self {
        Self {
            retry_after_ms: Some(1_000),
            ..Self::new(Code::Unavailable, "the server can't take this right now and has stored nothing; try again")
        }
    }

    /// The store was lost while it stored this: it did so, or did not.
    pub fn unknown() -> Self {
        Self {
            retry_after_ms: Some(1_000),
            ..Self::new(
                Code::Unavailable,
                "the store was lost on the way, and this is stored or is not; look, or repeat it under the same key",
            )
        }
    }

    pub fn internal() -> Self {
        Self::new(Code::Internal, "the server failed on this; the operator's log has the details")
    }

    pub fn with_retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }
}
