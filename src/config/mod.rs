//! Settings: from flags, `TIDINGS_…` variables and a TOML file, parsed, then validated.
//!
//! Each setting is declared once, in `settings.rs`; its flag, variable, file key, help and its line
//! in docs/configuration.md follow from that. The only door to clap and to the TOML library.

mod command_line;
mod kinds;
#[cfg(test)]
mod reference;
mod settings;
mod sources;
mod values;

pub use command_line::{ChatTarget, Command, DoctorTarget, Stop, TokenHolder, command};
pub use settings::Settings;
pub use sources::{Problems, SettingsFile, Sources};
pub use values::{
    AttachmentStore, AttachmentTypes, ConversationsBy, JwtAlgorithm, LogFormat, LogLevel, NamedReaction, PublicUrl,
    Reactions, Secret,
};
