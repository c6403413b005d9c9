//! The trend by days, and groups of equal messages.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::super::clusters::Clusters;
use super::super::days::Days;
use crate::actors::state::desk_failures::DayCount;
use crate::cli::screen::{Columns, Screen, Side, more, one_line, seconds};
use crate::domain::failure::ErrorType;
use crate::report::words;

/// The room that the day and the sum take, and that a figure takes at least.
const DAY_WIDTH: usize = 12 + 8;
const FIGURE_WIDTH: usize = 7;
/// Days are all shown up to here; of longer spans, only those with failures.
const DAYS_MAX: usize = 92;

/// Prints failures a day: as many types as the screen has room for, the most frequent first, and the
/// others together.
pub fn trend(
    screen: Screen,
    trend: &[DayCount],
    days: &Days,
    out: &mut impl Write,
) -> io::Result<()> {
    let (since, until) = days.ends();
    let total: u64 = trend.iter().map(|count| count.failures).sum();
    let total = words::count(total);
    writeln!(out, "{total} failures from {since} to {until} (UTC)")?;
    if trend.is_empty() {
        return Ok(());
    }
    let (types, has_others) = types_that_fit(usize::from(screen.width), trend);
    let mut headings = vec![("day", Side::Left), ("all", Side::Right)];
    headings.extend(types.iter().map(|error| (error.as_str(), Side::Right)));
    if has_others {
        headings.push(("others", Side::Right));
    }
    let mut columns = Columns::new(screen, &headings);
    let mut by_day: BTreeMap<&str, Vec<&DayCount>> = BTreeMap::new();
    for count in trend {
        by_day.entry(&count.day).or_default().push(count);
    }
    let every: Vec<String> = days.each().take(DAYS_MAX + 1).collect();
    let shown: Vec<&str> = if every.len() > DAYS_MAX {
        by_day.keys().copied().collect()
    } else {
        every.iter().map(String::as_str).collect()
    };
    for day in shown {
        let counts = by_day.get(day).map_or(&[][..], Vec::as_slice);
        let all: u64 = counts.iter().map(|count| count.failures).sum();
        let of = |error: &ErrorType| -> u64 {
            let counts = counts.iter().filter(|count| count.error == *error);
            counts.map(|count| count.failures).sum()
        };
        let mut row = vec![day.to_owned(), figure(all)];
        row.extend(types.iter().map(|error| figure(of(error))));
        if has_others {
            let named: u64 = types.iter().map(of).sum();
            row.push(figure(all - named));
        }
        columns.row(&row);
    }
    columns.print(out)
}

/// A day without failures is told at a glance.
fn figure(count: u64) -> String {
    match count {
        0 => "-".to_owned(),
        count => words::count(count),
    }
}

/// The types that have room beside day and sum, and whether some have not.
fn types_that_fit(width: usize, trend: &[DayCount]) -> (Vec<ErrorType>, bool) {
    let mut totals: BTreeMap<ErrorType, u64> = BTreeMap::new();
    for count in trend {
        *totals.entry(count.error).or_default() += count.failures;
    }
    let mut types: Vec<ErrorType> = totals.keys().copied().collect();
    types.sort_by_key(|error| std::cmp::Reverse(totals[error]));
    let room = |error: &ErrorType| error.as_str().len().max(FIGURE_WIDTH) + 2;
    let needed: usize = types.iter().map(room).sum();
    if DAY_WIDTH + needed <= width {
        return (types, false);
    }
    let mut left = width.saturating_sub(DAY_WIDTH + FIGURE_WIDTH + 2);
    let fitting = types.iter().take_while(|error| {
        let fits = room(error) <= left;
        left = left.saturating_sub(room(error));
        fits
    });
    let fitting = fitting.count();
    types.truncate(fitting);
    (types, true)
}

/// Prints groups of failures that say the same, largest first, each with its newest example.
pub fn clusters(clusters: &Clusters, out: &mut impl Write) -> io::Result<()> {
    if clusters.all == 0 {
        return writeln!(out, "no failures");
    }
    for cluster in &clusters.clusters {
        let pages = match cluster.pages {
            1 => "1 page".to_owned(),
            pages => format!("{} pages", words::count(pages)),
        };
        let last = cluster.last_at.map(|at| format!(", last {}", seconds(at)));
        writeln!(
            out,
            "{:>8}  {} on {pages}{}",
            words::count(cluster.failures),
            cluster.error,
            last.unwrap_or_default()
        )?;
        writeln!(out, "          {}", cluster.signature)?;
        writeln!(
            out,
            "          such as {}",
            one_line(cluster.example.key.as_str())
        )?;
    }
    more(
        clusters.clusters.len() as u64,
        clusters.all,
        "--limit N",
        out,
    )?;
    if clusters.beyond > 0 {
        let beyond = words::count(clusters.beyond);
        writeln!(out, "{beyond} failures more say something else each")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_all_types() -> Vec<DayCount> {
        let types = ErrorType::ALL.iter().enumerate();
        types
            .map(|(place, error)| DayCount {
                day: "2026-11-22".to_owned(),
                error: *error,
                failures: 100 - place as u64,
                counted: 1,
            })
            .collect()
    }

    #[test]
    fn s0_31_a_trend_shows_as_many_types_as_there_is_room_for() {
        let counts = of_all_types();
        let days = Days::read(Some("2026-11-20"), Some("2026-11-23")).unwrap();
        for width in [60, 80, 160, 300] {
            let mut text = Vec::new();
            trend(Screen::plain(width), &counts, &days, &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert_eq!(text.lines().count(), 6, "{text}");
            let fits = |line: &str| line.chars().count() <= usize::from(width);
            assert!(text.lines().all(fits), "{width}\n{text}");
            assert_eq!(text.contains("others"), width < 300, "{width}\n{text}");
            let empty = |line: &str| line.starts_with("2026-11-21") && line.ends_with("  -");
            assert!(text.lines().any(empty), "{text}");
            assert!(text.contains("JSONDecodeError"), "{text}");
        }
    }
}
