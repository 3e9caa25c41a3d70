//! Who is asking: tokens checked against the configured keys. Knows nothing of HTTP, sockets or the store.

mod api_keys;
mod claims;
mod configured;
mod jwks;
mod keys;
mod mint;
mod sources;
#[cfg(test)]
mod testing;
mod token;
mod verifier;

pub use api_keys::ApiKeys;
pub use jsonwebtoken::Algorithm;
pub use mint::mint;
pub use sources::{bearer, pick_token};
pub use token::TOKEN_BYTES_MAX;
pub use verifier::Verifier;

use std::time::Duration;

use crate::config::Secret;

/// Which tokens are accepted, as the configuration says.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// The only algorithms a token may use; see [`parse_algorithm`].
    pub algorithms: Vec<Algorithm>,
    /// Shared secrets for HS256, HS384 and HS512: the current one first, then those still accepted.
    pub secrets: Vec<Secret>,
    /// The contents of a PEM file with one or more public keys or certificates.
    pub public_key_pem: Option<String>,
    /// Where the platform publishes its key set.
    pub jwks_url: Option<String>,
    /// What `iss` must be, where set.
    pub issuer: Option<String>,
    /// What `aud` must be or contain, where set.
    pub audience: Option<String>,
    /// The claim that holds the user's id; `sub` is read where it is missing.
    pub user_claim: String,
    /// How far clocks may differ.
    pub leeway: Duration,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub user_id: i64,
    /// `iat` in seconds since the epoch, where the token has one.
    pub issued_at: Option<i64>,
    /// `exp` in seconds since the epoch, without the leeway, at most the end of the year 9999.
    pub expires_at: i64,
    pub names: Names,
}

/// The names a token gives its user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub username: Option<String>,
}

/// Why a token was not accepted. The reasons are for the log; a client learns the code only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("invalid token: {0}")]
    Invalid(&'static str),
    /// All is well with the token but its age.
    #[error("the token has expired")]
    Expired,
    /// Nobody can tell at the moment, because the key set is out of reach.
    #[error("the key set is out of reach")]
    Unavailable,
}

/// Reads the name of an algorithm that tokens may use.
pub fn parse_algorithm(name: &str) -> anyhow::Result<Algorithm> {
    name.parse().ok().filter(|algorithm| keys::is_supported(*algorithm)).ok_or_else(|| {
        anyhow::anyhow!("{name:?} is no algorithm for tokens here: allowed are {}", keys::SUPPORTED_NAMES)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_supported_algorithms_have_names() {
        for name in keys::SUPPORTED_NAMES.split(", ") {
            assert_eq!(format!("{:?}", parse_algorithm(name).unwrap()), name);
        }
        for name in ["none", "None", "", "hs256", "PS256", "ES512", "ES256K"] {
            assert!(parse_algorithm(name).unwrap_err().to_string().contains("HS256"), "{name:?}");
        }
    }

    #[test]
    fn settings_print_without_their_secrets() {
        let mut settings = testing::settings(&[Algorithm::HS256]);
        settings.secrets = vec!["hunter2-hunter2".into()];
        let printed = format!("{settings:?}");
        assert!(printed.contains("[redacted]") && !printed.contains("hunter2"), "{printed}");
    }
}
