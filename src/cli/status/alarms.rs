//! What keeps work from going on as it should.

use std::io::{self, Write};
use std::time::Duration;

use super::View;
use super::text::{labelled, line};
use crate::domain::alert::{Alert, AlertKind};
use crate::report::words;

/// Prints halts, alarms, and what is slowed down or late.
pub(super) fn print_alarms(view: &View<'_>, out: &mut impl Write) -> io::Result<()> {
    let (summary, screen, at) = (view.summary, view.screen, view.at);
    let alarm = |word: &str| screen.alarm(&format!("{word:<9}"));
    for halt in &summary.halts {
        let age = words::span(at.since(halt.since));
        let text = format!("{} for {age}: {}", halt.reason, halt.message);
        labelled(screen, &alarm("HALTED"), &text, out)?;
        line(screen, "", halt.reason.remedy(), out)?;
    }
    let uncollected = view.facts.map(|facts| facts.desk.uncollected.as_slice());
    for (batch, since) in uncollected.unwrap_or_default() {
        let age = words::span(at.since(*since));
        let text = format!("batch {batch} ended {age} ago and its results are not on this disk");
        labelled(screen, &alarm("ALARM"), &text, out)?;
    }
    for (batch, since) in &summary.unreachable {
        let age = words::span(at.since(*since));
        let text = format!("batch {batch} cannot be seen for {age}; it is not sent again");
        labelled(screen, &alarm("ALARM"), &text, out)?;
    }
    if let Some(facts) = view.facts {
        // What stands above has its own line; the rest is what only the alerts know.
        let rest = facts.alerts.iter().filter(|alert| !is_told(alert.kind));
        let rest: Vec<Alert> = rest.cloned().collect();
        crate::cli::alarms::print(&rest, screen, at, out)?;
    }
    print_notes(view, out)
}

/// Whether a kind of alert has lines of its own.
fn is_told(kind: AlertKind) -> bool {
    matches!(
        kind,
        AlertKind::Halted | AlertKind::BatchUnreachable | AlertKind::ResultsUncollected
    )
}

/// Not alarms, but no ordinary course either.
fn print_notes(view: &View<'_>, out: &mut impl Write) -> io::Result<()> {
    let (summary, screen) = (view.summary, view.screen);
    for (model, pace) in &summary.paces {
        if pace.pages_max.is_some() || pace.tokens_max.is_some() {
            line(screen, "pace", &format!("{model}: {}", pace.reason), out)?;
        }
    }
    if summary.late_jobs > 0 {
        let jobs = words::count(summary.late_jobs);
        let text = format!("{jobs} jobs beside their batches may still bring answers");
        line(screen, "late", &text, out)?;
    }
    if summary.paid_twice > 0 {
        let answers = words::count(summary.paid_twice);
        let text = format!("{answers} answers were paid for a second time");
        line(screen, "twice", &text, out)?;
    }
    Ok(())
}

/// A span that may be absent, in seconds.
pub(super) fn whole_seconds(span: Option<Duration>) -> Option<u64> {
    span.map(|span| span.as_secs())
}
