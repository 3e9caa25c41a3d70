//! The key set against a real server on this machine, with time moved by hand.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::super::testing::*;
use super::super::{AuthSettings, Verifier};
use super::*;

#[derive(Clone)]
enum Reply {
    Set(Vec<Value>),
    Raw(StatusCode, String),
    Redirect(String),
    /// Answers with this body once the gate has a permit.
    Gated(Arc<Semaphore>, String),
}

/// A platform's key server, and a clock.
struct Platform {
    address: SocketAddr,
    clock: Clock,
    reply: Arc<Mutex<Reply>>,
    /// A permit for each request that has come in.
    requests: Arc<Semaphore>,
    _server: JoinSet<()>,
}

impl Platform {
    async fn start(keys: Vec<Value>) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let reply = Arc::new(Mutex::new(Reply::Set(keys)));
        let requests = Arc::new(Semaphore::new(0));
        let (replies, counter) = (reply.clone(), requests.clone());
        let router = axum::Router::new().fallback(move || {
            counter.add_permits(1);
            let reply = replies.lock().clone();
            answer(reply)
        });
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, clock: Clock::manual(NOW * 1000), reply, requests, _server: server }
    }

    fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    fn jwks(&self) -> Jwks {
        Jwks::new(&self.url(), FETCH_TIME_MAX, self.clock.clone()).unwrap()
    }

    fn reply_with(&self, reply: Reply) {
        *self.reply.lock() = reply;
    }

    fn fail(&self) {
        self.reply_with(Reply::Raw(StatusCode::INTERNAL_SERVER_ERROR, String::new()));
    }

    fn requests(&self) -> usize {
        self.requests.available_permits()
    }
}

async fn answer(reply: Reply) -> Response {
    match reply {
        Reply::Set(keys) => set(keys).into_response(),
        Reply::Raw(status, body) => (status, body).into_response(),
        Reply::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Reply::Gated(gate, body) => {
            gate.acquire().await.unwrap().forget();
            body.into_response()
        }
    }
}

fn set(keys: Vec<Value>) -> String {
    json!({ "keys": keys }).to_string()
}

async fn check(jwks: &Jwks, pair: &Pair, kid: Option<&str>) -> Result<(), AuthError> {
    let token = pair.token(kid);
    jwks.check(&SignedToken::read(&token, &[pair.algorithm]).unwrap()).await
}

#[track_caller]
fn assert_invalid(result: Result<(), AuthError>) {
    assert!(matches!(result, Err(AuthError::Invalid(_))), "{result:?}");
}

