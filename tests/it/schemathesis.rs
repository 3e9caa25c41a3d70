//! Requests that nobody thought of, made by Schemathesis from the OpenAPI document: none brings the server to a fault,
//! and what it answers is what the document says.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::server::API_KEY;
use crate::support::{Caller, Store, TestServer, both_stores, token};

both_stores!(
    what_is_generated_for_a_user_is_answered_as_described,
    what_is_generated_for_the_platform_is_answered_as_described,
);

/// What every answer is held to.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// Half of the ids in paths are of something that is there.
const CONFIGURATION: &str = r#"
    [dictionaries.known]
    values = [1, 2]
    [parameters]
    "path.id" = { dictionary = "known", probability = 0.5 }
    "path.user_id" = { dictionary = "known", probability = 0.5 }
    "path.reaction" = "like"
"#;

async fn what_is_generated_for_a_user_is_answered_as_described(store: Store) {
    run(store, "user", &token::for_user(1)).await;
}

async fn what_is_generated_for_the_platform_is_answered_as_described(store: Store) {
    run(store, "platform", API_KEY).await;
}

/// A server that never refuses for the number of requests, with two of everything.
async fn server_with_something_to_find(store: Store) -> TestServer {
    let unlimited = ["TIDINGS_REQUESTS_PER_SECOND_MAX", "TIDINGS_COMMANDS_PER_SECOND_MAX"].map(|name| (name, "off"));
    let server = TestServer::start_with(store, &unlimited).await;
    server.conversation(&[1, 2]).await;
    let group = json!({ "participant_ids": [2], "title": "Us" });
    server.post("/api/v1/conversations", 1, group).await.expect(201);
    for conversation_id in [1, 2] {
        let path = format!("/api/v1/conversations/{conversation_id}/messages");
        server.post(&path, 1, json!({ "message": "Hello" })).await.expect(201);
        let notification = json!({ "user_id": 1, "title": "News", "message": "For you" });
        server.post("/api/v1/notifications", Caller::Platform, notification).await.expect(201);
        server.upload(1, "notes.txt", b"Notes").await.expect(201);
    }
    server
}

/// The OpenAPI document without what is not for this kind of caller; that those are refused is tested elsewhere.
fn document_for(caller: &str) -> Value {
    let mut document: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).expect("JSON");
    let paths = document["paths"].as_object_mut().expect("paths");
    for methods in paths.values_mut() {
        let takes = |operation: &Value| {
            let security = operation["security"].as_array().expect("a list");
            security.is_empty() || security.contains(&json!({ caller: [] }))
        };
        methods.as_object_mut().expect("methods").retain(|_, operation| takes(operation));
    }
    document
}

async fn run(store: Store, caller: &str, bearer: &str) {
    let server = server_with_something_to_find(store).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (document, configuration) = (folder.path().join("openapi.json"), folder.path().join("schemathesis.toml"));
    fs::write(&document, document_for(caller).to_string()).expect("a file");
    fs::write(&configuration, CONFIGURATION).expect("a file");
    let python = std::env::var("TEST_PYTHON").expect("TEST_PYTHON is not set: `make test` sets it");
    let output = Command::new(Path::new(&python).with_file_name("schemathesis"))
        .current_dir(folder.path())
        .arg("--config-file")
        .arg(&configuration)
        .arg("run")
        .arg(&document)
        .args(["--url", &format!("http://{}", server.address())])
        .args(["--header", &format!("Authorization: Bearer {bearer}")])
        .args(["--checks", CHECKS])
        .args(["--phases", "coverage,fuzzing", "--max-examples", "10", "--seed", "1", "--continue-on-failure"])
        .args(["--generation-database", "none", "--suppress-health-check", "all", "--no-shrink"])
        .args(["--request-timeout", "10", "--warnings", "off", "--no-color"])
        .output()
        .expect("Schemathesis starts: `make setup` installs it");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains(" passed") && out.contains("No issues found"), "nothing was tried:\n{out}");
}
