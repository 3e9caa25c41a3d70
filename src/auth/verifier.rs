//! The one answer to "whose token is this?": form, signature, claims, in this order.

use anyhow::ensure;
use jsonwebtoken::{Algorithm, DecodingKey};

use super::claims::ClaimRules;
use super::jwks::{self, Jwks};
use super::keys::{self, KeyType, PublicKey};
use super::token::SignedToken;
use super::{AuthError, AuthSettings, Secret, Verified};
use crate::clock::Clock;

/// RFC 7518 wants an HMAC key as long as the hash; shorter ones work, and can be guessed.
const SECRET_BYTES_ADVISED: usize = 32;

/// Checks tokens against the configured keys and rules. To be shared behind an `Arc`.
pub struct Verifier {
    algorithms: Vec<Algorithm>,
    secrets: Vec<DecodingKey>,
    public_keys: Vec<PublicKey>,
    jwks: Option<Jwks>,
    rules: ClaimRules,
    clock: Clock,
}

impl Verifier {
    /// Reads the keys, and refuses settings under which some configured token could never be accepted.
    pub fn new(settings: AuthSettings, clock: Clock) -> anyhow::Result<Self> {
        install_crypto();
        let AuthSettings { algorithms, secrets, public_key_pem, jwks_url, issuer, audience, user_claim, leeway } =
            settings;
        ensure!(
            !secrets.is_empty() || public_key_pem.is_some() || jwks_url.is_some(),
            "there is no key to check tokens with: set TIDINGS_JWT_SECRET to the secret that your platform signs \
             its tokens with, or give its public key in TIDINGS_JWT_PUBLIC_KEY_FILE or TIDINGS_JWKS_URL and name \
             the algorithm in TIDINGS_JWT_ALGORITHMS"
        );
        ensure!(!user_claim.is_empty(), "TIDINGS_JWT_USER_CLAIM is empty: name the claim, such as `user_id`");
        let verifier = Self {
            algorithms,
            secrets: secrets.iter().map(read_secret).collect::<anyhow::Result<_>>()?,
            public_keys: public_key_pem.as_deref().map(keys::read_pem).transpose()?.unwrap_or_default(),
            jwks: jwks_url.map(|url| Jwks::new(&url, jwks::FETCH_TIME_MAX, clock.clone())).transpose()?,
            rules: ClaimRules {
                issuer,
                audience,
                user_claim,
                leeway_ms: i64::try_from(leeway.as_millis()).unwrap_or(i64::MAX),
            },
            clock,
        };
        ensure!(!verifier.algorithms.is_empty(), "TIDINGS_JWT_ALGORITHMS is empty: name at least one algorithm");
        verifier.algorithms.iter().try_for_each(|algorithm| verifier.ensure_checkable(*algorithm))?;
        Ok(verifier)
    }

    /// Whose token this is. Asks the network only for a key that is not known yet.
    pub async fn verify(&self, token: &str) -> Result<Verified, AuthError> {
        let token = SignedToken::read(token, &self.algorithms)?;
        self.check_signature(&token).await?;
        self.rules.check(&token.payload()?, self.clock.now_ms())
    }

    /// When a socket that lives on a token ends, in milliseconds since the epoch: `exp` plus the leeway.
    pub fn deadline_ms(&self, verified: &Verified) -> i64 {
        self.rules.deadline_ms(verified.expires_at)
    }

    async fn check_signature(&self, token: &SignedToken<'_>) -> Result<(), AuthError> {
        let known = if keys::is_shared(token.algorithm) {
            self.secrets.iter().any(|secret| token.is_signed_by(secret))
        } else {
            self.public_keys.iter().any(|key| key.has_signed(token))
        };
        match &self.jwks {
            _ if known => Ok(()),
            Some(jwks) if !keys::is_shared(token.algorithm) => jwks.check(token).await,
            _ => Err(AuthError::Invalid("no configured key made the signature")),
        }
    }

    fn ensure_checkable(&self, algorithm: Algorithm) -> anyhow::Result<()> {
        ensure!(
            keys::is_supported(algorithm),
            "TIDINGS_JWT_ALGORITHMS names {algorithm:?}: allowed are {}",
            keys::SUPPORTED_NAMES
        );
        let Some(key_type) = KeyType::of(algorithm) else {
            ensure!(
                !self.secrets.is_empty(),
                "TIDINGS_JWT_ALGORITHMS names {algorithm:?} but there is no secret to check it with: set \
                 TIDINGS_JWT_SECRET, or name only the algorithms of your keys"
            );
            return Ok(());
        };
        ensure!(
            self.jwks.is_some() || self.public_keys.iter().any(|key| key.key_type == key_type),
            "TIDINGS_JWT_ALGORITHMS names {algorithm:?} but there is no {} key to check it with: give one in \
             TIDINGS_JWT_PUBLIC_KEY_FILE or set TIDINGS_JWKS_URL, or name only the algorithms of your keys",
            key_type.name()
        );
        Ok(())
    }
}

/// Names the provider of cryptography, should another dependency have switched on a second one.
pub(super) fn install_crypto() {
    // An error means that it was done before.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

fn read_secret(secret: &Secret) -> anyhow::Result<DecodingKey> {
    let text = secret.expose();
    ensure!(!text.trim().is_empty(), "a JWT secret is empty: give TIDINGS_JWT_SECRET a value or leave it away");
    ensure!(
        !text.trim_start().starts_with("-----BEGIN "),
        "a JWT secret is a PEM key, and whoever has the public key could sign with it: put it in a file and name \
         that in TIDINGS_JWT_PUBLIC_KEY_FILE"
    );
    if text.len() < SECRET_BYTES_ADVISED {
        tracing::warn!("a JWT secret is shorter than {SECRET_BYTES_ADVISED} bytes and may be guessed");
    }
    Ok(DecodingKey::from_secret(text.as_bytes()))
}
