//! Client frames: parsed and checked as far as that goes without looking anything up.

use serde_json::value::RawValue;

use super::fields::{Fields, typed};
use crate::error::{Code, Error, Result};

/// A command as a client sends it, aliases and defaults resolved.
#[derive(Clone, Debug)]
pub enum Command {
    ChatMessage(NewMessage),
    Typing { is_typing: bool },
    MarkRead { message_id: i64 },
    MarkNotificationsRead { which: Notifications },
    EditMessage { message_id: i64, message: String },
    DeleteMessage { message_id: i64 },
    AddReaction { message_id: i64, reaction: String },
    RemoveReaction { message_id: i64, reaction: String },
    Auth { token: String },
    Ping,
    Resume { cursors: Vec<(i64, i64)>, notifications: Option<i64> },
}

/// The fields of `chat_message`.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub message: String,
    pub message_type: &'static str,
    pub reply_to: Option<i64>,
    pub attachment_ids: Vec<i64>,
    pub data: Option<Box<RawValue>>,
}

/// Which notifications a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notifications {
    Some(Vec<i64>),
    All,
}

/// What a client frame holds besides its command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    pub client_id: Option<String>,
    pub conversation_id: Option<i64>,
    /// Whether the frame was a typing indicator, which is dropped rather than refused when it comes too often.
    pub is_typing: bool,
}

/// Which socket a frame came in on; it decides the commands there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Chat,
    Notifications,
    User,
}

impl Endpoint {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Notifications => "notifications",
            Self::User => "user",
        }
    }
}

/// The bounds that parsing needs.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub text_chars_max: Option<u64>,
    pub attachments_max: Option<u64>,
}

/// Most bytes of a message's `data`.
pub const DATA_BYTES_MAX: usize = 4 * 1024;
/// Most characters of a `client_id`.
pub const CLIENT_ID_CHARS_MAX: usize = 64;
/// Most ids in one list of a command.
pub const IDS_MAX: usize = 1_000;

/// A frame, parsed: what could be read of its envelope is there even when the command is refused.
pub fn parse(text: &str, endpoint: Endpoint, bounds: Bounds) -> (Envelope, Result<Command>) {
    let mut envelope = Envelope::default();
    let command = parse_into(text, endpoint, bounds, &mut envelope);
    (envelope, command)
}

fn parse_into(text: &str, endpoint: Endpoint, bounds: Bounds, envelope: &mut Envelope) -> Result<Command> {
    let fields = Fields::parse(text)?;
    let client_id = client_id(&fields);
    envelope.client_id = client_id.as_ref().ok().cloned().flatten();
    let kind = fields.string("type")?.ok_or_else(|| Error::field("type", "every frame needs a `type`"))?;
    envelope.is_typing = kind == "typing_indicator";
    let known = match endpoint {
        Endpoint::Chat => kind != "resume" && is_known(&kind),
        Endpoint::User => is_known(&kind),
        Endpoint::Notifications => matches!(kind.as_str(), "mark_read" | "auth" | "ping"),
    };
    if !known {
        return Err(Error::new(
            Code::UnknownType,
            format!("this socket knows no command of that type; it takes {}", known_here(endpoint)),
        ));
    }
    client_id?;
    envelope.conversation_id = fields.id("conversation_id")?;
    let command = match kind.as_str() {
        "chat_message" => Command::ChatMessage(new_message(&fields, bounds)?),
        "typing_indicator" => Command::Typing { is_typing: required("is_typing", fields.boolean("is_typing")?)? },
        "mark_read" | "message_read" => mark_read(&fields, endpoint, envelope)?,
        "edit_message" => Command::EditMessage {
            message_id: required("message_id", fields.id("message_id")?)?,
            message: required("message", edited_text(&fields, bounds)?)?,
        },
        "delete_message" => Command::DeleteMessage { message_id: required("message_id", fields.id("message_id")?)? },
        "add_reaction" | "remove_reaction" => {
            let message_id = required("message_id", fields.id("message_id")?)?;
            let reaction = required("reaction", fields.string("reaction")?)?;
            if kind == "add_reaction" {
                Command::AddReaction { message_id, reaction }
            } else {
                Command::RemoveReaction { message_id, reaction }
            }
        }
        "auth" => {
            let token = fields.string("token")?.filter(|token| !token.is_empty());
            Command::Auth { token: required("token", token)? }
        }
        "ping" => Command::Ping,
        _ => resume(&fields)?,
    };
    Ok(command)
}

fn is_known(kind: &str) -> bool {
    matches!(
        kind,
        "chat_message"
            | "typing_indicator"
            | "mark_read"
            | "message_read"
            | "edit_message"
            | "delete_message"
            | "add_reaction"
            | "remove_reaction"
            | "auth"
            | "ping"
            | "resume"
    )
}

fn known_here(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Notifications => "mark_read, auth and ping",
        Endpoint::Chat | Endpoint::User => {
            "chat_message, typing_indicator, mark_read, edit_message, delete_message, add_reaction, remove_reaction, auth and ping"
        }
    }
}

