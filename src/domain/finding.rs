//! What an audit of the state and its files can find, in words that are stable.

use super::failure::words;

words! {
    /// One kind of finding of `pagemill verify`; `docs/operating.md` has a line for each.
    FindingKind {
        /// The database file itself, or what its tables promise of each other.
        DatabaseDamaged => "database damaged",
        /// A row that no state could have written.
        RowImpossible => "row impossible",
        /// The history of a page, played again, does not give its stage.
        HistoryBroken => "page history broken",
        /// The history of a batch, played again, does not give its state.
        BatchHistoryBroken => "batch history broken",
        /// A page is held by a batch that is over, and will never be let go.
        HeldByClosedBatch => "held by a closed batch",
        /// Two live batches have the same page.
        InTwoBatches => "in two batches",
        /// An in-flight row without a page that is in flight.
        InflightAstray => "in-flight row astray",
        /// A page in a live batch without its in-flight row.
        InflightMissing => "in-flight row missing",
        /// Members, attempts and held pages of a batch are not the same pages.
        MembersDiffer => "members differ",
        /// `active_batches` does not say what `submissions` says.
        BatchStatusDiffers => "batch status differs",
        /// The counts of a batch do not add up, or are not those of its attempts.
        BatchCountsDiffer => "batch counts differ",
        /// An attempt of a closed batch has no outcome.
        AttemptPending => "attempt without an outcome",
        /// The image of an uploaded page is not in the ledger as it should be.
        ImageNotInLedger => "image not in the ledger",
        /// A live remote file that nobody needs.
        RemoteFileForgotten => "remote file forgotten",
        /// `failure_counts` does not say what `failure_logs` says.
        FailureCountDiffers => "failure count differs",
        /// A failed page without a line in `failure_logs`.
        FailureNotLogged => "failure not logged",
        /// One failure stands twice in `failure_logs`.
        FailureLoggedTwice => "failure logged twice",
        /// A page is not dead although its failures are spent.
        RetriesSpent => "retries spent",
        /// A page is booked to the window of a run that its label did not arrive in.
        WindowDrift => "window drift",
        /// The output folder is not there, or holds nothing at all.
        OutputFolderEmpty => "output folder empty",
        /// A completed page without its file.
        OutputMissing => "output missing",
        /// The file of a completed page holds no valid answer.
        OutputBroken => "output broken",
        /// The file of a completed page is valid, but not the one that was recorded.
        OutputChanged => "output changed",
        /// The recorded file does not pass the schema of its recipe.
        OutputOffSchema => "output off its schema",
        /// An output was made with another prompt, schema, model or parameters than today's.
        OutputOfOtherRecipe => "output of another recipe",
        /// A file that cannot be read.
        OutputUnreadable => "output unreadable",
        /// A valid file of a page that does not count as done.
        OutputNotRecorded => "output not recorded",
        /// A file of a page that is not done, with no valid answer in it.
        OutputNotUsable => "output not usable",
        /// A file of a page that is on its way through a batch.
        OutputInFlight => "output of a page in flight",
        /// A file that no page stands for.
        OutputWithoutPage => "output without a page",
        /// Raw results that are not there.
        RawMissing => "raw results missing",
        /// Raw results that are not what was recorded, or were never recorded.
        RawDamaged => "raw results damaged",
        /// A file of raw results that no batch stands for.
        RawWithoutBatch => "raw results of no batch",
        /// A settled batch without its report.
        ReportMissing => "report missing",
        /// A file of an export that is not what was exported, or an index that is not what was written.
        ExportDamaged => "export damaged",
        /// The database has gone on since an export was made.
        ExportBehind => "export behind",
        /// Request lines that no batch waits for.
        SpoolOrphan => "spool file of no planned batch",
        /// A temporary file that nobody writes any more.
        StaleTemporary => "stale temporary file",
    }
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// State or files are not what they should be.
    Wrong,
    /// Worth knowing; may be as somebody wants it.
    Note,
}

impl Severity {
    /// The word that is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Wrong => "wrong",
            Severity::Note => "note",
        }
    }
}

