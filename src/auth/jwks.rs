//! The platform's published key set: fetched when it is first needed, kept, and asked again for a key that is
//! not known. Knows tokens only by their header and signature.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::RwLock;
use reqwest::{Url, redirect};

use super::AuthError;
use super::keys::{KeyType, PublicKey};
use super::token::SignedToken;
use crate::clock::Clock;

/// The longest that one fetch may take.
pub(super) const FETCH_TIME_MAX: Duration = Duration::from_secs(5);

const SET_BYTES_MAX: usize = 1024 * 1024;
const REDIRECTS_MAX: usize = 3;

/// How long a set is believed, so that a key taken out of it stops being accepted.
const SET_AGE_MAX_MS: i64 = 10 * 60 * 1000;
/// The least time between two refreshes for unknown keys, and between two attempts to renew an old set.
const REFRESH_INTERVAL_MS: i64 = 10_000;
/// The least time between two attempts while there is no set at all, so that recovery is quick.
const FIRST_FETCH_INTERVAL_MS: i64 = 1_000;

/// A key set behind an address.
pub(super) struct Jwks {
    url: Url,
    http: reqwest::Client,
    clock: Clock,
    state: RwLock<State>,
    /// Held by the one who fetches; the others wait for the same answer.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct State {
    keys: Option<Arc<[SetKey]>>,
    fetched_ms: Option<i64>,
    attempted_ms: Option<i64>,
    /// The last attempt that was made for an unknown key.
    sought_ms: Option<i64>,
    /// Whether the last attempt got no set.
    failed: bool,
    /// How many attempts have ended.
    attempts: u64,
}

struct SetKey {
    kid: Option<String>,
    /// The only algorithm the set allows for this key, where it says so.
    algorithm: Option<Algorithm>,
    key: PublicKey,
}

/// What a set says of a token.
#[derive(PartialEq)]
enum Answer {
    Signed,
    /// The key is known, and the signature is not its own.
    Forged,
    UnknownKey,
}

/// Why the set is wanted.
#[derive(Clone, Copy, PartialEq)]
enum Need {
    /// There is none, or it is old.
    Set,
    /// It lacks a key.
    Key,
}

impl Jwks {
    pub fn new(url: &str, fetch_time_max: Duration, clock: Clock) -> anyhow::Result<Self> {
        let url: Url = url.parse().context("TIDINGS_JWKS_URL is no URL: it should begin with https://")?;
        ensure!(matches!(url.scheme(), "http" | "https"), "TIDINGS_JWKS_URL must begin with https:// or http://");
        let http = reqwest::Client::builder()
            .timeout(fetch_time_max)
            .redirect(redirect::Policy::custom(follow))
            .build()
            .context("the HTTP client for TIDINGS_JWKS_URL can't be set up")?;
        Ok(Self { url, http, clock, state: RwLock::default(), turn: tokio::sync::Mutex::default() })
    }

    /// Whether a key of the set made the token's signature.
    pub async fn check(&self, token: &SignedToken<'_>) -> Result<(), AuthError> {
        let before = self.snapshot();
        self.refresh(Need::Set, before.attempts).await;
        let mut state = self.snapshot();
        let mut answer = state.answer(token);
        if answer == Answer::UnknownKey {
            // Does nothing where the set has just been fetched for this token.
            self.refresh(Need::Key, before.attempts).await;
            state = self.snapshot();
            answer = state.answer(token);
        }
        match answer {
            Answer::Signed => Ok(()),
            Answer::Forged => Err(AuthError::Invalid("the named key of the key set did not make the signature")),
            Answer::UnknownKey if state.failed => Err(AuthError::Unavailable),
            Answer::UnknownKey => Err(AuthError::Invalid("no key of the key set made the signature")),
        }
    }

    fn snapshot(&self) -> State {
        self.state.read().clone()
    }

