//! A notification as the platform sends it, parsed and checked.

use serde_json::value::RawValue;

use super::client::{DATA_BYTES_MAX, required};
use super::fields::Fields;
use crate::error::{Error, Result};

/// Most characters of a title.
pub const TITLE_CHARS_MAX: usize = 200;
/// Most characters of the text.
pub const MESSAGE_CHARS_MAX: usize = 2_000;
/// Most characters of the type.
pub const TYPE_CHARS_MAX: usize = 64;
/// Most characters of the address.
pub const ACTION_URL_CHARS_MAX: usize = 2_048;
/// Most users that are named in one request.
pub const USERS_MAX: usize = 10_000;

/// What a new notification says.
#[derive(Clone, Debug)]
pub struct NewNotification {
    pub title: String,
    pub message: String,
    pub notification_type: String,
    pub data: Box<RawValue>,
    pub action_url: Option<String>,
}

/// Who gets a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressees {
    Users(Vec<i64>),
    All,
}

/// Reads a new notification and who gets it from a request body.
pub fn new_notification(fields: &Fields<'_>) -> Result<(Addressees, NewNotification)> {
    let addressees = addressees(fields)?;
    let title = required("title", fields.string("title")?)?;
    check_text("title", &title, TITLE_CHARS_MAX)?;
    let message = required("message", fields.string("message")?)?;
    check_text("message", &message, MESSAGE_CHARS_MAX)?;
    let notification_type = fields.string("notification_type")?.unwrap_or_else(|| "system".to_owned());
    check_text("notification_type", &notification_type, TYPE_CHARS_MAX)?;
    let data = match fields.object("data", DATA_BYTES_MAX)? {
        Some(data) => data,
        None => RawValue::from_string("{}".to_owned()).map_err(|_| Error::internal())?,
    };
    let action_url = fields.string("action_url")?;
    if let Some(url) = &action_url {
        check_action_url(url)?;
    }
    Ok((addressees, NewNotification { title, message, notification_type, data, action_url }))
}

fn addressees(fields: &Fields<'_>) -> Result<Addressees> {
    let user_ids = fields.ids("user_ids", USERS_MAX)?;
    let user_id = fields.id("user_id")?;
    match (fields.boolean("all")?, user_ids, user_id) {
        (Some(true), None, None) => Ok(Addressees::All),
        (None | Some(false), Some(ids), None) if !ids.is_empty() => Ok(Addressees::Users(ids)),
        (None | Some(false), None, Some(id)) => Ok(Addressees::Users(vec![id])),
        _ => Err(Error::field("user_ids", "say who gets it by one of `user_ids`, `user_id`, or `all`: true")),
    }
}

fn check_text(name: &'static str, text: &str, chars_max: usize) -> Result<()> {
    if text.chars().all(char::is_whitespace) {
        return Err(Error::field(name, format!("`{name}` must hold more than white space")));
    }
    if text.chars().count() > chars_max {
        return Err(Error::too_large(name, format!("`{name}` takes at most {chars_max} characters")));
    }
    Ok(())
}

