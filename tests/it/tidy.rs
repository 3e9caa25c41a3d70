//! Holds what ARCHITECTURE.md promises about the source: which layer may use which, which dependency has its door
//! where, and how a file looks. Reads the source as text; the tests at the end show that it can fail.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer, which is a file or folder of `src/`, and the layers it may use. No layer uses one that comes later here.
const LAYERS: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("clock", &[]),
    ("error", &["ids"]),
    ("protocol", &["ids", "clock", "error"]),
    ("config", &["ids", "error", "protocol"]),
    ("telemetry", &["clock", "config"]),
    ("rate_limit", &["clock", "config"]),
    ("auth", &["ids", "clock", "error", "config"]),
    ("files", &["ids", "clock", "error", "config"]),
    ("hub", &["ids", "clock", "error", "protocol", "config"]),
    ("store", &["ids", "clock", "error", "protocol", "config", "auth", "files", "hub"]),
    ("chat", &["ids", "clock", "error", "protocol", "config", "auth", "files", "hub", "store"]),
    ("app", &["clock", "error", "protocol", "config", "rate_limit", "auth", "files", "hub", "store", "chat"]),
    ("socket", &["ids", "clock", "error", "protocol", "config", "auth", "hub", "store", "chat", "app"]),
    (
        "http",
        &[
            "ids",
            "clock",
            "error",
            "protocol",
            "config",
            "rate_limit",
            "auth",
            "files",
            "hub",
            "store",
            "chat",
            "app",
            "socket",
        ],
    ),
    ("commands", &["ids", "clock", "error", "protocol", "config", "auth", "telemetry", "app", "http"]),
    ("main", &["config", "commands"]),
    // A test of the whole, from within for the sake of time and chance.
    ("simulation", &["clock", "protocol", "config", "auth", "hub", "store", "chat", "app", "http"]),
    // Bugs planted for the tests to find; its macro may be used anywhere.
    ("planted", &[]),
    // The library's root names its modules and has nothing else.
    ("lib", &[]),
];

/// Dependencies that only some layers may name.
const DOORS: &[(&str, &[&str])] = &[
    ("axum", &["socket", "http"]),
    ("sqlx", &["store"]),
    ("jsonwebtoken", &["auth"]),
    ("clap", &["config"]),
    ("object_store", &["files"]),
    ("image", &["files"]),
    ("reqwest", &["auth", "files", "commands"]),
    ("tokio_tungstenite", &["socket", "commands", "simulation"]),
];

const LINES_MAX: usize = 500;
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

#[test]
fn every_layer_uses_only_what_lies_below_it() {
    assert_tidy(sources("src"), foreign_layers);
}

#[test]
fn every_dependency_has_its_door() {
    assert_tidy(sources("src"), foreign_doors);
}

#[test]
fn every_file_says_what_it_is_for_and_is_short_and_finished() {
    assert_tidy(["src", "tests", "fuzz/fuzz_targets"].into_iter().flat_map(sources), untidy);
}

#[test]
fn both_stores_have_the_same_migrations() {
    let names = |store: &str| {
        let entries = fs::read_dir(root().join("migrations").join(store)).expect("the migrations' folder");
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<_>>()
    };
    let (sqlite, postgres) = (names("sqlite"), names("postgres"));
    assert!(!sqlite.is_empty(), "there are no migrations");
    assert_eq!(sqlite, postgres);
}

#[test]
fn the_fuzzers_are_built_of_the_same_versions() {
    let packages = |path: &str| -> BTreeSet<String> {
        let text = fs::read_to_string(root().join(path)).expect("a lock file");
        let heads = text.split("[[package]]\n").skip(1).map(|package| package.lines().take(2).collect::<Vec<_>>());
        heads.map(|head| head.join(" ").replace("name = ", "").replace(" version = ", " ")).collect()
    };
    let (own, fuzzers) = (packages("Cargo.lock"), packages("fuzz/Cargo.lock"));
    let only_there: Vec<_> = fuzzers.difference(&own).collect();
    let expected = ["arbitrary", "libfuzzer-sys", "tidings-fuzz"];
    assert!(
        only_there.len() == expected.len()
            && expected.iter().all(|name| only_there.iter().any(|package| package.contains(name))),
        "copy Cargo.lock to fuzz/Cargo.lock, then `cargo metadata --manifest-path fuzz/Cargo.toml`: {only_there:?}"
    );
}

