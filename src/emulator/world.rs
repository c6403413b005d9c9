//! Everything the emulator holds, shared by all of its threads.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use uuid::Uuid;

use super::EmulatorOptions;
use super::board::Jobs;
use super::dice::Dice;
use super::files::Files;
use super::ledger::{FileEntry, Ledger, LedgerSnapshot};
use super::uploads::Uploads;

/// The project that the emulator plays.
pub(super) struct World {
    pub(super) options: EmulatorOptions,
    /// The address under which clients reach the emulator, without a slash at the end.
    pub(super) base_url: String,
    pub(super) dice: Dice,
    pub(super) ledger: Ledger,
    pub(super) files: Files,
    pub(super) uploads: Uploads,
    pub(super) jobs: Jobs,
    /// Where large contents lie; the handle of the emulator removes it.
    pub(super) folder: PathBuf,
    /// Tells work in progress that nobody waits for it any more.
    pub(super) stopping: AtomicBool,
}

impl World {
    /// Makes an empty project.
    pub(super) fn new(options: EmulatorOptions, base_url: String, folder: PathBuf) -> Self {
        let seed = match options.seed {
            0 => options.faults.seed.unwrap_or(0),
            given => given,
        };
        World {
            dice: Dice::new(seed, options.faults.clone()),
            options,
            base_url,
            ledger: Ledger::default(),
            files: Files::default(),
            uploads: Uploads::default(),
            jobs: Jobs::default(),
            folder,
            stopping: AtomicBool::new(false),
        }
    }

    /// The whole ledger, with what the other parts know.
    pub(super) fn snapshot(&self, keys: bool, files: bool) -> LedgerSnapshot {
        let weight = self.files.weight();
        let mut snapshot = self.ledger.snapshot(keys);
        snapshot.jobs_live = self.jobs.live();
        snapshot.files_live = weight.uploaded;
        snapshot.results_files_live = weight.generated;
        snapshot.files_live_bytes = weight.bytes;
        let played = self.dice.played().into_iter();
        snapshot.faults_played = played
            .map(|(name, count)| (name.to_owned(), count))
            .collect();
        snapshot.files = files.then(|| {
            let entries = self.files.all().into_iter().map(|file| FileEntry {
                name: format!("files/{}", file.id),
                display_name: file.display_name.clone(),
                bytes: file.bytes,
                sha256: file.digest.map(hex::encode).unwrap_or_default(),
            });
            entries.collect()
        });
        snapshot
    }

    /// Starts over: no files, no jobs, no counts, no throws. The fault profile stays.
    pub(super) fn forget(&self) {
        self.jobs.forget();
        self.uploads.forget();
        self.files.forget();
        self.ledger.forget();
        self.dice.forget();
    }
}

/// Makes an id of lowercase letters and digits, as the service does. Not from the seed: a client
/// that meets a restarted emulator must not mistake a new thing for an old one.
pub(super) fn random_id(letters: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let bytes = std::iter::repeat_with(|| Uuid::new_v4().into_bytes()).flatten();
    let letter = |byte: u8| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]);
    bytes.take(letters).map(letter).collect()
}