#[tokio::test]
async fn every_public_key_algorithm_works_and_known_keys_ask_nobody() {
    let rsa = [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512].map(|algorithm| rsa_pair().with(algorithm));
    let rest = [new_ec(Algorithm::ES256), new_ec(Algorithm::ES384), new_ed()];
    let keys = vec![rsa[0].jwk(Some("rsa")), rest[0].jwk(Some("p256")), rest[1].jwk(Some("p384")), rest[2].jwk(None)];
    let platform = Platform::start(keys).await;
    let jwks = platform.jwks();
    assert_eq!(platform.requests(), 0);
    for pair in &rsa {
        assert_eq!(check(&jwks, pair, Some("rsa")).await, Ok(()), "{:?}", pair.algorithm);
    }
    for (pair, kid) in rest.iter().zip([Some("p256"), Some("p384"), Some("named by the token alone")]) {
        assert_eq!(check(&jwks, pair, kid).await, Ok(()), "{:?}", pair.algorithm);
        assert_eq!(check(&jwks, pair, None).await, Ok(()), "{:?}", pair.algorithm);
    }
    // A known key that did not sign, or is of another type, is no reason to ask either.
    assert_invalid(check(&jwks, &new_ec(Algorithm::ES256), Some("p256")).await);
    assert_invalid(check(&jwks, &rest[0], Some("p384")).await);
    assert_invalid(check(&jwks, &rest[0], Some("rsa")).await);
    assert_eq!(platform.requests(), 1);
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_at_most_every_ten_seconds() {
    let (old, new, newer) = (new_ed(), new_ed(), new_ed());
    let platform = Platform::start(vec![old.jwk(Some("old"))]).await;
    let jwks = platform.jwks();
    assert_eq!(check(&jwks, &old, Some("old")).await, Ok(()));

    platform.reply_with(Reply::Set(vec![new.jwk(Some("new"))]));
    assert_eq!(check(&jwks, &new, Some("new")).await, Ok(()));
    assert_eq!(platform.requests(), 2);

    platform.reply_with(Reply::Set(vec![new.jwk(Some("new")), newer.jwk(Some("newer"))]));
    assert_invalid(check(&jwks, &old, Some("old")).await);
    platform.clock.advance_ms(9_999);
    assert_invalid(check(&jwks, &newer, Some("newer")).await);
    assert_invalid(check(&jwks, &newer, None).await);
    assert_eq!(platform.requests(), 2);
    platform.clock.advance_ms(1);
    assert_eq!(check(&jwks, &newer, Some("newer")).await, Ok(()));
    assert_eq!(platform.requests(), 3);

    // A clock that is set back does not put the next refresh off.
    platform.clock.advance_ms(-3_600_000);
    assert_invalid(check(&jwks, &old, Some("old")).await);
    assert_eq!(platform.requests(), 4);
}

#[tokio::test]
async fn a_token_without_kid_is_reason_to_ask_when_no_key_fits() {
    let (old, new) = (new_ed(), new_ed());
    let platform = Platform::start(vec![old.jwk(Some("old"))]).await;
    let jwks = platform.jwks();
    assert_eq!(check(&jwks, &old, None).await, Ok(()));
    platform.reply_with(Reply::Set(vec![old.jwk(Some("old")), new.jwk(Some("new"))]));
    assert_eq!(check(&jwks, &new, None).await, Ok(()));
    assert_eq!(platform.requests(), 2);
}

#[tokio::test]
async fn the_set_fetched_for_a_token_is_not_fetched_again_for_it() {
    let platform = Platform::start(vec![]).await;
    assert_invalid(check(&platform.jwks(), &new_ed(), Some("unknown")).await);
    assert_eq!(platform.requests(), 1);
}

#[tokio::test]
async fn without_any_set_nobody_is_refused_and_recovery_is_quick() {
    let pair = new_ed();
    let platform = Platform::start(vec![]).await;
    platform.fail();
    let jwks = platform.jwks();
    assert_eq!(check(&jwks, &pair, Some("k")).await, Err(AuthError::Unavailable));
    platform.reply_with(Reply::Set(vec![pair.jwk(Some("k"))]));
    platform.clock.advance_ms(999);
    assert_eq!(check(&jwks, &pair, Some("k")).await, Err(AuthError::Unavailable));
    assert_eq!(platform.requests(), 1);
    platform.clock.advance_ms(1);
    assert_eq!(check(&jwks, &pair, Some("k")).await, Ok(()));
    assert_eq!(platform.requests(), 2);
}

#[tokio::test]
async fn a_failed_refresh_keeps_the_old_set_and_refuses_nobody_it_does_not_know() {
    let (old, new) = (new_ed(), new_ed());
    let platform = Platform::start(vec![old.jwk(Some("old"))]).await;
    let jwks = platform.jwks();
    assert_eq!(check(&jwks, &old, Some("old")).await, Ok(()));
    platform.fail();
    for _ in 0..2 {
        assert_eq!(check(&jwks, &new, Some("new")).await, Err(AuthError::Unavailable));
        assert_eq!(check(&jwks, &old, Some("old")).await, Ok(()));
        assert_invalid(check(&jwks, &new, Some("old")).await);
    }
    assert_eq!(platform.requests(), 2);
    platform.reply_with(Reply::Set(vec![new.jwk(Some("new"))]));
    platform.clock.advance_ms(10_000);
    assert_eq!(check(&jwks, &new, Some("new")).await, Ok(()));
    assert_invalid(check(&jwks, &old, Some("old")).await);
    assert_eq!(platform.requests(), 3);
}

#[tokio::test]
async fn a_key_taken_out_of_the_set_stops_being_accepted_after_ten_minutes() {
    let (kept, removed) = (new_ed(), new_ed());
    let platform = Platform::start(vec![kept.jwk(Some("kept")), removed.jwk(Some("removed"))]).await;
    let jwks = platform.jwks();
    assert_eq!(check(&jwks, &removed, Some("removed")).await, Ok(()));
    platform.reply_with(Reply::Set(vec![kept.jwk(Some("kept"))]));
    platform.clock.advance_ms(SET_AGE_MAX_MS - 1);
    assert_eq!(check(&jwks, &removed, Some("removed")).await, Ok(()));
    assert_eq!(platform.requests(), 1);
    platform.clock.advance_ms(1);
    assert_invalid(check(&jwks, &removed, Some("removed")).await);
    assert_eq!(check(&jwks, &kept, Some("kept")).await, Ok(()));
    assert_eq!(platform.requests(), 2);

    // While the server is down an old set stays, and the server is asked every ten seconds.
    platform.fail();
    platform.clock.advance_ms(SET_AGE_MAX_MS);
    for requests in [3, 4] {
        assert_eq!(check(&jwks, &kept, Some("kept")).await, Ok(()));
        assert_eq!(check(&jwks, &kept, Some("kept")).await, Ok(()));
        assert_eq!(platform.requests(), requests);
        platform.clock.advance_ms(10_000);
    }
}

#[tokio::test]
async fn concurrent_checks_share_one_fetch() {
    let pair = new_ed();
    let platform = Platform::start(vec![]).await;
    let gate = Arc::new(Semaphore::new(0));
    platform.reply_with(Reply::Gated(gate.clone(), set(vec![pair.jwk(Some("k"))])));
    let jwks = platform.jwks();
    let checks = join_all((0..50).map(|_| check(&jwks, &pair, Some("k"))));
    let opened = async {
        platform.requests.acquire().await.unwrap().forget();
        gate.add_permits(50);
    };
    let (results, ()) = tokio::join!(checks, opened);
    assert!(results.iter().all(|result| *result == Ok(())), "{results:?}");
    assert_eq!(platform.requests(), 0, "more requests than the one taken above");

    // The same for a key that is not known yet.
    let new = new_ed();
    platform.reply_with(Reply::Gated(gate.clone(), set(vec![new.jwk(Some("new"))])));
    let results = join_all((0..50).map(|_| check(&jwks, &new, Some("new")))).await;
    assert!(results.iter().all(|result| *result == Ok(())), "{results:?}");
    assert_eq!(platform.requests(), 1);
}

#[tokio::test]
async fn a_fetch_that_fails_slowly_is_not_repeated_by_each_who_waited() {
    let pair = new_ed();
    let platform = Platform::start(vec![]).await;
    let gate = Arc::new(Semaphore::new(0));
    platform.reply_with(Reply::Gated(gate.clone(), "no key set".to_owned()));
    let jwks = platform.jwks();
    let checks = join_all((0..50).map(|_| check(&jwks, &pair, Some("k"))));
    let opened = async {
        platform.requests.acquire().await.unwrap().forget();
        platform.clock.advance_ms(5_000);
        gate.add_permits(50);
    };
    let (results, ()) = tokio::join!(checks, opened);
    assert!(results.iter().all(|result| *result == Err(AuthError::Unavailable)), "{results:?}");
    assert_eq!(platform.requests(), 0, "more requests than the one taken above");
}

#[tokio::test]
async fn an_old_set_serves_while_it_is_renewed() {
    let pair = new_ed();
    let platform = Platform::start(vec![pair.jwk(Some("k"))]).await;
    let jwks = platform.jwks();
    assert_eq!(check(&jwks, &pair, Some("k")).await, Ok(()));
    let gate = Arc::new(Semaphore::new(0));
    platform.reply_with(Reply::Gated(gate.clone(), set(vec![pair.jwk(Some("k"))])));
    platform.clock.advance_ms(SET_AGE_MAX_MS);
    let meanwhile = async {
        let _ = platform.requests.acquire_many(2).await.unwrap();
        assert_eq!(check(&jwks, &pair, Some("k")).now_or_never(), Some(Ok(())));
        gate.add_permits(1);
    };
    let (renewed, ()) = tokio::join!(check(&jwks, &pair, Some("k")), meanwhile);
    assert_eq!(renewed, Ok(()));
    assert_eq!(platform.requests(), 2);
}

#[tokio::test]
async fn an_abandoned_fetch_leaves_nobody_refused_or_waiting() {
    let pair = new_ed();
    let platform = Platform::start(vec![]).await;
    platform.reply_with(Reply::Gated(Arc::new(Semaphore::new(0)), set(vec![])));
    let jwks = platform.jwks();
    tokio::select! {
        result = check(&jwks, &pair, Some("k")) => panic!("the gate was closed: {result:?}"),
        arrived = platform.requests.acquire() => drop(arrived),
    }
    platform.reply_with(Reply::Set(vec![pair.jwk(Some("k"))]));
    assert_eq!(check(&jwks, &pair, Some("k")).await, Err(AuthError::Unavailable));
    platform.clock.advance_ms(1_000);
    assert_eq!(check(&jwks, &pair, Some("k")).await, Ok(()));
}

#[tokio::test]
async fn a_server_that_hangs_or_is_not_there_counts_as_out_of_reach() {
    let platform = Platform::start(vec![]).await;
    platform.reply_with(Reply::Gated(Arc::new(Semaphore::new(0)), set(vec![])));
    let jwks = Jwks::new(&platform.url(), Duration::from_millis(50), platform.clock.clone()).unwrap();
    assert_eq!(check(&jwks, &new_ed(), Some("k")).await, Err(AuthError::Unavailable));

    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let jwks = Jwks::new(&format!("http://{free}/"), FETCH_TIME_MAX, platform.clock.clone()).unwrap();
    assert_eq!(check(&jwks, &new_ed(), Some("k")).await, Err(AuthError::Unavailable));
}

#[tokio::test]
async fn garbage_is_no_key_set() {
    let pair = new_ed();
    let good = json!({ "keys": [pair.jwk(Some("k"))] }).to_string();
    let padded = |bytes: usize| format!("{good}{}", " ".repeat(bytes - good.len()));
    let platform = Platform::start(vec![]).await;
    for (status, body) in [
        (StatusCode::OK, String::new()),
        (StatusCode::OK, "<html>".to_owned()),
        (StatusCode::OK, "{}".to_owned()),
        (StatusCode::OK, "[]".to_owned()),
        (StatusCode::OK, r#"{"keys":7}"#.to_owned()),
        (StatusCode::OK, format!("{good}x")),
        (StatusCode::OK, padded(SET_BYTES_MAX + 1)),
        (StatusCode::NOT_FOUND, good.clone()),
        (StatusCode::BAD_GATEWAY, good.clone()),
    ] {
        platform.reply_with(Reply::Raw(status, body.clone()));
        let result = check(&platform.jwks(), &pair, Some("k")).await;
        assert_eq!(result, Err(AuthError::Unavailable), "{status} {:.40}", body);
    }
    platform.reply_with(Reply::Raw(StatusCode::OK, padded(SET_BYTES_MAX)));
    assert_eq!(check(&platform.jwks(), &pair, Some("k")).await, Ok(()));
}

#[tokio::test]
async fn keys_for_other_purposes_are_passed_over_one_by_one() {
    let pair = new_ec(Algorithm::ES256);
    let key = |changes: Value| {
        let mut key = pair.jwk(Some("k"));
        key.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        key
    };
    for (changes, accepted) in [
        (json!({ "use": "sig" }), true),
        (json!({ "alg": "ES256" }), true),
        (json!({ "key_ops": ["verify"], "x5c": ["x"], "unknown": 1 }), true),
        (json!({ "use": "enc" }), false),
        (json!({ "use": "other" }), false),
        (json!({ "alg": "ES384" }), false),
        (json!({ "alg": "RS256" }), false),
        (json!({ "alg": "ECDH-ES" }), false),
        (json!({ "key_ops": ["encrypt"] }), false),
        (json!({ "kty": "RSA", "n": "", "e": "" }), false),
        (json!({ "kty": "oct", "k": "c2VjcmV0" }), false),
        (json!({ "crv": "P-384" }), false),
        (json!({ "crv": "P-521" }), false),
        (json!({ "crv": "secp256k1" }), false),
        (json!({ "x": "" }), false),
        (json!({ "x": "!" }), false),
        (json!({ "x": 7 }), false),
        (json!({ "kid": 7 }), false),
        (json!({ "kty": "future" }), false),
    ] {
        let beside = new_ed();
        let keys = vec![json!(null), json!("x"), json!({}), key(changes.clone()), beside.jwk(Some("beside"))];
        let platform = Platform::start(keys).await;
        let jwks = platform.jwks();
        assert_eq!(check(&jwks, &pair, Some("k")).await.is_ok(), accepted, "{changes}");
        assert_eq!(check(&jwks, &beside, Some("beside")).await, Ok(()), "{changes}");
    }
}

#[tokio::test]
async fn broken_rsa_numbers_are_refused_and_harm_nobody() {
    for changes in [json!({ "n": "" }), json!({ "n": "AA", "e": "AA" }), json!({ "e": "" }), json!({ "e": "AQ" })] {
        let mut key = rsa_pair().jwk(Some("k"));
        key.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let platform = Platform::start(vec![key]).await;
        assert_invalid(check(&platform.jwks(), rsa_pair(), Some("k")).await);
    }
}

#[tokio::test]
async fn redirects_are_followed_but_not_for_ever_and_not_elsewhere() {
    let pair = new_ed();
    let (platform, target) = (Platform::start(vec![]).await, Platform::start(vec![pair.jwk(Some("k"))]).await);
    platform.reply_with(Reply::Redirect(target.url()));
    assert_eq!(check(&platform.jwks(), &pair, Some("k")).await, Ok(()));
    for to in [platform.url(), "ftp://127.0.0.1/".to_owned(), "file:///etc/hosts".to_owned()] {
        platform.reply_with(Reply::Redirect(to.clone()));
        assert_eq!(check(&platform.jwks(), &pair, Some("k")).await, Err(AuthError::Unavailable), "{to}");
    }
    assert!(platform.requests() < 10);
}

#[tokio::test]
async fn a_verifier_asks_the_set_for_public_key_tokens_alone() {
    let (filed, published) = (new_ed(), new_ed());
    let platform = Platform::start(vec![published.jwk(Some("k"))]).await;
    let settings = AuthSettings {
        secrets: vec![SECRET.into()],
        public_key_pem: Some(filed.public_pem.clone()),
        jwks_url: Some(platform.url()),
        ..settings(&[Algorithm::HS256, Algorithm::EdDSA, Algorithm::ES256])
    };
    let verifier = Verifier::new(settings, platform.clock.clone()).unwrap();
    assert_eq!(verifier.verify(&shared_token(&claims())).await.unwrap().user_id, 7);
    assert_eq!(verifier.verify(&filed.token(Some("x"))).await.unwrap().user_id, 7);
    let forged = jsonwebtoken::encode(&Default::default(), &claims(), &jsonwebtoken::EncodingKey::from_secret(b"x"));
    assert!(matches!(verifier.verify(&forged.unwrap()).await, Err(AuthError::Invalid(_))));
    assert_eq!(platform.requests(), 0);
    assert_eq!(verifier.verify(&published.token(Some("k"))).await.unwrap().user_id, 7);
    platform.clock.advance_ms(3_600_000);
    assert_eq!(verifier.verify(&published.token(Some("k"))).await, Err(AuthError::Expired));
}