fn assert_tidy(files: impl IntoIterator<Item = Source>, check: fn(&Source) -> Vec<String>) {
    let files: Vec<_> = files.into_iter().collect();
    assert!(!files.is_empty(), "no source was found");
    let complaints: Vec<_> =
        files.iter().flat_map(|file| check(file).into_iter().map(|text| file.tell(&text))).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// A source file: its path below the repository's root, and its text.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The layer that a file of `src/` belongs to: `src/hub/topic.rs` and `src/hub.rs` belong to `hub`.
    fn layer(&self) -> &str {
        let first = self.path.components().nth(1).expect("a file below src/").as_os_str().to_str().unwrap();
        first.trim_end_matches(".rs")
    }

    /// How many `super`s lead from this file's module to the crate's root.
    fn depth(&self) -> usize {
        self.path.components().count() - 1 - usize::from(self.path.ends_with("mod.rs"))
    }

    fn tell(&self, complaint: &str) -> String {
        format!("{}: {complaint}", self.path.display())
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<Source> {
    let mut found = vec![];
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                found.push(Source { path: path.strip_prefix(root()).unwrap().to_owned(), text });
            }
        }
    }
    found
}

fn foreign_layers(file: &Source) -> Vec<String> {
    let Some((layer, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == file.layer()) else {
        return vec![format!("the layer `{}` is not in the table of tests/it/tidy.rs", file.layer())];
    };
    let tokens = tokens(&file.text);
    let mut used = names_below(&["crate", "::"], &tokens);
    used.extend(names_below(&["super", "::"].repeat(file.depth()), &tokens));
    if *layer == "main" {
        used.extend(names_below(&["tidings", "::"], &tokens));
    }
    let is_foreign =
        |name: &&str| LAYERS.iter().any(|(known, _)| known == name) && name != layer && !allowed.contains(name);
    used.into_iter().filter(is_foreign).map(|name| format!("`{layer}` may not use `{name}`")).collect()
}

fn foreign_doors(file: &Source) -> Vec<String> {
    // Tests may play the other side, such as a server of keys.
    if file.path.ends_with("tests.rs") {
        return vec![];
    }
    let tokens = tokens(&file.text);
    let is_named = |dependency: &str| {
        (0..tokens.len()).any(|at| {
            let before = at.checked_sub(1).map_or("", |before| tokens[before]);
            let after = tokens.get(at + 1).copied().unwrap_or_default();
            // `image::open` and `use image;` name the dependency, `crate::files::image` and a variable do not.
            tokens[at] == dependency && before != "::" && (after == "::" || before == "use")
        })
    };
    let closed = DOORS.iter().filter(|(_, layers)| !layers.contains(&file.layer()));
    closed
        .filter(|(name, _)| is_named(name))
        .map(|(name, layers)| format!("only {layers:?} may use `{name}`"))
        .collect()
}

fn untidy(file: &Source) -> Vec<String> {
    let mut complaints = vec![];
    if !file.text.starts_with("//!") {
        complaints.push("has no `//!` header that says what it is for".to_owned());
    }
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        complaints.push(format!("has {lines} lines; {LINES_MAX} is the most"));
    }
    let tokens = tokens(&file.text);
    for name in UNFINISHED {
        if tokens.windows(2).any(|window| window == [name, "!"]) {
            complaints.push(format!("has a `{name}!`"));
        }
    }
    complaints
}

/// The names right below a path, groups included: for `crate::`, `use crate::{ids, hub::{self, Topic}}` has `ids` and
/// `hub`.
fn names_below<'a>(path: &[&'a str], tokens: &[&'a str]) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for at in 0..tokens.len() {
        let Some(rest) = tokens[at..].strip_prefix(path) else { continue };
        if at > 0 && tokens[at - 1] == "::" {
            continue;
        }
        if rest.first() != Some(&"{") {
            names.extend(rest.first());
            continue;
        }
        let mut depth = 0;
        for pair in rest.windows(2) {
            match pair[0] {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if depth == 1 && matches!(pair[0], "{" | ",") {
                names.insert(pair[1]);
            }
        }
    }
    names
}

