//! Where the texts of settings come from: flags, then `TIDINGS_…` variables, then the file; the first
//! that has one wins. Names what is unknown and where a bad value was found. Knows no single setting.

use std::collections::HashMap;

use toml::{Table, Value};

use super::settings::{Lookup, SETTINGS, Settings};

const PREFIX: &str = "TIDINGS_";
/// How much alike two names are of which one may be meant by the other, of 1 for the same.
const LIKENESS_MIN: f64 = 0.8;

/// Settings that belong to the contract and that this version does not have, each with what to do instead.
const LATER: &[(&str, &str)] = &[
    ("redis_url", "several servers cannot form one system yet; run a single one without it"),
    ("tls_cert_file", "it does not speak TLS itself yet; put a proxy that does in front of it"),
    ("tls_key_file", "it does not speak TLS itself yet; put a proxy that does in front of it"),
    ("adapter_emails", "it has no routes yet that would show e-mail addresses"),
];

/// The names of the settings that are known only to be refused.
pub(super) fn later_names() -> impl Iterator<Item = &'static str> {
    LATER.iter().map(|(name, _)| *name)
}

/// Everything that was found wrong with the settings, one sentence a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Problems(pub Vec<String>);

/// What was given, unparsed.
#[derive(Default)]
pub struct Sources {
    /// Setting name and text.
    pub flags: HashMap<String, String>,
    /// The process's variables; those of other programs are passed over, and empty ones count as not set.
    pub variables: HashMap<String, String>,
    pub file: Option<SettingsFile>,
}

/// A settings file: its name, for messages, and its text.
pub struct SettingsFile {
    pub name: String,
    pub text: String,
}

impl Sources {
    /// The settings, or all that is wrong with them.
    pub fn settings(self) -> Result<Settings, Problems> {
        let mut layers = Layers { flags: self.flags, variables: self.variables, ..Layers::default() };
        layers.variables.retain(|name, text| name.starts_with(PREFIX) && !text.is_empty());
        if let Some(file) = self.file {
            layers.file_name = file.name;
            match file.text.parse() {
                Ok(table) => layers.file = table,
                Err(error) => layers.problems.push(syntax_problem(&layers.file_name, &file.text, &error)),
            }
        }
        layers.refuse_unknown_names();
        let settings = Settings::read(&mut layers);
        if layers.problems.is_empty() { Ok(settings) } else { Err(Problems(layers.problems)) }
    }
}

/// What is wrong and in which line, without the line itself: it may hold a secret.
fn syntax_problem(file_name: &str, text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
    format!("{file_name}, line {line}: {}", error.message())
}

#[derive(Default)]
struct Layers {
    flags: HashMap<String, String>,
    variables: HashMap<String, String>,
    file_name: String,
    file: Table,
    problems: Vec<String>,
}

impl Layers {
    fn refuse_unknown_names(&mut self) {
        let variables = self.variables.keys().map(|variable| {
            (variable.clone(), variable[PREFIX.len()..].to_ascii_lowercase(), variable_name as fn(&str) -> String)
        });
        let keys = self.file.keys().map(|key| (self.key_place(key), key.clone(), str::to_string as fn(&str) -> String));
        let flags = self.flags.keys().map(|name| (flag_name(name), name.clone(), flag_name as fn(&str) -> String));
        let mut problems: Vec<String> = flags
            .chain(variables)
            .chain(keys)
            .filter_map(|(place, name, spell)| name_problem(&place, &name, spell))
            .collect();
        problems.sort();
        self.problems.extend(problems);
    }

    fn key_place(&self, key: &str) -> String {
        format!("`{key}` in {}", self.file_name)
    }

    /// Where the text of a setting was found.
    fn place(&self, name: &str) -> String {
        let variable = variable_name(name);
        if self.flags.contains_key(name) {
            flag_name(name)
        } else if self.variables.contains_key(&variable) {
            variable
        } else {
            self.key_place(name)
        }
    }
}

