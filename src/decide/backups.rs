//! Backups of the database: how they are named, and which of them have had their time.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// The longest that a backup may be asked to stay.
const DAYS_MAX: u64 = 36_500;
/// Seconds in a day.
const DAY: u64 = 86_400;

/// Which backups stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The newest so many.
    Newest(usize),
    /// Those that are not older than this.
    For(Duration),
}

impl Keep {
    /// Reads `30d`, `12h`, `8w` or a number of backups.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fault = || {
            format!(
                "'{text}' is neither a span (30d, 12h, 8w) nor a number of backups (10, at least 1)"
            )
        };
        let unit = text.chars().last().filter(char::is_ascii_alphabetic);
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let number: u64 = digits.parse().map_err(|_no_number| fault())?;
        let seconds = match unit {
            None if number >= 1 && digits == text => {
                let newest = usize::try_from(number).map_err(|_too_many| fault())?;
                return Ok(Keep::Newest(newest));
            }
            Some('h') => 3_600,
            Some('d') => DAY,
            Some('w') => 7 * DAY,
            _ => return Err(fault()),
        };
        let is_whole = digits.len() + 1 == text.len();
        let span = number.checked_mul(seconds);
        match span {
            Some(span) if is_whole && (1..=DAYS_MAX * DAY).contains(&span) => {
                Ok(Keep::For(Duration::from_secs(span)))
            }
            _ => Err(fault()),
        }
    }
}

/// The file name of a backup: `gemini_batches-20261122T094711Z.db`. `again` tells a second one of the
/// same second from the first (0).
pub fn file_name(stem: &str, at: Timestamp, again: u32) -> String {
    let second = compact(at);
    match again {
        0 => format!("{stem}-{second}.db"),
        _ => format!("{stem}-{second}-{}.db", again + 1),
    }
}

/// An instant as it stands in file names: `20261122T094711Z`.
pub fn compact(at: Timestamp) -> String {
    let text = at.to_string();
    let second = text.split('.').next().unwrap_or(&text);
    let plain: String = second
        .chars()
        .filter(|character| !matches!(character, '-' | ':'))
        .collect();
    format!("{plain}Z")
}

/// When the backup of this name was made; `None` for a file that is no backup of ours.
pub fn made_at(stem: &str, name: &str) -> Option<Timestamp> {
    let rest = name.strip_prefix(stem)?.strip_prefix('-')?;
    let rest = rest.strip_suffix(".db")?;
    let second = match rest.split_once('-') {
        None => rest,
        Some((second, again)) => {
            let is_number = !again.is_empty() && again.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then_some(second)?
        }
    };
    let part = |from: usize, to: usize| second.get(from..to);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(9, 11)?,
        part(11, 13)?,
        part(13, 15)?,
    );
    let at = Timestamp::parse(&text).ok()?;
    (compact(at) == second).then_some(at)
}

/// The places of those backups that have had their time, oldest first. The newest one always stays.
pub fn outlived(made: &[Timestamp], keep: Keep, now: Timestamp) -> Vec<usize> {
    let mut places: Vec<usize> = (0..made.len()).collect();
    places.sort_by_key(|place| (made[*place], *place));
    let newest = places.pop();
    debug_assert!(newest.is_some() || made.is_empty());
    match keep {
        Keep::Newest(stay) => {
            let others = stay.saturating_sub(1);
            places.truncate(places.len().saturating_sub(others));
            places
        }
        Keep::For(span) => {
            let is_old = |place: &usize| now.since(made[*place]) > span;
            places.into_iter().filter(is_old).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn spans_and_numbers_are_read() {
        let days = |days: u64| Keep::For(Duration::from_secs(days * DAY));
        assert_eq!(Keep::parse("30d"), Ok(days(30)));
        assert_eq!(Keep::parse("2w"), Ok(days(14)));
        assert_eq!(
            Keep::parse("12h"),
            Ok(Keep::For(Duration::from_secs(43_200)))
        );
        assert_eq!(Keep::parse("10"), Ok(Keep::Newest(10)));
        for wrong in [
            "",
            "d",
            "0",
            "0d",
            "-1",
            "1.5d",
            "30dd",
            "30 d",
            "30m",
            "x",
            "99999999999999999999d",
        ] {
            assert!(Keep::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_read_back_and_others_are_left_alone() {
        let made = at("2026-11-22T09:47:11.5Z");
        let name = file_name("gemini_batches", made, 0);
        assert_eq!(name, "gemini_batches-20261122T094711Z.db");
        let second = at("2026-11-22T09:47:11Z");
        assert_eq!(made_at("gemini_batches", &name), Some(second));
        let again = file_name("gemini_batches", made, 1);
        assert_eq!(again, "gemini_batches-20261122T094711Z-2.db");
        assert_eq!(made_at("gemini_batches", &again), Some(second));
        for other in [
            "gemini_batches.db",
            "gemini_batches-20261122T094711Z.db.part",
            "gemini_batches-20261122T094711Z-x.db",
            "gemini_batches-20261122T094711Z-.db",
            "gemini_batches-20261322T094711Z.db",
            "gemini_batches-2026-11-22.db",
            "gemini_batches-20261122t094711Z.db",
            "gemini_batches-é0261122T094711Z.db",
            "other-20261122T094711Z.db",
        ] {
            assert_eq!(made_at("gemini_batches", other), None, "{other}");
        }
    }

    #[test]
    fn s4_43_of_daily_backups_kept_for_30_days_the_31st_goes() {
        let now = at("2026-11-22T03:00:02Z");
        let day = Duration::from_secs(DAY);
        let last = at("2026-11-22T03:00:00Z");
        let daily: Vec<Timestamp> = (0..32).map(|days| last.minus(day * days)).collect();
        let keep = Keep::parse("30d").unwrap();
        assert_eq!(outlived(&daily[..30], keep, now), Vec::<usize>::new());
        assert_eq!(outlived(&daily[..31], keep, now), [30]);
        assert_eq!(outlived(&daily, keep, now), [31, 30]);
        assert_eq!(outlived(&daily[..3], Keep::Newest(2), now), [2]);
        assert!(outlived(&daily[..2], Keep::Newest(5), now).is_empty());
    }

    #[test]
    fn the_newest_backup_stays_however_old_it_is() {
        let now = at("2026-11-22T03:00:00Z");
        let old = [at("2020-01-01T00:00:00Z"), at("2019-01-01T00:00:00Z")];
        assert_eq!(outlived(&old, Keep::parse("1h").unwrap(), now), [1]);
        assert_eq!(outlived(&old, Keep::Newest(1), now), [1]);
        assert!(outlived(&[], Keep::Newest(1), now).is_empty());
    }
}
