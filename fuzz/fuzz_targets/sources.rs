//! Fuzzes where a request carries its token: the lines of an input are a query, a header, and offered subprotocols.
#![no_main]

use tidings::auth::{bearer, pick_token};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let (query, authorization) = (lines.next(), lines.next());
    let offers: Vec<&str> = lines.collect();
    let token = pick_token(query, authorization, offers.iter().copied());
    // The first source that has one wins, so each that comes later is asked for nothing.
    let alone = |query, authorization, offers: &[&str]| pick_token(query, authorization, offers.iter().copied());
    let of_query = alone(query, None, &[]);
    let of_header = alone(None, authorization, &[]);
    let of_offers = alone(None, None, &offers);
    assert_eq!(of_header.as_deref(), authorization.and_then(bearer));
    assert_eq!(token, of_query.clone().or(of_header).or(of_offers.clone()));
    assert!(token.is_none_or(|token| !token.is_empty()));
    assert!(of_query.is_none_or(|token| token.trim() == token && text.contains("token=")));
    assert!(of_offers.is_none_or(|token| text.contains(&format!("bearer.{token}"))));
});
