//! From the program's settings to what tokens must be.

use anyhow::{Context, Result};

use super::{AuthSettings, parse_algorithm};
use crate::config::Settings;

impl AuthSettings {
    /// What the settings say about tokens, with the key file's contents.
    pub fn configured(settings: &Settings) -> Result<Self> {
        let secrets = [&settings.jwt_secret, &settings.jwt_secret_previous];
        let read = |path: &std::path::PathBuf| {
            std::fs::read_to_string(path)
                .with_context(|| format!("TIDINGS_JWT_PUBLIC_KEY_FILE: {} cannot be read", path.display()))
        };
        Ok(Self {
            algorithms: settings
                .jwt_algorithms
                .iter()
                .map(|algorithm| parse_algorithm(algorithm.as_str()))
                .collect::<Result<_>>()?,
            secrets: secrets.into_iter().flatten().cloned().collect(),
            public_key_pem: settings.jwt_public_key_file.as_ref().map(read).transpose()?,
            jwks_url: settings.jwks_url.clone(),
            issuer: settings.jwt_issuer.clone(),
            audience: settings.jwt_audience.clone(),
            user_claim: settings.jwt_user_claim.clone(),
            leeway: settings.jwt_leeway,
        })
    }
}
