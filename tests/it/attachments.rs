//! Files: uploaded, sent with a message, downloaded by whoever has a link, gone with their message.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::rest::{Answer, answer};
use crate::support::{Caller, Store, TestServer, both_stores};

both_stores!(
    an_upload_is_its_uploaders_until_it_is_sent,
    a_message_carries_its_files_and_takes_them_with_it,
    a_download_says_what_it_is_and_forbids_the_rest,
    a_part_of_a_file_is_handed_out,
    a_client_that_has_the_file_is_told_so,
    a_bad_or_expired_link_opens_nothing,
    what_is_not_taken_is_refused,
    a_repeated_upload_gets_the_first_answer,
    the_greatest_file_is_taken_and_one_byte_more_is_not,
    an_image_has_a_thumbnail_and_dimensions,
    links_outlive_a_restart,
);

async fn uploaded(server: &TestServer, filename: &str, bytes: &[u8]) -> Value {
    server.upload(1, filename, bytes).await.expect(201)
}

fn url(attachment: &Value) -> &str {
    attachment["url"].as_str().expect("a link")
}

async fn download(server: &TestServer, method: Method, url: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = server.request(method, url, Caller::Nobody);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request).await
}

async fn an_upload_is_its_uploaders_until_it_is_sent(store: Store) {
    let server = TestServer::start(store).await;
    let made = uploaded(&server, "notes.txt", b"remember").await;
    assert_eq!(
        (&made["filename"], &made["content_type"], &made["size"]),
        (&json!("notes.txt"), &json!("text/plain"), &json!(8))
    );
    assert_eq!((&made["thumbnail_url"], &made["width"], &made["height"]), (&Value::Null, &Value::Null, &Value::Null));
    let path = format!("/api/v1/attachments/{}", made["id"]);
    let found = server.get(&path, 1).await.expect(200);
    assert_eq!((&found["id"], &found["size"]), (&made["id"], &made["size"]));
    server.get(&path, 2).await.refused(404, "not_found");
    server.get(&path, Caller::Nobody).await.refused(401, "missing_token");
    server.get(&path, Caller::Platform).await.refused(401, "invalid_token");
    for id in ["0", "x", "-1", "9007199254740992"] {
        server.get(&format!("/api/v1/attachments/{id}"), 1).await.refused(404, "not_found");
    }
}

async fn a_message_carries_its_files_and_takes_them_with_it(store: Store) {
    let server = TestServer::start(store).await;
    let conversation_id = server.conversation(&[1, 2]).await;
    let made = uploaded(&server, "notes.txt", b"remember").await;
    let mut alice = server.connect_as(1).chat(conversation_id).await;
    let mut bob = server.connect_as(2).chat(conversation_id).await;
    let command = json!({ "type": "chat_message", "attachment_ids": [made["id"]], "message_type": "file" });
    alice.send(command.clone()).await;
    let heard = bob.expect("chat_message").await;
    let carried = &heard["message"]["attachments"][0];
    assert_eq!((&carried["id"], &carried["filename"]), (&made["id"], &json!("notes.txt")));
    assert_eq!(download(&server, Method::GET, url(carried), &[]).await.expect(200), "remember");
    let path = format!("/api/v1/attachments/{}", made["id"]);
    server.get(&path, 2).await.expect(200);
    server.get(&path, 3).await.refused(404, "not_found");
    alice.expect("chat_message").await;
    alice.send(command).await;
    let refused = alice.expect("error").await;
    assert_eq!((&refused["code"], &refused["field"]), (&json!("not_found"), &json!("attachment_ids")));

    alice.send(json!({ "type": "delete_message", "message_id": heard["message"]["id"] })).await;
    alice.expect("message_deleted").await;
    download(&server, Method::GET, url(carried), &[]).await.refused(404, "not_found");
    server.get(&path, 1).await.refused(404, "not_found");
}

