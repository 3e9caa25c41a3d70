//! What a token says of itself, read without believing it. Never shows the token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::clock::rfc3339;
use crate::ids;

/// A token's header and claims, unchecked.
pub struct TokenReading {
    pub algorithm: String,
    pub key_id: Option<String>,
    claims: Map<String, Value>,
}

impl TokenReading {
    /// Takes a token apart; an error completes the sentence "the token …".
    pub fn of(token: &str) -> Result<Self, String> {
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, _signature] = parts[..] else {
            return Err(format!("has {} parts and must have three, separated by dots", parts.len()));
        };
        let header = json_object(header).ok_or("has a header that is no JSON in base64url")?;
        let claims = json_object(payload).ok_or("has claims that are no JSON in base64url")?;
        let text = |name: &str| header.get(name).and_then(Value::as_str).map(String::from);
        Ok(Self { algorithm: text("alg").ok_or("names no algorithm")?, key_id: text("kid"), claims })
    }

    /// The user it is for: the configured claim, else `sub`.
    pub fn user_id(&self, user_claim: &str) -> Option<i64> {
        match self.claims.get(user_claim).filter(|claim| !claim.is_null()).or_else(|| self.claims.get("sub"))? {
            Value::Number(number) => number.as_i64().filter(|id| ids::is_id(*id)),
            Value::String(text) => ids::parse_id(text),
            _ => None,
        }
    }

    /// A time claim in seconds since the epoch.
    pub fn time(&self, name: &str) -> Option<i64> {
        let number = self.claims.get(name)?;
        number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds as i64))
    }

    /// `token_type` where it is there and something else than `access`.
    pub fn wrong_type(&self) -> Option<String> {
        let kind = self.claims.get("token_type").filter(|kind| !kind.is_null())?;
        (kind != "access").then(|| kind.to_string())
    }
}

fn json_object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// `2026-11-25T08:00:00.000Z, 5 min from now`.
pub fn time_shown(seconds: i64, now_s: i64) -> String {
    format!("{}, {}", rfc3339(seconds.saturating_mul(1000)), distance(seconds.saturating_sub(now_s)))
}

fn distance(seconds: i64) -> String {
    let span = seconds.unsigned_abs();
    let text = match span {
        0 => return "now".into(),
        1..120 => format!("{span} s"),
        120..7_200 => format!("{} min", span / 60),
        7_200..172_800 => format!("{} h", span / 3_600),
        _ => format!("{} days", span / 86_400),
    };
    if seconds < 0 { format!("{text} ago") } else { format!("{text} from now") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_says_its_algorithm_user_and_times() {
        let text = token(r#"{"alg":"HS256","kid":"k"}"#, r#"{"user_id":"7","sub":"8","exp":20,"iat":10.5}"#);
        let reading = TokenReading::of(&text).expect("a token");
        assert_eq!((reading.algorithm.as_str(), reading.key_id.as_deref()), ("HS256", Some("k")));
        assert_eq!((reading.user_id("user_id"), reading.user_id("uid")), (Some(7), Some(8)));
        assert_eq!((reading.time("exp"), reading.time("iat"), reading.time("nbf")), (Some(20), Some(10), None));
        assert_eq!(reading.wrong_type(), None);
    }

    #[test]
    fn a_refresh_token_is_seen() {
        let reading = TokenReading::of(&token(r#"{"alg":"HS256"}"#, r#"{"token_type":"refresh"}"#));
        assert_eq!(reading.expect("a token").wrong_type().as_deref(), Some("\"refresh\""));
    }

    #[test]
    fn what_is_no_token_is_said_to_be_none() {
        for text in ["", "a.b", "a.b.c", "e30.e30.x", &token("[]", "{}"), &token(r#"{"alg":"HS256"}"#, "7")] {
            assert!(TokenReading::of(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn times_are_shown_with_their_distance() {
        assert_eq!(time_shown(300, 0), "1970-01-01T00:05:00.000Z, 5 min from now");
        for (seconds, text) in [(0, "now"), (-119, "119 s ago"), (7_200, "2 h from now"), (-172_800, "2 days ago")] {
            assert_eq!(distance(seconds), text);
        }
    }
}
