//! Reading the fields of a JSON object that a client sent: absent and `null` are the same, unknown
//! ones are ignored, types are checked before anything is looked up, U+0000 is refused.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Code, Error, Result};
use crate::ids;

/// The fields of one object, each still as its text.
pub struct Fields<'a>(HashMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    /// Takes an object apart. Anything else is `invalid_json`.
    pub fn parse(text: &'a str) -> Result<Self> {
        serde_json::from_str::<HashMap<String, &'a RawValue>>(text)
            .map(Self)
            .map_err(|_| Error::new(Code::InvalidJson, "expected one JSON object"))
    }

    /// The text of a field; nothing where it is absent or `null`.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|raw| raw.get() != "null")
    }

    pub fn string(&self, name: &'static str) -> Result<Option<String>> {
        self.raw(name).map(|raw| string(name, raw)).transpose()
    }

    /// The field under its own name or else under its alias; both must be in order.
    pub fn string_or(&self, name: &'static str, alias: &'static str) -> Result<Option<String>> {
        let (own, other) = (self.string(name)?, self.string(alias)?);
        Ok(own.or(other))
    }

    pub fn boolean(&self, name: &'static str) -> Result<Option<bool>> {
        self.raw(name)
            .map(|raw| {
                serde_json::from_str(raw.get())
                    .map_err(|_| Error::field(name, format!("`{name}` must be true or false")))
            })
            .transpose()
    }

    pub fn id(&self, name: &'static str) -> Result<Option<i64>> {
        self.raw(name).map(|raw| id(name, raw)).transpose()
    }

    /// The field under its own name or else under its alias; both must be in order.
    pub fn id_or(&self, name: &'static str, alias: &'static str) -> Result<Option<i64>> {
        let (own, other) = (self.id(name)?, self.id(alias)?);
        Ok(own.or(other))
    }

    /// A list of at most `most` ids.
    pub fn ids(&self, name: &'static str, most: usize) -> Result<Option<Vec<i64>>> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let items: Vec<&RawValue> = serde_json::from_str(raw.get())
            .map_err(|_| Error::field(name, format!("`{name}` must be a list of ids")))?;
        if items.len() > most {
            return Err(Error::too_large(name, format!("`{name}` takes at most {most} ids")));
        }
        items.into_iter().map(|item| id(name, item)).collect::<Result<_>>().map(Some)
    }

    /// An object, kept as the text that was sent. White space between its parts and escapes that no text needs do not
    /// count, and are left out where the object would be too large with them.
    pub fn object(&self, name: &'static str, bytes_max: usize) -> Result<Option<Box<RawValue>>> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        if !raw.get().starts_with('{') {
            return Err(Error::field(name, format!("`{name}` must be an object")));
        }
        let unreadable = || Error::field(name, format!("`{name}` is nested too deeply or holds a broken string"));
        let raw = match raw.get().len() > bytes_max {
            true => compact(raw.get()).and_then(RawValue::from_string).map_err(|_| unreadable())?,
            false => raw.to_owned(),
        };
        if raw.get().len() > bytes_max {
            return Err(Error::too_large(name, format!("`{name}` takes at most {bytes_max} bytes")));
        }
        let value: Value = serde_json::from_str(raw.get()).map_err(|_| unreadable())?;
        if has_nul(&value) {
            return Err(Error::field(name, format!("`{name}` must not contain U+0000")));
        }
        Ok(Some(raw))
    }
}

/// JSON without the white space between its parts, each string of it in as few bytes as UTF-8 and JSON allow.
fn compact(json: &str) -> serde_json::Result<String> {
    let mut compact = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(start) = rest.find('"') {
        compact.extend(rest[..start].split_ascii_whitespace());
        let mut strings = serde_json::Deserializer::from_str(&rest[start..]).into_iter::<String>();
        if let Some(string) = strings.next() {
            compact += &serde_json::to_string(&string?)?;
        }
        rest = &rest[start + strings.byte_offset()..];
    }
    compact.extend(rest.split_ascii_whitespace());
    Ok(compact)
}

/// Reads any deserialisable value of a field, with the sentence that says what it should be.
pub fn typed<'a, T: Deserialize<'a>>(name: &'static str, raw: &'a RawValue, should: &str) -> Result<T> {
    serde_json::from_str(raw.get()).map_err(|_| Error::field(name, format!("`{name}` must be {should}")))
}

fn string(name: &'static str, raw: &RawValue) -> Result<String> {
    let text: String = typed(name, raw, "a string")?;
    if text.contains('\0') {
        return Err(Error::field(name, format!("`{name}` must not contain U+0000")));
    }
    Ok(text)
}

