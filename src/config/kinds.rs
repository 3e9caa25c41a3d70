//! How the text of a setting becomes its value, and what is said to be allowed where it can't.
//! Knows neither the settings nor where a text came from.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::values::{
    AttachmentStore, AttachmentTypes, ConversationsBy, JwtAlgorithm, LogFormat, LogLevel, NamedReaction, PublicUrl,
    Reactions, Secret,
};

/// What one kind of setting takes.
pub struct Kind<T> {
    /// Completes the sentence "allowed is …".
    pub allowed: &'static str,
    /// Whether the text must not be repeated in an error.
    pub sensitive: bool,
    /// Reads the text; an error completes the sentence "`text` …".
    pub parse: fn(&str) -> Result<T, String>,
}

/// A kind whose texts may be repeated in errors.
const fn plain<T>(allowed: &'static str, parse: fn(&str) -> Result<T, String>) -> Kind<T> {
    Kind { allowed, sensitive: false, parse }
}

const fn sensitive<T>(allowed: &'static str, parse: fn(&str) -> Result<T, String>) -> Kind<T> {
    Kind { allowed, sensitive: true, parse }
}

const TIME_ALLOWED: &str = "a time above 0 such as 500ms, 25s, 5m, 1h or 7d";
const SIZE_ALLOWED: &str = "a size of at least 1 such as 64KiB, 1MiB, 25MB or a number of bytes";
const COUNT_ALLOWED: &str = "a whole number from 1 to 1000000000";

/// The longest time that a setting takes: a century, far from where sums of times overflow.
const DURATION_MAX: Duration = Duration::from_secs(36_500 * 86_400);
/// Sizes are told to clients as JSON numbers, which are exact below 2^53.
const SIZE_END: u64 = 1 << 53;
const COUNT_MAX: u64 = 1_000_000_000;

pub const ADDRESS: Kind<SocketAddr> = plain("an address and port such as 127.0.0.1:8000 or [::]:8000", address);
pub const ADDRESS_OR_OFF: Kind<Option<SocketAddr>> =
    plain("an address and port such as 127.0.0.1:9000, or off", |text| off_or(text, address));
pub const TEXT: Kind<String> = plain("a text that is not empty", text);
pub const TEXT_OPTIONAL: Kind<Option<String>> = plain("any text", |text| optional(text, self::text));
pub const SECRET_OPTIONAL: Kind<Option<Secret>> =
    sensitive("any text", |text| optional(text, |text| Ok(Secret::new(text))));
pub const SECRETS: Kind<Vec<Secret>> =
    sensitive("one or more texts, comma separated", |text| list(text, |item| Ok(Secret::new(item))));
pub const PATH: Kind<PathBuf> = plain("a path", |text| self::text(text).map(PathBuf::from));
pub const PATH_OPTIONAL: Kind<Option<PathBuf>> = plain("a path", |text| optional(text, |text| Ok(PathBuf::from(text))));
pub const DATABASE_URL: Kind<Option<Secret>> =
    sensitive("sqlite://path/to/file or postgres://user@host/database", |text| optional(text, database_url));
pub const WEB_URL_OPTIONAL: Kind<Option<String>> =
    plain("an http:// or https:// address", |text| optional(text, |text| web_url(text).map(String::from)));
pub const PUBLIC_URL: Kind<Option<PublicUrl>> =
    plain("an http:// or https:// address with a host, without user, query or fragment", |text| {
        optional(text, public_url)
    });
pub const ORIGINS: Kind<Vec<String>> =
    plain("scheme://host or scheme://host:port, comma separated, or * for any", |text| list(text, origin));
pub const NETWORKS: Kind<Vec<IpNet>> =
    plain("addresses or networks such as 10.0.0.0/8, comma separated", |text| list(text, network));
pub const ALGORITHMS: Kind<Vec<JwtAlgorithm>> =
    plain("HS256, HS384, HS512, RS256, RS384, RS512, ES256, ES384 or EdDSA, one or more, comma separated", |text| {
        not_empty(list(text, JwtAlgorithm::parse)?)
    });
