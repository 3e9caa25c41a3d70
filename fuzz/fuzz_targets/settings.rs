//! Fuzzes the settings file: taken as the same texts in variables would be, or refused with reasons; secrets show nowhere.
#![no_main]

use std::collections::HashMap;

use tidings::config::{Problems, Settings, SettingsFile, Sources};
use toml::{Table, Value};

const SECRETS: [&str; 3] = ["jwt_secret", "jwt_secret_previous", "api_key"];
/// A secret shorter than this may well be a part of a sentence.
const TELLING_CHARS: usize = 8;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let result = from_file(text);
    if let Err(problems) = &result {
        assert!(!problems.0.is_empty());
        assert!(problems.0.iter().all(|problem| problem.contains("tidings.toml")), "{problems}");
    }
    let Ok(table) = text.parse::<Table>() else { return assert!(result.is_err(), "a broken file was taken") };
    if let Ok(settings) = &result {
        check(settings);
        assert!(table.keys().all(|name| !name.is_empty()), "an unknown key was taken");
    }
    check_secrets(text, &table, &result);
    if let Some(variables) = as_variables(&table) {
        let same = Sources { variables, ..Sources::default() }.settings();
        match (&result, same) {
            (Ok(settings), Ok(same)) => assert_eq!(format!("{settings:?}"), format!("{same:?}")),
            (Err(problems), Err(same)) => assert_eq!(problems.0.len(), same.0.len(), "{problems}\n{same}"),
            (Ok(_), Err(same)) => panic!("only as variables refused: {same}"),
            (Err(problems), Ok(_)) => panic!("only in the file refused: {problems}"),
        }
    }
});

fn from_file(text: &str) -> Result<Settings, Problems> {
    let file = Some(SettingsFile { name: "tidings.toml".to_owned(), text: text.to_owned() });
    Sources { file, ..Sources::default() }.settings()
}

/// What settings that were taken must keep, because the server relies on it.
fn check(settings: &Settings) {
    assert!(settings.frame_bytes_max.is_none_or(|bytes| bytes >= 1024));
    assert!(settings.outbox_bytes_max > 0 && settings.outbox_frames_max > 0);
    assert!(!settings.typing_expiry.is_zero() && !settings.attachment_link_lifetime.is_zero());
    assert!(settings.heartbeat_interval.is_none_or(|interval| !interval.is_zero()));
    assert!(settings.events_retention.is_none_or(|retention| !retention.is_zero()));
    assert!(!settings.jwt_algorithms.is_empty() && !settings.jwt_user_claim.is_empty());
    for most in [
        settings.text_chars_max,
        settings.attachment_bytes_max,
        settings.attachments_per_message_max,
        settings.participants_max,
        settings.request_bytes_max,
        settings.connections_per_user_max,
        settings.connections_max,
        settings.commands_per_second_max,
        settings.requests_per_second_max,
    ] {
        assert!(most.is_none_or(|most| most > 0));
    }
}

/// A secret that stands in the file once, as itself, stands in nothing that is printed.
fn check_secrets(text: &str, table: &Table, result: &Result<Settings, Problems>) {
    let printed = match result {
        Ok(settings) => format!("{settings:?}"),
        Err(problems) => format!("{problems}\n{problems:?}"),
    };
    for secret in SECRETS.iter().filter_map(|name| table.get(*name)?.as_str()) {
        if secret.chars().count() >= TELLING_CHARS && text.matches(secret).count() == 1 {
            assert!(!printed.contains(secret), "a secret shows: {printed}");
        }
    }
}

/// The file as variables, where all of it can be said with them. Empty ones count as not set, so there may be none.
fn as_variables(table: &Table) -> Option<HashMap<String, String>> {
    let variable = |(name, value): (&String, &Value)| {
        let text = value.as_str().filter(|text| !text.is_empty())?;
        let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_plain.then(|| (format!("TIDINGS_{}", name.to_ascii_uppercase()), text.to_owned()))
    };
    table.iter().map(variable).collect()
}
