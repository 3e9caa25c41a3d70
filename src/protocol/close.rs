//! Close codes: the guide's, those Tidings adds, and what each tells a client to do.

/// Why the server closes a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    Normal,
    /// Drain: the server stops, another takes over; the hint says when to come back.
    ServiceRestart {
        retry_after_ms: u64,
    },
    BrokenFrame,
    NotUtf8,
    FrameTooLarge,
    InternalError,
    TryAgainLater,
    InvalidToken,
    TokenExpired,
    MissingToken,
    AccessDenied,
    UserMismatch,
    SessionRevoked,
    TooManyConnections,
    RateLimited,
    SlowConsumer,
    HeartbeatTimeout,
}

impl Close {
    /// The code of the close frame.
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::BrokenFrame => 1002,
            Self::NotUtf8 => 1007,
            Self::FrameTooLarge => 1009,
            Self::InternalError => 1011,
            Self::ServiceRestart { .. } => 1012,
            Self::TryAgainLater => 1013,
            Self::InvalidToken => 4001,
            Self::TokenExpired => 4002,
            Self::MissingToken => 4003,
            Self::AccessDenied => 4004,
            Self::UserMismatch => 4005,
            Self::SessionRevoked => 4006,
            Self::TooManyConnections => 4007,
            Self::RateLimited => 4008,
            Self::SlowConsumer => 4009,
            Self::HeartbeatTimeout => 4010,
        }
    }

    /// The reason text of the close frame; below the 123 bytes that RFC 6455 allows.
    pub fn reason(self) -> String {
        let text = match self {
            Self::ServiceRestart { retry_after_ms } => {
                return format!("service_restart retry_after_ms={retry_after_ms}");
            }
            Self::Normal => "normal",
            Self::BrokenFrame => "protocol_error",
            Self::NotUtf8 => "not_utf8",
            Self::FrameTooLarge => "frame_too_large",
            Self::InternalError => "internal_error",
            Self::TryAgainLater => "try_again_later",
            Self::InvalidToken => "invalid_token",
            Self::TokenExpired => "token_expired",
            Self::MissingToken => "missing_token",
            Self::AccessDenied => "access_denied",
            Self::UserMismatch => "user_mismatch",
            Self::SessionRevoked => "session_revoked",
            Self::TooManyConnections => "too_many_connections",
            Self::RateLimited => "rate_limited",
            Self::SlowConsumer => "slow_consumer",
            Self::HeartbeatTimeout => "heartbeat_timeout",
        };
        text.to_owned()
    }
}