async fn a_download_says_what_it_is_and_forbids_the_rest(store: Store) {
    let server = TestServer::start(store).await;
    // Markup is text that a browser shows, and nothing that it runs.
    let made = uploaded(&server, "Zoë.svg", b"<svg><script>alert(1)</script></svg>").await;
    let got = download(&server, Method::GET, url(&made), &[]).await;
    let header = |name: &str| got.headers[name].to_str().expect("text").to_owned();
    assert_eq!(header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(header("content-disposition"), "inline; filename=\"Zo_.svg\"; filename*=UTF-8''Zo%C3%AB.svg");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("content-security-policy"), "sandbox; default-src 'none'");
    assert_eq!((header("accept-ranges"), header("content-length")), ("bytes".to_owned(), "36".to_owned()));
    let cache = header("cache-control");
    let age: u64 = cache.strip_prefix("private, max-age=").and_then(|age| age.parse().ok()).expect("an age");
    assert!((200..=300).contains(&age), "{cache}");
    assert_eq!(got.expect(200), "<svg><script>alert(1)</script></svg>");
    let zip = uploaded(&server, "a.zip", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0").await;
    let got = download(&server, Method::HEAD, url(&zip), &[]).await;
    assert_eq!(got.headers["content-disposition"], "attachment; filename=\"a.zip\"; filename*=UTF-8''a.zip");
    assert_eq!(got.headers["content-length"], "22");
    assert_eq!(got.expect(200), "");
}

async fn a_part_of_a_file_is_handed_out(store: Store) {
    let server = TestServer::start(store).await;
    let made = uploaded(&server, "digits.txt", b"0123456789").await;
    for (range, part, named) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=8-", "89", "bytes 8-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=4-99", "456789", "bytes 4-9/10"),
    ] {
        let got = download(&server, Method::GET, url(&made), &[("Range", range)]).await;
        assert_eq!((got.status, &got.headers["content-range"]), (206, &named.parse().expect("a header")), "{range}");
        assert_eq!(got.headers["content-length"].to_str().expect("a number"), part.len().to_string());
        // Digits alone are read as a number.
        assert_eq!(got.body.to_string().trim_matches('"').trim_start_matches('0'), part.trim_start_matches('0'));
    }
    let got = download(&server, Method::GET, url(&made), &[("Range", "bytes=10-")]).await;
    assert_eq!(got.headers["content-range"], "bytes */10");
    got.refused(416, "invalid_field");
    for headers in [&[("Range", "lines=1-2")][..], &[("Range", "bytes=1-2"), ("If-Range", "\"another\"")]] {
        assert_eq!(download(&server, Method::GET, url(&made), headers).await.status, 200);
    }
    let whole = download(&server, Method::GET, url(&made), &[]).await;
    let etag = whole.headers["etag"].to_str().expect("a tag");
    let got = download(&server, Method::GET, url(&made), &[("Range", "bytes=1-2"), ("If-Range", etag)]).await;
    assert_eq!((got.status, got.body), (206, json!(12)));
}

async fn a_client_that_has_the_file_is_told_so(store: Store) {
    let server = TestServer::start(store).await;
    let made = uploaded(&server, "a.txt", b"text").await;
    let got = download(&server, Method::GET, url(&made), &[]).await;
    let etag = got.headers["etag"].to_str().expect("a tag");
    let again = server.get(&format!("/api/v1/attachments/{}", made["id"]), 1).await.expect(200);
    for known in [etag, "*", &format!("\"x\", W/{etag}")] {
        let got = download(&server, Method::GET, url(&again), &[("If-None-Match", known)]).await;
        assert_eq!((got.status, &got.headers["etag"], got.body), (304, &etag.parse().expect("a header"), json!("")));
    }
    assert_eq!(download(&server, Method::GET, url(&made), &[("If-None-Match", "\"x\"")]).await.expect(200), "text");
}

async fn a_bad_or_expired_link_opens_nothing(store: Store) {
    let server = TestServer::start_with(store, &[("TIDINGS_ATTACHMENT_LINK_LIFETIME", "1s")]).await;
    let made = uploaded(&server, "a.txt", b"text").await;
    let link = url(&made);
    let other = uploaded(&server, "b.txt", b"other").await;
    let (path, query) = link.split_once('?').expect("a query");
    let (other_path, _) = url(&other).split_once('?').expect("a query");
    for link in [
        path.to_owned(),
        format!("{path}?{}", query.replace("original", "thumbnail")),
        format!("{path}?{}", query.replace("signature=", "signature=A")),
        format!("{other_path}?{query}"),
    ] {
        download(&server, Method::GET, &link, &[]).await.refused(404, "not_found");
    }
    // The wait is for the link's end; however slow the machine is, it comes.
    while download(&server, Method::GET, link, &[]).await.status != 404 {
        tokio::task::yield_now().await;
    }
    download(&server, Method::GET, link, &[]).await.refused(404, "not_found");
}

