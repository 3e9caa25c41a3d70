//! Which keys make a token good: secrets and their rotation, PEM files, key sets, and what real libraries mint.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::{Store, TestServer, token, until};

/// What the platforms' own libraries mint, all of it, under the settings that each token is meant for.
#[tokio::test]
async fn tokens_of_simplejwt_and_pyjwt_are_accepted_and_refused_as_they_should_be() {
    let python = std::env::var("TEST_PYTHON").expect("TEST_PYTHON is not set: `make test` sets it");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/mint_tokens.py");
    let minted = Command::new(python).arg(script).arg(folder.path()).output().expect("Python runs");
    assert!(minted.status.success(), "{}", String::from_utf8_lossy(&minted.stderr));
    let mut by_settings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in String::from_utf8(minted.stdout).expect("text").lines() {
        let line: Value = serde_json::from_str(line).expect("a JSON line");
        by_settings.entry(line["settings"].to_string()).or_default().push(line);
    }
    let secret = std::fs::read_to_string(folder.path().join("hs.secret")).expect("a secret");
    let public = folder.path().join("public.pem").display().to_string();
    let mut checked = 0;
    for (settings, lines) in by_settings {
        let settings: BTreeMap<String, String> = serde_json::from_str(&settings).expect("settings");
        let mut all = vec![
            ("TIDINGS_JWT_SECRET", secret.as_str()),
            ("TIDINGS_JWT_PUBLIC_KEY_FILE", &public),
            ("TIDINGS_JWT_ALGORITHMS", "HS256,HS384,HS512,RS256,RS384,RS512,ES256,ES384,EdDSA"),
            ("TIDINGS_HANDSHAKES_PER_ADDRESS_MAX", "off"),
            ("TIDINGS_CONNECTIONS_PER_USER_MAX", "off"),
        ];
        all.extend(settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let server = TestServer::start_with(Store::Sqlite, &all).await;
        for line in lines {
            let connect = server.connect_as(7).token(line["token"].as_str().expect("a token"));
            let name = line["name"].as_str().expect("a name");
            eprintln!("{name}");
            let mut client = connect.notifications().await;
            match line["expect"].as_str().expect("an expectation") {
                "accept" => client.expect_live().await,
                code => _ = client.expect_close(code.parse().expect("a close code")).await,
            }
            checked += 1;
        }
    }
    assert!(checked >= 70, "only {checked} tokens were minted");
}

#[tokio::test]
async fn a_family_that_is_not_configured_is_refused_whoever_signed() {
    let server = TestServer::start(Store::Sqlite).await;
    for header in [json!({ "alg": "none" }), json!({ "alg": "HS384" }), json!({ "alg": "RS256" }), json!({})] {
        let forged = token::mint_with_header(&header, &token::claims(7), token::SECRET);
        server.connect_as(7).token(&forged).notifications().await.expect_close(4001).await;
    }
    let good = token::for_user(7);
    let (unsigned, _) = good.rsplit_once('.').expect("three parts");
    for broken in [unsigned.to_owned(), format!("{unsigned}."), format!("{good}x"), format!("x{good}")] {
        server.connect_as(7).token(&broken).notifications().await.expect_close(4001).await;
    }
}

#[tokio::test]
async fn while_a_secret_is_replaced_both_are_accepted() {
    let (old, new) = (token::SECRET, "the new secret of the test servers, as long as the old one");
    let settings = [("TIDINGS_JWT_SECRET", new), ("TIDINGS_JWT_SECRET_PREVIOUS", old)];
    let mut server = TestServer::start_with(Store::Sqlite, &settings).await;
    for secret in [old, new] {
        let token = token::mint(&token::claims(7), secret);
        server.connect_as(7).token(&token).notifications().await.expect_live().await;
    }
    server.stop().await;
    server.set("TIDINGS_JWT_SECRET_PREVIOUS", new);
    server.start_again().await;
    server.connect_as(7).token(&token::for_user(7)).notifications().await.expect_close(4001).await;
}

/// A key that the platform publishes.
struct Published {
    kid: &'static str,
    pair: Ed25519KeyPair,
}

impl Published {
    fn new(kid: &'static str) -> Self {
        Self { kid, pair: Ed25519KeyPair::generate().expect("a key") }
    }

    fn jwk(&self) -> Value {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": self.kid, "x": x })
    }

    fn token(&self) -> String {
        let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let header = json!({ "alg": "EdDSA", "kid": self.kid });
        let signed = format!("{}.{}", encode(&header), encode(&token::claims(7)));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// Where the platform publishes its keys: answers with the set of the moment, or 500 while there is none.
struct KeySet {
    url: String,
    set: Arc<Mutex<Option<Value>>>,
    asked: Arc<AtomicUsize>,
}

impl KeySet {
    fn publish(keys: Option<&[&Published]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let set = Arc::new(Mutex::new(None));
        let asked = Arc::new(AtomicUsize::new(0));
        let (current, count) = (set.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let _ = stream.read(&mut [0; 4096]);
                count.fetch_add(1, Ordering::SeqCst);
                let (status, body) = match &*current.lock().unwrap() {
                    Some(set) => ("200 OK", Value::to_string(set)),
                    None => ("500 Internal Server Error", String::new()),
                };
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let published = Self { url, set, asked };
        published.change(keys);
        published
    }

    fn change(&self, keys: Option<&[&Published]>) {
        let set = keys.map(|keys| json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }));
        *self.set.lock().unwrap() = set;
    }

    async fn server(&self) -> TestServer {
        let settings = [
            ("TIDINGS_JWKS_URL", self.url.as_str()),
            ("TIDINGS_JWT_ALGORITHMS", "EdDSA"),
            ("TIDINGS_HANDSHAKES_PER_ADDRESS_MAX", "off"),
        ];
        TestServer::start_with(Store::Sqlite, &settings).await
    }
}

#[tokio::test]
async fn a_key_that_is_new_in_the_set_is_found_and_an_unknown_one_is_not_asked_for_again_and_again() {
    let (first, second, unknown) = (Published::new("one"), Published::new("two"), Published::new("three"));
    let keys = KeySet::publish(Some(&[&first]));
    let server = keys.server().await;
    server.connect_as(7).token(&first.token()).notifications().await.expect_live().await;
    keys.change(Some(&[&first, &second]));
    server.connect_as(7).token(&second.token()).notifications().await.expect_live().await;
    let asked = keys.asked.load(Ordering::SeqCst);
    for _ in 0..5 {
        server.connect_as(7).token(&unknown.token()).notifications().await.expect_close(4001).await;
    }
    assert_eq!(keys.asked.load(Ordering::SeqCst), asked, "an unknown key is looked for at most every 10 s");
    let forged = Published::new("one");
    server.connect_as(7).token(&forged.token()).notifications().await.expect_close(4001).await;
}

#[tokio::test]
async fn a_set_that_is_out_of_reach_is_no_reason_to_say_no() {
    let key = Published::new("one");
    let keys = KeySet::publish(None);
    let server = keys.server().await;
    let mut client = server.connect_as(7).token(&key.token()).notifications().await;
    assert_eq!(client.expect_close(1013).await, "try_again_later");
    keys.change(Some(&[&key]));
    until("the set is fetched", async || {
        let mut client = server.connect_as(7).token(&key.token()).notifications().await;
        client.is_live().await.is_ok()
    })
    .await;
    // The old set is kept while a refresh fails; only what it can't tell is left open.
    keys.change(None);
    server.connect_as(7).token(&key.token()).notifications().await.expect_live().await;
    let unknown = Published::new("two").token();
    server.connect_as(7).token(&unknown).notifications().await.expect_close(1013).await;
    let mut client = server.connect_as(7).token(&key.token()).notifications().await;
    client.expect_live().await;
    client.send(json!({ "type": "auth", "token": unknown })).await;
    client.expect_close(1013).await;
}
