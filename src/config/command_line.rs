//! The command line: which command was asked for, with which settings. The only file that knows clap.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgMatches, Args, FromArgMatches};

use super::kinds;
use super::settings::{SETTINGS, Setting, Settings};
use super::sources::{Problems, SettingsFile, Sources, later_names};
use super::values::Secret;

/// The file that is read from the working folder when no other is named.
const FILE_NAME: &str = "tidings.toml";

/// What the program was asked to do.
#[derive(Debug)]
pub enum Command {
    Serve(Settings),
    Demo(Settings),
    Migrate(Settings),
    Token { settings: Settings, holder: TokenHolder },
    Doctor { settings: Settings, target: DoctorTarget },
    Chat(ChatTarget),
}

/// Whom a token is minted for.
#[derive(Args, Clone, Debug)]
pub struct TokenHolder {
    /// The user's id.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i64).range(1..crate::ids::ID_END))]
    pub user_id: i64,
    /// How long the token is good.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = kinds::time)]
    pub expires_in: Duration,
    #[arg(long, value_name = "NAME", default_value = "")]
    pub first_name: String,
    #[arg(long, value_name = "NAME", default_value = "")]
    pub last_name: String,
    #[arg(long, value_name = "NAME", default_value = "")]
    pub username: String,
}

/// The connection that is examined.
#[derive(Args, Clone, Debug)]
pub struct DoctorTarget {
    /// The socket's address, such as ws://127.0.0.1:8000/ws/chat/1/.
    // Secret, because a token may be in its query.
    #[arg(long, value_parser = secret)]
    pub url: Secret,
    /// The user's token; without it, only how the server answers a missing one is examined.
    #[arg(long, value_parser = secret)]
    pub token: Option<Secret>,
    /// The origin that a browser would send, such as `https://www.example.com`.
    #[arg(long)]
    pub origin: Option<String>,
}

/// Where to chat, and as whom.
#[derive(Args, Clone, Debug)]
pub struct ChatTarget {
    /// The socket's address, such as ws://127.0.0.1:8000/ws/chat/1/.
    // Secret, because a token may be in its query.
    #[arg(long, value_parser = secret)]
    pub url: Secret,
    /// The user's token.
    #[arg(long, value_parser = secret)]
    pub token: Secret,
}

fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

/// Why no command came of the command line; `--help` and `--version` are such reasons too.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    #[error(transparent)]
    Settings(#[from] Problems),
}

impl Stop {
    /// 0 for help and version, 2 for everything that was refused.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::CommandLine(error) if error.exit_code() == 0 => 0,
            _ => 2,
        }
    }

    /// Prints it where it belongs: help on stdout, refusals on stderr.
    pub fn print(&self) {
        match self {
            // A pipe that breaks while help is printed is nobody's problem.
            Self::CommandLine(error) => drop(error.print()),
            Self::Settings(Problems(problems)) => problems.iter().for_each(|problem| eprintln!("error: {problem}")),
        }
    }
}

/// The command that this process was started with, its settings taken from all sources.
pub fn command() -> Result<Command, Stop> {
    let mut variables = HashMap::new();
    for (name, text) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("TIDINGS_")) else { continue };
        let text = text.into_string().map_err(|_| Problems(vec![format!("{name}: is not UTF-8")]))?;
        variables.insert(name.to_string(), text);
    }
    parse(std::env::args_os(), variables, Path::new(""))
}

fn parse(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    variables: HashMap<String, String>,
    folder: &Path,
) -> Result<Command, Stop> {
    let matches = program().try_get_matches_from(args)?;
    let (name, matches) = matches.subcommand().expect("clap requires a command");
    let settings = || settings(matches, variables, folder);
    Ok(match name {
        "serve" => Command::Serve(settings()?),
        "demo" => Command::Demo(settings()?),
        "migrate" => Command::Migrate(settings()?),
        "token" => Command::Token { settings: settings()?, holder: TokenHolder::from_arg_matches(matches)? },
        "doctor" => Command::Doctor { settings: settings()?, target: DoctorTarget::from_arg_matches(matches)? },
        _ => Command::Chat(ChatTarget::from_arg_matches(matches)?),
    })
}

fn settings(matches: &ArgMatches, variables: HashMap<String, String>, folder: &Path) -> Result<Settings, Problems> {
    let flag = |name: &str| Some((name.to_string(), matches.try_get_one::<String>(name).ok()??.clone()));
    let flags = SETTINGS.iter().map(|setting| setting.name).chain(later_names()).filter_map(flag).collect();
    let file = read_file(matches.get_one::<PathBuf>("config"), folder)?;
    Sources { flags, variables, file }.settings()
}

/// The file that was named, which must be there, or that of the working folder, which need not.
fn read_file(named: Option<&PathBuf>, folder: &Path) -> Result<Option<SettingsFile>, Problems> {
    let path = named.cloned().unwrap_or_else(|| folder.join(FILE_NAME));
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(SettingsFile { name: path.display().to_string(), text })),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Problems(vec![format!("{}: cannot be read: {error}", path.display())])),
    }
}

