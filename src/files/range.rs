//! The `Range` header of a download (RFC 9110, section 14). Knows only the header and the file's size.

use std::ops::Range;

/// What a request's `Range` header asks of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeAnswer {
    /// 200 with all of it.
    Whole,
    /// 206 with these bytes; never empty and never past the end.
    Part(Range<u64>),
    /// 416 with `Content-Range: bytes */size`.
    Unsatisfiable,
}

/// Reads a `Range` header. What is malformed, of another unit, or names several ranges is ignored, as the RFC allows.
pub fn parse_range(header: &str, size: u64) -> RangeAnswer {
    let Some((unit, range)) = header.trim().split_once('=') else { return RangeAnswer::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return RangeAnswer::Whole;
    }
    let Some((first, last)) = range.trim().split_once('-') else { return RangeAnswer::Whole };
    match (first, last) {
        ("", length) => number(length).map_or(RangeAnswer::Whole, |length| suffix(length, size)),
        (first, "") => number(first).map_or(RangeAnswer::Whole, |first| part(first, u64::MAX, size)),
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => part(first, last, size),
            _ => RangeAnswer::Whole,
        },
    }
}

/// The last `length` bytes; all of a file that is shorter, which for an empty one can't be said with a 206.
fn suffix(length: u64, size: u64) -> RangeAnswer {
    match (length, size) {
        (0, _) => RangeAnswer::Unsatisfiable,
        (_, 0) => RangeAnswer::Whole,
        _ => RangeAnswer::Part(size.saturating_sub(length)..size),
    }
}

fn part(first: u64, last: u64, size: u64) -> RangeAnswer {
    if first >= size {
        return RangeAnswer::Unsatisfiable;
    }
    RangeAnswer::Part(first..last.saturating_add(1).min(size))
}

/// A run of digits; one too great for 64 bits is past every end all the same.
fn number(digits: &str) -> Option<u64> {
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::RangeAnswer::{Part, Unsatisfiable, Whole};
    use super::*;

    #[test]
    fn every_form_of_a_range_gets_its_answer() {
        let table = [
            ("bytes=0-0", 10, Part(0..1)),
            ("bytes=0-9", 10, Part(0..10)),
            ("bytes=0-10", 10, Part(0..10)),
            ("bytes=2-5", 10, Part(2..6)),
            ("bytes=9-9", 10, Part(9..10)),
            ("bytes=9-", 10, Part(9..10)),
            ("bytes=0-", 10, Part(0..10)),
            ("Bytes=1-", 10, Part(1..10)),
            (" bytes= 1-2 ", 10, Part(1..3)),
            ("bytes=-1", 10, Part(9..10)),
            ("bytes=-10", 10, Part(0..10)),
            ("bytes=-11", 10, Part(0..10)),
            ("bytes=0-18446744073709551615", 10, Part(0..10)),
            ("bytes=0-99999999999999999999999", 10, Part(0..10)),
            ("bytes=-99999999999999999999999", 10, Part(0..10)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-12", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=0-0", 0, Unsatisfiable),
            ("bytes=-0", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            ("bytes=5-2", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes=0-1,", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes", 10, Whole),
            ("", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=1-+2", 10, Whole),
            ("bytes=--5", 10, Whole),
            ("bytes=1--5", 10, Whole),
            ("bytes=0x1-2", 10, Whole),
            ("bytes=1 - 2", 10, Whole),
            ("lines=0-1", 10, Whole),
        ];
        for (header, size, answer) in table {
            assert_eq!(parse_range(header, size), answer, "{header:?} of {size}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_part_is_never_empty_and_never_past_the_end(header in "bytes=[0-9]{0,3}-[0-9]{0,3}", size in 0u64..200) {
            if let Part(range) = parse_range(&header, size) {
                proptest::prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
