//! Writes docs/configuration.md out of the settings' declarations.

use super::settings::{SETTINGS, Setting};

const INTRODUCTION: &str = "\
# Configuration

<!-- Written from src/config/settings.rs by `UPDATE_GENERATED=1 cargo test configuration_reference_is_current`. -->

Each setting can be given in three ways. The first that has it wins, setting by setting:

1. a flag of the command: `tidings serve --admin-listen off`
2. a variable: `TIDINGS_ADMIN_LISTEN=off` (an empty one counts as not set)
3. a key in `tidings.toml` of the working folder, or of the file named by `--config FILE`: `admin_listen = \"off\"`

An unknown flag, variable that begins with `TIDINGS_`, or key is refused, and so is a value that makes no sense;
the message says where it was found and what is allowed. All problems are told at once, and nothing starts.

Times are a number with `ms`, `s`, `m`, `h` or `d`. Sizes are bytes, or a number with `kB`, `MB`, `GB` (thousands) or
`KiB`, `MiB`, `GiB` (1024). In the file, counts and sizes may be numbers, switches `true` or `false`, lists arrays.
";

/// The whole page.
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_string();
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            page += &format!("\n## {section}\n\n| setting | default | allowed | meaning |\n|---|---|---|---|\n");
        }
        page += &row(setting);
    }
    page
}

fn row(setting: &Setting) -> String {
    let default = match setting.default {
        "" => "none".to_string(),
        text => format!("`{}`", text.replace(',', ", ")),
    };
    let names = format!("`{}`<br>`--{}`<br>`{}`", setting.variable(), setting.flag(), setting.name);
    format!("| {names} | {default} | {} | {} |\n", setting.allowed.replace('*', "\\*"), setting.meaning.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_reference_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(path, reference()).expect("docs/ is writable");
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == reference(), "docs/configuration.md is stale; run this test with UPDATE_GENERATED=1");
    }

    #[test]
    fn every_setting_has_a_meaning_that_is_a_sentence() {
        for setting in SETTINGS {
            assert!(setting.meaning.ends_with('.'), "{}", setting.name);
        }
    }
}
