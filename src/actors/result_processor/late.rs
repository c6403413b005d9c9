//! Answers that come late: from a job beside its batch, or after the batch has ended. They are paid
//! for, so they are fetched and judged as all others are; the first accepted answer of a page stays.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::collection::{index_of, priced};
use super::judge::{self, Judged, Judgement};
use super::{CollectionError, Shop};
use crate::actors::activity::answered;
use crate::actors::blocking::sha256;
use crate::actors::state::messages::{
    LateAnswer, LateJob, LateMember, LateTally, ListLateMembers, RawFile, RecordLate,
    RecordLateLook,
};
use crate::domain::attempt::AnswerFacts;
use crate::domain::failure::{ApiError, Effect, Next};
use crate::domain::ids::{BatchId, RecordKey};
use crate::domain::late::LateEvent;
use crate::domain::remote::RemoteOutput;
use crate::notices;
use crate::ports::file_api::Collected;

/// The pause before answers are looked at again whose pages are in flight elsewhere.
const IN_FLIGHT_PAUSE: Duration = Duration::from_secs(60);
/// What becomes of an answer about an image that was replaced.
const STALE: &str = "stale: the image was replaced after it was sent";
/// How much of a job's hash stands in the name of its raw file.
const NAME_CHARACTERS: usize = 12;

/// How a collection of late answers ended.
pub(super) enum LateEnd {
    Done { accepted: u64 },
    NotYet { pause: Duration },
}

/// A job whose answers are collected.
pub(super) struct LateCollection {
    shop: Rc<Shop>,
    job: LateJob,
}

impl LateCollection {
    pub fn new(shop: Rc<Shop>, job: LateJob) -> Self {
        LateCollection { shop, job }
    }

    /// Fetches, judges and records the answers. Doing it twice changes nothing.
    pub async fn run(self) -> Result<LateEnd, CollectionError> {
        let path = self.raw_path();
        let raw = match self.fetch(path.clone()).await {
            Ok(Collected { bytes, sha256 }) => RawFile {
                path: path.to_string_lossy().into_owned(),
                bytes,
                sha256,
            },
            Err(error) => return self.not_fetched(error).await,
        };
        let state = &self.shop.peers.state;
        let question = ListLateMembers {
            batch: self.job.batch.clone(),
        };
        let members = answered(state.send(question).await)?;
        let answers = self.answers(&path, &members).await?;
        let record = RecordLate {
            job: self.job.job.clone(),
            batch: self.job.batch.clone(),
            raw,
            answers,
            at: self.shop.ports.clock.now(),
        };
        let tally = answered(state.send(record).await)?;
        if tally.in_flight > 0 {
            let pause = IN_FLIGHT_PAUSE.max(self.shop.options.again_after);
            return Ok(LateEnd::NotYet { pause });
        }
        let LateTally {
            answers,
            accepted,
            paid_twice,
            in_flight: _,
        } = tally;
        notices::LateAnswers {
            batch: &self.job.batch,
            job: &self.job.job,
            answers,
            accepted,
            paid_twice,
        }
        .emit();
        self.delete_job().await;
        Ok(LateEnd::Done { accepted })
    }

    /// Beside the raw file of the batch, under a name that the provider has no say in.
    fn raw_path(&self) -> PathBuf {
        let hash = sha256(self.job.job.as_str().as_bytes());
        let name = format!("{}-{}", self.job.batch, &hash.as_str()[..NAME_CHARACTERS]);
        self.shop.ports.sink.raw_path(&BatchId::from(name))
    }

    async fn fetch(&self, path: PathBuf) -> Result<Collected, ApiError> {
        let ports = &self.shop.ports;
        match &self.job.output {
            Some(RemoteOutput::File(name)) => ports.files.download(name, path).await,
            Some(RemoteOutput::Inline) => ports.batches.save_inline(&self.job.job, path).await,
            None => Err(ApiError {
                effect: Effect::None,
                next: Next::Garbled,
                http_status: None,
                message: format!("nothing to fetch of job {}", self.job.job),
            }),
        }
    }

