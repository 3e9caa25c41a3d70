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
pub const TEXT: Kind<String> = plain("a text that is not empty", |text| {
    if text.trim().is_empty() { Err("is empty, or white space alone".into()) } else { Ok(text.into()) }
});
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

/// Comma-separated items; white space around them and empty ones are passed over. What is not empty names one.
fn list<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let items = items.map(|item| parse(item).map_err(|problem| format!("has `{item}`, which {problem}")));
    let items = items.collect::<Result<Vec<_>, _>>()?;
    if text.is_empty() { Ok(items) } else { not_empty(items) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, ms) in [
            ("0s", 0),
            ("1ms", 1),
            ("500ms", 500),
            ("25s", 25_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7 d", 604_800_000),
            ("36500d", 3_153_600_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in
            ["", "s", "25", "-1s", "+1s", "1.5s", "1s ", " 1s", "1w", "1S", "1h30m", "36501d", "99999999999999999999s"]
        {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit_of_thousands_or_of_1024() {
        for (text, bytes) in [
            ("1", 1),
            ("2048", 2048),
            ("2048B", 2048),
            ("1kB", 1_000),
            ("64KiB", 65_536),
            ("1MiB", 1 << 20),
            ("25 MB", 25_000_000),
            ("1GiB", 1 << 30),
            ("9007199254740991", (1 << 53) - 1),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "0KiB", "-1", "1.5MiB", "1k", "1Mb", "9007199254740992", "9007199254740992GiB", "KiB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn counts_are_whole_numbers_from_one_to_a_thousand_million() {
        assert_eq!((count("1"), count("1000000000")), (Ok(1), Ok(1_000_000_000)));
        for text in ["0", "1000000001", "-1", "1.5", "1k", "", "off"] {
            assert!(count(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn off_is_refused_with_its_reason_where_something_would_have_no_end() {
        for result in [
            (TYPING_EXPIRY.parse)("off").map(drop),
            (LINK_LIFETIME.parse)("off").map(drop),
            (OUTBOX_SIZE.parse)("off").map(drop),
            (OUTBOX_COUNT.parse)("off").map(drop),
        ] {
            assert!(result.is_err_and(|reason| reason.starts_with("is not possible here, because")));
        }
        assert_eq!((DURATION_OR_OFF.parse)("off"), Ok(None));
        assert_eq!((DURATION_OFF_IS_ZERO.parse)("off"), Ok(Duration::ZERO));
        assert_eq!((COUNT_OR_OFF.parse)("off"), Ok(None));
    }

    #[test]
    fn frames_hold_at_least_one_kib() {
        assert_eq!((FRAME_SIZE_OR_OFF.parse)("1KiB"), Ok(Some(1024)));
        assert!((FRAME_SIZE_OR_OFF.parse)("1023").is_err());
    }

    #[test]
    fn origins_become_what_a_browser_sends() {
        for (text, sent) in [
            ("*", "*"),
            ("https://Example.COM", "https://example.com"),
            ("https://example.com/", "https://example.com"),
            ("https://example.com:443", "https://example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(sent), "{text}");
        }
        for text in ["example.com", "localhost:3000", "https://", "https://a/b", "https://a?b", "https://u@a", "null"] {
            assert!(origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_public_url_keeps_its_path_and_loses_the_slash_at_its_end() {
        let url = public_url("https://Chat.Example:8443/realtime/").expect("valid");
        assert_eq!((url.as_str(), url.host()), ("https://chat.example:8443/realtime", "chat.example"));
        assert_eq!(public_url("http://[::1]:8000").expect("valid").host(), "[::1]");
        for text in ["chat.example", "ws://chat.example", "https://", "https://a?b", "https://a#b", "https://u:p@a"] {
            assert!(public_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_list_that_is_given_names_something() {
        assert_eq!((SECRETS.parse)("").map(|secrets| secrets.len()), Ok(0));
        for text in [",", " ", " , ,"] {
            assert_eq!((SECRETS.parse)(text).err().as_deref(), Some("names none"), "{text:?}");
            assert_eq!((ORIGINS.parse)(text).err().as_deref(), Some("names none"), "{text:?}");
        }
        for text in ["", " ", "\t"] {
            assert!((TEXT.parse)(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn single_addresses_are_networks_of_one() {
        let networks = (NETWORKS.parse)("10.1.2.3/8, 192.0.2.1 ,2001:db8::/32,::1").expect("valid");
        let shown: Vec<String> = networks.iter().map(IpNet::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "::1/128"]);
        assert!((NETWORKS.parse)("10.0.0.0/8,proxy").is_err_and(|problem| problem.contains("`proxy`")));
    }

    #[test]
    fn databases_are_sqlite_or_postgres() {
        for text in ["sqlite://x.db", "sqlite:///var/x.db", "postgres://u:p@h/d", "postgresql://h/d"] {
            assert!(database_url(text).is_ok(), "{text}");
        }
        for text in ["sqlite://", "sqlite:x.db", "mysql://h/d", "x.db"] {
            assert!(database_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bucket_may_have_a_prefix() {
        let store = |bucket: &str, prefix: &str| AttachmentStore::S3 { bucket: bucket.into(), prefix: prefix.into() };
        assert_eq!(attachment_store("s3://b"), Ok(store("b", "")));
        assert_eq!(attachment_store("s3://b/a/b/"), Ok(store("b", "a/b")));
        assert_eq!(attachment_store("data-dir"), Ok(AttachmentStore::DataDir));
        assert!(attachment_store("s3://").is_err() && attachment_store("s3:///a").is_err());
    }

    #[test]
    fn content_types_match_whole_or_by_their_beginning() {
        let types = (ATTACHMENT_TYPES.parse)("image/*, application/PDF").expect("valid");
        assert!(types.allow("image/png") && types.allow("application/pdf") && types.allow("Image/WebP"));
        assert!(!types.allow("imagery/png") && !types.allow("application/pdfx") && !types.allow("im"));
        for text in ["", "png", "image/", "/png", "*/*", "a b/c"] {
            assert!((ATTACHMENT_TYPES.parse)(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reactions_are_pairs_or_any() {
        let thumb = NamedReaction { name: "like".into(), emoji: "👍".into() };
        assert_eq!(reactions("like=👍"), Ok(Reactions::Named(vec![thumb])));
        assert_eq!(reactions("*"), Ok(Reactions::Any));
        for text in ["", "like", "=👍", "like=", "like=👍,like=❤️"] {
            assert!(reactions(text).is_err(), "{text}");
        }
    }
}
