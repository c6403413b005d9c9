//! The questions of the commands that only read, in one list: a test holds the plan of each against
//! the tables, a bench its time against a state of a million pages.

use super::{desk_pages, desk_runs, desk_status, read};

/// Every question by its name. Each file of questions brings its own.
pub fn questions() -> Vec<(&'static str, String)> {
    let mut all: Vec<(&str, String)> = Vec::new();
    for fixed in [desk_status::QUESTIONS, desk_runs::QUESTIONS] {
        all.extend(fixed.iter().map(|(name, sql)| (*name, (*sql).to_owned())));
    }
    all.extend(read::questions());
    all.extend(desk_pages::questions());
    all
}
