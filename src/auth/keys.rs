//! Public keys: of which type they are, which algorithms that suits, and how PEM files are read.

use anyhow::{Context, bail, ensure};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{self, ParsedPublicKey};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use super::token::SignedToken;

/// What the configuration may name.
pub(super) const SUPPORTED_NAMES: &str = "HS256, HS384, HS512, RS256, RS384, RS512, ES256, ES384, EdDSA";

/// The moduli of RSA keys, in bytes, with which signatures are checked.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 2048 / 8..=8192 / 8;

/// The types of public keys, as far as algorithms tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyType {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// A key that checks signatures of the algorithms of its type and no others.
pub(super) struct PublicKey {
    pub key_type: KeyType,
    pub key: DecodingKey,
}

/// Whether the algorithm is checked with a shared secret.
pub(super) fn is_shared(algorithm: Algorithm) -> bool {
    algorithm.family() == AlgorithmFamily::Hmac
}

/// Whether the contract has this algorithm.
pub(super) fn is_supported(algorithm: Algorithm) -> bool {
    is_shared(algorithm) || KeyType::of(algorithm).is_some()
}

impl KeyType {
    const ALL: [Self; 4] = [Self::Rsa, Self::P256, Self::P384, Self::Ed25519];

    /// The type of key an algorithm needs; none for shared secrets and what is not supported.
    pub fn of(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => Some(Self::Rsa),
            Algorithm::ES256 => Some(Self::P256),
            Algorithm::ES384 => Some(Self::P384),
            Algorithm::EdDSA => Some(Self::Ed25519),
            _ => None,
        }
    }

    /// What a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::P256 => "EC P-256",
            Self::P384 => "EC P-384",
            Self::Ed25519 => "Ed25519",
        }
    }

    fn family(self) -> AlgorithmFamily {
        match self {
            Self::Rsa => AlgorithmFamily::Rsa,
            Self::P256 | Self::P384 => AlgorithmFamily::Ec,
            Self::Ed25519 => AlgorithmFamily::Ed,
        }
    }

    /// Whether the bytes are a key of this type, and one that its signatures can be checked with.
    fn is_type_of(self, bytes: &[u8]) -> bool {
        match self {
            Self::Rsa => rsa::PublicKey::from_der(bytes).is_ok_and(|key| RSA_BYTES.contains(&key.modulus_len())),
            Self::P256 => ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, bytes).is_ok(),
            Self::P384 => ParsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, bytes).is_ok(),
            Self::Ed25519 => ParsedPublicKey::new(&signature::ED25519, bytes).is_ok(),
        }
    }
}

impl PublicKey {
    /// Whether this key is of the type that the token's algorithm needs, and made its signature.
    pub fn has_signed(&self, token: &SignedToken<'_>) -> bool {
        KeyType::of(token.algorithm) == Some(self.key_type) && token.is_signed_by(&self.key)
    }
}

/// Reads every key of a PEM file. One that can't be used is an error, as its tokens would all be refused later.
pub(super) fn read_pem(text: &str) -> anyhow::Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("-----BEGIN ") {
        let number = keys.len() + 1;
        let block = &rest[start..];
        let (label, _) = block["-----BEGIN ".len()..]
            .split_once("-----")
            .with_context(|| format!("PEM block {number} of the public key file has a broken first line"))?;
        ensure!(
            !label.contains("PRIVATE KEY"),
            "the public key file holds a private key, which is the platform's alone: \
             give the public one, made with `openssl pkey -in private.pem -pubout`"
        );
        let last_line = format!("-----END {label}-----");
        let end = block
            .find(&last_line)
            .with_context(|| format!("PEM block {number} of the public key file has no line {last_line:?}"))?;
        let (block, after) = block.split_at(end + last_line.len());
        keys.push(read_block(block).with_context(|| {
            format!(
                "PEM block {number} ({label}) of the public key file is no key that can be used: give an RSA key of \
                 2048 to 8192 bits, an EC key on P-256 or P-384 or an Ed25519 key, as a PUBLIC KEY or CERTIFICATE"
            )
        })?);
        rest = after;
    }
    if keys.is_empty() {
        bail!("the public key file holds no PEM block: it should begin with `-----BEGIN PUBLIC KEY-----`");
    }
    Ok(keys)
}

fn read_block(block: &str) -> Option<PublicKey> {
    let block = block.as_bytes();
    let key = DecodingKey::from_rsa_pem(block)
        .or_else(|_| DecodingKey::from_ec_pem(block))
        .or_else(|_| DecodingKey::from_ed_pem(block))
        .ok()?;
    let bytes = key.try_get_as_bytes().ok()?;
    let key_type = KeyType::ALL
        .into_iter()
        .filter(|key_type| key_type.family() == key.family())
        .find(|key_type| key_type.is_type_of(bytes))?;
    Some(PublicKey { key_type, key })
}
