//! The export that stands beside the database, if there is one.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use super::Look;
use super::findings::{Finding, Findings};
use crate::actors::state::audit;
use crate::cli::export::check::{self, Difference, Kind};
use crate::cli::export::default_root;
use crate::domain::finding::FindingKind;
use crate::domain::selection::Selection;
use crate::domain::time::Timestamp;

/// How long an export may be without writing to its index.
const EXPORT_MAX: Duration = Duration::from_secs(600);

/// Compares the export with the database; gives how many files it has.
pub async fn check(look: &Look<'_>, findings: &mut Findings) -> anyhow::Result<u64> {
    let root = default_root(look.settings);
    // The index is what an export writes last: until then, files and index are not of one time.
    if is_being_written(look) {
        return Ok(0);
    }
    let snapshot = audit::snapshot(look.connection).await?;
    let everything = Selection::default();
    let mut tell = |difference: Difference| {
        let Difference {
            kind,
            thing,
            detail,
        } = difference;
        let (kind, thing) = match kind {
            Kind::Damaged => (FindingKind::ExportDamaged, look.shown(&root.join(thing))),
            Kind::Behind => (FindingKind::ExportBehind, thing),
        };
        findings.tell(Finding {
            kind,
            thing,
            detail,
            repair: None,
        });
    };
    let files = check::check(look.settings, &snapshot, &root, &everything, &mut tell).await?;
    audit::end_snapshot(snapshot).await?;
    Ok(files.unwrap_or(0))
}

fn is_being_written(look: &Look<'_>) -> bool {
    let Ok(entries) = fs::read_dir(default_root(look.settings)) else {
        return false;
    };
    let mut names = entries.filter_map(Result::ok);
    names.any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let changed_at = entry.metadata().and_then(|found| found.modified());
        let since_epoch = changed_at.map(|at| at.duration_since(UNIX_EPOCH).unwrap_or_default());
        let changed_at = since_epoch.map(|span| Timestamp::EPOCH.plus(span));
        name.starts_with(".index.json.")
            && name.ends_with(".tmp")
            && changed_at.is_ok_and(|at| look.at.since(at) < EXPORT_MAX)
    })
}
