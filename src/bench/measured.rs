//! The figures of one measured run, as the process that measured them hands them over and as the
//! JSON file has them. Times are in seconds unless a name says otherwise.

use serde::{Deserialize, Serialize};

/// One measured run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Pages that the run had to do, and what became of them.
    pub pages: u64,
    pub completed: u64,
    /// Whether the run came to its own end.
    pub is_done: bool,
    /// How it ended, in words.
    pub ended: String,
    pub wall_seconds: f64,
    /// Bytes of images that were brought to the provider's store.
    pub image_bytes: u64,
    pub cores: u32,
    pub cpu: Cpu,
    /// `None` where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// Which part of the machine's processors was busy with whatever; `None` where the system does not tell.
    pub machine_busy: Option<f64>,
    pub database: Database,
    pub spots: Vec<SpotFigures>,
    pub stages: Vec<StageFigures>,
    pub batches: BatchFigures,
    /// What the tokens of the answers cost by the price list, in billionths of a dollar.
    pub cost_nanos: Option<u64>,
}

/// Processor time, in seconds. The parts add up to the total.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    pub total: f64,
    /// What the one thread worked that all actors share; its parts are among the others.
    pub actor_thread: f64,
    pub stages: Vec<StageCpu>,
    /// SQLite's own thread; `None` where the system does not tell, and then part of `other`.
    pub database: Option<f64>,
    /// The rest of the actors' thread: HTTP connections and the event loop.
    pub connections: f64,
    /// What can be given to nobody.
    pub other: f64,
}

/// Processor time of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageCpu {
    pub stage: String,
    /// On the thread that all actors share.
    pub actor: f64,
    /// On other threads: files, images, judging.
    pub pool: f64,
}

/// The work of the database.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Database {
    pub commits: u64,
    /// Transactions that only read.
    pub reads: u64,
    /// Messages that were applied, and how many of them in commits.
    pub messages: u64,
    pub messages_committed: u64,
    pub rows_changed: Option<u64>,
    /// In transactions, and the part of it that was the commits themselves.
    pub busy_seconds: f64,
    pub committing_seconds: f64,
    /// Messages in the queue when it was taken.
    pub queue_mean: f64,
    pub queue_max: u64,
    /// How long a message waited to be taken.
    pub waited_mean_ms: f64,
    pub waited_max_ms: f64,
    pub asked: Vec<AskedFigures>,
}

/// Messages of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AskedFigures {
    pub message: String,
    pub messages: u64,
    pub seconds: f64,
}

/// A place where things stay a while.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SpotFigures {
    pub spot: String,
    /// How many fit, where there is a limit.
    pub limit: Option<u64>,
    pub stays: u64,
    /// The most at once.
    pub most: u64,
    /// All stays together.
    pub stayed_seconds: f64,
    /// While there was at least one, and while no more would have fitted.
    pub busy_seconds: f64,
    pub full_seconds: f64,
}

impl SpotFigures {
    /// How long one stay took, in milliseconds.
    pub fn mean_ms(&self) -> f64 {
        self.stayed_seconds * 1_000.0 / (self.stays.max(1) as f64)
    }
}

/// The pages in one stage, from the history of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageFigures {
    pub stage: String,
    /// Times that a page was in it and left it.
    pub visits: u64,
    pub wait_mean_seconds: f64,
    pub wait_p95_seconds: f64,
    /// Pages in it, over the whole run and at most.
    pub depth_mean: f64,
    pub depth_max: u64,
}

/// The batches of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BatchFigures {
    pub count: u64,
    pub pages_mean: f64,
    pub live_max: u64,
    /// While as many were live as may be.
    pub full_seconds: f64,
    /// From the making of a job to its end, by the provider's clock.
    pub turnaround_mean_seconds: f64,
    /// From the end of a job to the moment it was seen, and on to its settlement.
    pub unseen_mean_seconds: f64,
    pub collecting_mean_seconds: f64,
    /// While jobs ran and nothing was uploaded or collected.
    pub provider_alone_seconds: f64,
    /// One request line, on the average.
    pub line_bytes_mean: f64,
    /// Tokens that one page was estimated to take.
    pub page_tokens_mean: f64,
}

impl Measured {
    /// Pages that were completed in a second.
    pub fn pages_per_second(&self) -> f64 {
        self.completed as f64 / self.wall_seconds.max(f64::EPSILON)
    }

    /// Megabytes (millions of bytes) of images in a second.
    pub fn megabytes_per_second(&self) -> f64 {
        self.image_bytes as f64 / 1e6 / self.wall_seconds.max(f64::EPSILON)
    }

    /// Processor time that a part took for one page, in milliseconds.
    pub fn per_page_ms(&self, seconds: f64) -> f64 {
        seconds * 1_000.0 / (self.completed.max(1) as f64)
    }

    /// Commits in a second.
    pub fn commits_per_second(&self) -> f64 {
        self.database.commits as f64 / self.wall_seconds.max(f64::EPSILON)
    }

    /// Rows that a commit changed, on the average.
    pub fn rows_per_commit(&self) -> Option<f64> {
        let rows = self.database.rows_changed?;
        Some(rows as f64 / self.database.commits.max(1) as f64)
    }

    /// The figures of a spot.
    pub fn spot(&self, name: &str) -> Option<&SpotFigures> {
        self.spots.iter().find(|spot| spot.spot == name)
    }
}

impl Cpu {
    /// The parts by name, in the order of a page's way; they add up to the total.
    pub fn parts(&self) -> Vec<(String, f64)> {
        let mut parts: Vec<(String, f64)> = self
            .stages
            .iter()
            .map(|stage| (stage.stage.clone(), stage.actor + stage.pool))
            .collect();
        if let Some(database) = self.database {
            parts.push(("database thread".to_owned(), database));
        }
        parts.push(("connections".to_owned(), self.connections));
        parts.push(("other".to_owned(), self.other));
        parts
    }
}
