//! A token's outer form: three parts and a header. Knows neither keys nor what the claims mean.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::de::IgnoredAny;

use super::AuthError;

/// The longest token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A token that is taken apart and not yet believed.
#[derive(Debug)]
pub(super) struct SignedToken<'a> {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// The header fields that decide. Unknown ones are ignored unless `crit` forbids that.
#[derive(serde::Deserialize)]
struct Header {
    alg: String,
    kid: Option<serde_json::Value>,
    crit: Option<IgnoredAny>,
    b64: Option<bool>,
}

impl<'a> SignedToken<'a> {
    /// Takes a token apart, if it is one and uses an allowed algorithm.
    pub fn read(token: &'a str, allowed: &[Algorithm]) -> Result<Self, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::Invalid("the token is too long"));
        }
        let (message, signature) = token.rsplit_once('.').ok_or(AuthError::Invalid("it has not three parts"))?;
        let (header, payload) = message.split_once('.').ok_or(AuthError::Invalid("it has not three parts"))?;
        if payload.contains('.') {
            return Err(AuthError::Invalid("it has not three parts"));
        }
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| AuthError::Invalid("the header is not base64url"))?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|_| AuthError::Invalid("the header is not a JOSE header"))?;
        if header.crit.is_some() || header.b64 == Some(false) {
            return Err(AuthError::Invalid("the header demands extensions"));
        }
        let algorithm = header
            .alg
            .parse()
            .ok()
            .filter(|algorithm| allowed.contains(algorithm))
            .ok_or(AuthError::Invalid("the algorithm is not one of the configured ones"))?;
        let kid = header.kid.and_then(|kid| kid.as_str().map(str::to_owned));
        Ok(Self { algorithm, kid, message, payload, signature })
    }

    /// Whether this key made the signature. The caller has seen to it that the key is for this algorithm.
    pub fn is_signed_by(&self, key: &DecodingKey) -> bool {
        jsonwebtoken::crypto::verify(self.signature, self.message.as_bytes(), key, self.algorithm).unwrap_or(false)
    }

    /// The claims' JSON text.
    pub fn payload(&self) -> Result<Vec<u8>, AuthError> {
        URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| AuthError::Invalid("the payload is not base64url"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_header(header: &str) -> Result<Option<String>, AuthError> {
        let token = format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(header));
        SignedToken::read(&token, &[Algorithm::HS256]).map(|token| token.kid)
    }

    #[test]
    fn a_header_is_read_and_its_unknown_fields_ignored() {
        assert_eq!(read_header(r#"{"alg":"HS256"}"#), Ok(None));
        assert_eq!(read_header(r#"{"alg":"HS256","typ":"JWT","kid":"k1","x":[1]}"#), Ok(Some("k1".to_owned())));
        assert_eq!(read_header(r#"{"alg":"HS256","kid":7,"b64":true}"#), Ok(None));
    }

    #[test]
    fn a_header_that_is_broken_or_demands_more_is_refused() {
        for header in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"alg":null}"#,
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":""}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS384"}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":"HS256","alg":"HS256"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"HS256","crit":[]}"#,
            r#"{"alg":"HS256","b64":false}"#,
            r#"{"alg":"HS256","b64":"false"}"#,
        ] {
            assert!(matches!(read_header(header), Err(AuthError::Invalid(_))), "{header}");
        }
    }

    #[test]
    fn what_has_not_three_parts_is_no_token() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        for token in ["", ".", "..", "...", "a.b.c", &header, &format!("{header}.e30"), &format!("{header}.a.b.c")] {
            assert!(matches!(SignedToken::read(token, &[Algorithm::HS256]), Err(AuthError::Invalid(_))), "{token}");
        }
    }
}
