//! A client's address: the peer's, or, behind a trusted proxy, the one that the proxy tells.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The address of the client that sent a request: the last one named that is not a trusted proxy itself.
pub fn of_client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(&peer) {
        return peer;
    }
    let mut nearest = peer;
    for named in forwarded(headers).iter().rev() {
        // Beyond a name that is no address nothing is known.
        let Some(address) = named else { return nearest };
        nearest = *address;
        if !is_trusted(address) {
            break;
        }
    }
    nearest
}

/// The addresses that proxies name, the farthest first: `Forwarded` (RFC 7239), else `X-Forwarded-For`.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let values = |name: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(|part| part.trim().to_owned()).collect::<Vec<_>>()
    };
    let standard = values("forwarded");
    if standard.is_empty() {
        return values("x-forwarded-for").iter().map(|text| address(text)).collect();
    }
    let node = |element: &String| {
        let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
        let mut nodes = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
        nodes.next().and_then(|(_, value)| address(value.trim().trim_matches('"')))
    };
    standard.iter().map(node).collect()
}

/// An address with or without a port, an IPv6 address with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let parsed = text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    parsed.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("a network"), "::1/128".parse().expect("a network")];
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a header"));
        }
        of_client(peer.parse().expect("an address"), &map, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(client("203.0.113.9", &[("x-forwarded-for", "198.51.100.1")]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "198.51.100.1")]), "198.51.100.1");
        assert_eq!(client("::ffff:10.0.0.1", &[("x-forwarded-for", "198.51.100.1:4711")]), "198.51.100.1");
    }

    #[test]
    fn the_last_address_that_is_not_trusted_itself_counts() {
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, 198.51.100.1, 10.0.0.2")]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")]), "2.2.2.2");
        assert_eq!(
            client("::1", &[("forwarded", r#"for=1.1.1.1, for="[2001:db8::7]:443";proto=https"#)]),
            "2001:db8::7"
        );
        assert_eq!(client("10.0.0.1", &[("forwarded", "for=unknown, for=10.0.0.3")]), "10.0.0.3");
    }
}
