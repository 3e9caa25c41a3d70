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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::super::testing::*;
    use super::super::{Names, TOKEN_BYTES_MAX, mint};
    use super::*;

    fn clock() -> Clock {
        Clock::manual(NOW * 1000)
    }

    fn shared() -> AuthSettings {
        AuthSettings { secrets: vec![SECRET.into()], ..settings(&[Algorithm::HS256]) }
    }

    fn public(pair: &Pair) -> AuthSettings {
        AuthSettings { public_key_pem: Some(pair.public_pem.clone()), ..settings(&[pair.algorithm]) }
    }

    async fn verify(settings: AuthSettings, token: &str) -> Result<Verified, AuthError> {
        Verifier::new(settings, clock()).unwrap().verify(token).await
    }

    #[track_caller]
    fn assert_invalid(result: Result<Verified, AuthError>) {
        assert!(matches!(result, Err(AuthError::Invalid(_))), "{result:?}");
    }

    #[track_caller]
    fn refusal(settings: AuthSettings, advice: &str) -> String {
        match Verifier::new(settings, clock()) {
            Ok(_) => panic!("the settings were not refused with {advice:?}"),
            Err(error) => format!("{error:#}"),
        }
    }

    /// A key pair for every algorithm that has one.
    fn pairs() -> Vec<Pair> {
        let rsa = [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512].map(|algorithm| rsa_pair().with(algorithm));
        rsa.into_iter().chain([new_ec(Algorithm::ES256), new_ec(Algorithm::ES384), new_ed()]).collect()
    }

    /// The same token with one bit of one of its parts changed.
    fn tampered(token: &str, part: usize) -> String {
        let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        let mut bytes = URL_SAFE_NO_PAD.decode(&parts[part]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        parts[part] = URL_SAFE_NO_PAD.encode(bytes);
        parts.join(".")
    }

    #[tokio::test]
    async fn every_shared_secret_algorithm_accepts_its_own_secret_only() {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let settings = AuthSettings { algorithms: vec![algorithm], ..shared() };
            let sign = |secret: &str| {
                let key = EncodingKey::from_secret(secret.as_bytes());
                jsonwebtoken::encode(&Header::new(algorithm), &claims(), &key).unwrap()
            };
            let token = sign(SECRET);
            assert_eq!(verify(settings.clone(), &token).await.unwrap().user_id, 7, "{algorithm:?}");
            assert_invalid(verify(settings.clone(), &sign("another secret, and a long one as well, to be fair")).await);
            assert_invalid(verify(settings.clone(), &tampered(&token, 1)).await);
            assert_invalid(verify(settings, &tampered(&token, 2)).await);
        }
    }

    #[tokio::test]
    async fn every_public_key_algorithm_accepts_its_own_key_only() {
        for pair in pairs() {
            let algorithm = pair.algorithm;
            let token = pair.token(Some("any kid"));
            assert_eq!(verify(public(&pair), &token).await.unwrap().user_id, 7, "{algorithm:?}");
            assert_invalid(verify(public(&pair), &tampered(&token, 1)).await);
            assert_invalid(verify(public(&pair), &tampered(&token, 2)).await);
            let other = match algorithm {
                Algorithm::ES256 | Algorithm::ES384 => new_ec(algorithm),
                Algorithm::EdDSA => new_ed(),
                _ => new_rsa().with(algorithm),
            };
            assert_invalid(verify(public(&pair), &other.token(None)).await);
        }
    }

    #[tokio::test]
    async fn a_file_with_several_keys_checks_with_each_of_them() {
        let pairs = pairs();
        let all = AuthSettings {
            algorithms: pairs.iter().map(|pair| pair.algorithm).collect(),
            public_key_pem: Some(
                pairs.iter().map(|pair| pair.public_pem.as_str()).collect::<Vec<_>>().join("# next\n"),
            ),
            ..settings(&[])
        };
        for pair in &pairs {
            assert!(verify(all.clone(), &pair.token(None)).await.is_ok(), "{:?}", pair.algorithm);
        }
        let second = new_ed();
        let both = format!("{}{}", pairs[5].public_pem, second.public_pem);
        let rotation = AuthSettings { public_key_pem: Some(both), ..settings(&[Algorithm::EdDSA]) };
        assert!(verify(rotation.clone(), &pairs[5].token(None)).await.is_ok());
        assert!(verify(rotation, &second.token(None)).await.is_ok());
    }

    #[tokio::test]
    async fn certificates_and_the_older_rsa_form_are_read_too() {
        for (algorithm, private, public_pem) in [
            (Algorithm::RS256, include_str!("fixtures/rsa.key.pem"), include_str!("fixtures/rsa.cert.pem")),
            (Algorithm::RS256, include_str!("fixtures/rsa.key.pem"), include_str!("fixtures/rsa.pkcs1.pem")),
            (Algorithm::ES256, include_str!("fixtures/p256.key.pem"), include_str!("fixtures/p256.cert.pem")),
            (Algorithm::EdDSA, include_str!("fixtures/ed25519.key.pem"), include_str!("fixtures/ed25519.cert.pem")),
        ] {
            let private = match algorithm {
                Algorithm::RS256 => EncodingKey::from_rsa_pem(private.as_bytes()),
                Algorithm::ES256 => EncodingKey::from_ec_pem(private.as_bytes()),
                _ => EncodingKey::from_ed_pem(private.as_bytes()),
            };
            let pair = Pair { algorithm, private: private.unwrap(), public_pem: public_pem.to_owned() };
            assert_eq!(verify(public(&pair), &pair.token(None)).await.unwrap().user_id, 7, "{public_pem}");
        }
    }

    #[tokio::test]
    async fn an_algorithm_that_is_not_configured_is_refused_though_its_key_is_there() {
        let both = AuthSettings { secrets: vec![SECRET.into()], ..public(rsa_pair()) };
        assert!(verify(both.clone(), &rsa_pair().token(None)).await.is_ok());
        assert_invalid(verify(both.clone(), &shared_token(&claims())).await);
        assert_invalid(verify(both.clone(), &rsa_pair().with(Algorithm::RS512).token(None)).await);
        assert_invalid(verify(both, &rsa_pair().with(Algorithm::PS256).token(None)).await);
    }

    #[tokio::test]
    async fn a_public_key_is_never_taken_for_a_secret() {
        let both = AuthSettings {
            algorithms: vec![Algorithm::RS256, Algorithm::HS256],
            secrets: vec![SECRET.into()],
            ..public(rsa_pair())
        };
        let pem = &rsa_pair().public_pem;
        for secret in [pem.as_str(), pem.trim_end(), pem.lines().nth(1).unwrap()] {
            let key = EncodingKey::from_secret(secret.as_bytes());
            let forged = jsonwebtoken::encode(&Header::default(), &claims(), &key).unwrap();
            assert_invalid(verify(both.clone(), &forged).await);
            assert_invalid(verify(public(rsa_pair()), &forged).await);
        }
    }

    #[tokio::test]
    async fn unsigned_tokens_are_refused_however_they_are_spelt() {
        let payload = URL_SAFE_NO_PAD.encode(claims().to_string());
        let good = shared_token(&claims());
        let signature = good.rsplit('.').next().unwrap();
        for alg in ["none", "None", "NONE", "nOnE", ""] {
            let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "typ": "JWT" }).to_string());
            assert_invalid(verify(shared(), &format!("{header}.{payload}.")).await);
            assert_invalid(verify(shared(), &format!("{header}.{payload}.{signature}")).await);
        }
        let (message, _) = good.rsplit_once('.').unwrap();
        assert_invalid(verify(shared(), &format!("{message}.")).await);
        assert_invalid(verify(shared(), &format!("{good}=")).await);
        assert_invalid(verify(shared(), &format!("{good} ")).await);
        assert_invalid(verify(shared(), &format!("{good}é")).await);
    }

    #[tokio::test]
    async fn a_token_that_demands_extensions_is_refused() {
        let mut unencoded = Header::default();
        unencoded.extras.insert("b64", false);
        for header in [Header { crit: Some(vec!["exp".to_owned()]), ..Header::default() }, unencoded] {
            let key = EncodingKey::from_secret(SECRET.as_bytes());
            assert_invalid(verify(shared(), &jsonwebtoken::encode(&header, &claims(), &key).unwrap()).await);
        }
    }

    #[tokio::test]
    async fn a_token_may_be_as_long_as_the_bound_and_no_longer() {
        let sign = |filler: usize| {
            let mut claims = claims();
            claims["filler"] = json!("x".repeat(filler));
            shared_token(&claims)
        };
        // Three characters of filler are four of token.
        let filler = (0..=TOKEN_BYTES_MAX).rev().find(|filler| sign(*filler).len() <= TOKEN_BYTES_MAX).unwrap();
        let (longest, longer) = (sign(filler), sign(filler + 1));
        assert!(longest.len() > TOKEN_BYTES_MAX - 4 && longer.len() > TOKEN_BYTES_MAX);
        assert!(verify(shared(), &longest).await.is_ok());
        assert_invalid(verify(shared(), &longer).await);
    }

    #[tokio::test]
    async fn previous_secrets_are_accepted_until_they_are_taken_away() {
        let old = shared_token(&claims());
        let rotated = AuthSettings { secrets: vec!["the new secret, as long as the old".into()], ..shared() };
        assert_invalid(verify(rotated.clone(), &old).await);
        let both = AuthSettings { secrets: vec![rotated.secrets[0].clone(), SECRET.into()], ..rotated };
        assert!(verify(both.clone(), &old).await.is_ok());
        let names = Names::default();
        let new = mint(&both, 7, &names, NOW, Duration::from_secs(60)).unwrap();
        assert!(verify(both, &new).await.is_ok());
        assert_invalid(verify(shared(), &new).await);
    }

    #[tokio::test]
    async fn a_token_expires_as_the_clock_moves_on() {
        let clock = clock();
        let settings = AuthSettings { leeway: Duration::from_secs(5), ..shared() };
        let verifier = Verifier::new(settings, clock.clone()).unwrap();
        let token = shared_token(&claims());
        let verified = verifier.verify(&token).await.unwrap();
        assert_eq!((verified.issued_at, verified.expires_at), (Some(NOW), NOW + 3600));
        assert_eq!(verifier.deadline_ms(&verified), (NOW + 3605) * 1000);
        clock.advance_ms(3_604_999);
        assert!(verifier.verify(&token).await.is_ok());
        clock.advance_ms(1);
        assert_eq!(verifier.verify(&token).await, Err(AuthError::Expired));
        assert_invalid(verifier.verify(&tampered(&token, 2)).await);
    }

    #[tokio::test]
    async fn a_minted_token_is_accepted_with_all_that_is_configured() {
        for (algorithm, user_claim) in
            [(Algorithm::HS256, "user_id"), (Algorithm::HS384, "sub"), (Algorithm::HS512, "uid")]
        {
            let settings = AuthSettings {
                algorithms: vec![Algorithm::RS256, algorithm],
                public_key_pem: Some(rsa_pair().public_pem.clone()),
                issuer: Some("us".to_owned()),
                audience: Some("chat".to_owned()),
                user_claim: user_claim.to_owned(),
                ..shared()
            };
            let names = Names { first_name: Some("Ada".to_owned()), ..Names::default() };
            let token = mint(&settings, 42, &names, NOW, Duration::from_secs(90)).unwrap();
            let verified = verify(settings.clone(), &token).await.unwrap();
            assert_eq!(verified, Verified { user_id: 42, issued_at: Some(NOW), expires_at: NOW + 90, names });
            let again = mint(&settings, 42, &Names::default(), NOW, Duration::from_secs(90)).unwrap();
            assert_ne!(token, again);
            let gone = mint(&settings, 42, &Names::default(), NOW, Duration::ZERO).unwrap();
            assert_eq!(verify(settings.clone(), &gone).await, Err(AuthError::Expired));
            let ever = mint(&settings, 42, &Names::default(), NOW, Duration::MAX).unwrap();
            assert!(verify(settings, &ever).await.is_ok());
        }
        for settings in [public(rsa_pair()), settings(&[Algorithm::HS256])] {
            assert!(mint(&settings, 42, &Names::default(), NOW, Duration::from_secs(90)).is_err());
        }
    }

    #[test]
    fn settings_without_a_usable_key_are_refused_with_advice() {
        let hs256 = || settings(&[Algorithm::HS256]);
        let pem = |text: &str| AuthSettings { public_key_pem: Some(text.to_owned()), ..settings(&[Algorithm::RS256]) };
        let url = |url: &str| AuthSettings { jwks_url: Some(url.to_owned()), ..settings(&[Algorithm::RS256]) };
        let ec = new_ec(Algorithm::ES256);
        let rsa_der = rsa_pair().public_pem.lines().nth(1).unwrap();
        for (settings, advice) in [
            (hs256(), "set TIDINGS_JWT_SECRET to the secret"),
            (AuthSettings { secrets: vec!["".into()], ..hs256() }, "a JWT secret is empty"),
            (AuthSettings { secrets: vec![" \n".into()], ..hs256() }, "a JWT secret is empty"),
            (AuthSettings { secrets: vec![SECRET.into(), "".into()], ..hs256() }, "a JWT secret is empty"),
            (AuthSettings { secrets: vec![ec.public_pem.as_str().into()], ..hs256() }, "TIDINGS_JWT_PUBLIC_KEY_FILE"),
            (AuthSettings { algorithms: vec![], ..shared() }, "TIDINGS_JWT_ALGORITHMS is empty"),
            (AuthSettings { algorithms: vec![Algorithm::PS256], ..shared() }, "PS256: allowed are HS256"),
            (AuthSettings { algorithms: vec![Algorithm::PS256], ..url("http://localhost/") }, "PS256: allowed are"),
            (AuthSettings { algorithms: vec![Algorithm::HS256, Algorithm::RS256], ..shared() }, "no RSA key"),
            (AuthSettings { algorithms: vec![Algorithm::HS384], ..public(&ec) }, "names HS384"),
            (AuthSettings { algorithms: vec![Algorithm::ES256, Algorithm::ES384], ..public(&ec) }, "no EC P-384 key"),
            (AuthSettings { algorithms: vec![Algorithm::EdDSA], ..public(&ec) }, "no Ed25519 key"),
            (AuthSettings { algorithms: vec![Algorithm::HS256], ..url("https://localhost/") }, "names HS256"),
            (AuthSettings { user_claim: String::new(), ..shared() }, "TIDINGS_JWT_USER_CLAIM"),
            (pem(""), "no PEM block"),
            (pem(SECRET), "no PEM block"),
            (pem("-----BEGIN PUBLIC KEY"), "broken first line"),
            (pem("-----BEGIN PUBLIC KEY-----\nAAAA\n"), "has no line"),
            (pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"), "PEM block 1 (PUBLIC KEY)"),
            (pem("-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----"), "no key that can be used"),
            (pem(&format!("-----BEGIN X-----\n{rsa_der}\n-----END X-----")), "PEM block 1 (X)"),
            (pem(&format!("{}{}", ec.public_pem, ec.public_pem.replace("MF", "MG"))), "PEM block 2"),
            (pem(include_str!("fixtures/rsa.key.pem")), "openssl pkey"),
            (pem(include_str!("fixtures/rsa1024.pem")), "2048 to 8192 bits"),
            (pem(include_str!("fixtures/secp256k1.pem")), "P-256 or P-384"),
            (pem(include_str!("fixtures/p521.pem")), "P-256 or P-384"),
            (pem(include_str!("fixtures/ed448.pem")), "Ed25519"),
            (url("keys.json"), "TIDINGS_JWKS_URL is no URL"),
            (url("file:///etc/keys.json"), "must begin with https://"),
            (url("ftp://localhost/keys.json"), "must begin with https://"),
        ] {
            let said = refusal(settings, advice);
            assert!(said.contains(advice), "{said:?} should contain {advice:?}");
            assert!(!said.contains(SECRET) && !said.contains("MFkw"), "{said:?} shows a key");
        }
    }
}