    async fn not_fetched(&self, error: ApiError) -> Result<LateEnd, CollectionError> {
        notices::LateTrouble {
            job: &self.job.job,
            message: &error.message,
        }
        .emit();
        let now = self.shop.ports.clock.now();
        let waited = now.since(self.job.looked_at.unwrap_or(self.job.found_at));
        let options = &self.shop.options;
        if matches!(error.next, Next::Missing) && waited >= options.results_wait {
            let record = RecordLateLook {
                job: self.job.job.clone(),
                remote_state: None,
                output: None,
                event: LateEvent::Vanished,
                note: error.message,
                at: now,
            };
            answered(self.shop.peers.state.send(record).await)?;
            return Ok(LateEnd::Done { accepted: 0 });
        }
        let pause = IN_FLIGHT_PAUSE.max(options.again_after);
        Ok(LateEnd::NotYet { pause })
    }

    /// Judges every answer once; writes the outputs of pages that nothing else has completed.
    async fn answers(
        &self,
        path: &Path,
        members: &[LateMember],
    ) -> Result<Vec<LateAnswer>, CollectionError> {
        let keys = members.iter().map(|member| member.key.clone());
        let index = index_of(&self.shop, path, keys).await?;
        let members: HashMap<&RecordKey, &LateMember> =
            members.iter().map(|member| (&member.key, member)).collect();
        let mut seen = HashSet::new();
        let mut answers = Vec::new();
        let mut reader = self.shop.ports.sink.open_raw(path).await?;
        while let Some(lines) = reader.next_lines().await? {
            let validator = Arc::clone(&self.shop.validator);
            let rules = self.shop.options.rules.clone();
            let judged = judge::judge_lines(lines, validator, rules).await;
            let mut outputs = Vec::new();
            for judged in judged {
                let wanted = index.is_answer(&judged.key, judged.line.offset)
                    && seen.insert(judged.key.clone());
                let Some(member) = members.get(&judged.key).filter(|_| wanted) else {
                    continue;
                };
                let Judged {
                    key,
                    line,
                    facts,
                    judgement,
                } = judged;
                let facts = AnswerFacts {
                    raw_line: Some(line),
                    ..priced(&self.shop, facts)
                };
                let mut answer = LateAnswer {
                    key: key.clone(),
                    facts,
                    output: None,
                    words: String::new(),
                };
                match judgement {
                    Judgement::Accepted { .. } if self.is_replaced(member).await => {
                        answer.words = STALE.to_owned();
                    }
                    Judgement::Accepted { output } => {
                        answer.output = Some((sha256(&output), output.len() as u64));
                        if member.may_take() {
                            outputs.push((key, output));
                        }
                    }
                    Judgement::Rejected(failure) => answer.words = failure.message,
                    Judgement::Released { cause, .. } => answer.words = cause,
                }
                answers.push(answer);
            }
            for written in self.shop.ports.sink.write_outputs(outputs).await {
                written?;
            }
        }
        Ok(answers)
    }

    /// Whether the page has another image by now than the one that was sent. One that cannot be read
    /// now proves nothing.
    async fn is_replaced(&self, member: &LateMember) -> bool {
        let sent = member.image_sha256.as_ref();
        let Some(sent) = sent.filter(|_| self.shop.options.compare_images) else {
            return false;
        };
        let image = self.shop.ports.source.image(&member.key).await;
        image.is_ok_and(|(_path, facts)| facts.sha256 != *sent)
    }

    /// The job has no further use. What cannot be deleted expires by itself.
    async fn delete_job(&self) {
        if self.shop.options.keep_remote {
            return;
        }
        if let Err(error) = self.shop.ports.batches.delete_batch(&self.job.job).await {
            notices::LateTrouble {
                job: &self.job.job,
                message: &error.message,
            }
            .emit();
        }
    }
}
