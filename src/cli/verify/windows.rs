//! Pages that are booked to the window of a run: did their labels arrive when the state says so?

use super::Look;
use super::findings::{Finding, Findings};
use crate::actors::state::audit;
use crate::actors::state::messages::StateResult;
use crate::domain::finding::FindingKind;
use crate::domain::ids::RecordKey;
use crate::ports::page_source::PageSource;

/// Pages that are looked at together.
const TOGETHER: u64 = 2_000;

/// Holds every booked page's label against when it arrived. A label that is gone is another matter.
pub async fn check(look: &Look<'_>, findings: &mut Findings) -> StateResult<()> {
    let mut after = String::new();
    loop {
        let booked = audit::booked_pages(look.connection, &after, TOGETHER).await?;
        let Some((last, _at)) = booked.last() else {
            return Ok(());
        };
        last.as_str().clone_into(&mut after);
        let keys: Vec<RecordKey> = booked.iter().map(|(key, _at)| key.clone()).collect();
        let arrivals = look.files.arrivals(keys).await;
        for ((key, recorded), arrival) in booked.into_iter().zip(arrivals) {
            let Ok(now) = arrival.map(|at| at.to_string()) else {
                continue;
            };
            if now != recorded {
                findings.tell(Finding {
                    kind: FindingKind::WindowDrift,
                    thing: key.to_string(),
                    detail: format!("booked as arrived at {recorded}; its label is of {now}"),
                    repair: None,
                });
            }
        }
    }
}
