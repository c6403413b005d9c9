//! What the database believes, what our disk holds and what the provider shows, side by side: where
//! they differ, and what may be done about it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::domain::batch::BatchStage;
use crate::domain::ids::{BatchId, RemoteName};
use crate::domain::manifest::JobFound;
use crate::domain::remote::RemoteBatch;

/// A batch that the database knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub batch: BatchId,
    pub display_name: String,
    pub stage: BatchStage,
    pub remote: Option<RemoteName>,
}

/// Everything that is compared.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What the display names of our batches begin with.
    pub prefix: String,
    pub known: Vec<Known>,
    /// Display names by batch, of the manifests on our disk.
    pub manifests: BTreeMap<BatchId, String>,
    /// Batches whose raw results are on our disk.
    pub raw: BTreeSet<BatchId>,
    /// The provider's whole list, newest first, whoever's the jobs are.
    pub jobs: Vec<RemoteBatch>,
}

/// One way in which they differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub batch: BatchId,
    pub kind: Kind,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The database waits for a job that the provider does not show.
    Unreachable { remote: RemoteName },
    /// The database has not come as far as the job, or the results, have.
    Behind { stage: BatchStage, found: JobFound },
    /// A batch that the database does not know, by its manifest.
    Unknown { found: JobFound },
    /// A job with our prefix and without a manifest: perhaps another project's. It is known whose
    /// it is once it has results.
    Unclaimed { remote: RemoteName, ended: bool },
    /// Several jobs of one display name: bought twice, or about to be.
    Doubled {
        jobs: Vec<RemoteName>,
        /// Those beside the one that the database has; none where the batch is not known.
        beside: Vec<RemoteName>,
    },
    /// The database has closed the batch, but its job is still at work.
    ClosedAtWork {
        stage: BatchStage,
        remote: RemoteName,
        state: String,
    },
    /// The job has ended, and nobody has collected it yet.
    Waiting { remote: RemoteName, state: String },
}

impl Kind {
    /// Whether it needs something done that a run does not do by itself.
    pub fn needs_care(&self) -> bool {
        !matches!(self, Self::Waiting { .. })
    }
}

/// Compares. The jobs of display names that are not ours are passed over.
pub fn compare(facts: &Facts) -> Vec<Difference> {
    let by_name = jobs_by_name(facts);
    let shown: HashSet<&RemoteName> = facts.jobs.iter().map(|job| &job.name).collect();
    let mut found = Vec::new();
    for known in &facts.known {
        let jobs = by_name.get(known.display_name.as_str());
        let jobs = jobs.map_or(&[] as &[_], Vec::as_slice);
        known_batch(known, jobs, &shown, facts, &mut found);
    }
    let known: HashSet<&BatchId> = facts.known.iter().map(|known| &known.batch).collect();
    let names: HashSet<&str> = facts
        .known
        .iter()
        .map(|known| known.display_name.as_str())
        .collect();
    for (batch, name) in &facts.manifests {
        if !known.contains(batch) && !names.contains(name.as_str()) {
            let jobs = by_name.get(name.as_str());
            let kind = Kind::Unknown {
                found: match jobs {
                    Some(jobs) => job_of(jobs),
                    None if facts.raw.contains(batch) => JobFound::Results { remote: None },
                    None => JobFound::Doubt,
                },
            };
            found.push(difference(batch, kind));
        }
    }
    let kept: HashSet<&str> = facts.manifests.values().map(String::as_str).collect();
    for (name, jobs) in &by_name {
        let batch = batch_of(&facts.prefix, name);
        if let Some(batch) = batch.filter(|_| !names.contains(name) && !kept.contains(name)) {
            // The list is newest first; the oldest job is the one that the first create made.
            let oldest = jobs[jobs.len() - 1];
            let kind = Kind::Unclaimed {
                remote: oldest.name.clone(),
                ended: oldest.state.is_terminal(),
            };
            found.push(difference(&batch, kind));
        }
    }
    doubled(&by_name, facts, &mut found);
    found.sort_by(|a, b| a.batch.cmp(&b.batch));
    found
}

