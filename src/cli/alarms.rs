//! How alerts look, wherever they are shown.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::screen::{Screen, one_line};
use crate::domain::alert::{Alert, AlertKind};
use crate::domain::time::Timestamp;

/// The open alerts as lines of `pagemill status`. Halts have lines of their own there.
pub fn print(
    alerts: &[Alert],
    screen: Screen,
    now: Timestamp,
    out: &mut impl Write,
) -> io::Result<()> {
    for alert in alerts {
        if alert.kind == AlertKind::Halted {
            continue;
        }
        writeln!(
            out,
            "{}    {}, since {}: {}",
            screen.alarm("ALERT"),
            name(alert.kind, &alert.subject),
            screen.when(alert.since, now),
            one_line(&alert.message)
        )?;
    }
    Ok(())
}

/// An alert as it is called: its kind, and which one.
pub fn name(kind: AlertKind, subject: &str) -> String {
    if subject.is_empty() {
        kind.to_string()
    } else {
        format!("{kind} ({})", one_line(subject))
    }
}

/// The open alerts as JSON.
pub fn as_json(alerts: &[Alert]) -> Value {
    alerts.iter().map(one_as_json).collect()
}

/// One alert as JSON, the same wherever it is shown.
pub fn one_as_json(alert: &Alert) -> Value {
    json!({
        "id": alert.id,
        "kind": alert.kind.as_str(),
        "subject": alert.subject,
        "message": alert.message,
        "since": alert.since.to_string(),
        "fired_at": alert.fired_at.to_string(),
        "last_seen": alert.last_seen.to_string(),
        "cleared_at": alert.cleared_at.map(|at| at.to_string()),
        "times": alert.times,
    })
}