/// A field that must be there.
pub fn required<T>(name: &'static str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::field(name, format!("`{name}` is required")))
}

/// Reads the `client_id` of a command or request body.
pub fn client_id(fields: &Fields<'_>) -> Result<Option<String>> {
    let Some(client_id) = fields.string("client_id")? else { return Ok(None) };
    if client_id.is_empty() || client_id.chars().count() > CLIENT_ID_CHARS_MAX {
        return Err(Error::field("client_id", format!("`client_id` must have 1 to {CLIENT_ID_CHARS_MAX} characters")));
    }
    Ok(Some(client_id))
}

/// Reads the fields of a new message, from a frame or a request body.
pub fn new_message(fields: &Fields<'_>, bounds: Bounds) -> Result<NewMessage> {
    let message = fields.string_or("message", "text")?;
    let message_type = match fields.string("message_type")?.as_deref() {
        None | Some("text") => "text",
        Some("image") => "image",
        Some("file") => "file",
        Some(_) => return Err(Error::field("message_type", "`message_type` must be text, image or file")),
    };
    let reply_to = fields.id_or("reply_to", "reply_to_id")?;
    let attachment_ids = attachment_ids(fields, bounds)?;
    let data = fields.object("data", DATA_BYTES_MAX)?;
    let message = match message {
        None if attachment_ids.is_empty() => return Err(Error::field("message", "`message` is required")),
        None => String::new(),
        Some(text) => text,
    };
    if !message.is_empty() || attachment_ids.is_empty() {
        check_text(&message, bounds)?;
    }
    Ok(NewMessage { message, message_type, reply_to, attachment_ids, data })
}

fn attachment_ids(fields: &Fields<'_>, bounds: Bounds) -> Result<Vec<i64>> {
    let most = bounds.attachments_max.map_or(IDS_MAX, |most| (most as usize).min(IDS_MAX));
    let ids = fields.ids("attachment_ids", most)?.unwrap_or_default();
    for (index, id) in ids.iter().enumerate() {
        if ids[..index].contains(id) {
            return Err(Error::field("attachment_ids", "`attachment_ids` must not name one twice"));
        }
    }
    Ok(ids)
}

/// The new text of an edit. Whether it may be empty depends on the message, so that is checked later.
pub fn edited_text(fields: &Fields<'_>, bounds: Bounds) -> Result<Option<String>> {
    let Some(text) = fields.string_or("message", "text")? else { return Ok(None) };
    if !text.is_empty() {
        check_text(&text, bounds)?;
    }
    Ok(Some(text))
}

fn check_text(text: &str, bounds: Bounds) -> Result<()> {
    if text.chars().all(char::is_whitespace) {
        return Err(Error::field("message", "`message` must hold more than white space"));
    }
    if bounds.text_chars_max.is_some_and(|most| text.chars().count() as u64 > most) {
        let most = bounds.text_chars_max.unwrap_or_default();
        return Err(Error::too_large("message", format!("`message` takes at most {most} characters")));
    }
    Ok(())
}

fn mark_read(fields: &Fields<'_>, endpoint: Endpoint, envelope: &Envelope) -> Result<Command> {
    let of_notifications = match endpoint {
        Endpoint::Chat => false,
        Endpoint::Notifications => true,
        Endpoint::User => {
            envelope.conversation_id.is_none()
                && (fields.raw("notification_ids").is_some() || fields.raw("all").is_some())
        }
    };
    if of_notifications {
        return Ok(Command::MarkNotificationsRead { which: notifications(fields)? });
    }
    let ids = fields.ids("message_ids", IDS_MAX)?.unwrap_or_default();
    let greatest = fields.id("message_id")?.into_iter().chain(ids).max();
    let field = if fields.raw("message_ids").is_some() { "message_ids" } else { "message_id" };
    Ok(Command::MarkRead { message_id: required(field, greatest)? })
}

/// Reads `notification_ids` or `all`.
pub fn notifications(fields: &Fields<'_>) -> Result<Notifications> {
    let ids = fields.ids("notification_ids", IDS_MAX)?;
    match (fields.boolean("all")?, ids) {
        (Some(true), _) => Ok(Notifications::All),
        (_, Some(ids)) => Ok(Notifications::Some(ids)),
        _ => Err(Error::field("notification_ids", "say which: `notification_ids`, or `all`: true")),
    }
}