fn difference(batch: &BatchId, kind: Kind) -> Difference {
    Difference {
        batch: batch.clone(),
        kind,
    }
}

fn known_batch(
    known: &Known,
    jobs: &[&RemoteBatch],
    shown: &HashSet<&RemoteName>,
    facts: &Facts,
    found: &mut Vec<Difference>,
) {
    let raw = facts.raw.contains(&known.batch);
    let stage = known.stage;
    let behind = |found| Kind::Behind { stage, found };
    let kind = match (stage, &known.remote) {
        (BatchStage::Planned | BatchStage::Submitting | BatchStage::InDoubt, _) => {
            match (jobs.is_empty(), raw) {
                (false, _) => Some(behind(job_of(jobs))),
                (true, true) => Some(behind(JobFound::Results { remote: None })),
                // What a create under way became, the next run finds out by itself.
                (true, false) => None,
            }
        }
        (BatchStage::Submitted, Some(remote)) if !shown.contains(remote) => Some(match raw {
            true => behind(JobFound::Results {
                remote: Some(remote.clone()),
            }),
            false => Kind::Unreachable {
                remote: remote.clone(),
            },
        }),
        (BatchStage::Ready, Some(remote)) if !shown.contains(remote) && !raw => {
            Some(Kind::Unreachable {
                remote: remote.clone(),
            })
        }
        (BatchStage::Submitted | BatchStage::Ready, _) => jobs
            .iter()
            .find(|job| Some(&job.name) == known.remote.as_ref() && job.state.is_terminal())
            .map(|job| Kind::Waiting {
                remote: job.name.clone(),
                state: job.state.as_str().to_owned(),
            }),
        (BatchStage::Settled | BatchStage::Abandoned, _) => jobs
            .iter()
            .find(|job| !job.state.is_terminal())
            .map(|job| Kind::ClosedAtWork {
                stage,
                remote: job.name.clone(),
                state: job.state.as_str().to_owned(),
            }),
    };
    found.extend(kind.map(|kind| difference(&known.batch, kind)));
}

fn doubled(
    by_name: &BTreeMap<&str, Vec<&RemoteBatch>>,
    facts: &Facts,
    found: &mut Vec<Difference>,
) {
    let kept = facts.manifests.iter();
    let kept: HashMap<&str, &BatchId> = kept.map(|(batch, name)| (name.as_str(), batch)).collect();
    let known = facts.known.iter();
    let known: HashMap<&str, &Known> = known.map(|one| (one.display_name.as_str(), one)).collect();
    for (name, jobs) in by_name.iter().filter(|(_name, jobs)| jobs.len() > 1) {
        let jobs: Vec<RemoteName> = jobs.iter().map(|job| job.name.clone()).collect();
        let mut beside = Vec::new();
        let batch = match known.get(name) {
            Some(known) => {
                let ours = known.remote.as_ref().or(jobs.last());
                let others = jobs.iter().filter(|job| Some(*job) != ours);
                beside = others.cloned().collect();
                Some(known.batch.clone())
            }
            None => kept.get(name).map(|batch| (*batch).clone()),
        };
        if let Some(batch) = batch.or_else(|| batch_of(&facts.prefix, name)) {
            found.push(difference(&batch, Kind::Doubled { jobs, beside }));
        }
    }
}

/// The jobs that are ours or may be, by display name, newest first.
fn jobs_by_name(facts: &Facts) -> BTreeMap<&str, Vec<&RemoteBatch>> {
    let known = facts.known.iter().map(|known| known.display_name.as_str());
    let kept = facts.manifests.values().map(String::as_str);
    let names: HashSet<&str> = known.chain(kept).collect();
    let mut jobs: BTreeMap<&str, Vec<&RemoteBatch>> = BTreeMap::new();
    for job in &facts.jobs {
        let name = job.display_name.as_deref().unwrap_or_default();
        if names.contains(name) || batch_of(&facts.prefix, name).is_some() {
            jobs.entry(name).or_default().push(job);
        }
    }
    jobs
}

