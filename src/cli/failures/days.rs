//! The days that `--since` and `--until` name, in UTC.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::domain::time::Timestamp;

/// How many days a trend shows unless it is told.
const TREND_DAYS: i64 = 30;

/// Days that are no days, or none at all.
#[derive(Debug, thiserror::Error)]
pub enum DayFault {
    #[error("--{flag} takes a day such as 2026-11-22, not '{text}'")]
    NotADay { flag: &'static str, text: String },
    #[error("--since {since} is after --until {until}")]
    Reversed { since: Date, until: Date },
}

/// A span of whole days; absent ends are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Days {
    since: Option<Date>,
    /// Included.
    until: Option<Date>,
}

impl Days {
    /// Reads the flags.
    pub fn read(since: Option<&str>, until: Option<&str>) -> Result<Days, DayFault> {
        let day = |flag: &'static str, text: Option<&str>| {
            let read = |text: &str| {
                text.parse::<Date>().map_err(|_no_day| DayFault::NotADay {
                    flag,
                    text: text.to_owned(),
                })
            };
            text.map(read).transpose()
        };
        let days = Days {
            since: day("since", since)?,
            until: day("until", until)?,
        };
        match (days.since, days.until) {
            (Some(since), Some(until)) if since > until => Err(DayFault::Reversed { since, until }),
            _ => Ok(days),
        }
    }

    /// The same with both ends: up to today, and thirty days where no beginning was named.
    pub fn closed(self, now: Timestamp) -> Days {
        let until = self.until.unwrap_or_else(|| day_of(now));
        let first = || {
            let back = jiff::Span::new().days(TREND_DAYS - 1);
            until.saturating_sub(back)
        };
        Days {
            since: Some(self.since.unwrap_or_else(first)),
            until: Some(until),
        }
    }

    /// The first instant.
    pub fn since(&self) -> Option<Timestamp> {
        self.since.map(midnight)
    }

    /// The first instant that is too late.
    pub fn until(&self) -> Option<Timestamp> {
        let next = |day: Date| day.saturating_add(jiff::Span::new().days(1));
        self.until.map(|day| midnight(next(day)))
    }

    /// Every day of a closed span, as it is written.
    pub fn each(&self) -> impl Iterator<Item = String> {
        let ends = self.since.zip(self.until);
        ends.into_iter().flat_map(|(since, until)| {
            since
                .series(jiff::Span::new().days(1))
                .take_while(move |day| *day <= until)
                .map(|day| day.to_string())
        })
    }

    /// The ends of a closed span, as they are written.
    pub fn ends(&self) -> (String, String) {
        let shown = |day: Option<Date>| day.map_or_else(String::new, |day| day.to_string());
        (shown(self.since), shown(self.until))
    }
}

fn day_of(at: Timestamp) -> Date {
    let instant = jiff::Timestamp::from_microsecond(at.as_micros());
    instant.map_or(Date::MAX, |instant| instant.to_zoned(TimeZone::UTC).date())
}

fn midnight(day: Date) -> Timestamp {
    let instant = TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0));
    instant.map_or(Timestamp::from_micros(i64::MAX), |instant| {
        Timestamp::from_micros(instant.as_microsecond())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(since: Option<&str>, until: Option<&str>, expected: &str) {
        let said = match Days::read(since, until) {
            Ok(days) => format!("{:?} {:?}", days.since(), days.until()),
            Err(fault) => fault.to_string(),
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn s0_31_days_are_whole_days_in_utc() {
        check(None, None, "None None");
        check(
            Some("2026-11-21"),
            Some("2026-11-21"),
            "Some(2026-11-21T00:00:00.000000Z) Some(2026-11-22T00:00:00.000000Z)",
        );
        check(
            Some("yesterday"),
            None,
            "--since takes a day such as 2026-11-22, not 'yesterday'",
        );
        check(
            Some("2026-11-22"),
            Some("2026-11-21"),
            "--since 2026-11-22 is after --until 2026-11-21",
        );
    }

    #[test]
    fn a_trend_has_thirty_days_up_to_today() {
        let now = Timestamp::parse("2026-11-22T23:59:59.999999Z").unwrap();
        let days = Days::default().closed(now);
        assert_eq!(days.each().count(), 30);
        let ends = ("2026-10-24".to_owned(), "2026-11-22".to_owned());
        assert_eq!(days.ends(), ends);
        let next = Timestamp::parse("2026-11-23T00:00:00Z").unwrap();
        assert_eq!(Days::default().closed(next).ends().1, "2026-11-23");
    }
}
