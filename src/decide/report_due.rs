//! Which days and weeks are over and want their report written.

use std::time::Duration;

use crate::domain::figures::WrittenReport;
use crate::domain::period::{Period, PeriodKind, Zone};
use crate::domain::time::Timestamp;

/// Which reports are written by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRules {
    pub daily: bool,
    pub weekly: bool,
    pub zone: Zone,
}

/// How far back missing reports are written, in periods.
const DAYS_BACK: i64 = 14;
const WEEKS_BACK: i64 = 4;
/// How long a report with open requests stands before it is written again.
const AGAIN_AFTER: Duration = Duration::from_secs(3_600);

impl ReportRules {
    pub fn is_none(&self) -> bool {
        !self.daily && !self.weekly
    }

    /// The longest pause until something may be due again: an hour, or the next midnight.
    pub fn next_look(&self, now: Timestamp) -> Timestamp {
        let tomorrow = self.zone.start(self.zone.day_of(now).plus(1));
        now.plus(AGAIN_AFTER).min(tomorrow)
    }
}

/// The periods whose report is to be written now, oldest first: those that are over and have none,
/// and those whose report counted requests that had no outcome yet.
pub fn due(rules: &ReportRules, written: &[WrittenReport], now: Timestamp) -> Vec<Period> {
    let kinds = [
        (PeriodKind::Day, rules.daily, DAYS_BACK, 1),
        (PeriodKind::Week, rules.weekly, WEEKS_BACK, 7),
    ];
    let today = rules.zone.day_of(now);
    let mut due = Vec::new();
    for (kind, wanted, back, days) in kinds {
        for ago in (1..=back).rev().filter(|_| wanted) {
            let period = Period::of(kind, today.plus(-ago * days), rules.zone.clone());
            let known = written.iter();
            let known = known
                .filter(|known| known.kind == kind)
                .find(|known| known.first == period.first);
            let is_due = match known {
                None => true,
                Some(known) => known.open > 0 && now.since(known.written_at) >= AGAIN_AFTER,
            };
            if is_due && period.stretch().until <= now {
                due.push(period);
            }
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::period::Day;

    fn rules(daily: bool, weekly: bool, zone: &str) -> ReportRules {
        let zone = Zone::parse(zone).unwrap();
        ReportRules {
            daily,
            weekly,
            zone,
        }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn names(rules: &ReportRules, written: &[WrittenReport], now: &str) -> Vec<String> {
        let due = due(rules, written, at(now));
        due.iter().map(Period::name).collect()
    }

    fn written(kind: PeriodKind, first: &str, open: u64, at_text: &str) -> WrittenReport {
        WrittenReport {
            kind,
            first: Day::parse(first).unwrap(),
            open,
            written_at: at(at_text),
        }
    }

    #[test]
    fn s2_40_a_day_is_due_when_its_midnight_has_passed_in_its_zone() {
        let berlin = rules(true, false, "Europe/Berlin");
        let last = |now| names(&berlin, &[], now).pop().unwrap();
        assert_eq!(last("2025-03-30T21:59:59.999999Z"), "2025-03-29");
        assert_eq!(last("2025-03-30T22:00:00Z"), "2025-03-30");
        assert_eq!(names(&berlin, &[], "2025-03-30T22:00:00Z").len(), 14);
        assert_eq!(
            berlin.next_look(at("2025-03-30T21:30:00Z")),
            at("2025-03-30T22:00:00Z")
        );
        assert_eq!(
            berlin.next_look(at("2025-03-30T12:30:00Z")),
            at("2025-03-30T13:30:00Z")
        );
    }

    #[test]
    fn a_week_is_due_on_its_monday_after() {
        let rules = rules(false, true, "UTC");
        let last = |now| names(&rules, &[], now).pop().unwrap();
        assert_eq!(last("2025-01-26T23:59:59Z"), "2025-W03");
        assert_eq!(last("2025-01-27T00:00:00Z"), "2025-W04");
    }

    #[test]
    fn what_is_written_is_not_due_unless_requests_were_open() {
        let rules = rules(true, false, "UTC");
        let day = |open| written(PeriodKind::Day, "2025-01-23", open, "2025-01-24T00:00:10Z");
        let is_due = |open, now| names(&rules, &[day(open)], now).contains(&"2025-01-23".into());
        assert!(!is_due(0, "2025-01-24T05:00:00Z"));
        assert!(!is_due(3, "2025-01-24T01:00:00Z"));
        assert!(is_due(3, "2025-01-24T01:00:10Z"));
        // Of a week that begins on that day is said nothing.
        let week = written(PeriodKind::Week, "2025-01-23", 0, "2025-01-24T00:00:10Z");
        assert!(names(&rules, &[week], "2025-01-24T05:00:00Z").contains(&"2025-01-23".into()));
    }

    #[test]
    fn nothing_is_due_that_nobody_asked_for() {
        let rules = rules(false, false, "UTC");
        assert!(rules.is_none());
        assert!(names(&rules, &[], "2025-01-24T05:00:00Z").is_empty());
    }
}
