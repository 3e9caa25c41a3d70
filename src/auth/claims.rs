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
    let seconds = number.as_i64().or_else(|| number.as_f64().map(|float| float as i64))?;
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::NOW;
    use super::*;

    fn rules() -> ClaimRules {
        ClaimRules { issuer: None, audience: None, user_claim: "user_id".to_owned(), leeway_ms: 0 }
    }

    fn check_at(rules: &ClaimRules, now_ms: i64, claims: &Value) -> Result<Verified, AuthError> {
        rules.check(claims.to_string().as_bytes(), now_ms)
    }

    /// Checks good claims with these changes; `null` takes a claim away.
    fn check(rules: &ClaimRules, changes: Value) -> Result<Verified, AuthError> {
        let mut claims = json!({ "exp": NOW + 60, "iat": NOW, "user_id": 7 });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        check_at(rules, NOW * 1000, &claims)
    }

    #[track_caller]
    fn assert_invalid(result: Result<Verified, AuthError>, reason_part: &str) {
        assert!(matches!(result, Err(AuthError::Invalid(reason)) if reason.contains(reason_part)), "{result:?}");
    }

    #[test]
    fn what_the_claims_say_is_handed_on() {
        let verified = check(&rules(), json!({ "first_name": "Ada", "last_name": "", "username": "ada" })).unwrap();
        let names = Names {
            first_name: Some("Ada".to_owned()),
            last_name: Some(String::new()),
            username: Some("ada".to_owned()),
        };
        assert_eq!(verified, Verified { user_id: 7, issued_at: Some(NOW), expires_at: NOW + 60, names });
    }

    #[test]
    fn a_token_expires_at_the_second_it_names_plus_the_leeway() {
        for leeway_ms in [0, 5_000] {
            let rules = ClaimRules { leeway_ms, ..rules() };
            for exp in [json!(NOW), json!(NOW as f64 + 0.9)] {
                let claims = json!({ "exp": exp, "user_id": 7 });
                let end = NOW * 1000 + leeway_ms;
                assert_eq!(rules.deadline_ms(NOW), end);
                assert_eq!(check_at(&rules, end - 1, &claims).unwrap().expires_at, NOW);
                assert_eq!(check_at(&rules, end - 1000, &claims).unwrap().expires_at, NOW);
                assert_eq!(check_at(&rules, end, &claims), Err(AuthError::Expired));
                assert_eq!(check_at(&rules, end + 1, &claims), Err(AuthError::Expired));
            }
        }
    }

    #[test]
    fn absurd_times_are_answered_and_never_overflow() {
        for exp in [json!(-1), json!(0), json!(i64::MIN), json!(-1e300), json!(NOW), json!(-0.0), json!(1e-300)] {
            assert_eq!(check(&rules(), json!({ "exp": exp })), Err(AuthError::Expired), "{exp}");
        }
        for exp in [json!(i64::MAX), json!(u64::MAX), json!(1e300), json!(NOW * 1_000_000)] {
            assert_eq!(check(&rules(), json!({ "exp": exp })).unwrap().expires_at, TIME_END, "{exp}");
        }
        for exp in [json!("soon"), json!((NOW + 60).to_string()), json!(true), json!([NOW + 60]), json!({})] {
            assert_invalid(check(&rules(), json!({ "exp": exp })), "`exp` is no number");
            assert_invalid(check(&rules(), json!({ "nbf": exp })), "`nbf` is no number");
            assert_eq!(check(&rules(), json!({ "iat": exp })).unwrap().issued_at, None, "{exp}");
        }
        assert_eq!(check(&rules(), json!({ "iat": 1e300 })).unwrap().issued_at, Some(TIME_END));
        assert_eq!(check(&rules(), json!({ "iat": NOW as f64 - 0.5 })).unwrap().issued_at, Some(NOW - 1));
        let patient = ClaimRules { leeway_ms: i64::MAX, ..rules() };
        assert!(check(&patient, json!({ "exp": i64::MIN, "nbf": i64::MAX })).is_ok());
        assert_invalid(rules().check(br#"{"exp":1e999,"user_id":7}"#, 0), "no JSON object");
        assert_invalid(rules().check(br#"{"exp":NaN,"user_id":7}"#, 0), "no JSON object");
    }

    #[test]
    fn a_token_without_exp_is_invalid() {
        assert_invalid(check_at(&rules(), 0, &json!({ "user_id": 7 })), "`exp` is missing");
        assert_invalid(check(&rules(), json!({ "exp": null })), "`exp` is missing");
    }

    #[test]
    fn a_token_is_good_from_nbf_minus_the_leeway() {
        for (leeway_ms, ahead, good) in [(0, 0, true), (0, 1, false), (5_000, 5, true), (5_000, 6, false)] {
            let result = check(&ClaimRules { leeway_ms, ..rules() }, json!({ "nbf": NOW + ahead }));
            assert_eq!(result.is_ok(), good, "{leeway_ms} {ahead}");
        }
        assert!(check(&rules(), json!({ "nbf": NOW as f64 + 0.9 })).is_ok());
        assert_invalid(check(&rules(), json!({ "nbf": 1e300 })), "still to come");
    }

    #[test]
    fn only_an_otherwise_good_token_is_called_expired() {
        let rules = ClaimRules { issuer: Some("us".to_owned()), ..rules() };
        let expired = json!({ "iss": "us", "exp": NOW - 1 });
        assert_eq!(check(&rules, expired.clone()), Err(AuthError::Expired));
        for fault in [
            json!({ "iss": "them" }),
            json!({ "token_type": "refresh" }),
            json!({ "user_id": "x" }),
            json!({ "nbf": NOW + 1 }),
        ] {
            let mut claims = expired.clone();
            claims.as_object_mut().unwrap().extend(fault.as_object().unwrap().clone());
            assert!(matches!(check(&rules, claims), Err(AuthError::Invalid(_))), "{fault}");
        }
    }

    #[test]
    fn the_issuer_is_checked_where_one_is_configured() {
        let strict = ClaimRules { issuer: Some("us".to_owned()), ..rules() };
        assert!(check(&strict, json!({ "iss": "us" })).is_ok());
        for iss in [json!(null), json!("them"), json!("us "), json!(""), json!(["us"]), json!(7)] {
            assert_invalid(check(&strict, json!({ "iss": iss })), "`iss`");
            assert!(check(&rules(), json!({ "iss": iss })).is_ok());
        }
    }

    #[test]
    fn the_audience_is_checked_where_one_is_configured() {
        let strict = ClaimRules { audience: Some("chat".to_owned()), ..rules() };
        for aud in [json!("chat"), json!(["chat"]), json!(["shop", "chat"])] {
            assert!(check(&strict, json!({ "aud": aud })).is_ok(), "{aud}");
        }
        for aud in [json!(null), json!("shop"), json!("chatter"), json!([]), json!(["shop", 7]), json!({ "chat": 1 })] {
            assert_invalid(check(&strict, json!({ "aud": aud })), "`aud`");
            assert!(check(&rules(), json!({ "aud": aud })).is_ok());
        }
    }

    #[test]
    fn a_token_type_that_is_there_must_be_access() {
        assert!(check(&rules(), json!({ "token_type": "access" })).is_ok());
        assert!(check(&rules(), json!({ "token_type": null })).is_ok());
        for kind in [json!("refresh"), json!("sliding"), json!(""), json!("Access"), json!(["access"]), json!(1)] {
            assert_invalid(check(&rules(), json!({ "token_type": kind })), "`token_type`");
        }
    }

    #[test]
    fn the_user_is_an_integer_or_a_string_of_digits() {
        for (claim, id) in [(json!(1), 1), (json!("7"), 7), (json!(ids::ID_END - 1), ids::ID_END - 1)] {
            assert_eq!(check(&rules(), json!({ "user_id": claim })).unwrap().user_id, id);
            assert_eq!(check(&rules(), json!({ "user_id": null, "sub": claim })).unwrap().user_id, id);
        }
        for claim in [
            json!(0),
            json!(-7),
            json!(7.0),
            json!(7.5),
            json!(ids::ID_END),
            json!(u64::MAX),
            json!(""),
            json!(" 7"),
            json!("-7"),
            json!("7.0"),
            json!("seven"),
            json!("5c8c1e0a-0d8f-4b57-9c9d-5a4f3c0b7a11"),
            json!(true),
            json!([7]),
            json!({ "id": 7 }),
        ] {
            // A wrong claim is wrong, even beside a good `sub`.
            assert_invalid(check(&rules(), json!({ "user_id": claim, "sub": "7" })), "no id");
        }
        assert_invalid(check(&rules(), json!({ "user_id": null })), "no claim names the user");
    }

    #[test]
    fn the_user_is_taken_from_the_configured_claim() {
        let rules = ClaimRules { user_claim: "uid".to_owned(), ..rules() };
        assert_eq!(check(&rules, json!({ "uid": 9, "sub": "8" })).unwrap().user_id, 9);
        assert_eq!(check(&rules, json!({ "sub": "8" })).unwrap().user_id, 8);
        assert_invalid(check(&rules, json!({})), "no claim names the user");
    }

    #[test]
    fn names_are_strings_of_bounded_length() {
        let long = "é".repeat(NAME_CHARS_MAX);
        let names = check(&rules(), json!({ "first_name": long, "last_name": format!("{long}x"), "username": "a\0b" }));
        let names = names.unwrap().names;
        assert_eq!((names.first_name.as_ref(), names.last_name.as_ref()), (Some(&long), Some(&long)));
        assert_eq!(names.username, None);
        for other in [json!(null), json!(7), json!(["Ada"]), json!({})] {
            let changes = json!({ "first_name": other, "last_name": other, "username": other });
            assert_eq!(check(&rules(), changes).unwrap().names, Names::default());
        }
    }

    #[test]
    fn what_is_no_object_is_invalid() {
        for payload in ["", "null", "[]", "7", "\"x\"", "{", "{}x", "\u{feff}{}"] {
            assert_invalid(rules().check(payload.as_bytes(), 0), "no JSON object");
        }
        assert_invalid(rules().check(&[b'{', 0xff, b'}'], 0), "no JSON object");
        assert_invalid(rules().check("[".repeat(6000).as_bytes(), 0), "no JSON object");
    }
}
