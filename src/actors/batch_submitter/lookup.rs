//! Doubt: does the job exist? The remote list is read page by page and searched by display name.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::Desk;
use crate::actors::activity::answered;
use crate::actors::state::messages::{
    BatchRow, ListTwins, RecordLookup, StateError, Twin, WatchJobs,
};
use crate::domain::batch::{BatchEvent, BatchState};
use crate::domain::failure::{ApiError, Effect, Next};
use crate::domain::ids::{BatchId, RemoteName};
use crate::domain::remote::{RemoteBatch, RemoteBatchState};
use crate::notices;

/// More pages than this of a remote listing are not read; it would be a listing without end.
const PAGES_MAX: usize = 1_000;
/// A job that was made longer ago than this has ended on the provider's side.
const TWINS_FOR: std::time::Duration = std::time::Duration::from_secs(72 * 3600);

/// One complete look at the remote list for all batches in doubt, and for second jobs of those that
/// were created more than once.
pub struct Lookup {
    desk: Rc<Desk>,
    doubted: Vec<BatchRow>,
}

/// What a look found out.
pub struct LookedUp {
    pub adopted: Vec<BatchId>,
    pub absent: usize,
    /// Whether the list was read for a batch in doubt.
    pub settled_doubt: bool,
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
            settled_doubt: false,
            trouble: None,
        };
        let since = self.desk.ports.clock.now().minus(TWINS_FOR);
        let twins = answered(self.desk.peers.state.send(ListTwins { since }).await)?;
        if self.doubted.is_empty() && twins.is_empty() {
            return Ok(looked);
        }
        let mut jobs = match self.jobs(&twins).await {
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
        looked.settled_doubt = !self.doubted.is_empty();
        for row in &self.doubted {
            let found = jobs.remove(&row.display_name).unwrap_or_default();
            self.settle_doubt(row, found, &mut looked).await?;
        }
        for twin in &twins {
            let found = jobs.remove(&twin.display_name).unwrap_or_default();
            self.watch_twins(twin, found).await?;
        }
        Ok(looked)
    }

    async fn settle_doubt(
        &self,
        row: &BatchRow,
        mut found: Vec<RemoteBatch>,
        looked: &mut LookedUp,
    ) -> Result<(), StateError> {
        // The list is newest first: among equals the oldest is the one that the first create made.
        let mut best: Option<usize> = None;
        for place in (0..found.len()).rev() {
            let better = |best: usize| progress(&found[place]) > progress(&found[best]);
            if best.is_none_or(better) {
                best = Some(place);
            }
        }
        let adopted = best.map(|place| found.remove(place).name);
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
        let record = RecordLookup {
            batch: row.batch.clone(),
            event,
            extra: found.iter().map(|job| job.name.clone()).collect(),
            at: self.desk.ports.clock.now(),
        };
        answered(self.desk.peers.state.send(record).await)?;
        if adopted.is_some() {
            self.desk.remove_spool(&row.batch).await;
        }
        for job in &found {
            self.stop_extra(&row.batch, job).await;
        }
        Ok(())
    }

    /// A create that was given up as absent may have made a job after all.
    async fn watch_twins(&self, twin: &Twin, found: Vec<RemoteBatch>) -> Result<(), StateError> {
        let own = |job: &&RemoteBatch| twin.remote.as_ref() != Some(&job.name);
        for job in found.iter().filter(own) {
            let watch = WatchJobs {
                jobs: vec![(job.name.clone(), twin.batch.clone())],
                at: self.desk.ports.clock.now(),
            };
            if answered(self.desk.peers.state.send(watch).await)? > 0 {
                self.stop_extra(&twin.batch, job).await;
            }
        }
        Ok(())
    }

    /// Where nothing was served yet, a second job is cancelled before it costs anything. What it has
    /// answered is collected.
    async fn stop_extra(&self, batch: &BatchId, job: &RemoteBatch) {
        let idle = matches!(
            job.state,
            RemoteBatchState::Pending | RemoteBatchState::Running
        );
        let unserved = idle && job.stats.succeeded.unwrap_or(0) == 0 && job.output.is_none();
        let mut cancelled = false;
        if unserved {
            match self.desk.ports.batches.cancel(&job.name).await {
                Ok(()) => cancelled = true,
                Err(error) => notices::LateTrouble {
                    job: &job.name,
                    message: &error.message,
                }
                .emit(),
            }
        }
        notices::ExtraJob {
            batch,
            job: &job.name,
            cancelled,
        }
        .emit();
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

    /// The jobs of all display names that are looked for, newest first.
    async fn jobs(&self, twins: &[Twin]) -> Result<HashMap<String, Vec<RemoteBatch>>, ApiError> {
        let doubted = self.doubted.iter().map(|row| row.display_name.as_str());
        let twins = twins.iter().map(|twin| twin.display_name.as_str());
        let wanted: HashSet<&str> = doubted.chain(twins).collect();
        let mut jobs: HashMap<String, Vec<RemoteBatch>> = HashMap::new();
        let mut seen: HashSet<RemoteName> = HashSet::new();
        let mut page: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let listing = self.desk.ports.batches.list(page.as_deref()).await?;
            for job in listing.items {
                let name = job.display_name.clone();
                let name = name.filter(|name| wanted.contains(name.as_str()));
                // A job that moved to the next page while the list was read stands in it twice.
                if let Some(name) = name.filter(|_| seen.insert(job.name.clone())) {
                    jobs.entry(name).or_default().push(job);
                }
            }
            page = listing.next;
            if page.is_none() {
                return Ok(jobs);
            }
        }
        Err(ApiError {
            effect: Effect::None,
            next: Next::Garbled,
            http_status: None,
            message: format!("the list of batches has more than {PAGES_MAX} pages"),
        })
    }
}

/// How far a job has come: what has answered is worth more than what runs, and that more than what
/// waits or has ended without answers.
fn progress(job: &RemoteBatch) -> u8 {
    match &job.state {
        _ if job.output.is_some() => 4,
        RemoteBatchState::Succeeded => 4,
        RemoteBatchState::Running | RemoteBatchState::Unknown(_) => 3,
        RemoteBatchState::Pending => 2,
        RemoteBatchState::Failed | RemoteBatchState::Cancelled | RemoteBatchState::Expired => 1,
    }
}
