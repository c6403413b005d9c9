//! Failures whose messages say the same.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use sea_orm::ConnectionTrait;

use crate::actors::state::desk_failures::{self as desk, FailureFilter, Said};
use crate::actors::state::messages::StateResult;
use crate::domain::failure::ErrorType;
use crate::domain::ids::RecordKey;
use crate::domain::signature::signature;
use crate::domain::time::Timestamp;

/// Messages that are read in one question.
const TOGETHER: u64 = 5_000;
/// Clusters that are kept apart; what comes after them is only counted.
const CLUSTERS_MAX: usize = 10_000;

/// Failures that say the same.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub error: ErrorType,
    pub signature: String,
    pub failures: u64,
    pub pages: u64,
    /// The id of the oldest.
    pub first: i64,
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    /// The newest of them.
    pub example: Example,
}

/// One failure of a cluster.
#[derive(Debug, Clone)]
pub struct Example {
    pub id: i64,
    pub key: RecordKey,
    pub message: String,
}

/// The largest clusters, largest first.
#[derive(Debug, Clone, Default)]
pub struct Clusters {
    pub clusters: Vec<Cluster>,
    /// How many there are.
    pub all: u64,
    /// Failures of clusters beyond those that are kept apart.
    pub beyond: u64,
}

struct Growing {
    cluster: Cluster,
    /// Keys are remembered by their hash: two that share one would be counted as one page.
    pages: HashSet<u64>,
}

/// Reads every message that is meant, and puts those that say the same together.
pub async fn clusters(
    conn: &impl ConnectionTrait,
    filter: &FailureFilter,
    limit: u64,
) -> StateResult<Clusters> {
    let mut growing: BTreeMap<(ErrorType, String), Growing> = BTreeMap::new();
    let mut beyond = 0;
    let mut after = i64::MIN;
    loop {
        let said = desk::said_after(conn, filter, after, TOGETHER).await?;
        let Some(last) = said.last() else { break };
        after = last.id;
        for one in said {
            beyond += take_in(&mut growing, one);
        }
    }
    let mut clusters: Vec<Cluster> = growing
        .into_values()
        .map(|growing| Cluster {
            pages: growing.pages.len() as u64,
            ..growing.cluster
        })
        .collect();
    clusters.sort_by_key(|cluster| std::cmp::Reverse((cluster.failures, cluster.example.id)));
    let all = clusters.len() as u64;
    clusters.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let ends = |cluster: &Cluster| [cluster.first, cluster.example.id];
    let ids: Vec<i64> = clusters.iter().flat_map(ends).collect();
    let times = desk::times_of(conn, &ids).await?;
    for cluster in &mut clusters {
        cluster.first_at = times.get(&cluster.first).copied();
        cluster.last_at = times.get(&cluster.example.id).copied();
    }
    Ok(Clusters {
        clusters,
        all,
        beyond,
    })
}

/// Puts a failure to those that say the same; 1 if there is no room for one more kind of them.
fn take_in(growing: &mut BTreeMap<(ErrorType, String), Growing>, said: Said) -> u64 {
    let Said {
        id,
        key,
        error,
        message,
    } = said;
    let signature = signature(&message, key.as_str());
    let is_full = growing.len() >= CLUSTERS_MAX;
    let place = (error, signature.clone());
    if is_full && !growing.contains_key(&place) {
        return 1;
    }
    let mut hasher = DefaultHasher::new();
    key.as_str().hash(&mut hasher);
    let example = Example { id, key, message };
    let entry = growing.entry(place).or_insert_with(|| Growing {
        cluster: Cluster {
            error,
            signature,
            failures: 0,
            pages: 0,
            first: id,
            first_at: None,
            last_at: None,
            example: example.clone(),
        },
        pages: HashSet::new(),
    });
    entry.pages.insert(hasher.finish());
    entry.cluster.failures += 1;
    entry.cluster.example = example;
    0
}