async fn what_is_not_taken_is_refused(store: Store) {
    let server = TestServer::start(store).await;
    server.upload(Caller::Nobody, "a.txt", b"x").await.refused(401, "missing_token");
    server.upload(Caller::Platform, "a.txt", b"x").await.refused(401, "invalid_token");
    let elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0";
    let refused = server.upload(1, "photo.png", elf).await;
    assert_eq!(refused.body["field"], "file");
    refused.refused(415, "unsupported");
    let other = answer(server.form(1, "form-data; name=\"other\"", b"x")).await;
    assert_eq!(other.body["field"], "file");
    other.refused(400, "invalid_field");
    let junk = vec![b'x'; 64 * 1024 + 1];
    answer(server.form(1, "form-data; name=\"other\"", &junk)).await.refused(413, "too_large");
    server.post("/api/v1/attachments", 1, json!({})).await.refused(415, "unsupported");
    let cut = server.request(Method::POST, "/api/v1/attachments", 1);
    let cut = cut.header("Content-Type", "multipart/form-data; boundary=b");
    let body = "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nno end";
    answer(cut.body(body)).await.refused(400, "invalid_field");
}

async fn a_repeated_upload_gets_the_first_answer(store: Store) {
    let server = TestServer::start(store).await;
    let disposition = "form-data; name=\"file\"; filename=\"a.txt\"";
    let send = async |caller: i64, bytes: &[u8]| {
        answer(server.form(caller, disposition, bytes).header("Idempotency-Key", "k1")).await
    };
    let first = send(1, b"text").await.expect(201);
    assert_eq!(send(1, b"text").await.expect(201), first);
    send(1, b"other").await.refused(409, "conflict");
    assert_ne!(send(2, b"text").await.expect(201)["id"], first["id"]);
}

async fn the_greatest_file_is_taken_and_one_byte_more_is_not(store: Store) {
    let settings = [("TIDINGS_ATTACHMENT_BYTES_MAX", "3MiB"), ("TIDINGS_REQUEST_BYTES_MAX", "1KiB")];
    let server = TestServer::start_with(store, &settings).await;
    let most = vec![b'x'; 3 * 1024 * 1024];
    let made = uploaded(&server, "a.txt", &most).await;
    assert_eq!(made["size"], most.len());
    let got = download(&server, Method::GET, url(&made), &[]).await.expect(200);
    assert_eq!(got.as_str().map(str::len), Some(most.len()));
    for more in [1, 4 * 1024 * 1024] {
        let refused = server.upload(1, "a.txt", &[&most[..], &vec![b'x'; more]].concat()).await;
        assert_eq!(refused.body["field"], "file");
        refused.refused(413, "too_large");
    }
    assert_eq!(uploaded(&server, "empty", b"").await["size"], 0);
}

async fn an_image_has_a_thumbnail_and_dimensions(store: Store) {
    let server = TestServer::start(store).await;
    // One pixel.
    const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
    // The same as Windows keeps it: two headers, then three bytes of colour and one that fills the row up.
    const BMP: &[u8] = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0\0\0\0\0\
        \x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\0";
    for (name, content_type, bytes) in [("dot.gif", "image/gif", GIF), ("dot.bmp", "image/bmp", BMP)] {
        let made = uploaded(&server, name, bytes).await;
        assert_eq!(
            (&made["content_type"], &made["width"], &made["height"]),
            (&json!(content_type), &json!(1), &json!(1))
        );
        let link = made["thumbnail_url"].as_str().expect("a thumbnail");
        let got = download(&server, Method::GET, link, &[]).await;
        assert_eq!((got.status, &got.headers["content-type"]), (200, &"image/jpeg".parse().expect("a header")));
    }
}

async fn links_outlive_a_restart(store: Store) {
    let mut server = TestServer::start(store).await;
    let made = uploaded(&server, "a.txt", b"text").await;
    server.restart().await;
    assert_eq!(download(&server, Method::GET, url(&made), &[]).await.expect(200), "text");
}
