//! Fuzzes tokens: none is accepted but what the platform signed, and of that only what says what it must.
//!
//! An input with a line break is a header and claims, which are signed here; any other is a whole token.
#![no_main]

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use serde_json::Value;
use tidings::auth::{AuthError, AuthSettings, Verified, Verifier, parse_algorithm};
use tidings::clock::Clock;

const SECRET: &str = "the secret of the fuzzed verifier, and a long one";
/// Where the verifiers' clock stands.
const NOW_MS: i64 = 1_750_000_000_000;
/// The one token of the corpus that is good as it is.
const GENUINE: &str = include_str!("../corpus/tokens/genuine");
const PUBLIC_KEYS: &str = concat!(
    include_str!("../../src/auth/fixtures/rsa.cert.pem"),
    include_str!("../../src/auth/fixtures/p256.cert.pem"),
    include_str!("../../src/auth/fixtures/ed25519.cert.pem"),
);

thread_local! {
    static VERIFIER: Verifier = verifier();
}

libfuzzer_sys::fuzz_target!(
    init: assert_eq!(verify(GENUINE).map(|verified| verified.user_id), Ok(7)),
    |data: &[u8]| {
        let Ok(text) = std::str::from_utf8(data) else { return };
        let Some((header, claims)) = text.split_once('\n') else {
            assert!(verify(text).is_err() || text == GENUINE, "a forged token was accepted");
            return;
        };
        if let Ok(verified) = verify(&sign(header, claims, SECRET)) {
            check(&json(header), &json(claims), &verified);
        }
        // Whoever has the public keys can sign with their text as if it were a secret.
        for foreign in ["another secret, of another platform", PUBLIC_KEYS] {
            assert!(verify(&sign(header, claims, foreign)).is_err(), "a foreign signature was accepted");
        }
    }
);

/// What an accepted token must say, read by the simplest means.
fn check(header: &Value, claims: &Value, verified: &Verified) {
    assert!(header["alg"] == "HS256" || header["alg"] == "HS512");
    assert!(header["crit"].is_null() && header["b64"] != false);
    assert!(claims["token_type"].is_null() || claims["token_type"] == "access");
    let id = if claims["user_id"].is_null() { &claims["sub"] } else { &claims["user_id"] };
    let id = id.as_i64().or_else(|| id.as_str()?.parse().ok());
    assert!(id == Some(verified.user_id) && (1..1 << 53).contains(&verified.user_id));
    assert!(claims["exp"].as_f64().expect("a number") * 1000.0 >= NOW_MS as f64);
    assert!(verified.expires_at * 1000 > NOW_MS);
    assert!(claims["nbf"].is_null() || claims["nbf"].as_f64().expect("a number").trunc() * 1000.0 <= NOW_MS as f64);
    for (claim, name) in [
        ("first_name", &verified.names.first_name),
        ("last_name", &verified.names.last_name),
        ("username", &verified.names.username),
    ] {
        let Some(name) = name else { continue };
        assert!(name.chars().count() <= 150 && !name.contains('\0'));
        assert!(claims[claim].as_str().expect("a text").starts_with(name.as_str()));
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("what was accepted is JSON")
}

fn sign(header: &str, claims: &str, secret: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let is_long = serde_json::from_str::<Value>(header).is_ok_and(|header| header["alg"] == "HS512");
    let algorithm = if is_long { hmac::HMAC_SHA512 } else { hmac::HMAC_SHA256 };
    let signature = hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn verify(token: &str) -> Result<Verified, AuthError> {
    VERIFIER.with(|verifier| verifier.verify(token).now_or_never().expect("no key here needs the network"))
}

/// Accepts secrets and public keys side by side, so that one can be tried as the other.
fn verifier() -> Verifier {
    let algorithms = ["HS256", "HS512", "RS256", "ES256", "EdDSA"];
    let settings = AuthSettings {
        algorithms: algorithms.map(|name| parse_algorithm(name).expect("an algorithm")).to_vec(),
        secrets: vec![SECRET.into()],
        public_key_pem: Some(PUBLIC_KEYS.to_owned()),
        jwks_url: None,
        issuer: None,
        audience: None,
        user_claim: "user_id".to_owned(),
        leeway: Duration::ZERO,
    };
    Verifier::new(settings, Clock::manual(NOW_MS)).expect("a verifier")
}
