//! Doubt: does the job exist? The remote list is read page by page and searched by display name.

use std::collections::HashMap;
use std::rc::Rc;

use super::Desk;
use crate::actors::activity::answered;
use crate::actors::state::messages::{BatchRow, RecordLookup, StateError};
use crate::domain::batch::{BatchEvent, BatchState};
use crate::domain::failure::ApiError;
use crate::domain::ids::{BatchId, RemoteName};
use crate::notices;

/// More pages than this of a remote listing are not read; it would be a listing without end.
const PAGES_MAX: usize = 1_000;

/// One complete look at the remote list for all batches in doubt.
pub struct Lookup {
    desk: Rc<Desk>,
    doubted: Vec<BatchRow>,
}

/// What a look found out.
pub struct LookedUp {
    pub adopted: Vec<BatchId>,
    pub absent: usize,
    /// Why the list could not be read wholly.
    pub trouble: Option<String>,
}

impl Lookup {
    pub fn new(desk: Rc<Desk>, doubted: Vec<BatchRow>) -> Self {
        Lookup { desk, doubted }
    }

    /// Reads the list and records, for each batch in doubt, what it shows. A list that could not
    /// be read to its end proves nothing and is not counted as a look.
    pub async fn run(self) -> Result<LookedUp, StateError> {
        let mut looked = LookedUp {
            adopted: Vec::new(),
            absent: 0,
            trouble: None,
        };
        let jobs = match self.jobs().await {
            Ok(jobs) => jobs,
            Err(error) => {
                notices::LookupFailed {
                    batches: self.doubted.len(),
                    message: &error.message,
                }
                .emit();
                looked.trouble = Some(error.message);
                return Ok(looked);
            }
        };
        for row in &self.doubted {
            let mut found = jobs
                .get(row.display_name.as_str())
                .cloned()
                .unwrap_or_default();
            // The list is newest first; the oldest job is the one that the first create made.
            let adopted = found.pop();
            let event = match &adopted {
                Some(remote) => Some(BatchEvent::LookupFound {
                    remote: remote.clone(),
                }),
                None => self.absent(row),
            };
            match (&adopted, &event) {
                (Some(remote), _) => {
                    notices::BatchAdopted {
                        batch: &row.batch,
                        remote,
                        extra: found.len(),
                    }
                    .emit();
                    looked.adopted.push(row.batch.clone());
                }
                (None, Some(_absent)) => {
                    notices::BatchAbsent {
                        batch: &row.batch,
                        lookups: row.lookups + 1,
                    }
                    .emit();
                    looked.absent += 1;
                }
                (None, None) => {}
            }
            let at = self.desk.ports.clock.now();
            let record = RecordLookup {
                batch: row.batch.clone(),
                event,
                extra: found,
                at,
            };
            answered(self.desk.peers.state.send(record).await)?;
        }
        Ok(looked)
    }

    /// Absent only after enough looks over a long enough time: the list may be late.
    fn absent(&self, row: &BatchRow) -> Option<BatchEvent> {
        let BatchState::InDoubt { since } = &row.state else {
            return None;
        };
        let options = &self.desk.options;
        let long_enough = self.desk.ports.clock.now() >= since.plus(options.settle);
        let often_enough = row.lookups + 1 >= options.lookups;
        (long_enough && often_enough).then_some(BatchEvent::LookupAbsent { until: None })
    }

    /// The names of all jobs, by display name.
    async fn jobs(&self) -> Result<HashMap<String, Vec<RemoteName>>, ApiError> {
        let wanted: std::collections::HashSet<&str> = self
            .doubted
            .iter()
            .map(|row| row.display_name.as_str())
            .collect();
        let mut jobs: HashMap<String, Vec<RemoteName>> = HashMap::new();
        let mut page: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let listing = self.desk.ports.batches.list(page.as_deref()).await?;
            for job in listing.items {
                if let Some(name) = job
                    .display_name
                    .filter(|name| wanted.contains(name.as_str()))
                {
                    jobs.entry(name).or_default().push(job.name);
                }
            }
            page = listing.next;
            if page.is_none() {
                return Ok(jobs);
            }
        }
        Err(ApiError {
            effect: crate::domain::failure::Effect::None,
            next: crate::domain::failure::Next::Garbled,
            http_status: None,
            message: format!("the list of batches has more than {PAGES_MAX} pages"),
        })
    }
}
