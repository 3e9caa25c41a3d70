//! What the claims of a token with a good signature must say. Pure: the time comes in as a number.

use serde_json::{Map, Value};

use super::{AuthError, Names, Verified};
use crate::ids;

/// The longest name taken from a token, in characters; the rest is cut off.
const NAME_CHARS_MAX: usize = 150;

/// The last second of the year 9999, in which every time ends that a token may name.
const TIME_END: i64 = 253_402_300_799;

/// The configured demands on claims.
pub(super) struct ClaimRules {
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub user_claim: String,
    pub leeway_ms: i64,
}

impl ClaimRules {
    /// Checks a payload. The age comes last, so that only an otherwise good token is called expired.
    pub fn check(&self, payload: &[u8], now_ms: i64) -> Result<Verified, AuthError> {
        let claims: Map<String, Value> =
            serde_json::from_slice(payload).map_err(|_| AuthError::Invalid("the payload is no JSON object"))?;
        self.check_origin(&claims)?;
        if present(&claims, "token_type").is_some_and(|kind| kind != "access") {
            return Err(AuthError::Invalid("`token_type` is not `access`"));
        }
        let user_id = self.user_id(&claims)?;
        if let Some(not_before) = present(&claims, "nbf") {
            let not_before = seconds(not_before).ok_or(AuthError::Invalid("`nbf` is no number"))?;
            if not_before * 1000 > now_ms.saturating_add(self.leeway_ms) {
                return Err(AuthError::Invalid("`nbf` is still to come"));
            }
        }
        let expires_at = present(&claims, "exp").ok_or(AuthError::Invalid("`exp` is missing"))?;
        let expires_at = seconds(expires_at).ok_or(AuthError::Invalid("`exp` is no number"))?;
        if now_ms >= self.deadline_ms(expires_at) {
            return Err(AuthError::Expired);
        }
        let issued_at = present(&claims, "iat").and_then(seconds);
        Ok(Verified { user_id, issued_at, expires_at, names: names(&claims) })
    }

    /// The first millisecond in which a token that expires at this second is no longer good.
    pub fn deadline_ms(&self, expires_at: i64) -> i64 {
        expires_at.saturating_mul(1000).saturating_add(self.leeway_ms)
    }

    fn check_origin(&self, claims: &Map<String, Value>) -> Result<(), AuthError> {
        if let Some(issuer) = &self.issuer
            && present(claims, "iss").is_none_or(|iss| iss != issuer.as_str())
        {
            return Err(AuthError::Invalid("`iss` is not the configured issuer"));
        }
        let Some(audience) = &self.audience else { return Ok(()) };
        let named = match present(claims, "aud") {
            Some(Value::Array(several)) => several.iter().any(|one| one == audience.as_str()),
            Some(one) => one == audience.as_str(),
            None => false,
        };
        if named { Ok(()) } else { Err(AuthError::Invalid("`aud` does not name the configured audience")) }
    }

    fn user_id(&self, claims: &Map<String, Value>) -> Result<i64, AuthError> {
        let claim = present(claims, &self.user_claim)
            .or_else(|| present(claims, "sub"))
            .ok_or(AuthError::Invalid("no claim names the user"))?;
        match claim {
            Value::Number(number) => number.as_i64().filter(|id| ids::is_id(*id)),
            Value::String(text) => ids::parse_id(text),
            _ => None,
        }
        .ok_or(AuthError::Invalid("the user's claim is no id"))
    }
}

/// A claim that is there; `null` is as good as absent.
fn present<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).filter(|value| !value.is_null())
}

/// A time in whole seconds: fractions are dropped as PyJWT does, and the absurd is brought into range, so that
/// nobody overflows when counting on with it.
fn seconds(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    // A float beyond an i64 becomes the nearest one.
    let seconds = number.as_i64().or_else(|| number.as_f64().map(|float| float.floor() as i64))?;
    Some(seconds.clamp(-TIME_END, TIME_END))
}

fn names(claims: &Map<String, Value>) -> Names {
    let name = |claim: &str| {
        let text = claims.get(claim)?.as_str().filter(|text| !text.contains('\0'))?;
        let end = text.char_indices().nth(NAME_CHARS_MAX).map_or(text.len(), |(end, _)| end);
        Some(text[..end].to_owned())
    };
    Names { first_name: name("first_name"), last_name: name("last_name"), username: name("username") }
}