impl Lookup for Layers {
    fn text(&mut self, name: &'static str) -> Option<String> {
        if let Some(text) = self.flags.get(name).or_else(|| self.variables.get(&variable_name(name))) {
            return Some(text.clone());
        }
        let text = value_text(self.file.get(name)?);
        if text.is_none() {
            self.refuse(name, "must be a text, a number, true, false or a list of texts".into());
        }
        text
    }

    fn refuse(&mut self, name: &'static str, problem: String) {
        self.problems.push(format!("{}: {problem}", self.place(name)));
    }
}

/// A file's value as it would be written in a variable.
fn value_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(true) => Some("on".into()),
        Value::Boolean(false) => Some("off".into()),
        Value::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(String::from)).collect();
            Some(texts?.join(","))
        }
        Value::Table(_) | Value::Datetime(_) => None,
    }
}

fn variable_name(name: &str) -> String {
    format!("{PREFIX}{}", name.to_ascii_uppercase())
}

fn flag_name(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

/// What is wrong with a name, where something is; `spell` writes a setting's name as its source does.
fn name_problem(place: &str, name: &str, spell: fn(&str) -> String) -> Option<String> {
    if SETTINGS.iter().any(|setting| setting.name == name) {
        return None;
    }
    if let Some((_, instead)) = LATER.iter().find(|(later, _)| *later == name) {
        return Some(format!("{place}: this version does not have this setting: {instead}"));
    }
    let alike = SETTINGS.iter().map(|setting| (strsim::jaro_winkler(setting.name, name), setting.name));
    let closest = alike.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(likeness, _)| *likeness >= LIKENESS_MIN);
    let closest = closest.map(|(_, name)| format!("; the closest is {}", spell(name))).unwrap_or_default();
    Some(format!("{place}: there is no such setting{closest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect()
    }

    fn from_variables(variables: &[(&str, &str)]) -> Result<Settings, Problems> {
        Sources { variables: pairs(variables), ..Sources::default() }.settings()
    }

    fn from_file(text: &str) -> Result<Settings, Problems> {
        let file = Some(SettingsFile { name: "tidings.toml".into(), text: text.into() });
        Sources { file, ..Sources::default() }.settings()
    }

    fn problem(result: Result<Settings, Problems>) -> String {
        result.expect_err("must be refused").to_string()
    }

    /// For each setting a text that is not its default, as a variable would have it, and one that is refused.
    const SAMPLES: &[(&str, &str, Option<&str>)] = &[
        ("listen", "127.0.0.1:0", Some("8000")),
        ("admin_listen", "off", Some("localhost")),
        ("public_url", "https://chat.example", Some("ftp://chat.example")),
        ("allowed_origins", "https://a.example,https://b.example:8443", Some("a.example")),
        ("trusted_proxies", "10.0.0.0/8,::1", Some("10.0.0.0/33")),
        ("database_url", "postgres://chat@db/chat", Some("mysql://db/chat")),
        ("data_dir", "/var/lib/tidings", Some("")),
        ("migrate", "off", Some("maybe")),
        ("attachment_store", "s3://bucket/prefix", Some("gs://bucket")),
        ("jwt_secret", "hush", None),
        ("jwt_secret_previous", "hush-hush", None),
        ("jwt_public_key_file", "/etc/tidings/key.pem", None),
        ("jwks_url", "https://platform.example/jwks.json", Some("file:///jwks.json")),
        ("jwt_algorithms", "RS256,EdDSA", Some("none")),
        ("jwt_issuer", "platform", None),
        ("jwt_audience", "chat", None),
        ("jwt_user_claim", "sub", Some(" ")),
        ("jwt_leeway", "5s", Some("5")),
        ("api_key", "first,second", Some(",")),
        ("conversations_by", "platform", Some("nobody")),
        ("reactions", "*", Some("like")),
        ("attachment_types", "image/png", Some("png")),
        ("text_chars_max", "off", Some("0")),
        ("attachment_bytes_max", "1MiB", Some("1 furlong")),
        ("attachments_per_message_max", "1", Some("1.5")),
        ("participants_max", "50", Some("-1")),
        ("attachment_link_lifetime", "1h", Some("off")),
        ("events_retention", "30d", Some("0s")),
        ("typing_expiry", "3s", Some("off")),
        ("presence_grace", "0s", Some("soon")),
        ("heartbeat_interval", "off", Some("0s")),
        ("token_warning", "30s", Some("30 fortnights")),
        ("drain_time", "0s", Some("20")),
        ("frame_bytes_max", "1KiB", Some("1023")),
        ("request_bytes_max", "off", Some("0")),
        ("outbox_bytes_max", "64KiB", Some("off")),
        ("outbox_frames_max", "16", Some("off")),
        ("connections_per_user_max", "off", Some("none")),
        ("connections_max", "1000", Some("0")),
        ("handshakes_per_second_max", "off", Some("1000000001")),
        ("handshakes_per_address_max", "7", Some("7/s")),
        ("commands_per_second_max", "7", Some("-7")),
        ("requests_per_second_max", "7", Some("")),
        ("log", "debug", Some("loud")),
        ("log_format", "json", Some("xml")),
    ];

    #[test]
    fn every_setting_has_a_sample() {
        let sampled: Vec<&str> = SAMPLES.iter().map(|(name, ..)| *name).collect();
        let declared: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(sampled, declared);
    }

    #[test]
    fn every_setting_is_read_from_flag_variable_and_file() {
        let default = format!("{:?}", Settings::default());
        for (name, text, _) in SAMPLES {
            let flag = Sources { flags: pairs(&[(name, text)]), ..Sources::default() }.settings();
            let variable = from_variables(&[(&variable_name(name), text)]);
            let key = from_file(&format!("{name} = {text:?}"));
            for (source, settings) in [("flag", flag), ("variable", variable), ("file", key)] {
                let settings = settings.unwrap_or_else(|problems| panic!("{name} from {source}: {problems}"));
                assert_ne!(format!("{settings:?}"), default, "{name} from {source}");
            }
        }
    }

    #[test]
    fn a_bad_value_is_refused_with_its_place_and_what_is_allowed() {
        for (name, _, bad) in SAMPLES {
            let Some(bad) = bad else { continue };
            let allowed = SETTINGS.iter().find(|setting| setting.name == *name).map(|setting| setting.allowed);
            let allowed = format!("allowed is {}", allowed.unwrap_or_default());
            let flag = problem(Sources { flags: pairs(&[(name, bad)]), ..Sources::default() }.settings());
            assert!(flag.starts_with(&format!("{}: ", flag_name(name))) && flag.ends_with(&allowed), "{flag}");
            let key = problem(from_file(&format!("{name} = {bad:?}")));
            assert!(key.starts_with(&format!("`{name}` in tidings.toml: ")) && key.ends_with(&allowed), "{key}");
            if !bad.is_empty() {
                let variable = problem(from_variables(&[(&variable_name(name), bad)]));
                let place = format!("{}: ", variable_name(name));
                assert!(variable.starts_with(&place) && variable.ends_with(&allowed), "{variable}");
            }
        }
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_a_variable_over_the_file_key_by_key() {
        let settings = Sources {
            flags: pairs(&[("data_dir", "flag")]),
            variables: pairs(&[("TIDINGS_DATA_DIR", "variable"), ("TIDINGS_JWT_ISSUER", "variable")]),
            file: Some(SettingsFile {
                name: "tidings.toml".into(),
                text: "data_dir = 'file'\njwt_issuer = 'file'\njwt_audience = 'file'".into(),
            }),
        }
        .settings()
        .expect("valid");
        assert_eq!(settings.data_dir.to_str(), Some("flag"));
        assert_eq!(settings.jwt_issuer.as_deref(), Some("variable"));
        assert_eq!(settings.jwt_audience.as_deref(), Some("file"));
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let settings = from_variables(&[("TIDINGS_LISTEN", ""), ("TIDINGS_REDIS_URL", ""), ("TIDINGS_LITSEN", "")]);
        assert_eq!(settings.expect("valid").listen, Settings::default().listen);
    }

    #[test]
    fn unknown_names_are_refused_with_the_closest_one() {
        let variable = problem(from_variables(&[("TIDINGS_LITSEN", "127.0.0.1:1"), ("OTHER_PROGRAM", "1")]));
        assert_eq!(variable, "TIDINGS_LITSEN: there is no such setting; the closest is TIDINGS_LISTEN");
        let key = problem(from_file("heartbeat = '25s'"));
        assert_eq!(key, "`heartbeat` in tidings.toml: there is no such setting; the closest is heartbeat_interval");
    }

    #[test]
    fn a_name_that_none_is_like_gets_no_suggestion() {
        for name in ["TIDINGS_NOPE", "TIDINGS_PASSWORD", "TIDINGS_X"] {
            assert_eq!(problem(from_variables(&[(name, "1")])), format!("{name}: there is no such setting"));
        }
        for (name, meant) in [
            ("TIDINGS_DATABSE_URL", "TIDINGS_DATABASE_URL"),
            ("TIDINGS_DATABASE", "TIDINGS_DATABASE_URL"),
            ("TIDINGS_API_KEYS", "TIDINGS_API_KEY"),
            ("TIDINGS_JWT_SECRETS", "TIDINGS_JWT_SECRET"),
            ("TIDINGS_LOG_LEVEL", "TIDINGS_LOG"),
            ("TIDINGS_CONNECTION_MAX", "TIDINGS_CONNECTIONS_MAX"),
        ] {
            assert!(problem(from_variables(&[(name, "1")])).ends_with(&format!("the closest is {meant}")), "{name}");
        }
    }

    #[test]
    fn settings_of_a_later_version_are_refused_as_such() {
        for name in later_names() {
            let refusal = problem(from_variables(&[(&variable_name(name), "x")]));
            assert!(refusal.contains("this version does not have this setting"), "{refusal}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let refusal = problem(from_file("listen = 1\nmigrate = 'x'\nlitsen = 1"));
        assert_eq!(refusal.lines().count(), 3, "{refusal}");
    }

    #[test]
    fn a_file_takes_numbers_booleans_and_lists() {
        let text = "frame_bytes_max = 2048\nmigrate = false\napi_key = ['a', 'b']\nconnections_max = 'off'";
        let settings = from_file(text).expect("valid");
        assert_eq!(settings.frame_bytes_max, Some(2048));
        assert!(!settings.migrate);
        assert_eq!(settings.api_key.iter().map(|key| key.expose()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(settings.connections_max, None);
        let refusal = problem(from_file("[reactions]\nlike = '👍'"));
        assert!(refusal.starts_with("`reactions` in tidings.toml: must be a text"), "{refusal}");
    }

    #[test]
    fn a_syntax_error_names_its_line_and_does_not_show_it() {
        let refusal = problem(from_file("listen = '127.0.0.1:0'\njwt_secret = 'hush\n"));
        assert!(refusal.starts_with("tidings.toml, line 2: "), "{refusal}");
        assert!(!refusal.contains("hush"), "{refusal}");
    }

    #[test]
    fn secrets_show_in_neither_debug_output_nor_errors() {
        let settings = from_variables(&[
            ("TIDINGS_JWT_SECRET", "hush"),
            ("TIDINGS_JWT_SECRET_PREVIOUS", "hush"),
            ("TIDINGS_API_KEY", "hush,hush"),
            ("TIDINGS_DATABASE_URL", "postgres://chat:hush@db/chat"),
        ]);
        assert!(!format!("{:?}", settings.expect("valid")).contains("hush"));
        let refusal = problem(from_variables(&[("TIDINGS_DATABASE_URL", "mysql://chat:hush@db/chat")]));
        assert!(!refusal.contains("hush"), "{refusal}");
    }
}