pub const CONVERSATIONS_BY: Kind<ConversationsBy> = plain("users or platform", ConversationsBy::parse);
pub const LOG_LEVEL: Kind<LogLevel> = plain("off, error, warn, info, debug or trace", LogLevel::parse);
pub const LOG_FORMAT: Kind<LogFormat> = plain("text or json", LogFormat::parse);
pub const SWITCH: Kind<bool> = plain("on or off", switch);
pub const ATTACHMENT_STORE: Kind<AttachmentStore> = plain("data-dir or s3://bucket/prefix", attachment_store);
pub const ATTACHMENT_TYPES: Kind<AttachmentTypes> =
    plain("content types such as application/pdf or image/*, comma separated", |text| {
        Ok(AttachmentTypes(not_empty(list(text, content_type)?)?))
    });
pub const REACTIONS: Kind<Reactions> = plain("name=emoji pairs, comma separated, or * for any single emoji", reactions);

pub const DURATION: Kind<Duration> = plain("a time such as 0s, 500ms, 25s, 5m, 1h or 7d", duration);
pub const DURATION_OR_OFF: Kind<Option<Duration>> =
    plain("a time above 0 such as 500ms, 25s, 5m, 1h or 7d, or off", |text| off_or(text, time));
pub const DURATION_OFF_IS_ZERO: Kind<Duration> = plain("a time such as 0s, 500ms, 25s, 5m, 1h or 7d, or off", |text| {
    Ok(off_or(text, duration)?.unwrap_or(Duration::ZERO))
});
pub const TYPING_EXPIRY: Kind<Duration> = plain(TIME_ALLOWED, |text| {
    must_not_be_off(text, "someone whose connection died would be shown typing for ever")?;
    time(text)
});
pub const LINK_LIFETIME: Kind<Duration> = plain(TIME_ALLOWED, |text| {
    must_not_be_off(text, "a link that leaked would be good for ever")?;
    time(text)
});
pub const SIZE_OR_OFF: Kind<Option<u64>> =
    plain("a size of at least 1 such as 64KiB, 1MiB, 25MB or a number of bytes, or off", |text| off_or(text, size));
pub const FRAME_SIZE_OR_OFF: Kind<Option<u64>> = plain("a size of at least 1KiB such as 64KiB, or off", |text| {
    off_or(text, |text| {
        Some(size(text)?).filter(|size| *size >= 1024).ok_or_else(|| "is too small for a command".into())
    })
});
pub const OUTBOX_SIZE: Kind<u64> = plain(SIZE_ALLOWED, |text| {
    must_not_be_off(text, "a slow reader's queue would grow until the memory is full")?;
    size(text)
});
pub const OUTBOX_COUNT: Kind<u64> = plain(COUNT_ALLOWED, |text| {
    must_not_be_off(text, "a slow reader's queue would grow until the memory is full")?;
    count(text)
});
pub const COUNT_OR_OFF: Kind<Option<u64>> =
    plain("a whole number from 1 to 1000000000, or off", |text| off_or(text, count));

fn off_or<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == "off" { Ok(None) } else { parse(text).map(Some) }
}

fn must_not_be_off(text: &str, why: &str) -> Result<(), String> {
    if text == "off" { Err(format!("is not possible here, because {why}")) } else { Ok(()) }
}

fn optional<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

/// Comma-separated items; white space around them and empty ones are passed over.
fn list<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| parse(item).map_err(|problem| format!("has `{item}`, which {problem}"))).collect()
}

fn not_empty<T>(items: Vec<T>) -> Result<Vec<T>, String> {
    if items.is_empty() { Err("names none".into()) } else { Ok(items) }
}

fn text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("is empty".into()) } else { Ok(text.into()) }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "is no address with a port".into())
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("is neither".into()),
    }
}

/// A number and a unit, `ms` to `d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err("has no unit (ms, s, m, h or d)".into()),
        _ => return Err(format!("has the unknown unit `{unit}`")),
    };
    let duration = number.checked_mul(unit_ms).map(Duration::from_millis);
    duration.filter(|duration| *duration <= DURATION_MAX).ok_or_else(|| "is longer than a century".into())
}

