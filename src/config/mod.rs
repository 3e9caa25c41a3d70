//! Settings: from flags, `TIDINGS_…` variables and a TOML file, parsed, then validated.
//!
//! Each setting is declared once, in `settings.rs`; its flag, variable, file key, help and its line
//! in docs/configuration.md follow from that. The only door to clap and to the TOML library.

mod kinds;
mod settings;
mod values;

pub use settings::{SETTINGS, Setting, Settings};
pub use values::{
    AttachmentStore, AttachmentTypes, ConversationsBy, JwtAlgorithm, LogFormat, LogLevel, NamedReaction, PublicUrl,
    Reactions, Secret,
};