    /// Fetches the set if that is due and nobody has since the caller looked. A failure keeps the old set.
    async fn refresh(&self, need: Need, attempts_seen: u64) {
        // Nobody waits to renew an old set: it serves while the first one who found it old does that.
        if need == Need::Set && !self.state.read().is_due(need, self.clock.now_ms()) {
            return;
        }
        let _turn = self.turn.lock().await;
        {
            let mut state = self.state.write();
            let now_ms = self.clock.now_ms();
            if state.attempts != attempts_seen || !state.is_due(need, now_ms) {
                return;
            }
            state.attempted_ms = Some(now_ms);
            if need == Need::Key {
                state.sought_ms = Some(now_ms);
            }
            // Stands if the fetch is abandoned half-way.
            state.failed = true;
        }
        let fetched = self.fetch().await;
        let mut state = self.state.write();
        state.attempts += 1;
        match fetched {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), "fetched the key set");
                state.keys = Some(keys.into());
                state.fetched_ms = Some(self.clock.now_ms());
                state.failed = false;
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the key set can't be fetched"),
        }
    }

    async fn fetch(&self) -> anyhow::Result<Vec<SetKey>> {
        let answer = self.http.get(self.url.clone()).send().await.map_err(reqwest::Error::without_url)?;
        let mut answer = answer.error_for_status().map_err(reqwest::Error::without_url)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            ensure!(body.len() + chunk.len() <= SET_BYTES_MAX, "it is larger than {SET_BYTES_MAX} bytes");
            body.extend_from_slice(&chunk);
        }
        read_set(&body)
    }
}

impl State {
    fn is_due(&self, need: Need, now_ms: i64) -> bool {
        // A clock that was set back must not stop refreshes.
        let passed = |since: Option<i64>, interval| since.is_none_or(|then| !(0..interval).contains(&(now_ms - then)));
        match need {
            _ if self.keys.is_none() => passed(self.attempted_ms, FIRST_FETCH_INTERVAL_MS),
            Need::Set => passed(self.fetched_ms, SET_AGE_MAX_MS) && passed(self.attempted_ms, REFRESH_INTERVAL_MS),
            Need::Key => passed(self.sought_ms, REFRESH_INTERVAL_MS),
        }
    }

    fn answer(&self, token: &SignedToken<'_>) -> Answer {
        let mut named = false;
        for candidate in self.keys.iter().flat_map(|keys| keys.iter()) {
            match (&token.kid, &candidate.kid) {
                (Some(wanted), Some(kid)) if wanted != kid => continue,
                (Some(_), Some(_)) => named = true,
                _ => {}
            }
            let allowed = candidate.algorithm.is_none_or(|algorithm| algorithm == token.algorithm);
            if allowed && candidate.key.has_signed(token) {
                return Answer::Signed;
            }
        }
        if named { Answer::Forged } else { Answer::UnknownKey }
    }
}

/// Redirects are followed, but never from https to http.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let was_https = attempt.previous().iter().any(|url| url.scheme() == "https");
    if attempt.previous().len() > REDIRECTS_MAX {
        attempt.error("it redirects too often")
    } else if was_https && attempt.url().scheme() != "https" {
        attempt.error("it redirects from https to something else")
    } else {
        attempt.follow()
    }
}

/// Reads a JWK set. Keys for other purposes, or of types that are not known here, are passed over one by one.
fn read_set(body: &[u8]) -> anyhow::Result<Vec<SetKey>> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(body).context("it is no JWK set")?;
    Ok(set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).filter_map(read_key).collect())
}

fn read_key(jwk: Jwk) -> Option<SetKey> {
    let key_type = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => KeyType::Rsa,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => KeyType::P256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => KeyType::P384,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => KeyType::Ed25519,
        // A shared secret that is published is none.
        _ => return None,
    };
    let for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
        && jwk.common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !for_signatures {
        return None;
    }
    let algorithm = match jwk.common.key_algorithm {
        Some(name) => Some(Algorithm::try_from(name).ok()?),
        None => None,
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some(SetKey { kid: jwk.common.key_id, algorithm, key: PublicKey { key_type, key } })
}

#[cfg(test)]
mod tests;
