//! Where a request may carry its token. Reads raw texts and checks nothing about the token.

use percent_encoding::percent_decode_str;

/// The token of an `Authorization: Bearer …` header, where it is one and not empty.
pub fn bearer(header_value: &str) -> Option<&str> {
    let (scheme, token) = header_value.trim().split_once([' ', '\t'])?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

/// The token of a WebSocket request: the first that is not empty of the query's `token`, the `Authorization`
/// header, and an offer `bearer.<jwt>` in `Sec-WebSocket-Protocol` (whole header values or single offers).
pub fn pick_token<'a>(
    query: Option<&str>,
    authorization: Option<&str>,
    protocols: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    query
        .and_then(query_token)
        .or_else(|| authorization.and_then(bearer).map(str::to_owned))
        .or_else(|| protocols.into_iter().flat_map(|value| value.split(',')).find_map(offered_token))
}

fn query_token(query: &str) -> Option<String> {
    query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == "token").find_map(
        |(_, value)| {
            // What is not UTF-8 stays a token, and will be refused as one.
            let token = percent_decode_str(value).decode_utf8_lossy();
            Some(token.trim().to_owned()).filter(|token| !token.is_empty())
        },
    )
}

fn offered_token(offer: &str) -> Option<String> {
    offer.trim().strip_prefix("bearer.").filter(|token| !token.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_header_is_read_whatever_its_case_and_spaces() {
        for header in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c ", " Bearer\ta.b.c"] {
            assert_eq!(bearer(header), Some("a.b.c"), "{header:?}");
        }
        for header in ["", "Bearer", "Bearer ", "Bearer  ", "Basic a.b.c", "a.b.c", "Bearera.b.c"] {
            assert_eq!(bearer(header), None, "{header:?}");
        }
    }

    #[test]
    fn the_first_source_that_is_not_empty_wins() {
        let all = ["tidings.v1", "bearer.offer"];
        for (query, header, offers, expected) in [
            (Some("token=query"), Some("Bearer header"), &all[..], Some("query")),
            (Some("token="), Some("Bearer header"), &all[..], Some("header")),
            (Some("token"), Some("Bearer header"), &all[..], Some("header")),
            (Some("token=%20"), Some("Bearer "), &all[..], Some("offer")),
            (Some(""), Some("Basic x"), &all[..], Some("offer")),
            (None, None, &["tidings.v1, bearer.offer"][..], Some("offer")),
            (None, None, &["bearer.", "bearer.second"][..], Some("second")),
            (None, None, &["bearer.", "Bearer.x", "tidings.v1", ""][..], None),
            (Some("xtoken=a&tokens=b"), None, &[][..], None),
            (Some("since=0&token=a%2Eb%2ec&token=d"), None, &[][..], Some("a.b.c")),
            (Some("token=&token=second"), Some("Bearer header"), &[][..], Some("second")),
            (Some("token=%ff"), Some("Bearer header"), &[][..], Some("\u{fffd}")),
        ] {
            let picked = pick_token(query, header, offers.iter().copied());
            assert_eq!(picked.as_deref(), expected, "{query:?} {header:?} {offers:?}");
        }
    }
}