/// An address is one of the web, or a path on the platform's own site; nothing that a click would run, and
/// nothing that a browser would read as another site's (`//host`, `/\host`).
fn check_action_url(url: &str) -> Result<()> {
    if url.chars().count() > ACTION_URL_CHARS_MAX {
        return Err(Error::too_large(
            "action_url",
            format!("`action_url` takes at most {ACTION_URL_CHARS_MAX} characters"),
        ));
    }
    let is_clean = !url.chars().any(|character| character.is_control() || character.is_whitespace());
    let is_path = url.starts_with('/') && !url[1..].starts_with(['/', '\\']);
    // The host is looked for in the text as well: a parser such as browsers have finds one in `http:/x` and `https:///x`.
    let names_host = url.split_once("://").is_some_and(|(_, rest)| !rest.starts_with(['/', '\\']));
    let is_web = names_host && url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if is_clean && (is_path || is_web) {
        return Ok(());
    }
    Err(Error::field("action_url", "`action_url` must be an http or https address, or a path that begins with one `/`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn read(body: &str) -> Result<(Addressees, NewNotification)> {
        new_notification(&Fields::parse(body).expect("an object"))
    }

    #[test]
    fn a_notification_has_defaults() {
        let (addressees, new) = read(r#"{"user_id":7,"title":"Hi","message":"There"}"#).expect("a notification");
        assert_eq!(addressees, Addressees::Users(vec![7]));
        assert_eq!((new.notification_type.as_str(), new.data.get(), new.action_url), ("system", "{}", None));
        assert_eq!(read(r#"{"all":true,"title":"a","message":"b"}"#).expect("to all").0, Addressees::All);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (r#"{"title":"a","message":"b"}"#, Code::InvalidField, "user_ids"),
            (r#"{"user_ids":[],"title":"a","message":"b"}"#, Code::InvalidField, "user_ids"),
            (r#"{"user_ids":[1],"all":true,"title":"a","message":"b"}"#, Code::InvalidField, "user_ids"),
            (r#"{"user_id":0,"title":"a","message":"b"}"#, Code::InvalidField, "user_id"),
            (r#"{"user_id":1,"message":"b"}"#, Code::InvalidField, "title"),
            (r#"{"user_id":1,"title":" ","message":"b"}"#, Code::InvalidField, "title"),
            (r#"{"user_id":1,"title":"a"}"#, Code::InvalidField, "message"),
            (
                r#"{"user_id":1,"title":"a","message":"b","notification_type":""}"#,
                Code::InvalidField,
                "notification_type",
            ),
            (r#"{"user_id":1,"title":"a","message":"b","data":[]}"#, Code::InvalidField, "data"),
        ];
        for (body, code, field) in cases {
            let error = read(body).expect_err(body);
            assert_eq!((error.code, error.field), (code, Some(field)), "{body}");
        }
    }

    #[test]
    fn each_length_is_taken_at_its_bound_and_refused_one_past_it() {
        let body = |title: usize, message: usize, kind: usize, url: usize| {
            serde_json::json!({
                "user_id": 1,
                "title": "é".repeat(title),
                "message": "é".repeat(message),
                "notification_type": "é".repeat(kind),
                "action_url": format!("/{}", "x".repeat(url - 1)),
            })
            .to_string()
        };
        assert!(read(&body(200, 2_000, 64, 2_048)).is_ok());
        for (body, field) in [
            (body(201, 2_000, 64, 2_048), "title"),
            (body(200, 2_001, 64, 2_048), "message"),
            (body(200, 2_000, 65, 2_048), "notification_type"),
            (body(200, 2_000, 64, 2_049), "action_url"),
        ] {
            let error = read(&body).expect_err(field);
            assert_eq!((error.code, error.field), (Code::TooLarge, Some(field)));
        }
    }

    #[test]
    fn an_address_is_of_the_web_or_a_path_of_the_site() {
        let addresses = [
            "/jobs/7",
            "/",
            "/a//b",
            "https://example.com/a?b=c#d",
            "http://localhost:3000",
            "HTTPS://Example.com",
            "https://user@example.com",
            "http://[::1]:3000/",
            "https://zoë.example/é",
        ];
        for url in addresses {
            assert!(check_action_url(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "jobs/7",
            "//evil.example",
            "/\\evil.example",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "ftp://example.com",
            "https://",
            "http:/x",
            "http:x",
            "https:///x",
            "https:////x",
            "https://\\x",
            "https:\\\\x",
            "https:/\\x",
            "https://?x",
            "https://#x",
            "https://:80/x",
            "https://@/x",
            "https://u@/x",
            " /a",
            "/a b",
            "/\t/evil.example",
            "mailto:a@example.com",
        ] {
            assert!(check_action_url(url).is_err(), "{url}");
        }
    }
}