/// A duration above zero.
pub fn time(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("is no time at all".into()) } else { Ok(duration) }
}

fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = number_and_unit(text)?;
    let unit_bytes: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("has the unknown unit `{unit}` (B, kB, MB, GB, KiB, MiB or GiB)")),
    };
    match number.checked_mul(unit_bytes) {
        Some(0) => Err("is nothing at all".into()),
        Some(bytes) if bytes < SIZE_END => Ok(bytes),
        _ => Err("is too large".into()),
    }
}

fn count(text: &str) -> Result<u64, String> {
    match number_and_unit(text)? {
        (0, "") => Err("would refuse everything".into()),
        (number, "") if number <= COUNT_MAX => Ok(number),
        (_, "") => Err("is too large".into()),
        _ => Err("is no whole number".into()),
    }
}

fn number_and_unit(text: &str) -> Result<(u64, &str), String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    if digits.is_empty() {
        return Err("does not begin with a whole number".into());
    }
    let number = digits.parse().map_err(|_| "is too large".to_string())?;
    Ok((number, unit.trim_start()))
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.map(|network| network.trunc()).ok_or_else(|| "is neither an address nor a network".into())
}

fn database_url(text: &str) -> Result<Secret, String> {
    let known = ["sqlite://", "postgres://", "postgresql://"];
    match known.iter().find_map(|scheme| text.strip_prefix(scheme)) {
        None => Err("begins with neither sqlite:// nor postgres://".into()),
        Some("") => Err("names no database".into()),
        Some(_) => Ok(Secret::new(text)),
    }
}

fn web_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no address ({error})"))?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err("begins with neither http:// nor https://".into())
    }
}

fn public_url(text: &str) -> Result<PublicUrl, String> {
    let url = web_url(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("names a user".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or fragment, behind which no path can be put".into());
    }
    let host = url.host_str().ok_or("has no host")?.to_string();
    Ok(PublicUrl { base: url.as_str().trim_end_matches('/').to_string(), host })
}

/// An origin as browsers send it: in lower case, without the scheme's own port.
fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.into());
    }
    let url = Url::parse(text).map_err(|error| format!("is no origin ({error})"))?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("has no host")?.to_ascii_lowercase();
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || url.password().is_some() {
        return Err("has more than scheme, host and port".into());
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok(format!("{}://{host}{port}", url.scheme()))
}

fn attachment_store(text: &str) -> Result<AttachmentStore, String> {
    if text == "data-dir" {
        return Ok(AttachmentStore::DataDir);
    }
    let place = text.strip_prefix("s3://").ok_or("is neither")?;
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() {
        return Err("names no bucket".into());
    }
    Ok(AttachmentStore::S3 { bucket: bucket.into(), prefix: prefix.trim_matches('/').into() })
}

fn content_type(text: &str) -> Result<String, String> {
    let (kind, subtype) = text.split_once('/').ok_or("has no slash")?;
    let token = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte));
    let subtype_start = subtype.strip_suffix('*').unwrap_or(subtype);
    if kind.is_empty() || subtype.is_empty() || !token(kind) || !token(subtype_start) {
        return Err("is no content type".into());
    }
    Ok(text.to_ascii_lowercase())
}

fn reactions(text: &str) -> Result<Reactions, String> {
    if text.trim() == "*" {
        return Ok(Reactions::Any);
    }
    let named = not_empty(list(text, |pair| {
        let (name, emoji) = pair.split_once('=').ok_or("has no =")?;
        let (name, emoji) = (name.trim().to_string(), emoji.trim().to_string());
        if name.is_empty() || emoji.is_empty() {
            Err("is half empty".into())
        } else {
            Ok(NamedReaction { name, emoji })
        }
    })?)?;
    let mut seen = HashSet::new();
    match named.iter().find(|reaction| !seen.insert(reaction.name.as_str())) {
        Some(twice) => Err(format!("names `{}` twice", twice.name)),
        None => Ok(Reactions::Named(named)),
    }
}
