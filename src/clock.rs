//! The one source of wall-clock time. Production reads the system; a test may hold the hands itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;

/// Wall-clock time in milliseconds since the Unix epoch. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock(Hands);

#[derive(Clone, Debug, Default)]
enum Hands {
    #[default]
    System,
    Manual(Arc<AtomicI64>),
    /// With the runtime's own time, from what it was when that was.
    #[cfg(test)]
    Runtime(i64, tokio::time::Instant),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still until it is moved with [`Clock::advance_ms`].
    pub fn manual(now_ms: i64) -> Self {
        Self(Hands::Manual(Arc::new(AtomicI64::new(now_ms))))
    }

    /// A clock that goes with the runtime's time, which a simulation moves.
    #[cfg(test)]
    pub(crate) fn of_runtime(now_ms: i64) -> Self {
        Self(Hands::Runtime(now_ms, tokio::time::Instant::now()))
    }

    /// Milliseconds since the Unix epoch.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's clock")]
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Hands::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64),
            Hands::Manual(now_ms) => now_ms.load(Ordering::Relaxed),
            #[cfg(test)]
            Hands::Runtime(begin_ms, begin) => begin_ms + begin.elapsed().as_millis() as i64,
        }
    }

    /// Whole seconds since the Unix epoch, as a JWT counts them.
    pub fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }

    /// Moves a manual clock; the system's clock moves by itself.
    pub fn advance_ms(&self, by: i64) {
        if let Hands::Manual(now_ms) = &self.0 {
            now_ms.fetch_add(by, Ordering::Relaxed);
        }
    }
}

/// A time on the wire: RFC 3339, UTC, milliseconds, `Z`. What is after the year 9999 is shown as its end.
pub fn rfc3339(ms: i64) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    format!("{timestamp:.3}")
}

/// Reads a time as RFC 3339 writes it, with any offset; nothing where it is none.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    // Not as a `Timestamp`, which ends a day before the last year does, so that any offset fits.
    const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let pieces = Pieces::parse(text).ok()?;
    let offset = pieces.to_numeric_offset()?;
    let since = pieces.date().to_datetime(pieces.time()?).duration_since(EPOCH);
    i64::try_from(since.as_millis()).ok()?.checked_sub(i64::from(offset.seconds()) * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_z() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_758_709_800_120), "2025-09-24T10:30:00.120Z");
        assert!(rfc3339(i64::MAX).starts_with("9999-12-"));
    }

    #[test]
    fn times_are_read_with_any_offset() {
        assert_eq!(parse_rfc3339("2025-09-24T12:30:00.120+02:00"), Some(1_758_709_800_120));
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00Z"), Some(0));
        for text in ["", "tomorrow", "2025-09-24", "2025-09-24T12:30:00", "1758709800"] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_read_up_to_the_last_that_can_be_written() {
        assert_eq!(parse_rfc3339("9999-12-30T22:00:00Z"), Some(253_402_207_200_000));
        assert_eq!(parse_rfc3339("9999-12-31T23:59:59Z"), Some(253_402_300_799_000));
        assert_eq!(parse_rfc3339("9999-12-31T23:59:59.999-12:00"), Some(253_402_343_999_999));
        assert_eq!(parse_rfc3339("0000-01-01T00:00:00Z"), Some(-62_167_219_200_000));
        for text in ["9999-12-31T24:00:00Z", "10000-01-01T00:00:00Z", "9999-12-32T00:00:00Z", "9999-12-31T23:59:59"] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual(1_500);
        clock.advance_ms(600);
        assert_eq!((clock.now_ms(), clock.now_s()), (2_100, 2));
    }
}
