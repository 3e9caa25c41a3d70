//! Signed links: whoever holds one may download one file until it expires. Knows the key, not who asks.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the unreserved characters of RFC 3986, which stand for themselves in a path segment.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Which file of an attachment a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Original,
    Thumbnail,
}

impl Variant {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Thumbnail => "thumbnail",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Original, Self::Thumbnail].into_iter().find(|variant| variant.as_str() == text)
    }
}

/// What a link is to be made for.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    pub attachment_id: i64,
    /// As [`clean_filename`](super::clean_filename) left it.
    pub filename: &'a str,
    pub variant: Variant,
    /// From this millisecond on, counted from the Unix epoch, the link is refused.
    pub expires_at_ms: i64,
}

/// Signs links and checks them, with a key that all servers share.
#[derive(Clone)]
pub struct LinkSigner {
    key: hmac::Key,
}

impl LinkSigner {
    pub fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The link itself: a path, or absolute where the public address is known.
    pub fn url(&self, public_url: Option<&str>, link: Link<'_>) -> String {
        let base = public_url.unwrap_or_default().trim_end_matches('/');
        let Link { attachment_id, filename, variant, expires_at_ms } = link;
        let filename = utf8_percent_encode(filename, RESERVED);
        let query = self.query(attachment_id, variant, expires_at_ms);
        format!("{base}/api/v1/attachments/{attachment_id}/{filename}?{query}")
    }

    /// The query that opens one variant of an attachment until a time.
    fn query(&self, attachment_id: i64, variant: Variant, expires_at_ms: i64) -> String {
        let tag = hmac::sign(&self.key, signed_text(attachment_id, variant, expires_at_ms).as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(tag.as_ref());
        format!("variant={}&expires={expires_at_ms}&signature={signature}", variant.as_str())
    }

    /// What a link's query opens: the variant it was signed for, or nothing where it was not signed for this
    /// attachment or has expired.
    pub fn verify(&self, attachment_id: i64, query: &str, now_ms: i64) -> Option<Variant> {
        let variant = Variant::parse(field(query, "variant")?)?;
        let expires_at_ms = expires_at_ms(query)?;
        let signature = URL_SAFE_NO_PAD.decode(field(query, "signature")?).ok()?;
        let text = signed_text(attachment_id, variant, expires_at_ms);
        // Compares in constant time.
        hmac::verify(&self.key, text.as_bytes(), &signature).ok()?;
        (now_ms < expires_at_ms).then_some(variant)
    }
}

impl fmt::Debug for LinkSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSigner(…)")
    }
}

/// Until when a link says that it is good; to be believed once it is verified.
pub fn expires_at_ms(query: &str) -> Option<i64> {
    field(query, "expires")?.parse().ok()
}

fn field<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn signed_text(attachment_id: i64, variant: Variant, expires_at_ms: i64) -> String {
    format!("attachment {attachment_id} {} {expires_at_ms}", variant.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRES: i64 = 1_758_709_800_123;

    fn signer() -> LinkSigner {
        LinkSigner::new(&[7; 32])
    }

    fn query(variant: Variant) -> String {
        signer().query(12, variant, EXPIRES)
    }

    #[test]
    fn a_link_opens_what_it_was_signed_for_until_it_expires() {
        for variant in [Variant::Original, Variant::Thumbnail] {
            let query = query(variant);
            assert_eq!(signer().verify(12, &query, 0), Some(variant));
            assert_eq!(signer().verify(12, &query, EXPIRES - 1), Some(variant), "one before the bound");
            assert_eq!(signer().verify(12, &query, EXPIRES), None, "at the bound");
            assert_eq!(signer().verify(12, &query, EXPIRES + 1), None, "past the bound");
        }
    }

    #[test]
    fn tampering_with_any_part_is_refused() {
        let good = query(Variant::Thumbnail);
        let (rest, signature) = good.rsplit_once('=').unwrap();
        let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
        flipped[31] ^= 1;
        let tampered = [
            good.replace("thumbnail", "original"),
            good.replace("thumbnail", "Thumbnail"),
            good.replace("1758709800123", "1758709800124"),
            good.replace("1758709800123", "99999999999999999999"),
            good.replace("1758709800123", ""),
            format!("{rest}={}", URL_SAFE_NO_PAD.encode(flipped)),
            format!("{rest}={}", &signature[..signature.len() - 1]),
            format!("{rest}={signature}A"),
            format!("{rest}="),
            rest.to_owned(),
            good.replace("variant=thumbnail&", ""),
            good.replace("expires=1758709800123&", ""),
            String::new(),
            "&&=&".to_owned(),
        ];
        for query in tampered {
            assert_eq!(signer().verify(12, &query, 0), None, "{query}");
        }
        assert_eq!(signer().verify(13, &good, 0), None, "another attachment");
        assert_eq!(LinkSigner::new(&[8; 32]).verify(12, &good, 0), None, "another key");
        assert_eq!(signer().verify(12, &good, 0), Some(Variant::Thumbnail), "untouched");
    }

    #[test]
    fn a_link_is_a_path_or_absolute_with_the_name_as_one_segment() {
        let link =
            Link { attachment_id: 12, filename: "a b/ü?#%.png", variant: Variant::Original, expires_at_ms: EXPIRES };
        let path = signer().url(None, link);
        let (address, query) = path.split_once('?').unwrap();
        assert_eq!(address, "/api/v1/attachments/12/a%20b%2F%C3%BC%3F%23%25.png");
        assert_eq!(signer().verify(12, query, EXPIRES - 1), Some(Variant::Original));
        for base in ["https://chat.example/tidings", "https://chat.example/tidings/"] {
            assert_eq!(signer().url(Some(base), link), format!("https://chat.example/tidings{path}"));
        }
    }

    #[test]
    fn the_key_does_not_show() {
        assert_eq!(format!("{:?}", signer()), "LinkSigner(…)");
    }
}
