//! Instants. Reading the clock is the business of the `Clock` port.

use std::fmt;
use std::time::Duration;

/// An instant in UTC with microsecond precision.
///
/// Its text form always has six fraction digits, so that texts sort as the instants do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that is not an RFC 3339 instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an RFC 3339 instant such as 2026-11-21T10:00:00Z")]
pub struct NotATimestamp(pub String);

impl Timestamp {
    /// The start of the Unix epoch.
    pub const EPOCH: Timestamp = Timestamp(0);

    /// The first and last instants that have an RFC 3339 form of four-digit years (one day less, so that any offset can be shown).
    const MICROS_MIN: i64 = -62_135_596_800_000_000;
    const MICROS_MAX: i64 = 253_402_128_000_000_000;

    /// Takes microseconds since the Unix epoch, clamped to the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Self {
        Timestamp(micros.clamp(Self::MICROS_MIN, Self::MICROS_MAX))
    }

    /// Gives microseconds since the Unix epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Reads an RFC 3339 text with any number of fraction digits; finer ones are cut.
    pub fn parse(text: &str) -> Result<Self, NotATimestamp> {
        text.parse::<jiff::Timestamp>()
            .map(|instant| Self::from_micros(instant.as_microsecond()))
            .map_err(|_| NotATimestamp(text.to_owned()))
    }

    /// The instant `span` later, clamped to the last one that can be written.
    pub fn plus(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// The instant `span` earlier, clamped to the first one that can be written.
    pub fn minus(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_sub(micros))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = jiff::Timestamp::from_microsecond(self.0)
            .expect("the constructor keeps instants inside the years 1 to 9999");
        write!(f, "{instant:.6}")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_sort_as_the_instants_do() {
        let early = Timestamp::parse("2026-11-21T10:00:00Z").unwrap();
        let later = Timestamp::parse("2026-11-21T10:00:00.000001Z").unwrap();
        assert!(early < later);
        assert!(early.to_string() < later.to_string());
        assert_eq!(early.to_string(), "2026-11-21T10:00:00.000000Z");
    }

    #[test]
    fn nanoseconds_are_cut_and_offsets_understood() {
        let nano = Timestamp::parse("2025-06-26T12:57:41.592657449Z").unwrap();
        assert_eq!(nano.to_string(), "2025-06-26T12:57:41.592657Z");
        let offset = Timestamp::parse("2025-06-26T14:57:41.592657+02:00").unwrap();
        assert_eq!(offset, nano);
    }

    #[test]
    fn arithmetic_never_leaves_what_can_be_written() {
        let end = Timestamp::EPOCH.plus(Duration::MAX);
        assert_eq!(end.to_string(), "9999-12-30T00:00:00.000000Z");
        assert_eq!(
            end.minus(Duration::MAX).to_string(),
            "0001-01-01T00:00:00.000000Z"
        );
        assert_eq!(Timestamp::EPOCH.since(end), Duration::ZERO);
        assert!(Timestamp::parse("yesterday").is_err());
    }
}
