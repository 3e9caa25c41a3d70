//! Keys and tokens for this module's tests, made when first asked for.

use std::sync::OnceLock;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use aws_lc_rs::{rand::SystemRandom, rsa};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::AuthSettings;

/// 2025-09-24T10:30:00Z, when every test begins.
pub const NOW: i64 = 1_758_709_800;

pub const SECRET: &str = "a secret that is long enough for every HMAC of the table, really";

/// A key pair as the platform has it.
pub struct Pair {
    pub algorithm: Algorithm,
    pub private: EncodingKey,
    pub public_pem: String,
}

impl Pair {
    pub fn sign(&self, header: Header, claims: &Value) -> String {
        jsonwebtoken::encode(&Header { alg: self.algorithm, ..header }, claims, &self.private).unwrap()
    }

    pub fn token(&self, kid: Option<&str>) -> String {
        self.sign(Header { kid: kid.map(str::to_owned), ..Header::default() }, &claims())
    }

    /// The key as a member of a JWK set, without `alg`.
    pub fn jwk(&self, kid: Option<&str>) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.private, self.algorithm).unwrap();
        jwk.common.key_algorithm = None;
        jwk.common.key_id = kid.map(str::to_owned);
        serde_json::to_value(jwk).unwrap()
    }

    pub fn with(&self, algorithm: Algorithm) -> Self {
        Self { algorithm, private: self.private.clone(), public_pem: self.public_pem.clone() }
    }
}

pub fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

pub fn new_rsa() -> Pair {
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    Pair {
        algorithm: Algorithm::RS256,
        private: EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap(),
        public_pem: pem("PUBLIC KEY", public.as_ref()),
    }
}

/// A new key on the curve that ES256 or ES384 needs.
pub fn new_ec(algorithm: Algorithm) -> Pair {
    let signing = match algorithm {
        Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
        _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
    };
    let private = EcdsaKeyPair::generate_pkcs8(signing, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(signing, private.as_ref()).unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    Pair {
        algorithm,
        private: EncodingKey::from_ec_der(private.as_ref()),
        public_pem: pem("PUBLIC KEY", public.as_ref()),
    }
}

pub fn new_ed() -> Pair {
    let pair = Ed25519KeyPair::generate().unwrap();
    let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    Pair {
        algorithm: Algorithm::EdDSA,
        private: EncodingKey::from_ed_der(private.as_ref()),
        public_pem: pem("PUBLIC KEY", public.as_ref()),
    }
}

/// One RSA pair for all tests, because making one takes a while.
pub fn rsa_pair() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(new_rsa)
}

/// Claims of a good token that has an hour to live.
pub fn claims() -> Value {
    json!({ "token_type": "access", "exp": NOW + 3600, "iat": NOW, "jti": "x", "user_id": 7 })
}

/// An HS256 token under [`SECRET`].
pub fn shared_token(claims: &Value) -> String {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// Settings that name these algorithms and have no key yet.
pub fn settings(algorithms: &[Algorithm]) -> AuthSettings {
    AuthSettings {
        algorithms: algorithms.to_vec(),
        secrets: Vec::new(),
        public_key_pem: None,
        jwks_url: None,
        issuer: None,
        audience: None,
        user_claim: "user_id".to_owned(),
        leeway: Duration::ZERO,
    }
}
