//! Which found labels are pages we do not know, what changed, and why a page is left alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::domain::failure::ErrorType;
use crate::domain::ids::{RecordKey, ScopeToken};
use crate::domain::page::{PageStage, RequeueCause};

/// A label of one book, in page order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub key: RecordKey,
    pub number: u32,
    /// Whether the run's filters admit the page itself.
    pub in_scope: bool,
    /// Whether there is an output file for it.
    pub has_output: bool,
}

/// A page that the state knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub key: RecordKey,
    pub stage: PageStage,
    pub predecessor: Option<RecordKey>,
    pub waits_for: Option<RecordKey>,
    pub chain_ahead: u32,
    pub scope: Option<ScopeToken>,
    pub dead_for: Option<ErrorType>,
    /// Whether an operator left it out.
    pub left_out: bool,
}

/// What the comparison is made by.
#[derive(Debug, Clone)]
pub struct Rules {
    pub scope: ScopeToken,
    /// Whether a page may run without the context of a dead predecessor.
    pub skip_dead: bool,
    /// Whether a page waits for the one before it at all.
    pub chained: bool,
}

/// A page's place among the pages of its book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub key: RecordKey,
    pub number: u32,
    pub predecessor: Option<RecordKey>,
    pub waits_for: Option<RecordKey>,
    /// How many pages can only run after this one.
    pub chain_ahead: u32,
}

/// Why a page is not newly put to work by this scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftAlone<'a> {
    Done,
    InFlight(PageStage),
    Dead,
    ImageNotUsable,
    InReview,
    LeftOut,
    WaitsFor(&'a RecordKey),
    OutOfScope,
}

impl fmt::Display for LeftAlone<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::InFlight(stage) => write!(f, "in flight: {stage}"),
            Self::Dead => f.write_str("dead"),
            Self::ImageNotUsable => f.write_str("image missing or not usable"),
            Self::InReview => f.write_str("in review"),
            Self::LeftOut => f.write_str("left out by an operator"),
            Self::WaitsFor(key) => write!(f, "waits for page {}", key.page()),
            Self::OutOfScope => f.write_str("out of scope"),
        }
    }
}

/// What one book's comparison asks for. Lists are in key order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    pub register: Vec<Place>,
    /// Outputs that the state does not count as done: to be read and judged before anything else
    /// happens to their pages.
    pub outputs_to_judge: Vec<RecordKey>,
    pub requeue: Vec<(RecordKey, RequeueCause)>,
    /// Pages on the work list whose label is gone.
    pub label_vanished: Vec<RecordKey>,
    pub rechain: Vec<Place>,
    pub rescope: Vec<RecordKey>,
}

/// Compares the labels of one book with what the state knows of it. `tell` hears, for each page
/// that is left alone, why.
pub fn compare<'a>(
    labels: &'a [Label],
    known: &'a [Known],
    rules: &Rules,
    mut tell: impl FnMut(&'a RecordKey, LeftAlone<'a>),
) -> Comparison {
    let known_by_key: HashMap<&RecordKey, &Known> =
        known.iter().map(|page| (&page.key, page)).collect();
    // Where no page waits for another, none is more urgent: they go in the order of their keys, in which
    // they stand beside each other in the state, however many there are.
    let ahead = if rules.chained {
        chain_lengths(labels)
    } else {
        HashMap::new()
    };
    let is_done = |label: &Label| {
        let known = known_by_key.get(&label.key);
        label.has_output && known.is_some_and(|page| page.stage == PageStage::Completed)
    };
    // A page that is not in scope is waited for by nobody; one that is done gives its context.
    let by_number: BTreeMap<u32, &Label> = labels
        .iter()
        .filter(|label| label.in_scope || is_done(label))
        .map(|label| (label.number, label))
        .collect();
    let mut found = Comparison::default();
    for label in labels {
        if !label.in_scope {
            tell(&label.key, LeftAlone::OutOfScope);
            continue;
        }
        let before = label
            .number
            .checked_sub(1)
            .and_then(|number| by_number.get(&number).copied());
        let place = Place {
            key: label.key.clone(),
            number: label.number,
            predecessor: before.map(|label| label.key.clone()),
            waits_for: before
                .filter(|label| must_wait(label, known_by_key.get(&label.key).copied(), rules))
                .map(|label| label.key.clone()),
            chain_ahead: ahead.get(&label.number).copied().unwrap_or(0),
        };
        match known_by_key.get(&label.key) {
            None => {
                if label.has_output {
                    found.outputs_to_judge.push(label.key.clone());
                }
                found.register.push(place);
            }
            Some(page) => compare_known(label, page, place, rules, &mut found, &mut tell),
        }
    }
    let listed: BTreeSet<&RecordKey> = labels.iter().map(|label| &label.key).collect();
    found.label_vanished = known
        .iter()
        .filter(|page| page.stage == PageStage::Discovered && !listed.contains(&page.key))
        .map(|page| page.key.clone())
        .collect();
    found.sort();
    found
}

