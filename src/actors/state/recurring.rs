//! What a run asks and changes again and again, for the test of how SQLite answers it.

use super::orders::carry;
use super::{
    alerts, audit_live, batches, describe, halts, orders, pages, questions, remote_files, results,
    scan, sql, submits, turnaround, upkeep, uploaded, uploads,
};

/// The questions and changes whose cost must follow the work that is left, not the pages that are
/// done, each by its name.
pub const RECURRING: &[(&str, &str)] = &[
    ("claim", uploads::CLAIMABLE),
    ("claim unchained", uploads::CLAIMABLE_UNCHAINED),
    ("expired files", uploads::EXPIRED),
    ("list uploaded", uploaded::UPLOADED),
    ("uploaded in all", uploaded::UPLOADED_TOTAL),
    ("least urgent", uploads::LEAST_URGENT),
    ("more urgent", uploads::MORE_URGENT),
    ("most urgent", uploaded::MOST_URGENT),
    ("list deletable", remote_files::DELETABLE),
    ("held bytes", remote_files::HELD_BYTES),
    ("expected bytes", remote_files::EXPECTED_BYTES),
    ("open stages", questions::OPEN_STAGES),
    ("stages of a scope", questions::STAGES_OF_SCOPE),
    ("runnable", questions::RUNNABLE),
    ("runnable unchained", questions::RUNNABLE_UNCHAINED),
    ("next due", questions::NEXT_DUE),
    ("next due unchained", questions::NEXT_DUE_UNCHAINED),
    ("blocked", questions::BLOCKED_OF_SCOPE),
    ("live batches", questions::LIVE_BATCHES),
    ("deletable", questions::DELETABLE_COUNT),
    ("known files", remote_files::KNOWN),
    ("stored files", remote_files::STORED_FILES),
    ("keys of members", batches::MEMBER_KEYS),
    ("members at hand", results::WAITING),
    ("pages of books", scan::PAGES_OF_BOOKS),
    ("image faults", scan::IMAGE_FAULTS),
    ("replace images", remote_files::REPLACE_IMAGES),
    ("end files", remote_files::END_FILES),
    ("mark deleting", pages::MARK_DELETING),
    ("what a plan names", batches::KNOWN),
    ("taken pages", batches::TAKEN),
    ("attempt numbers", batches::ATTEMPT_NUMBERS),
    ("unlock", pages::UNLOCK),
    ("open members", submits::OPEN_MEMBERS),
    ("free pages", submits::FREE_PAGES),
    ("free images", submits::FREE_IMAGES),
    ("rechain", scan::RECHAIN),
    ("rescope", scan::RESCOPE),
    ("book", scan::BOOK),
    ("note prompts", batches::NOTE_PROMPTS),
    ("last settled", halts::LAST_SETTLED),
    ("jobs of models", turnaround::JOBS),
    ("something to send", alerts::SENDABLE),
    ("uncollected", alerts::UNCOLLECTED),
    ("open alerts", alerts::OPEN),
    ("due deliveries", alerts::DUE),
    ("open orders", orders::OPEN_ORDERS),
    ("in two batches", audit_live::LIVE_PROMISES[0]),
    ("in flight of a closed batch", audit_live::LIVE_PROMISES[1]),
    ("in flight and not held", audit_live::LIVE_PROMISES[2]),
    ("held and not in flight", audit_live::LIVE_PROMISES[3]),
    ("age", orders::AGE),
    ("chain again", carry::CHAIN_AGAIN),
    ("old raw results", upkeep::OLD_RAW),
];

/// The changes and questions whose text depends on what they are about, at their longest.
pub fn recurring_changes() -> Vec<(&'static str, String)> {
    let [apart, alike] = pages::updates_of_everything();
    vec![
        ("update pages", apart),
        ("update pages alike", alike),
        ("decide attempts", results::decide_all_apart()),
        ("before a claim", uploads::standing_sql()),
        ("more can come", uploaded::can_come(true)),
        ("more can come, unchained", uploaded::can_come(false)),
        ("members", sql::of_members(batches::MEMBERS)),
        ("members to judge", sql::of_members(batches::TO_JUDGE)),
        (
            "members of a manifest",
            sql::of_members(describe::DESCRIBED),
        ),
        (
            "live batches, listed",
            submits::submissions_sql(&questions::in_states(&questions::LIVE_STAGES)),
        ),
    ]
}