fn program() -> clap::Command {
    clap::Command::new("tidings")
        .version(env!("CARGO_PKG_VERSION"))
        .about(env!("CARGO_PKG_DESCRIPTION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            with_settings(clap::Command::new("demo"), |_| true)
                .about("Try it: a server with sample users and a bot, in a temporary folder that goes with it"),
        )
        .subcommand(with_settings(clap::Command::new("serve"), |_| true).about("Run the server"))
        .subcommand(
            with_settings(clap::Command::new("migrate"), |_| true).about("Bring the database up to date, then end"),
        )
        .subcommand(
            with_settings(TokenHolder::augment_args(clap::Command::new("token")), about_tokens)
                .about("Mint a token with the configured secret"),
        )
        .subcommand(
            with_settings(DoctorTarget::augment_args(clap::Command::new("doctor")), about_tokens)
                .about("Say step by step why a connection is accepted or refused"),
        )
        .subcommand(ChatTarget::augment_args(clap::Command::new("chat")).about("Chat in the terminal"))
}

fn about_tokens(setting: &Setting) -> bool {
    setting.section == "Tokens"
}

/// Adds `--config` and a flag for each setting that the command is about.
fn with_settings(command: clap::Command, is_about: fn(&Setting) -> bool) -> clap::Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help(format!("The settings file, in place of {FILE_NAME} in the working folder"));
    let flags = SETTINGS.iter().filter(|setting| is_about(setting)).map(settings_flag);
    // Known here only so that they are refused with the reason, as they are elsewhere.
    let later = later_names().map(|name| Arg::new(name).long(name.replace('_', "-")).hide(true));
    command.arg(config).args(flags).args(later)
}

fn settings_flag(setting: &Setting) -> Arg {
    let default = if setting.default.is_empty() { "none" } else { setting.default };
    let short = format!("{} [default: {default}]", setting.meaning.trim());
    let long = format!("{short}\n\nAllowed is {}. Also {}.", setting.allowed, setting.variable());
    Arg::new(setting.name)
        .long(setting.flag())
        .value_name("VALUE")
        .allow_hyphen_values(true)
        .help_heading(setting.section)
        .help(short)
        .long_help(long)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Command, Stop> {
        run_in(line, &[], Path::new("/nonexistent"))
    }

    fn run_in(line: &str, variables: &[(&str, &str)], folder: &Path) -> Result<Command, Stop> {
        let variables = variables.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        parse(line.split_whitespace(), variables, folder)
    }

    #[test]
    fn the_program_is_consistent() {
        program().debug_assert();
    }

    #[test]
    fn serve_demo_and_migrate_take_every_setting_as_a_flag() {
        for name in ["serve", "demo", "migrate"] {
            let line = format!("tidings {name} --listen 127.0.0.1:0 --heartbeat-interval 1s --log debug");
            let (Command::Serve(settings) | Command::Demo(settings) | Command::Migrate(settings)) =
                run(&line).expect("valid")
            else {
                panic!("{name} became another command")
            };
            assert_eq!(settings.listen.port(), 0);
            assert_eq!(settings.heartbeat_interval, Some(Duration::from_secs(1)));
        }
    }

    #[test]
    fn a_bad_flag_of_any_kind_stops_with_its_name() {
        for (line, named) in [
            ("tidings serve --litsen x", "--litsen"),
            ("tidings serve --listen x", "--listen: `x` is no address"),
            ("tidings serve --listen", "--listen"),
            ("tidings serve --redis-url redis://x", "--redis-url: this version does not have"),
            ("tidings serve --connections-max -1", "--connections-max: `-1`"),
            ("tidings token --user-id 0", "--user-id"),
            ("tidings token --user-id 7 --expires-in 0s", "--expires-in"),
            ("tidings token", "--user-id"),
            ("tidings doctor", "--url"),
            ("tidings chat --url ws://x", "--token"),
            ("tidings sevre", "sevre"),
        ] {
            let stop = run(line).expect_err(line);
            assert!(stop.to_string().contains(named), "{line}: {stop}");
            assert_eq!(stop.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn help_and_version_are_no_failures() {
        for line in ["tidings --help", "tidings --version", "tidings serve --help", "tidings token -h"] {
            assert_eq!(run(line).expect_err(line).exit_code(), 0, "{line}");
        }
    }

    #[test]
    fn the_help_of_serve_says_meaning_default_and_variable_of_each_setting() {
        let help = run("tidings serve --help").expect_err("help").to_string();
        for setting in SETTINGS {
            for part in [format!("--{}", setting.flag()), setting.variable()] {
                assert!(help.contains(&part), "{part}");
            }
        }
    }

    #[test]
    fn token_and_doctor_read_variables_and_keep_the_token_out_of_debug_output() {
        let variables = [("TIDINGS_JWT_SECRET", "hush")];
        let line = "tidings token --user-id 7 --expires-in 5m --first-name Ada";
        let Ok(Command::Token { settings, holder }) = run_in(line, &variables, Path::new("/nonexistent")) else {
            panic!("no token command")
        };
        assert_eq!(settings.jwt_secret, Some(Secret::new("hush")));
        assert_eq!((holder.user_id, holder.expires_in.as_secs(), holder.first_name.as_str()), (7, 300, "Ada"));
        let doctor = run("tidings doctor --url ws://x/ --token hush --origin https://y").expect("valid");
        assert!(!format!("{doctor:?}").contains("hush"));
    }

    #[test]
    fn the_file_of_the_working_folder_is_read_unless_another_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let other = folder.path().join("other.toml");
        std::fs::write(folder.path().join(FILE_NAME), "jwt_issuer = 'folder'").expect("writable");
        std::fs::write(&other, "jwt_issuer = 'other'").expect("writable");
        let issuer = |line: &str| match run_in(line, &[], folder.path()) {
            Ok(Command::Serve(settings)) => settings.jwt_issuer.unwrap_or_default(),
            result => panic!("{result:?}"),
        };
        assert_eq!(issuer("tidings serve"), "folder");
        assert_eq!(issuer(&format!("tidings serve --config {}", other.display())), "other");
        let missing = run("tidings serve --config /nonexistent/tidings.toml").expect_err("missing");
        assert!(missing.to_string().starts_with("/nonexistent/tidings.toml: cannot be read"), "{missing}");
    }
}