/// Whether the page after `label` has to wait for it.
fn must_wait(label: &Label, known: Option<&Known>, rules: &Rules) -> bool {
    match known.map(|page| page.stage) {
        // A completed page whose output is gone runs again, and its successor waits again.
        Some(PageStage::Completed) => !label.has_output,
        Some(PageStage::Dead | PageStage::Review) => !rules.skip_dead,
        Some(PageStage::Skipped) if known.is_some_and(|page| page.left_out) => !rules.skip_dead,
        Some(
            PageStage::Discovered
            | PageStage::Uploading
            | PageStage::Uploaded
            | PageStage::Batched
            | PageStage::Validating
            | PageStage::Skipped,
        )
        | None => true,
    }
}

/// For each page number, how many pages follow it without a gap.
fn chain_lengths(labels: &[Label]) -> HashMap<u32, u32> {
    let numbers: BTreeSet<u32> = labels
        .iter()
        .filter(|label| label.in_scope)
        .map(|label| label.number)
        .collect();
    let mut lengths: HashMap<u32, u32> = HashMap::with_capacity(numbers.len());
    for number in numbers.into_iter().rev() {
        let behind = number
            .checked_add(1)
            .and_then(|next| lengths.get(&next).copied())
            .map_or(0, |length| length + 1);
        lengths.insert(number, behind);
    }
    lengths
}

/// What a look at one label that is in scope asks for. Scanner, dry run and `pagemill explain` all
/// decide by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need<'a> {
    /// Nothing, and why.
    LeftAlone(LeftAlone<'a>),
    /// The page is on the work list, and nothing but its turn keeps it.
    Runs,
    /// Its output is there, and the state does not vouch for it: it is read first.
    JudgeOutput,
    /// It goes back to the work list.
    Again(RequeueCause),
}

/// What is needed for a page that the state knows and whose label is there. Only where pages are
/// `chained` does one wait for another.
pub fn need(page: &Known, has_output: bool, chained: bool) -> Need<'_> {
    match page.stage {
        PageStage::Completed if has_output => Need::LeftAlone(LeftAlone::Done),
        PageStage::Completed => Need::Again(RequeueCause::OutputVanished),
        PageStage::Discovered | PageStage::Dead | PageStage::Review | PageStage::Skipped
            if has_output =>
        {
            Need::JudgeOutput
        }
        PageStage::Discovered => match &page.waits_for {
            Some(before) if chained => Need::LeftAlone(LeftAlone::WaitsFor(before)),
            _ => Need::Runs,
        },
        PageStage::Dead if page.dead_for == Some(ErrorType::Image) => {
            Need::LeftAlone(LeftAlone::ImageNotUsable)
        }
        PageStage::Dead => Need::LeftAlone(LeftAlone::Dead),
        PageStage::Review => Need::LeftAlone(LeftAlone::InReview),
        PageStage::Skipped if page.left_out => Need::LeftAlone(LeftAlone::LeftOut),
        // It was left out because its label was gone; here is the label.
        PageStage::Skipped => Need::Again(RequeueCause::LabelReturned),
        PageStage::Uploading | PageStage::Uploaded | PageStage::Batched | PageStage::Validating => {
            Need::LeftAlone(LeftAlone::InFlight(page.stage))
        }
    }
}

fn compare_known<'a>(
    label: &'a Label,
    page: &'a Known,
    place: Place,
    rules: &Rules,
    found: &mut Comparison,
    tell: &mut impl FnMut(&'a RecordKey, LeftAlone<'a>),
) {
    let key = &label.key;
    let need = need(page, label.has_output, rules.chained);
    match need {
        Need::LeftAlone(why) => tell(key, why),
        Need::Runs => {}
        Need::JudgeOutput => found.outputs_to_judge.push(key.clone()),
        Need::Again(cause) => found.requeue.push((key.clone(), cause)),
    }
    if need == Need::LeftAlone(LeftAlone::Done) {
        return;
    }
    if page.scope.as_ref() != Some(&rules.scope) {
        found.rescope.push(key.clone());
    }
    let at_rest = page.stage == PageStage::Discovered || matches!(need, Need::Again(_));
    let waits_elsewhere = at_rest && page.waits_for != place.waits_for;
    if page.predecessor != place.predecessor
        || page.chain_ahead != place.chain_ahead
        || waits_elsewhere
    {
        found.rechain.push(place);
    }
}

impl Comparison {
    /// Whether the book is in order once the new pages are registered: nothing has to be looked into, and
    /// nothing was otherwise than it should be.
    pub fn leaves_nothing_open(&self) -> bool {
        let Comparison {
            register: _,
            outputs_to_judge,
            requeue,
            label_vanished,
            rechain,
            rescope,
        } = self;
        outputs_to_judge.is_empty()
            && requeue.is_empty()
            && label_vanished.is_empty()
            && rechain.is_empty()
            && rescope.is_empty()
    }

    fn sort(&mut self) {
        self.register.sort_by(|a, b| a.key.cmp(&b.key));
        self.outputs_to_judge.sort();
        self.label_vanished.sort();
        self.requeue.sort_by(|a, b| a.0.cmp(&b.0));
        self.rechain.sort_by(|a, b| a.key.cmp(&b.key));
        self.rescope.sort();
    }
}

#[cfg(test)]
mod tests;