fn resume(fields: &Fields<'_>) -> Result<Command> {
    let mut cursors = Vec::new();
    if let Some(raw) = fields.raw("cursors") {
        let should = "an object of conversation ids and event ids";
        let map: std::collections::BTreeMap<String, Option<i64>> = typed("cursors", raw, should)?;
        for (key, event_id) in map {
            let id = crate::ids::parse_id(&key).filter(|_| event_id.is_none_or(|event_id| event_id >= 0));
            let id = id.ok_or_else(|| Error::field("cursors", format!("`cursors` must be {should}")))?;
            // Null is the same as not named.
            cursors.extend(event_id.map(|event_id| (id, event_id)));
        }
    }
    let notifications = match fields.raw("notifications") {
        None => None,
        Some(raw) => {
            let event_id: i64 = typed("notifications", raw, "an integer of at least 0")?;
            Some(event_id)
                .filter(|id| *id >= 0)
                .map(Some)
                .ok_or_else(|| Error::field("notifications", "`notifications` must be an integer of at least 0"))?
        }
    };
    Ok(Command::Resume { cursors, notifications })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { text_chars_max: Some(8), attachments_max: Some(2) };

    fn refusal(text: &str, endpoint: Endpoint) -> (Code, Option<&'static str>) {
        let error = parse(text, endpoint, BOUNDS).1.expect_err(text);
        (error.code, error.field)
    }

    #[test]
    fn the_guides_message_is_taken_as_it_is() {
        let (envelope, command) =
            parse(r#"{"type":"chat_message","message":"Hi","message_type":"text","extra":1}"#, Endpoint::Chat, BOUNDS);
        assert_eq!(envelope, Envelope::default());
        let Ok(Command::ChatMessage(message)) = command else { panic!("{command:?}") };
        assert_eq!((message.message.as_str(), message.message_type, message.reply_to), ("Hi", "text", None));
    }

    #[test]
    fn text_is_counted_in_scalar_values_and_may_be_empty_only_with_an_attachment() {
        let take = |text: &str| parse(text, Endpoint::Chat, BOUNDS).1;
        assert!(take(r#"{"type":"chat_message","message":"👩‍👩‍👧 abc"}"#).is_err());
        assert!(take(r#"{"type":"chat_message","message":"😀😀😀😀😀😀😀😀"}"#).is_ok());
        assert!(take(r#"{"type":"chat_message","message":"","attachment_ids":[1]}"#).is_ok());
        assert!(take(r#"{"type":"chat_message","attachment_ids":[1,2]}"#).is_ok());
        for (text, expected) in [
            (r#"{"type":"chat_message","message":"123456789"}"#, (Code::TooLarge, Some("message"))),
            (r#"{"type":"chat_message","message":""}"#, (Code::InvalidField, Some("message"))),
            (r#"{"type":"chat_message","message":" \n\u2003"}"#, (Code::InvalidField, Some("message"))),
            (r#"{"type":"chat_message","message":"  ","attachment_ids":[1]}"#, (Code::InvalidField, Some("message"))),
            (
                r#"{"type":"chat_message","message":"x","attachment_ids":[1,2,3]}"#,
                (Code::TooLarge, Some("attachment_ids")),
            ),
            (
                r#"{"type":"chat_message","message":"x","attachment_ids":[1,1]}"#,
                (Code::InvalidField, Some("attachment_ids")),
            ),
            (r#"{"type":"chat_message","message":7}"#, (Code::InvalidField, Some("message"))),
            (
                r#"{"type":"chat_message","message":"x","message_type":"video"}"#,
                (Code::InvalidField, Some("message_type")),
            ),
        ] {
            assert_eq!(refusal(text, Endpoint::Chat), expected, "{text}");
        }
    }

    #[test]
    fn every_endpoint_knows_its_own_commands() {
        let unknown = (Code::UnknownType, None);
        assert_eq!(refusal(r#"{"type":"chat_message","message":"x"}"#, Endpoint::Notifications), unknown);
        assert_eq!(refusal(r#"{"type":"resume"}"#, Endpoint::Chat), unknown);
        assert_eq!(refusal(r#"{"type":"nonsense"}"#, Endpoint::User), unknown);
        assert_eq!(refusal(r#"{"message":"x"}"#, Endpoint::Chat), (Code::InvalidField, Some("type")));
        assert_eq!(refusal(r#"{"type":5}"#, Endpoint::Chat), (Code::InvalidField, Some("type")));
        assert_eq!(
            refusal(r#"{"type":"mark_read"}"#, Endpoint::Notifications),
            (Code::InvalidField, Some("notification_ids"))
        );
        assert!(parse(r#"{"type":"mark_read","all":true}"#, Endpoint::User, BOUNDS).1.is_ok());
        assert!(parse(r#"{"type":"resume","cursors":{"12":345},"notifications":0}"#, Endpoint::User, BOUNDS).1.is_ok());
    }

    #[test]
    fn a_refused_command_keeps_its_client_id() {
        let (envelope, command) = parse(r#"{"type":"nope","client_id":"c1"}"#, Endpoint::Chat, BOUNDS);
        assert!(command.is_err());
        assert_eq!(envelope.client_id.as_deref(), Some("c1"));
        let long = format!(r#"{{"type":"ping","client_id":"{}"}}"#, "é".repeat(65));
        assert_eq!(refusal(&long, Endpoint::Chat), (Code::InvalidField, Some("client_id")));
    }

    #[test]
    fn a_conversation_whose_cursor_is_null_is_not_named() {
        let text = r#"{"type":"resume","cursors":{"12":null,"13":4}}"#;
        let (_, command) = parse(text, Endpoint::User, BOUNDS);
        let Ok(Command::Resume { cursors, .. }) = command else { panic!("{command:?}") };
        assert_eq!(cursors, [(13, 4)]);
    }
}
