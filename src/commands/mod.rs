//! What each command of the program does, a file per command. Reads no flag and no variable by itself.

mod chat;
mod client;
mod close_codes;
mod demo;
mod doctor;
mod http_answer;
mod migrate;
mod serve;
mod token;

use anyhow::Result;

use crate::clock::Clock;
use crate::config::Command;

/// Runs a command; whether it ended well.
pub async fn run(command: Command) -> Result<bool> {
    let mut out = std::io::stdout();
    match command {
        Command::Serve(settings) => serve::run(settings).await.map(|()| true),
        Command::Demo(settings) => demo::run(settings).await.map(|()| true),
        Command::Migrate(settings) => migrate::run(settings).await.map(|()| true),
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