/// Rust source as words and signs (`::` is one), without comments and without the insides of literals.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = vec![];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal_length(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(&rest[..length]);
            length
        } else {
            let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                tokens.push(&rest[..length]);
            }
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// How long the string or character literal is that the text starts with, if it starts with one.
fn literal_length(text: &str) -> Option<usize> {
    let raw = text.trim_start_matches(['b', 'c']).strip_prefix('r').unwrap_or_default();
    let fence = raw.len() - raw.trim_start_matches('#').len();
    if raw[fence..].starts_with('"') {
        let start = text.len() - raw.len() + fence + 1;
        let end = format!("\"{}", "#".repeat(fence));
        return Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()));
    }
    let mut characters = text.char_indices();
    let (_, quote) = characters.next()?;
    if quote == '\'' {
        // A lifetime has no closing quote right after its first character.
        let (_, inside) = characters.next()?;
        if inside != '\\' {
            return characters.next().filter(|(_, end)| *end == '\'').map(|(at, _)| at + 1);
        }
        characters.next()?;
    } else if quote != '"' {
        return None;
    }
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            end if end == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

mod the_checks_can_fail {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.to_owned() }
    }

    #[test]
    fn a_layer_above_is_seen_however_it_is_named() {
        for text in [
            "use crate::chat::message;",
            "use crate::{ids, chat::{self, message}};",
            "use crate::{\n    hub::{Topic, Outbox},\n    chat,\n};",
            "fn f() { let x = \"//\"; crate::chat::send() }",
            "fn f<'a>(x: &'a str) { if x == '\"' { crate::chat::send() } }",
            "const X: &str = r#\"\"\"#; pub(crate) use crate::chat;",
        ] {
            assert_eq!(foreign_layers(&source("src/hub/topic.rs", text)), ["`hub` may not use `chat`"], "{text}");
        }
        assert_eq!(foreign_layers(&source("src/hub/mod.rs", "use super::chat;")).len(), 1);
        assert_eq!(foreign_layers(&source("src/main.rs", "use tidings::store;")).len(), 1);
        assert_eq!(foreign_layers(&source("src/http/user.rs", "use super::super::telemetry::X;")).len(), 1);
        assert_eq!(foreign_layers(&source("src/http/user.rs", "use super::super::{ids, telemetry};")).len(), 1);
        assert_eq!(foreign_layers(&source("src/helpers/mod.rs", "")).len(), 1);
    }

    #[test]
    fn what_is_allowed_passes() {
        for text in [
            "use crate::protocol::{self, chat::Message};",
            "use super::chat;",
            "mod tests { use super::super::testing; }",
            "// crate::chat would be wrong here\n/* crate::chat */",
            "const X: &str = \"crate::chat \\\" crate::chat\";",
            "const X: &str = r#\"a \" crate::chat\"#;",
            "use other::crate::chat;",
        ] {
            assert_eq!(foreign_layers(&source("src/hub/topic.rs", text)), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_dependency_that_goes_round_its_door_is_seen() {
        for text in ["use sqlx::Row;", "use sqlx;", "fn f() { sqlx::query(X) }", "#[derive(sqlx::FromRow)] struct X;"] {
            assert_eq!(foreign_doors(&source("src/chat/message.rs", text)).len(), 1, "{text}");
            assert_eq!(foreign_doors(&source("src/store/message.rs", text)), [""; 0], "{text}");
        }
        for text in ["crate::files::image::thumbnail(image)", "let image = image.width;", "// image::open"] {
            assert_eq!(foreign_doors(&source("src/chat/message.rs", text)), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_file_that_is_long_or_unfinished_or_without_a_header_is_seen() {
        let lines = |count| format!("//! A file.\n{}", "// x\n".repeat(count - 1));
        assert_eq!(untidy(&source("src/x.rs", &lines(LINES_MAX))), [""; 0]);
        assert_eq!(untidy(&source("src/x.rs", &lines(LINES_MAX + 1))).len(), 1);
        assert_eq!(untidy(&source("src/x.rs", "fn f() {}")).len(), 1);
        for name in UNFINISHED {
            assert_eq!(untidy(&source("src/x.rs", &format!("//! A file.\nfn f() {{ {name}!(); }}"))).len(), 1);
        }
    }

    #[test]
    fn the_table_of_layers_has_no_cycle() {
        for (at, (layer, allowed)) in LAYERS.iter().enumerate() {
            for name in *allowed {
                assert!(LAYERS[..at].iter().any(|(lower, _)| lower == name), "`{layer}` uses `{name}`");
            }
        }
    }
}
