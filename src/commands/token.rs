//! `tidings token`: mints a token with the configured secret, for trying things by hand.

use crate::auth::{self, AuthSettings, Names};
use crate::clock::Clock;
use crate::config::{Settings, TokenHolder};

/// The token. Names that were not given are left out of it.
pub fn mint(settings: &Settings, holder: &TokenHolder, clock: &Clock) -> anyhow::Result<String> {
    let given = |name: &str| Some(name.to_string()).filter(|name| !name.is_empty());
    let names = Names {
        first_name: given(&holder.first_name),
        last_name: given(&holder.last_name),
        username: given(&holder.username),
    };
    auth::mint(&AuthSettings::configured(settings)?, holder.user_id, &names, clock.now_s(), holder.expires_in)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::Verifier;

    use crate::config::Secret;

    fn holder() -> TokenHolder {
        TokenHolder {
            user_id: 7,
            expires_in: Duration::from_secs(60),
            first_name: "Ada".into(),
            last_name: String::new(),
            username: String::new(),
        }
    }

    #[tokio::test]
    async fn a_minted_token_is_accepted_until_it_expires() {
        let settings = Settings { jwt_secret: Some(Secret::new("a secret of this test")), ..Settings::default() };
        let clock = Clock::manual(1_800_000_000_000);
        let token = mint(&settings, &holder(), &clock).expect("a token");
        let verifier = Verifier::new(AuthSettings::configured(&settings).expect("valid"), clock.clone());
        let verifier = verifier.expect("a key is set");
        let verified = verifier.verify(&token).await.expect("accepted");
        assert_eq!((verified.user_id, verified.expires_at), (7, 1_800_000_060));
        assert_eq!(verified.names, Names { first_name: Some("Ada".into()), last_name: None, username: None });
        clock.advance_ms(60_000);
        assert!(verifier.verify(&token).await.is_err());
    }

    #[test]
    fn without_a_secret_the_refusal_says_how_to_give_one() {
        let refusal = mint(&Settings::default(), &holder(), &Clock::manual(0)).expect_err("no secret");
        assert!(refusal.to_string().contains("TIDINGS_JWT_SECRET"), "{refusal}");
    }

    #[test]
    fn a_key_file_that_is_missing_is_named() {
        let settings = Settings { jwt_public_key_file: Some("/nonexistent/key.pem".into()), ..Settings::default() };
        let refusal = AuthSettings::configured(&settings).expect_err("no such file");
        assert!(refusal.to_string().contains("/nonexistent/key.pem"), "{refusal}");
    }
}
