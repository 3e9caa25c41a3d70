//! Identifiers as the wire has them: positive integers below 2^53, so that a JavaScript number holds
//! every one of them exactly.

/// The first integer that no id reaches (2^53).
pub const ID_END: i64 = 1 << 53;

/// Whether a number can be an id.
pub fn is_id(number: i64) -> bool {
    (1..ID_END).contains(&number)
}

/// Reads an id from a path or query: decimal digits without a sign, in range; otherwise nothing.
pub fn parse_id(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 16 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|id| is_id(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_positive_and_below_two_to_the_53() {
        assert_eq!(parse_id("1"), Some(1));
        assert_eq!(parse_id("9007199254740991"), Some(ID_END - 1));
        for text in ["", "0", "-1", "+1", "1.0", "9007199254740992", "99999999999999999999", "x", " 1", "1e3"] {
            assert_eq!(parse_id(text), None, "{text:?}");
        }
    }
}
