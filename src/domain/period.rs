//! Days and weeks of a time zone, and how a span of time is cut into them.
//!
//! A day is what lies between two midnights of the zone: 23 or 25 hours where its clocks change. A
//! week is the ISO week, Monday to Monday.

use std::fmt;
use std::time::Duration;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

use super::failure::words;
use super::time::Timestamp;

/// A time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// A text that names no zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no time zone; write a name such as Europe/Berlin, or UTC")]
pub struct NotAZone(pub String);

/// A text that names no day that can be reported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no day; write it like 2025-01-23")]
pub struct NotADay(pub String);

/// A day of the calendar, wherever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

words! {
    /// How long a period is.
    PeriodKind {
        Day => "day",
        Week => "week",
    }
}

/// What lies from `from` up to, and not including, `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub from: Timestamp,
    pub until: Timestamp,
}

/// A day or a week of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    pub kind: PeriodKind,
    /// The day, or the week's Monday.
    pub first: Day,
    pub zone: Zone,
}

/// The first and the last year whose days can be reported.
const YEARS: std::ops::RangeInclusive<i16> = 1970..=9990;

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Zone(TimeZone::UTC)
    }

    /// The zone of an IANA name.
    pub fn parse(name: &str) -> Result<Self, NotAZone> {
        let fault = || NotAZone(name.to_owned());
        if name.eq_ignore_ascii_case("utc") {
            return Ok(Zone::utc());
        }
        let zone = TimeZone::get(name).map_err(|_unknown| fault())?;
        zone.iana_name().ok_or_else(fault)?;
        Ok(Zone(zone))
    }

    /// The day that an instant is in.
    pub fn day_of(&self, at: Timestamp) -> Day {
        Day(self.zoned(at).date())
    }

    fn zoned(&self, at: Timestamp) -> Zoned {
        jiff::Timestamp::from_microsecond(at.as_micros())
            .expect("a timestamp lies within the years 1 to 9999")
            .to_zoned(self.0.clone())
    }

    /// The first instant of a day.
    pub fn start(&self, day: Day) -> Timestamp {
        // A midnight that the clocks leap over is the instant of the leap; of two, the first.
        let midnight = day.0.to_zoned(self.0.clone());
        let midnight = midnight.expect("a day between 1970 and 9990 begins everywhere");
        Timestamp::from_micros(midnight.timestamp().as_microsecond())
    }

    /// An instant on this zone's clocks: `2025-01-23 14:05 +01:00`.
    pub fn show(&self, at: Timestamp) -> String {
        self.zoned(at).strftime("%Y-%m-%d %H:%M %:z").to_string()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl Day {
    /// Reads `2025-01-23`.
    pub fn parse(text: &str) -> Result<Self, NotADay> {
        let is_plain = text.len() == 10 && !text.contains(['T', ' ', '+']);
        let date = text.parse::<Date>().ok();
        let date = date.filter(|date| is_plain && YEARS.contains(&date.year()));
        date.map(Day).ok_or_else(|| NotADay(text.to_owned()))
    }

    /// The day so many days later, or earlier.
    pub fn plus(self, days: i64) -> Self {
        Day(self.0.saturating_add(Span::new().days(days)))
    }

    /// The Monday of this day's ISO week.
    pub fn monday(self) -> Self {
        let since = self.0.weekday().since(Weekday::Monday);
        self.plus(-i64::from(since))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Period {
    /// The period of a kind that a day is in.
    pub fn of(kind: PeriodKind, day: Day, zone: Zone) -> Self {
        let first = match kind {
            PeriodKind::Day => day,
            PeriodKind::Week => day.monday(),
        };
        Period { kind, first, zone }
    }

    /// The first day that is not in it.
    pub fn next_first(&self) -> Day {
        self.first.plus(match self.kind {
            PeriodKind::Day => 1,
            PeriodKind::Week => 7,
        })
    }

    /// From its first midnight to the midnight after its last day.
    pub fn stretch(&self) -> Stretch {
        Stretch {
            from: self.zone.start(self.first),
            until: self.zone.start(self.next_first()),
        }
    }

    /// `2025-01-23`, or `2025-W04`.
    pub fn name(&self) -> String {
        match self.kind {
            PeriodKind::Day => self.first.to_string(),
            PeriodKind::Week => {
                let week = self.first.0.iso_week_date();
                format!("{}-W{:02}", week.year(), week.week())
            }
        }
    }
}

impl Stretch {
    /// All of time.
    pub fn everything() -> Self {
        Stretch {
            from: Timestamp::from_micros(i64::MIN),
            until: Timestamp::from_micros(i64::MAX),
        }
    }

    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }

    pub fn length(&self) -> Duration {
        self.until.since(self.from)
    }
}

words! {
    /// How fine a span of time is cut.
    Step {
        Hour => "hour",
        Day => "day",
        Month => "month",
    }
}

/// A stretch of time in parts that follow each other without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    pub step: Step,
    /// Each part with its name, in order.
    pub parts: Vec<(String, Stretch)>,
}

/// The longest stretch that is shown by the hour, and by the day.
const BY_HOUR_MAX: Duration = Duration::from_secs(50 * 3_600);
const BY_DAY_MAX: Duration = Duration::from_secs(100 * 24 * 3_600);

impl Parts {
    /// Cuts a stretch so that there are not too many parts to look at. Days and months are those of
    /// the zone, so that the first and the last part may reach beyond the stretch.
    pub fn of(stretch: Stretch, zone: &Zone) -> Self {
        if stretch.length() <= BY_HOUR_MAX {
            return Parts::hours(stretch, zone);
        }
        let by_day = stretch.length() <= BY_DAY_MAX;
        let step = if by_day { Step::Day } else { Step::Month };
        let mut parts = Vec::new();
        let first = zone.day_of(stretch.from);
        let mut day = if by_day {
            first
        } else {
            Day(first.0.first_of_month())
        };
        while zone.start(day) < stretch.until {
            let (next, name) = if by_day {
                (day.plus(1), day.to_string())
            } else {
                let next = Day(day.0.saturating_add(Span::new().months(1)));
                (next, day.0.strftime("%Y-%m").to_string())
            };
            let part = Stretch {
                from: zone.start(day),
                until: zone.start(next),
            };
            parts.push((name, part));
            if next == day {
                break;
            }
            day = next;
        }
        Parts { step, parts }
    }

    fn hours(stretch: Stretch, zone: &Zone) -> Self {
        const HOUR: Duration = Duration::from_secs(3_600);
        let offset = |at| zone.zoned(at).offset();
        let clocks_change = offset(stretch.from) != offset(stretch.until);
        let several_days =
            zone.day_of(stretch.from) != zone.day_of(stretch.until.minus(Duration::from_micros(1)));
        let form = match (several_days, clocks_change) {
            (false, false) => "%H:%M",
            (false, true) => "%H:%M %:z",
            (true, _) => "%Y-%m-%d %H:%M %:z",
        };
        let mut parts = Vec::new();
        let mut from = stretch.from;
        while from < stretch.until {
            let until = from.plus(HOUR).min(stretch.until);
            let name = zone.zoned(from).strftime(form).to_string();
            parts.push((name, Stretch { from, until }));
            from = until;
        }
        Parts {
            step: Step::Hour,
            parts,
        }
    }

    /// The place of the part that an instant is in.
    pub fn place(&self, at: Timestamp) -> Option<usize> {
        let after = self.parts.partition_point(|(_name, part)| part.from <= at);
        let place = after.checked_sub(1)?;
        self.parts[place].1.contains(at).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn period(kind: PeriodKind, day: &str, zone: &str) -> Period {
        let (day, zone) = (Day::parse(day).unwrap(), Zone::parse(zone).unwrap());
        Period::of(kind, day, zone)
    }

    fn check(kind: PeriodKind, day: &str, zone: &str, expected: &str, hours: u64) {
        let period = period(kind, day, zone);
        let Stretch { from, until } = period.stretch();
        let said = format!("{}: {} to {}", period.name(), from, until);
        assert_eq!(said.replace(".000000", ""), expected);
        assert_eq!(until.since(from), Duration::from_secs(hours * 3_600));
    }

    #[test]
    fn s3_12_a_day_is_from_midnight_to_midnight_in_its_zone() {
        use PeriodKind::Day;
        check(
            Day,
            "2025-01-23",
            "UTC",
            "2025-01-23: 2025-01-23T00:00:00Z to 2025-01-24T00:00:00Z",
            24,
        );
        check(
            Day,
            "2025-01-23",
            "Europe/Berlin",
            "2025-01-23: 2025-01-22T23:00:00Z to 2025-01-23T23:00:00Z",
            24,
        );
        // The clocks go forward, and back.
        check(
            Day,
            "2025-03-30",
            "Europe/Berlin",
            "2025-03-30: 2025-03-29T23:00:00Z to 2025-03-30T22:00:00Z",
            23,
        );
        check(
            Day,
            "2025-10-26",
            "Europe/Berlin",
            "2025-10-26: 2025-10-25T22:00:00Z to 2025-10-26T23:00:00Z",
            25,
        );
        // A midnight that there was not, and a day that there was not.
        check(
            Day,
            "2018-11-04",
            "America/Sao_Paulo",
            "2018-11-04: 2018-11-04T03:00:00Z to 2018-11-05T02:00:00Z",
            23,
        );
        check(
            Day,
            "2011-12-30",
            "Pacific/Apia",
            "2011-12-30: 2011-12-30T10:00:00Z to 2011-12-30T10:00:00Z",
            0,
        );
    }

    #[test]
    fn s2_40_a_week_is_the_iso_week() {
        use PeriodKind::Week;
        check(
            Week,
            "2025-01-23",
            "UTC",
            "2025-W04: 2025-01-20T00:00:00Z to 2025-01-27T00:00:00Z",
            168,
        );
        check(
            Week,
            "2024-12-31",
            "UTC",
            "2025-W01: 2024-12-30T00:00:00Z to 2025-01-06T00:00:00Z",
            168,
        );
        check(
            Week,
            "2025-10-26",
            "Europe/Berlin",
            "2025-W43: 2025-10-19T22:00:00Z to 2025-10-26T23:00:00Z",
            169,
        );
    }

    #[test]
    fn s3_13_days_follow_each_other_without_a_gap() {
        for zone in [
            "UTC",
            "Europe/Berlin",
            "America/Sao_Paulo",
            "Australia/Lord_Howe",
        ] {
            let mut period = period(PeriodKind::Day, "2017-12-31", zone);
            for _ in 0..500 {
                let stretch = period.stretch();
                period.first = period.next_first();
                assert_eq!(
                    stretch.until,
                    period.stretch().from,
                    "{zone} {}",
                    period.name()
                );
                let last = stretch.until.minus(Duration::from_micros(1));
                assert_eq!(period.zone.day_of(last), period.first.plus(-1));
                assert_eq!(period.zone.day_of(stretch.until), period.first);
            }
        }
    }

    #[test]
    fn hours_of_a_day_on_which_the_clocks_change_have_names_of_their_own() {
        let parts = |day: &str| {
            let period = period(PeriodKind::Day, day, "Europe/Berlin");
            Parts::of(period.stretch(), &period.zone)
        };
        assert_eq!(parts("2025-01-23").parts.len(), 24);
        assert_eq!(parts("2025-01-23").parts[2].0, "02:00");
        let spring = parts("2025-03-30");
        assert_eq!(spring.parts.len(), 23);
        assert_eq!(spring.parts[2].0, "03:00 +02:00");
        let autumn = parts("2025-10-26");
        assert_eq!(autumn.parts.len(), 25);
        assert_eq!(autumn.parts[2].0, "02:00 +02:00");
        assert_eq!(autumn.parts[3].0, "02:00 +01:00");
        assert_eq!(autumn.place(at("2025-10-26T00:59:59Z")), Some(2));
        assert_eq!(autumn.place(at("2025-10-26T01:00:00Z")), Some(3));
        assert_eq!(autumn.place(at("2025-10-26T23:00:00Z")), None);
        assert_eq!(autumn.place(at("2025-10-25T21:59:59Z")), None);
    }

    #[test]
    fn long_stretches_are_cut_into_days_and_longer_ones_into_months() {
        let zone = Zone::parse("Europe/Berlin").unwrap();
        let cut = |from: &str, until: &str| {
            let (from, until) = (at(from), at(until));
            Parts::of(Stretch { from, until }, &zone)
        };
        let days = cut("2025-03-28T12:00:00Z", "2025-04-02T12:00:00Z");
        assert_eq!((days.step, days.parts.len()), (Step::Day, 6));
        assert_eq!(days.parts[5].0, "2025-04-02");
        let months = cut("2024-11-30T23:30:00Z", "2026-01-01T00:00:00Z");
        assert_eq!((months.step, months.parts.len()), (Step::Month, 14));
        assert_eq!(months.parts[0].0, "2024-12");
        assert_eq!(months.parts[13].0, "2026-01");
        let seams = months.parts.windows(2);
        assert!(
            seams
                .map(|two| (two[0].1.until, two[1].1.from))
                .all(|(a, b)| a == b)
        );
    }

    #[test]
    fn what_is_no_day_or_zone_is_told() {
        for text in [
            "2025-02-30",
            "23.1.2025",
            "2025-1-2",
            "",
            "1969-12-31",
            "2025-01-23T00:00",
        ] {
            assert!(Day::parse(text).is_err(), "{text}");
        }
        assert_eq!(
            Zone::parse("Berlin").unwrap_err().to_string(),
            "'Berlin' is no time zone; write a name such as Europe/Berlin, or UTC"
        );
        assert_eq!(Zone::parse("utc").unwrap().to_string(), "UTC");
        assert_eq!(
            Zone::parse("europe/berlin").unwrap().to_string(),
            "Europe/Berlin"
        );
    }
}
