//! What follows from the differences. Each change is one message; one that is refused is told and
//! stops nothing else.

use std::collections::{BTreeSet, HashSet};

use actix::Addr;

use super::{Picture, ReconcileError, everything, job};
use crate::actors::activity::answered;
use crate::actors::blocking::sha256;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{
    AdoptBatch, AdoptJob, AdoptOutputs, AdoptedBatch, AdoptedOutput, BeginCollect, ForgetFiles,
    NewPage, RawFile, StateError, WatchJobs,
};
use crate::decide::reconcile::{Difference, Kind, is_ours};
use crate::domain::batch::BatchStage;
use crate::domain::ids::{BatchId, RecordKey, RemoteName};
use crate::domain::layout::page_number;
use crate::domain::manifest::{BatchManifest, JobFound, ManifestMember, ManifestRecipe};
use crate::domain::remote::RemoteOutput;
use crate::domain::time::Timestamp;
use crate::pipeline::sweep::{sweep, with_tries};
use crate::pipeline::{Plan, World};
use crate::ports::page_source::Found;
use crate::wire::response::{self, Row};

/// One thing that was done, or could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// What it was about: a batch, or a word for everything else.
    pub about: String,
    pub done: bool,
    pub words: String,
}

/// Outputs that one message adopts.
const OUTPUTS_TOGETHER: usize = 1_000;

/// Does what the picture asks for.
pub async fn apply(
    world: &World,
    plan: &Plan,
    state: &Addr<StateActor>,
    picture: &Picture,
) -> Result<Vec<Deed>, ReconcileError> {
    let work = Work { world, plan, state };
    let mut deeds = Vec::new();
    let mut all_adopted = picture.manifest_faults.is_empty();
    // Newest first: a page that is in several batches belongs to the last of them.
    for difference in picture.differences.iter().rev() {
        let Some(deed) = work.one(difference, picture).await? else {
            continue;
        };
        let unknown = matches!(
            difference.kind,
            Kind::Unknown { .. } | Kind::Unclaimed { .. }
        );
        all_adopted &= deed.done || !unknown;
        deeds.push(deed);
    }
    if !picture.gone.is_empty() {
        deeds.push(work.forget_files(picture).await?);
    }
    if !picture.outputs.is_empty() {
        deeds.push(work.adopt_outputs(&picture.outputs).await?);
    }
    if !picture.orphans.is_empty() {
        // A job that was not adopted may still need its images.
        deeds.push(work.sweep(picture, all_adopted).await?);
    }
    Ok(deeds)
}

struct Work<'a> {
    world: &'a World,
    plan: &'a Plan,
    state: &'a Addr<StateActor>,
}

