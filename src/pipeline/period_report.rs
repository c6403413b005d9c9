//! From what is asked for to the facts of a report: the figures are read beside whoever writes.

use sea_orm::DatabaseConnection;

use crate::actors::state::messages::StateResult;
use crate::actors::state::{audit, figures};
use crate::domain::figures::Subject;
use crate::domain::period::{Period, PeriodKind, Zone};
use crate::domain::time::Timestamp;
use crate::report::facts::Facts;
use crate::settings::Settings;

/// What reports need to know of the settings.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The name of the level above all others, if there is one above the page.
    pub level: Option<String>,
    pub max_retries: u32,
}

impl Shape {
    pub fn of(settings: &Settings) -> Self {
        let names = settings.paths.layout.names();
        Shape {
            level: (names.len() > 1).then(|| names[0].clone()),
            max_retries: settings.execution.max_retries,
        }
    }
}

/// What is asked for: all of a report but its figures.
pub struct Asked {
    pub subject: Subject,
    pub title: String,
    pub about: Vec<(&'static str, String)>,
    pub zone: Zone,
    pub shape: Shape,
    pub at: Timestamp,
}

/// The report of a day or a week.
pub fn of_period(period: &Period, shape: Shape, at: Timestamp) -> Asked {
    let Period { kind, zone, .. } = period;
    let stretch = period.stretch();
    let title = match kind {
        PeriodKind::Day => format!("Day {}", period.name()),
        PeriodKind::Week => format!("Week {}", period.name()),
    };
    let mut about = vec![
        ("zone", zone.to_string()),
        ("from", zone.show(stretch.from)),
        ("until", zone.show(stretch.until)),
    ];
    if at < stretch.until {
        about.push(("state", "not over yet".to_owned()));
    }
    Asked {
        subject: Subject::Time(stretch),
        title,
        about,
        zone: zone.clone(),
        shape,
        at,
    }
}

/// Asks for the figures, all at one moment.
pub async fn gather(
    connection: &DatabaseConnection,
    asked: Asked,
    failed_max: u64,
) -> StateResult<Facts> {
    let Asked {
        subject,
        title,
        about,
        zone,
        shape: Shape { level, max_retries },
        at,
    } = asked;
    let snapshot = audit::snapshot(connection).await?;
    let figures = figures::figures(&snapshot, &subject, &zone, failed_max).await?;
    audit::end_snapshot(snapshot).await?;
    Ok(Facts {
        title,
        about,
        zone,
        made_at: at,
        level,
        max_retries,
        figures,
    })
}
