//! Every route of the OpenAPI document, which is every route there is: nobody gets in who may not.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::rest::answer;
use crate::support::token::{SECRET, claims, mint, now};
use crate::support::{Caller, Store, TestServer, both_stores};

both_stores!(the_document_needs_no_token_and_is_the_one_checked_in, every_route_refuses_who_may_not_call_it);

async fn the_document_needs_no_token_and_is_the_one_checked_in(store: Store) {
    let server = TestServer::start(store).await;
    let document = server.get("/api/v1/openapi.json", Caller::Nobody).await;
    assert_eq!(document.headers["content-type"], "application/json");
    let checked_in = include_str!("../../docs/openapi.json");
    assert_eq!(document.expect(200), serde_json::from_str::<Value>(checked_in).expect("JSON"));
}

/// The operations that need a token: method, path with values in it, and who may call.
fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let mut found = vec![];
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let filled: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { "1" } else { part }).collect();
        for (method, operation) in methods.as_object().expect("methods") {
            let method = method.to_uppercase().parse().expect("a method");
            found.push((method, filled.join("/"), operation["security"].clone()));
        }
    }
    found.retain(|(_, _, security)| *security != json!([]));
    found
}

async fn every_route_refuses_who_may_not_call_it(store: Store) {
    let server = TestServer::start(store).await;
    let document = server.get("/api/v1/openapi.json", Caller::Nobody).await.expect(200);
    let operations = operations(&document);
    assert!(operations.len() > 2, "{operations:?}");
    let mut expired = claims(1);
    expired["exp"] = json!(now() - 1);
    let expired = mint(&expired, SECRET);
    let foreign = mint(&claims(1), "the secret of somebody else, long enough for HS256");
    for (method, path, security) in operations {
        let mut refusals = vec![
            (Caller::Nobody, 401, "missing_token"),
            (Caller::Token("nonsense".to_owned()), 401, "invalid_token"),
            (Caller::Token(foreign.clone()), 401, "invalid_token"),
            (Caller::Token(expired.clone()), 401, "token_expired"),
        ];
        if security == json!([{ "user": [] }]) {
            refusals.push((Caller::Platform, 401, "invalid_token"));
        }
        if security == json!([{ "platform": [] }]) {
            refusals.push((Caller::User(1), 403, "forbidden"));
        }
        for (caller, status, code) in refusals {
            let refused = answer(server.request(method.clone(), &path, caller.clone())).await;
            let got = (refused.status, refused.body["code"].as_str());
            assert_eq!(got, (status, Some(code)), "{method} {path} by {caller:?}: {}", refused.body);
            assert_eq!(refused.headers["content-type"], "application/problem+json", "{method} {path}");
        }
    }
}