/// The list is newest first; the oldest job is the one that the first create made.
fn job_of(jobs: &[&RemoteBatch]) -> JobFound {
    match jobs.split_last() {
        None => JobFound::Doubt,
        Some((oldest, others)) => JobFound::Job {
            remote: oldest.name.clone(),
            extra: others.iter().map(|job| job.name.clone()).collect(),
        },
    }
}

/// The batch that a display name of our form names: prefix, dash, UUID.
pub fn batch_of(prefix: &str, display_name: &str) -> Option<BatchId> {
    let id = display_name.strip_prefix(prefix)?.strip_prefix('-')?;
    let is_uuid = id.len() == 36
        && id.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        });
    is_uuid.then(|| BatchId::from(id))
}

/// Whether results without a manifest are ours: every key that they name is a label of ours. One
/// strange key is enough to leave them alone.
pub fn is_ours(keys: &BTreeSet<String>, labels: &HashSet<String>) -> bool {
    !keys.is_empty() && keys.iter().all(|key| labels.contains(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::remote::{RemoteBatchState, RemoteStats};

    const ID: &str = "01a201a6-517c-75a1-a897-c28b16fc7a22";
    const OTHER: &str = "01a201a6-517c-75a1-a897-c28b16fc7a33";

    fn job(name: &str, display_name: &str, state: RemoteBatchState) -> RemoteBatch {
        RemoteBatch {
            name: name.into(),
            display_name: Some(display_name.to_owned()),
            state,
            output: None,
            error: None,
            stats: RemoteStats::default(),
            created_at: None,
            ended_at: None,
        }
    }

    fn facts() -> Facts {
        Facts {
            prefix: "pagemill".to_owned(),
            ..Facts::default()
        }
    }

    fn known(stage: BatchStage, remote: Option<&str>) -> Known {
        Known {
            batch: ID.into(),
            display_name: format!("pagemill-{ID}"),
            stage,
            remote: remote.map(RemoteName::from),
        }
    }

    fn kinds(facts: &Facts) -> Vec<Kind> {
        let found = compare(facts).into_iter();
        found.map(|difference| difference.kind).collect()
    }

    fn found(name: &str) -> JobFound {
        JobFound::Job {
            remote: name.into(),
            extra: vec![],
        }
    }

    #[test]
    fn what_agrees_is_not_told_and_what_is_not_ours_is_not_seen() {
        let ours = format!("pagemill-{ID}");
        let facts = Facts {
            known: vec![known(BatchStage::Submitted, Some("batches/a"))],
            manifests: [(ID.into(), ours.clone())].into(),
            jobs: vec![
                job("batches/a", &ours, RemoteBatchState::Running),
                job("batches/b", "somebody", RemoteBatchState::Running),
                job("batches/c", "pagemill-nightly", RemoteBatchState::Running),
                job(
                    "batches/d",
                    &format!("pagemill2-{OTHER}"),
                    RemoteBatchState::Failed,
                ),
            ],
            ..facts()
        };
        assert_eq!(kinds(&facts), []);
    }

    #[test]
    fn f13_a_job_that_is_not_shown_is_unreachable_and_nothing_else() {
        for stage in [BatchStage::Submitted, BatchStage::Ready] {
            let mut facts = Facts {
                known: vec![known(stage, Some("batches/a"))],
                ..facts()
            };
            let remote = RemoteName::from("batches/a");
            assert_eq!(
                kinds(&facts),
                [Kind::Unreachable {
                    remote: remote.clone()
                }]
            );
            facts.raw.insert(ID.into());
            let remote = Some(remote);
            let behind = Kind::Behind {
                stage,
                found: JobFound::Results { remote },
            };
            let expected = if stage == BatchStage::Ready {
                vec![]
            } else {
                vec![behind]
            };
            assert_eq!(kinds(&facts), expected);
        }
    }

    #[test]
    fn f12_a_job_that_the_database_has_not_come_to_is_found_by_its_name() {
        let ours = format!("pagemill-{ID}");
        for stage in [
            BatchStage::Planned,
            BatchStage::Submitting,
            BatchStage::InDoubt,
        ] {
            let mut facts = Facts {
                known: vec![known(stage, None)],
                ..facts()
            };
            assert_eq!(kinds(&facts), []);
            facts.raw.insert(ID.into());
            let results = JobFound::Results { remote: None };
            assert_eq!(
                kinds(&facts),
                [Kind::Behind {
                    stage,
                    found: results
                }]
            );
            facts.jobs = vec![job("batches/a", &ours, RemoteBatchState::Pending)];
            let found = found("batches/a");
            assert_eq!(kinds(&facts), [Kind::Behind { stage, found }]);
        }
    }

    #[test]
    fn what_the_database_does_not_know_is_told_by_its_manifest() {
        let ours = format!("old-prefix-{ID}");
        let mut facts = Facts {
            manifests: [(ID.into(), ours.clone())].into(),
            ..facts()
        };
        let unknown = |found| [Kind::Unknown { found }];
        assert_eq!(kinds(&facts), unknown(JobFound::Doubt));
        facts.raw.insert(ID.into());
        assert_eq!(kinds(&facts), unknown(JobFound::Results { remote: None }));
        facts.jobs = vec![job("batches/a", &ours, RemoteBatchState::Running)];
        assert_eq!(kinds(&facts), unknown(found("batches/a")));
        facts.jobs = vec![job(
            "batches/z",
            &format!("pagemill-{OTHER}"),
            RemoteBatchState::Failed,
        )];
        facts.manifests.clear();
        let remote = "batches/z".into();
        assert_eq!(
            kinds(&facts),
            [Kind::Unclaimed {
                remote,
                ended: true
            }]
        );
    }

    #[test]
    fn f12_doubled_jobs_are_told_and_the_oldest_is_the_one() {
        let ours = format!("pagemill-{ID}");
        let jobs = vec![
            job("batches/new", &ours, RemoteBatchState::Running),
            job("batches/old", &ours, RemoteBatchState::Running),
        ];
        let facts = Facts {
            known: vec![known(BatchStage::InDoubt, None)],
            jobs,
            ..facts()
        };
        let found = JobFound::Job {
            remote: "batches/old".into(),
            extra: vec!["batches/new".into()],
        };
        let stage = BatchStage::InDoubt;
        let doubled = Kind::Doubled {
            jobs: vec!["batches/new".into(), "batches/old".into()],
            beside: vec!["batches/new".into()],
        };
        assert_eq!(kinds(&facts), [Kind::Behind { stage, found }, doubled]);
    }

    #[test]
    fn a_closed_batch_at_work_and_results_that_wait_are_told() {
        let ours = format!("pagemill-{ID}");
        let check = |stage, state, expected: &[Kind]| {
            let facts = Facts {
                known: vec![known(stage, Some("batches/a"))],
                jobs: vec![job("batches/a", &ours, state)],
                ..facts()
            };
            assert_eq!(kinds(&facts), expected);
        };
        let remote = RemoteName::from("batches/a");
        let at_work = Kind::ClosedAtWork {
            stage: BatchStage::Abandoned,
            remote: remote.clone(),
            state: "RUNNING".to_owned(),
        };
        check(BatchStage::Abandoned, RemoteBatchState::Running, &[at_work]);
        check(BatchStage::Settled, RemoteBatchState::Succeeded, &[]);
        let state = "SUCCEEDED".to_owned();
        let waiting = Kind::Waiting { remote, state };
        assert!(!waiting.needs_care());
        check(
            BatchStage::Submitted,
            RemoteBatchState::Succeeded,
            &[waiting],
        );
    }

    #[test]
    fn p4_results_with_one_strange_key_are_nobodys_we_know() {
        let labels: HashSet<String> = ["A:1", "A:2"].map(str::to_owned).into();
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        assert!(is_ours(&keys(&["A:1"]), &labels));
        assert!(!is_ours(&keys(&["A:1", "B:1"]), &labels));
        assert!(!is_ours(&keys(&[]), &labels));
    }
}
