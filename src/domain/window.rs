//! The window of a run: which labels it takes, by when they arrived.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::time::Timestamp;

/// From an instant up to, and not including, another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub since: Timestamp,
    pub until: Timestamp,
    /// How it is shown and told from others: `2025-01-23 UTC`, or both ends.
    pub name: String,
}

/// Why a text is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowFault {
    #[error("'{0}' is no date: write it as 2025-01-23")]
    Date(String),
    #[error("'{0}' is no date and no instant: write 2025-01-23 or 2025-01-23T12:00:00Z")]
    Instant(String),
    #[error("'{0}' is no time zone: write a name such as Europe/Berlin, or UTC")]
    Zone(String),
    #[error("the window ends at {until}, which is not after its start {since}")]
    Empty { since: Timestamp, until: Timestamp },
}

impl Window {
    /// One day of a zone: from its midnight to the next one, 24 hours in UTC, 23 or 25 where the clock
    /// is changed.
    pub fn day(date: &str, zone: &str) -> Result<Self, WindowFault> {
        let day: Date = parse_date(date).ok_or_else(|| WindowFault::Date(date.to_owned()))?;
        let tz = time_zone(zone)?;
        let next = day
            .tomorrow()
            .map_err(|_last| WindowFault::Date(date.to_owned()))?;
        Ok(Window {
            since: midnight(day, &tz, date)?,
            until: midnight(next, &tz, date)?,
            name: format!("{day} {zone}"),
        })
    }

    /// From a date (its midnight) or instant to another.
    pub fn between(since: &str, until: &str, zone: &str) -> Result<Self, WindowFault> {
        let tz = time_zone(zone)?;
        let at = |text: &str| match parse_date(text) {
            Some(day) => midnight(day, &tz, text),
            None => Timestamp::parse(text).map_err(|_| WindowFault::Instant(text.to_owned())),
        };
        let (since, until) = (at(since)?, at(until)?);
        if since >= until {
            return Err(WindowFault::Empty { since, until });
        }
        Ok(Window {
            since,
            until,
            name: format!("{since} to {until}"),
        })
    }

    /// Whether what arrived then belongs to it.
    pub fn holds(&self, at: Timestamp) -> bool {
        self.since <= at && at < self.until
    }
}

/// A date and nothing else: an instant is not one.
fn parse_date(text: &str) -> Option<Date> {
    (text.len() == 10).then(|| text.parse().ok()).flatten()
}

fn time_zone(name: &str) -> Result<TimeZone, WindowFault> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_unknown| WindowFault::Zone(name.to_owned()))
}

fn midnight(day: Date, tz: &TimeZone, text: &str) -> Result<Timestamp, WindowFault> {
    let start = day
        .to_zoned(tz.clone())
        .and_then(|zoned| zoned.start_of_day())
        .map_err(|_no_such_day| WindowFault::Date(text.to_owned()))?;
    Ok(Timestamp::from_micros(start.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(window: &Window) -> u64 {
        window.until.since(window.since).as_secs() / 3_600
    }

    #[test]
    fn s3_14_a_day_has_24_hours_in_utc_and_its_own_number_in_a_zone() {
        let day = Window::day("2025-01-23", "UTC").unwrap();
        assert_eq!(day.since.to_string(), "2025-01-23T00:00:00.000000Z");
        assert_eq!(hours(&day), 24);
        let spring = Window::day("2025-03-30", "Europe/Berlin").unwrap();
        assert_eq!(spring.since.to_string(), "2025-03-29T23:00:00.000000Z");
        assert_eq!(hours(&spring), 23);
        assert_eq!(
            hours(&Window::day("2025-10-26", "Europe/Berlin").unwrap()),
            25
        );
    }

    #[test]
    fn s3_12_days_meet_without_gap_or_overlap() {
        let one = Window::day("2025-10-26", "Europe/Berlin").unwrap();
        let next = Window::day("2025-10-27", "Europe/Berlin").unwrap();
        assert_eq!(one.until, next.since);
        assert!(one.holds(one.since) && !one.holds(one.until) && next.holds(one.until));
    }

    #[test]
    fn what_is_no_window_is_refused_with_what_to_write() {
        let fault = |window: Result<Window, WindowFault>| window.unwrap_err().to_string();
        assert!(fault(Window::day("23.1.2025", "UTC")).contains("write it as 2025-01-23"));
        assert!(fault(Window::day("2025-02-30", "UTC")).contains("is no date"));
        assert!(fault(Window::day("2025-01-23", "Mars/Base")).contains("is no time zone"));
        let reversed = Window::between("2025-01-24", "2025-01-23", "UTC");
        assert!(fault(reversed).contains("not after its start"));
        let some = Window::between("2025-01-23T12:00:00Z", "2025-01-24", "UTC").unwrap();
        assert_eq!(hours(&some), 12);
        assert!(fault(Window::between("noon", "2025-01-24", "UTC")).contains("no instant"));
    }
}