impl Work<'_> {
    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    async fn one(
        &self,
        difference: &Difference,
        picture: &Picture,
    ) -> Result<Option<Deed>, ReconcileError> {
        let batch = &difference.batch;
        let (done, words) = match &difference.kind {
            Kind::Unknown { found } => match picture.manifests.get(batch) {
                Some(manifest) => self.adopt(manifest, found).await?,
                None => (false, "its manifest is gone".to_owned()),
            },
            Kind::Behind { found, .. } => self.catch_up(batch, found).await?,
            Kind::Unclaimed { remote, ended } => self.claim(batch, remote, *ended).await?,
            Kind::Unreachable { .. } => (
                false,
                "left as it is: its pages are not sent again by themselves".to_owned(),
            ),
            Kind::Doubled { beside, .. } => self.watch(batch, beside.clone()).await?,
            Kind::ClosedAtWork { remote, .. } => self.watch(batch, vec![remote.clone()]).await?,
            // The next run collects it.
            Kind::Waiting { .. } => return Ok(None),
        };
        Ok(Some(Deed {
            about: batch.to_string(),
            done,
            words,
        }))
    }

    /// Brings in a batch that the database does not know.
    async fn adopt(
        &self,
        manifest: &BatchManifest,
        found: &JobFound,
    ) -> Result<(bool, String), ReconcileError> {
        let keys = manifest.members.iter().map(|member| &member.key);
        let adopt = AdoptBatch {
            manifest: manifest.clone(),
            found: found.clone(),
            pages: keys.filter_map(|key| self.row_of(key)).collect(),
            scope: self.plan.scope.clone(),
            key_fingerprint: self.plan.uploader.key_fingerprint.clone(),
            config_snapshot: self.plan.config_snapshot.clone(),
            config_sha256: self.plan.config_sha256.clone(),
            at: self.now(),
        };
        let adopted = match answered(self.state.send(adopt).await) {
            Ok(adopted) => adopted,
            Err(StateError::Conflict(words)) => return Ok((false, words)),
            Err(error) => return Err(error.into()),
        };
        if adopted.members == 0 {
            return self.nothing_to_adopt(manifest, found, &adopted).await;
        }
        self.collect(&manifest.batch, found).await?;
        let mut words = format!("adopted with {} pages", adopted.members);
        match found {
            JobFound::Job { remote, .. } => words.push_str(&format!(" as {remote}")),
            JobFound::Doubt => words.push_str("; the next run looks for its job before anything"),
            JobFound::Results { .. } => words.push_str("; its results are here"),
        }
        for (key, why) in &adopted.refused {
            words.push_str(&format!("; without {key}: {why}"));
        }
        Ok((true, words))
    }

    /// None of its pages is free, so its manifest has nothing more to tell.
    async fn nothing_to_adopt(
        &self,
        manifest: &BatchManifest,
        found: &JobFound,
        adopted: &AdoptedBatch,
    ) -> Result<(bool, String), ReconcileError> {
        let mut words = "none of its pages is free".to_owned();
        for (key, why) in &adopted.refused {
            words.push_str(&format!("; {key}: {why}"));
        }
        if let JobFound::Job { remote, .. } = found {
            words.push_str(&format!("; {remote} is left alone"));
        }
        self.world.sink.remove_manifest(&manifest.batch).await?;
        Ok((true, words))
    }

    /// The row of a page that may not be known; none for a key that is no page of the layout.
    fn row_of(&self, key: &RecordKey) -> Option<NewPage> {
        let levels = self.plan.layout.levels(key).ok()?;
        let number = page_number(levels.last()?).ok()?;
        Some(NewPage {
            key: key.clone(),
            book: key.book().to_owned(),
            levels,
            number,
            // The next scan knows its place in the chain.
            predecessor: None,
            waits_for: None,
            chain_ahead: 0,
        })
    }

    async fn catch_up(
        &self,
        batch: &BatchId,
        found: &JobFound,
    ) -> Result<(bool, String), ReconcileError> {
        let adopt = AdoptJob {
            batch: batch.clone(),
            found: found.clone(),
            at: self.now(),
        };
        let after = answered(self.state.send(adopt).await)?;
        if after.stage() == BatchStage::Ready {
            self.collect(batch, found).await?;
        }
        Ok((true, format!("is {} now", after.stage())))
    }

    /// What such jobs answer was paid for: the next run collects it. Cancelling is for a person to say.
    async fn watch(
        &self,
        batch: &BatchId,
        jobs: Vec<RemoteName>,
    ) -> Result<(bool, String), ReconcileError> {
        let watch = WatchJobs {
            jobs: jobs.into_iter().map(|job| (job, batch.clone())).collect(),
            at: self.now(),
        };
        let new = answered(self.state.send(watch).await)?;
        Ok((true, format!("{new} further jobs are watched from here on")))
    }

    /// Tells the database of results that are on our disk.
    async fn collect(&self, batch: &BatchId, found: &JobFound) -> Result<(), ReconcileError> {
        let JobFound::Results { .. } = found else {
            return Ok(());
        };
        let sink = &self.world.sink;
        let Some(raw) = sink.raw_facts(batch).await? else {
            return Ok(());
        };
        let begin = BeginCollect {
            batch: batch.clone(),
            raw: RawFile {
                path: sink.raw_path(batch).to_string_lossy().into_owned(),
                bytes: raw.bytes,
                sha256: raw.sha256,
            },
            at: self.now(),
        };
        Ok(answered(self.state.send(begin).await)?)
    }

    /// A job without a manifest is told by its results: whose pages they name.
    async fn claim(
        &self,
        batch: &BatchId,
        remote: &RemoteName,
        ended: bool,
    ) -> Result<(bool, String), ReconcileError> {
        if !ended {
            let words = "runs still, and nothing here tells which pages are in it: apply again when \
                         it has ended, and start no run before, which could send its pages again";
            return Ok((false, words.to_owned()));
        }
        let seen = job(self.world, remote).await?;
        let Some(output) = seen.output else {
            let words = format!(
                "ended as {} without results; left alone",
                seen.state.as_str()
            );
            return Ok((true, words));
        };
        let path = self.world.sink.raw_path(batch);
        let was_here = self.world.sink.raw_facts(batch).await?.is_some();
        let fetched = with_tries(async || match &output {
            _ if was_here => Ok(()),
            RemoteOutput::File(name) => {
                let download = self.world.files.download(name, path.clone());
                download.await.map(|_file| ())
            }
            RemoteOutput::Inline => {
                let save = self.world.batches.save_inline(remote, path.clone());
                save.await.map(|_file| ())
            }
        });
        if let Err(error) = fetched.await {
            return Ok((false, format!("its results cannot be had: {error}")));
        }
        let keys = self.keys_in(batch).await?;
        let labels = self.labels_among(&keys).await?;
        if !is_ours(&keys, &labels) {
            if !was_here {
                // They were fetched to be looked at, and are nobody's we know.
                let _removed = tokio::fs::remove_file(&path).await;
            }
            let words = "its results name pages that have no label here: not ours, left alone";
            return Ok((true, words.to_owned()));
        }
        let manifest = self.manifest_of(batch, &seen.display_name, keys);
        let found = JobFound::Job {
            remote: remote.clone(),
            extra: Vec::new(),
        };
        self.adopt(&manifest, &found).await
    }

    /// The keys that the raw results of a batch name. They are only ever compared.
    async fn keys_in(&self, batch: &BatchId) -> Result<BTreeSet<String>, ReconcileError> {
        let path = self.world.sink.raw_path(batch);
        let mut reader = self.world.sink.open_raw(&path).await?;
        let mut keys = BTreeSet::new();
        while let Some(lines) = reader.next_lines().await? {
            for line in lines {
                let text = line.text.unwrap_or_default();
                if let Row::Answer { key, .. } | Row::NoBody { key } = response::row(&text) {
                    keys.insert(key);
                }
            }
        }
        Ok(keys)
    }

    async fn labels_among(
        &self,
        keys: &BTreeSet<String>,
    ) -> Result<HashSet<String>, ReconcileError> {
        let mut walk = self.world.source.walk(&everything(self.plan)).await?;
        let mut found = HashSet::new();
        while let Some(chunk) = walk.next().await {
            for book in chunk {
                let Found::Book(book) = book else { continue };
                let labels = book.labels.into_iter();
                let labels = labels.map(|label| label.key.as_str().to_owned());
                found.extend(labels.filter(|key| keys.contains(key)));
            }
        }
        Ok(found)
    }

    /// What is known of a batch whose manifest is lost too: its pages, and the recipe of today.
    fn manifest_of(
        &self,
        batch: &BatchId,
        display_name: &Option<String>,
        keys: BTreeSet<String>,
    ) -> BatchManifest {
        let (recipe, at) = (&self.plan.recipe, self.now());
        let members = keys.into_iter().map(|key| ManifestMember {
            key: key.into(),
            attempt_number: 1,
            failures: Vec::new(),
            releases: 0,
            prompt_sha256: None,
            context_sha256: None,
            image: None,
        });
        BatchManifest {
            batch: batch.clone(),
            display_name: display_name.clone().unwrap_or_default(),
            run: self.plan.run.clone(),
            first_run: format!("{} {at}", self.plan.run),
            key_fingerprint: self.plan.uploader.key_fingerprint.clone(),
            recipe: ManifestRecipe {
                hash: recipe.hash.clone(),
                prompt_name: recipe.prompt_name.clone(),
                prompt_template: recipe.prompt_template.clone(),
                context_template: recipe.context_template.clone(),
                schema: recipe.schema_text.clone(),
                model: recipe.model.clone(),
                generation_config: recipe.generation_config.to_string(),
            },
            lines: None,
            reserved_cost_nanos: None,
            members: members.collect(),
            created_at: at,
        }
    }

    async fn forget_files(&self, picture: &Picture) -> Result<Deed, ReconcileError> {
        let forget = ForgetFiles {
            files: picture.gone.clone(),
            at: self.now(),
        };
        let forgotten = answered(self.state.send(forget).await)?;
        Ok(Deed {
            about: "files".to_owned(),
            done: true,
            words: format!("{forgotten} that the provider does not have count as gone"),
        })
    }

    /// Outputs count only when they are JSON and pass the schema, as at every scan.
    async fn adopt_outputs(&self, keys: &[RecordKey]) -> Result<Deed, ReconcileError> {
        let mut adopted = 0;
        for keys in keys.chunks(OUTPUTS_TOGETHER) {
            let mut outputs = Vec::new();
            for key in keys {
                let text = self.world.source.output(key).await?;
                let value: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
                let is_valid = value.is_some_and(|value| self.plan.validator.check(&value).is_ok());
                if is_valid {
                    outputs.push(AdoptedOutput {
                        key: key.clone(),
                        sha256: sha256(&text),
                        bytes: text.len() as u64,
                    });
                }
            }
            let adopt = AdoptOutputs {
                outputs,
                at: self.now(),
            };
            adopted += answered(self.state.send(adopt).await)?;
        }
        Ok(Deed {
            about: "outputs".to_owned(),
            done: true,
            words: format!("{adopted} that were there already count as done"),
        })
    }

    async fn sweep(&self, picture: &Picture, all_adopted: bool) -> Result<Deed, ReconcileError> {
        let about = "files".to_owned();
        if !all_adopted {
            let words =
                "those that nobody knows are left: a job that was not adopted may need them";
            return Ok(Deed {
                about,
                done: false,
                words: words.to_owned(),
            });
        }
        let mut deleted = 0;
        for mark in &picture.marks {
            deleted += sweep(&self.world.files, self.state, mark).await?;
        }
        Ok(Deed {
            about,
            done: true,
            words: format!("{deleted} that nobody knows are deleted at the provider"),
        })
    }
}
