//! What an audit found, bounded: counts of everything, and the first of each kind by name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::actors::state::audit::Found;
use crate::actors::state::messages::StateRepair;
use crate::domain::finding::{FindingKind, Severity};
use crate::domain::ids::{BatchId, RecordKey, Sha256Hex};

/// Repairs that one round makes; what is beyond it comes in the next.
const REPAIRS_MAX: usize = 100_000;

/// One safe change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    State(StateRepair),
    /// A file becomes a revision; then, perhaps, the state hears of it.
    SetAside {
        key: RecordKey,
        then: Option<StateRepair>,
    },
    /// A broken file becomes a revision, and the recorded output is written from the raw results.
    Restore {
        key: RecordKey,
        recorded: Sha256Hex,
    },
    WriteReport(BatchId),
    Remove(PathBuf),
}

impl Repair {
    /// What it does, in one clause.
    pub fn words(&self) -> String {
        match self {
            Repair::State(repair) => repair.words().to_owned(),
            Repair::SetAside { then: None, .. } => "the file is kept as a revision".to_owned(),
            Repair::SetAside {
                then: Some(repair), ..
            } => format!("the file is kept as a revision; {}", repair.words()),
            Repair::Restore { .. } => {
                "a broken file is kept as a revision; the recorded output is \
                                       written again from the raw results; nothing is paid"
                    .to_owned()
            }
            Repair::WriteReport(_) => "it is written again from the rows".to_owned(),
            Repair::Remove(_) => "it is removed".to_owned(),
        }
    }

    /// Whether it makes a page run, and cost, again.
    pub fn sends_again(&self) -> bool {
        let repair = match self {
            Repair::State(repair) => Some(repair),
            Repair::SetAside { then, .. } => then.as_ref(),
            Repair::Restore { .. } | Repair::WriteReport(_) | Repair::Remove(_) => None,
        };
        matches!(
            repair,
            Some(StateRepair::Requeue { .. } | StateRepair::Free { .. })
        )
    }
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: FindingKind,
    /// A key, a batch, a path; empty for the database as a whole.
    pub thing: String,
    pub detail: String,
    pub repair: Option<Repair>,
}

/// All findings of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfKind {
    pub count: u64,
    pub repairable: u64,
    /// The ways in which they are repaired, each with how many.
    pub ways: Vec<(String, u64)>,
    /// The first of them.
    pub named: Vec<Finding>,
}

/// What one audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    pub kinds: BTreeMap<FindingKind, OfKind>,
    pub repairs: Vec<Repair>,
    named_max: usize,
}

impl Findings {
    /// Names at most so many of each kind.
    pub fn new(named_max: usize) -> Self {
        Findings {
            named_max,
            ..Findings::default()
        }
    }

    /// Takes in one finding.
    pub fn tell(&mut self, finding: Finding) {
        let of_kind = self.kinds.entry(finding.kind).or_default();
        of_kind.count += 1;
        if let Some(repair) = &finding.repair {
            of_kind.repairable += 1;
            let way = repair.words();
            match of_kind
                .ways
                .iter_mut()
                .find(|(known, _count)| *known == way)
            {
                Some((_known, count)) => *count += 1,
                None => of_kind.ways.push((way, 1)),
            }
            if self.repairs.len() < REPAIRS_MAX {
                self.repairs.push(repair.clone());
            }
        }
        if of_kind.named.len() < self.named_max {
            of_kind.named.push(finding);
        }
    }

    /// Takes in what the state's own audit found.
    pub fn tell_state(&mut self, found: Found) {
        let Found {
            kind,
            thing,
            detail,
            repair,
            count,
        } = found;
        if count == 1 {
            let repair = repair.map(Repair::State);
            return self.tell(Finding {
                kind,
                thing,
                detail,
                repair,
            });
        }
        if count > 1 {
            self.kinds.entry(kind).or_default().count += count;
        }
    }

    /// How many findings matter so much.
    pub fn count(&self, severity: Severity) -> u64 {
        let kinds = self.kinds.iter();
        kinds
            .filter(|(kind, _of_kind)| kind.severity() == severity)
            .map(|(_kind, of_kind)| of_kind.count)
            .sum()
    }

    /// How many can be repaired.
    pub fn repairable(&self) -> u64 {
        self.kinds.values().map(|of_kind| of_kind.repairable).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: FindingKind, repair: Option<Repair>) -> Finding {
        Finding {
            kind,
            thing: "thing".to_owned(),
            detail: String::new(),
            repair,
        }
    }

    #[test]
    fn everything_is_counted_and_the_first_are_named() {
        let mut findings = Findings::new(2);
        let remove = Repair::Remove(PathBuf::from("x"));
        for _each in 0..5 {
            findings.tell(finding(FindingKind::StaleTemporary, Some(remove.clone())));
        }
        findings.tell(finding(FindingKind::RawMissing, None));
        findings.tell_state(Found {
            kind: FindingKind::MembersDiffer,
            thing: String::new(),
            detail: String::new(),
            repair: None,
            count: 7,
        });
        let stale = &findings.kinds[&FindingKind::StaleTemporary];
        assert_eq!((stale.count, stale.named.len()), (5, 2));
        assert_eq!(stale.ways, [("it is removed".to_owned(), 5)]);
        assert_eq!(findings.count(Severity::Wrong), 12);
        assert_eq!(findings.count(Severity::Note), 1);
        assert_eq!(findings.repairable(), 5);
        assert_eq!(findings.repairs.len(), 5);
    }
}
