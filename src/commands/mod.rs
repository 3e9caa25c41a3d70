//! What each command of the program does, a file per command. Reads no flag and no variable by itself.

mod chat;
mod client;
mod close_codes;
mod doctor;
mod http_answer;
mod token;

use anyhow::{Context, Result, bail};

use crate::auth::{self, AuthSettings};
use crate::clock::Clock;
use crate::config::{Command, Settings};

/// Runs a command; whether it ended well.
pub async fn run(command: Command) -> Result<bool> {
    let mut out = std::io::stdout();
    match command {
        Command::Serve(_) => bail!("`serve` is not built in yet"),
        Command::Demo(_) => bail!("`demo` is not built in yet"),
        Command::Migrate(_) => bail!("`migrate` is not built in yet"),
        Command::Token { settings, holder } => {
            println!("{}", token::mint(&settings, &holder, &Clock::system())?);
            Ok(true)
        }
        Command::Doctor { settings, target } => doctor::examine(&settings, &target, &Clock::system(), &mut out).await,
        Command::Chat(target) => {
            let input = tokio::io::BufReader::new(tokio::io::stdin());
            // Where ctrl-c cannot be listened for it ends the process by itself.
            let quit = async {
                if tokio::signal::ctrl_c().await.is_err() {
                    std::future::pending().await
                }
            };
            chat::run(&target, input, quit, &mut out).await
        }
    }
}

/// What the settings say about tokens, with the key file's contents.
fn auth_settings(settings: &Settings) -> Result<AuthSettings> {
    let secrets = [&settings.jwt_secret, &settings.jwt_secret_previous];
    let read = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path)
            .with_context(|| format!("TIDINGS_JWT_PUBLIC_KEY_FILE: {} cannot be read", path.display()))
    };
    Ok(AuthSettings {
        algorithms: settings
            .jwt_algorithms
            .iter()
            .map(|algorithm| auth::parse_algorithm(algorithm.as_str()))
            .collect::<Result<_>>()?,
        secrets: secrets.into_iter().flatten().map(|secret| secret.expose().into()).collect(),
        public_key_pem: settings.jwt_public_key_file.as_ref().map(read).transpose()?,
        jwks_url: settings.jwks_url.clone(),
        issuer: settings.jwt_issuer.clone(),
        audience: settings.jwt_audience.clone(),
        user_claim: settings.jwt_user_claim.clone(),
        leeway: settings.jwt_leeway,
    })
}

/// Text from the network, fit for a terminal: what could steer it is shown as an escape.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn text_from_the_network_cannot_steer_the_terminal() {
        assert_eq!(super::printable("grün 👍\u{1b}[2J\r\n\u{9b}"), r"grün 👍\u{1b}[2J\r\n\u{9b}");
    }
}
