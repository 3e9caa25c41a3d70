//! Which web pages may connect: one list for sockets and for REST.

use axum::http::HeaderValue;
use axum::http::header::{HOST, HeaderMap};

use crate::config::Settings;

/// Whether an `Origin` is allowed: none sent, the request's own host, the public host (whatever their
/// scheme and port), or one of the configured list.
pub fn is_allowed(settings: &Settings, origin: Option<&HeaderValue>, headers: &HeaderMap) -> bool {
    let Some(origin) = origin else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let origin = without_default_port(origin);
    if settings
        .allowed_origins
        .iter()
        .any(|allowed| allowed == "*" || without_default_port(allowed).eq_ignore_ascii_case(origin))
    {
        return true;
    }
    let Some(host) = host_of_origin(origin) else { return false };
    let own = headers.get(HOST).and_then(|value| value.to_str().ok()).map(without_port);
    own.is_some_and(|own| own.eq_ignore_ascii_case(host))
        || settings.public_url.as_ref().is_some_and(|url| url.host().eq_ignore_ascii_case(host))
}

/// An origin as browsers write it: its scheme's own port is not named.
fn without_default_port(origin: &str) -> &str {
    let port = match origin.split_once("://") {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => ":443",
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => ":80",
        _ => return origin,
    };
    origin.strip_suffix(port).unwrap_or(origin)
}

/// The host of `https://example.com:8443`.
fn host_of_origin(origin: &str) -> Option<&str> {
    let (_, authority) = origin.split_once("://")?;
    Some(without_port(authority)).filter(|host| !host.is_empty())
}

/// A host without its port; an IPv6 address keeps its brackets.
pub(super) fn without_port(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority.find(']').map_or(authority, |end| &authority[..=end]);
    }
    authority.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(settings: &Settings, origin: &str, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a header"));
        is_allowed(settings, Some(&origin.parse().expect("a header")), &headers)
    }

    #[test]
    fn the_own_host_is_allowed_whatever_its_scheme_and_port_and_others_are_not() {
        let settings = Settings::default();
        assert!(is_allowed(&settings, None, &HeaderMap::new()));
        assert!(allows(&settings, "http://localhost:3000", "localhost:8000"));
        assert!(allows(&settings, "https://chat.example.com", "Chat.Example.com"));
        assert!(allows(&settings, "http://[::1]:3000", "[::1]:8000"));
        for origin in
            ["https://evil.example", "https://chat.example.com.evil.example", "null", "chat.example.com", "://"]
        {
            assert!(!allows(&settings, origin, "chat.example.com"), "{origin}");
        }
    }

    #[test]
    fn the_configured_list_is_exact_and_a_star_allows_any() {
        let listed = Settings { allowed_origins: vec!["https://app.example.com".to_owned()], ..Settings::default() };
        assert!(allows(&listed, "https://app.example.com", "api.example.com"));
        assert!(allows(&listed, "https://app.example.com:443", "api.example.com"));
        assert!(!allows(&listed, "https://app.example.com:80", "api.example.com"));
        assert!(!allows(&listed, "http://app.example.com", "api.example.com"));
        assert!(!allows(&listed, "https://app.example.com:444", "api.example.com"));
        let any = Settings { allowed_origins: vec!["*".to_owned()], ..Settings::default() };
        assert!(allows(&any, "null", "api.example.com"));
    }
}