impl FindingKind {
    /// How much a finding of this kind matters.
    pub fn severity(self) -> Severity {
        match self {
            Self::OutputInFlight
            | Self::OutputOffSchema
            | Self::OutputOfOtherRecipe
            | Self::RawMissing
            | Self::RawWithoutBatch
            | Self::ExportBehind
            | Self::RetriesSpent => Severity::Note,
            Self::DatabaseDamaged
            | Self::RowImpossible
            | Self::HistoryBroken
            | Self::BatchHistoryBroken
            | Self::HeldByClosedBatch
            | Self::InTwoBatches
            | Self::InflightAstray
            | Self::InflightMissing
            | Self::MembersDiffer
            | Self::BatchStatusDiffers
            | Self::BatchCountsDiffer
            | Self::AttemptPending
            | Self::ImageNotInLedger
            | Self::RemoteFileForgotten
            | Self::FailureCountDiffers
            | Self::FailureNotLogged
            | Self::FailureLoggedTwice
            | Self::WindowDrift
            | Self::OutputFolderEmpty
            | Self::OutputMissing
            | Self::OutputBroken
            | Self::OutputChanged
            | Self::OutputUnreadable
            | Self::OutputNotRecorded
            | Self::OutputNotUsable
            | Self::OutputWithoutPage
            | Self::RawDamaged
            | Self::ReportMissing
            | Self::ExportDamaged
            | Self::SpoolOrphan
            | Self::StaleTemporary => Severity::Wrong,
        }
    }

    /// What a person can do about what is not repaired.
    pub fn advice(self) -> &'static str {
        match self {
            Self::DatabaseDamaged | Self::RowImpossible => {
                "put back a good copy of the database; outputs and raw results stay as they are"
            }
            Self::HistoryBroken | Self::BatchHistoryBroken => {
                "somebody wrote to the database by hand, or a copy was mixed up: compare with a \
                 copy; the rows themselves are what a run goes by"
            }
            Self::InTwoBatches => {
                "do not run: two answers would be paid for; put back a good copy of the database"
            }
            Self::MembersDiffer | Self::InflightAstray | Self::InflightMissing => {
                "left alone as long as its batch may need it: let the batch settle, then verify \
                 again; what is of no batch is kept as a trace"
            }
            Self::OutputOfOtherRecipe => "it stays as it is; `pagemill redo` runs its page again",
            Self::HeldByClosedBatch => "verify again once nothing of it is in flight",
            Self::BatchStatusDiffers | Self::BatchCountsDiffer | Self::AttemptPending => {
                "compare with the raw results and the report of the batch; nothing depends on it"
            }
            Self::ImageNotInLedger => "let its batch settle, then verify again",
            Self::RemoteFileForgotten => "it expires at the provider within two days",
            Self::FailureCountDiffers | Self::FailureNotLogged | Self::FailureLoggedTwice => {
                "compare with the attempts of the page; its count decides when it is dead"
            }
            Self::RetriesSpent => {
                "it is sent once more at most; execution.max_retries was lowered, or a row changed"
            }
            Self::WindowDrift => {
                "somebody wrote to the database by hand, or the label was changed after its page was \
                 booked: look at `pagemill runs show` and at the label; what was paid for stays valid"
            }
            Self::OutputFolderEmpty => {
                "is the folder mounted, and paths.output_dir right? Nothing is requeued on such \
                 evidence; if all outputs were deleted on purpose, a run sends the pages again"
            }
            Self::OutputMissing | Self::OutputBroken => {
                "its batch has not settled: let it, then verify again"
            }
            Self::OutputChanged => "put the recorded file back, or --fix --adopt-changed",
            Self::OutputOffSchema => {
                "it was accepted under another schema; delete it to have the page run again"
            }
            Self::OutputNotRecorded | Self::OutputNotUsable | Self::OutputInFlight => {
                "its page is in flight: let its batch settle, then verify again"
            }
            Self::OutputWithoutPage => {
                "a run adopts it if its label is on the work list; else move it away"
            }
            Self::RawMissing => {
                "raw results of settled batches may be moved away; of others, the next run \
                 fetches them again"
            }
            Self::RawDamaged => "put back a good copy: it proves what was paid for",
            Self::RawWithoutBatch => {
                "kept, for it was paid for; most likely it belongs to another database"
            }
            Self::ExportDamaged => {
                "pagemill export state writes again what is missing or changed; a file that the \
                 index does not name is nobody's: move it away"
            }
            Self::ExportBehind => "pagemill export state brings it up to date",
            Self::OutputUnreadable
            | Self::ReportMissing
            | Self::SpoolOrphan
            | Self::StaleTemporary => "look at the disk, and at who may read and write there",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_word_and_advice() {
        let mut words: Vec<&str> = FindingKind::ALL.iter().map(|kind| kind.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), FindingKind::ALL.len());
        for kind in FindingKind::ALL {
            assert_eq!(FindingKind::parse(kind.as_str()), Some(*kind));
            assert!(!kind.advice().is_empty());
        }
    }
}