fn id(name: &'static str, raw: &RawValue) -> Result<i64> {
    serde_json::from_str(raw.get())
        .ok()
        .filter(|id| ids::is_id(*id))
        .ok_or_else(|| Error::field(name, format!("`{name}` must be a positive integer below 2^53")))
}

/// Whether a string, or a key, anywhere in the value holds U+0000.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_null_are_the_same_and_types_are_checked() {
        let fields = Fields::parse(r#"{"a":null,"n":5,"s":"x","z":"\u0000","big":9007199254740992,"half":1.5}"#)
            .expect("an object");
        assert!(fields.id("a").expect("null").is_none() && fields.id("missing").expect("absent").is_none());
        assert_eq!(fields.id("n").expect("an id"), Some(5));
        for (error, name) in [
            (fields.id("s").unwrap_err(), "s"),
            (fields.id("big").unwrap_err(), "big"),
            (fields.id("half").unwrap_err(), "half"),
            (fields.string("n").unwrap_err(), "n"),
            (fields.string("z").unwrap_err(), "z"),
            (fields.boolean("s").unwrap_err(), "s"),
        ] {
            assert_eq!((error.code, error.field), (Code::InvalidField, Some(name)));
        }
    }

    #[test]
    fn an_object_is_kept_as_sent_and_bounded() {
        let fields =
            Fields::parse(r#"{"data":{"b": 1.0,"a":[2]},"list":[1],"nul":{"k":["\u0000"]}}"#).expect("an object");
        let data = fields.object("data", 21).expect("fits").expect("there");
        assert_eq!(data.get(), r#"{"b": 1.0,"a":[2]}"#);
        assert_eq!(fields.object("data", 10).unwrap_err().code, Code::TooLarge);
        assert_eq!(fields.object("list", 21).unwrap_err().code, Code::InvalidField);
        assert_eq!(fields.object("nul", 21).unwrap_err().code, Code::InvalidField);
    }

    #[test]
    fn white_space_between_the_parts_of_an_object_does_not_count() {
        let text = r#"{"data": { "a b" : "c \\\" { d" , "e":[ 1 ] } }"#;
        let fields = Fields::parse(text).expect("an object");
        let compact = r#"{"a b":"c \\\" { d","e":[1]}"#;
        assert_eq!(fields.object("data", compact.len()).expect("fits").expect("there").get(), compact);
        assert_eq!(fields.object("data", compact.len() - 1).unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn an_object_counts_the_same_however_it_is_escaped() {
        let plain = r#"{"a é":"é/\\ \"\n\u0001😀"}"#;
        let escaped = r#"{"\u0061 \u00E9":"\u00e9\/\u005C \u0022\u000a\u0001\ud83d\ude00"}"#;
        for text in [plain, escaped] {
            let frame = format!("{{\"data\":{text}}}");
            let fields = Fields::parse(&frame).expect("an object");
            assert_eq!(fields.object("data", plain.len()).expect("fits").expect("there").get(), plain);
            assert_eq!(fields.object("data", plain.len() - 1).unwrap_err().code, Code::TooLarge);
            assert_eq!(fields.object("data", 1_000).expect("fits").expect("there").get(), text);
        }
        let broken = Fields::parse(r#"{"data":{"a":"\ud83d"}}"#).expect("an object");
        for most in [5, 1_000] {
            assert_eq!(broken.object("data", most).unwrap_err().code, Code::InvalidField);
        }
    }

    #[test]
    fn the_name_that_loses_is_checked_as_well() {
        let fields = Fields::parse(r#"{"text":"x","alias":5,"id":7,"other":"7","none":null}"#).expect("an object");
        assert_eq!(fields.string_or("text", "alias").unwrap_err().field, Some("alias"));
        assert_eq!(fields.string_or("alias", "text").unwrap_err().field, Some("alias"));
        assert_eq!(fields.id_or("id", "other").unwrap_err().field, Some("other"));
        assert_eq!(fields.id_or("other", "id").unwrap_err().field, Some("other"));
        assert_eq!(fields.string_or("none", "text").expect("a string").as_deref(), Some("x"));
        assert_eq!(fields.id_or("id", "none").expect("an id"), Some(7));
        let both = Fields::parse(r#"{"a":"first","b":"second"}"#).expect("an object");
        assert_eq!(both.string_or("a", "b").expect("a string").as_deref(), Some("first"));
    }

    #[test]
    fn anything_but_one_object_is_invalid_json() {
        for text in ["", "[]", "1", "null", "{", "{}{}", "nonsense", "\"{}\"", "{\"a\":}"] {
            assert_eq!(Fields::parse(text).err().map(|error| error.code), Some(Code::InvalidJson), "{text:?}");
        }
    }
}
