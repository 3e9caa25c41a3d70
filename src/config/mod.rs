//! Settings: from flags, `TIDINGS_…` variables and a TOML file, parsed, then validated.
