//! Tokens as a platform would mint them, made here so that the tests do not trust the code they test.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The secret that test servers check tokens with.
pub const SECRET: &str = "the secret of the test servers, long enough for HS256";

/// Now, in whole seconds since 1970, as `exp`, `nbf` and `iat` count.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The claims of an access token for a user, good for an hour.
pub fn claims(user_id: i64) -> Value {
    json!({ "token_type": "access", "user_id": user_id, "iat": now(), "exp": now() + 3600 })
}

/// A token that every test server takes for this user.
pub fn for_user(user_id: i64) -> String {
    mint(&claims(user_id), SECRET)
}

/// A token of exactly these claims under HS256.
pub fn mint(claims: &Value, secret: &str) -> String {
    mint_with_header(&json!({ "alg": "HS256", "typ": "JWT" }), claims, secret)
}

/// The same with a header of one's own, which may lie about the algorithm: the signature is HMAC-SHA256.
pub fn mint_with_header(header: &Value, claims: &Value, secret: &str) -> String {
    let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

#[test]
fn the_example_of_rfc_7515_is_signed_as_printed_there() {
    let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64_URL_SAFE_NO_PAD.decode(key).unwrap());
    let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9\
                  .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    assert_eq!(signature, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
}
