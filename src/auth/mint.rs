//! Tokens of our own making, in the shape that djangorestframework-simplejwt gives them: for `tidings token`
//! and the demo. A platform mints its own.

use std::time::Duration;

use anyhow::Context;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value, json};

use super::{AuthSettings, Names, keys};

/// Mints an access token that a verifier with these settings accepts until `expires_in` after `now_s`.
pub fn mint(
    settings: &AuthSettings,
    user_id: i64,
    names: &Names,
    now_s: i64,
    expires_in: Duration,
) -> anyhow::Result<String> {
    let algorithm = settings
        .algorithms
        .iter()
        .copied()
        .find(|algorithm| keys::is_shared(*algorithm))
        .context("only HS256, HS384 and HS512 tokens can be minted here: name one in TIDINGS_JWT_ALGORITHMS")?;
    let secret = settings.secrets.first().context("minting needs a secret: set TIDINGS_JWT_SECRET")?;
    let lifetime = i64::try_from(expires_in.as_secs()).unwrap_or(i64::MAX);

    let mut claims = Map::new();
    claims.insert("token_type".to_owned(), json!("access"));
    claims.insert("exp".to_owned(), json!(now_s.saturating_add(lifetime)));
    claims.insert("iat".to_owned(), json!(now_s));
    claims.insert("jti".to_owned(), json!(uuid::Uuid::new_v4().simple().to_string()));
    // RFC 7519 wants `sub` to be a string.
    let id = if settings.user_claim == "sub" { json!(user_id.to_string()) } else { json!(user_id) };
    claims.insert(settings.user_claim.clone(), id);
    for (claim, text) in [
        ("iss", &settings.issuer),
        ("aud", &settings.audience),
        ("first_name", &names.first_name),
        ("last_name", &names.last_name),
        ("username", &names.username),
    ] {
        if let Some(text) = text {
            claims.insert(claim.to_owned(), json!(text));
        }
    }
    super::verifier::install_crypto();
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    Ok(jsonwebtoken::encode(&Header::new(algorithm), &Value::Object(claims), &key)?)
}
