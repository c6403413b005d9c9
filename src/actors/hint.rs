//! The arrows between stages. Each says that something happened and means "look again": losing
//! or doubling one does no harm, because every fact is asked of StateActor.

use actix::Message;

use crate::domain::alert::ProviderHealth;
use crate::domain::ids::BatchId;
use crate::domain::time::Timestamp;

/// Defines arrows.
macro_rules! arrows {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Message)]
            #[rtype(result = "()")]
            pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
        )+
    };
}

arrows! {
    /// Scanner -> Uploader: pages came to the work list, or stopped waiting.
    PagesRegistered { count: u64 }
    /// Uploader -> BatchSubmitter: images are in the store.
    PagesUploaded { count: u64 }
    /// BatchSubmitter -> Uploader: pages may be claimed that could not be before: others have gone into a
    /// batch, or a halt is over.
    RoomAhead {}
    /// BatchSubmitter -> Poller: a job exists.
    BatchSubmitted { batch: BatchId }
    /// Poller -> ResultProcessor: a job offers results.
    ResultsReady { batch: BatchId }
    /// ResultProcessor, Poller, BatchSubmitter -> Uploader: pages are free to be sent again.
    PagesReleased { count: u64 }
    /// ResultProcessor -> Scanner: pages wait for no other page any more.
    PagesUnlocked { count: u64 }
    /// Conductor -> every stage but Scanner: time passed. `more_may_come` is true while a scan goes on.
    Tick { now: Timestamp, more_may_come: bool }
    /// Conductor -> Alerter: time passed, and how the provider is.
    Beat { now: Timestamp, provider: ProviderHealth }
    /// Conductor -> Scanner: look at the tree.
    Rescan {}
    /// Scanner -> Conductor: a look at the tree is over.
    ScanDone { pages: u64, oddities: u64, failed: Option<String> }
    /// Any stage -> Conductor: the provider refuses us, or is not there.
    Trouble { stage: &'static str, message: String }
    /// Any stage -> Conductor: a call to the provider worked.
    Contact {}
    /// Any stage -> Conductor: this stage is at its end, with the reason if it knows one.
    StageGone { stage: &'static str, reason: Option<String> }
    /// Replies when the stage has nothing in flight.
    Idle {}
    /// Takes no more work; replies when nothing is in flight.
    Drain {}
    /// Ends the stage.
    Leave {}
}
