//! The field notes are the ways in which large batch jobs went wrong for others, F01 to F46. Each
//! that pagemill answers for has a test whose name begins with its id, or a line in the decision
//! record on field notes; and the handbook lists them all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The notes that need a test or a decision.
const REQUIRED: &[&str] = &[
    "f01", "f02", "f04", "f05", "f06", "f07", "f08", "f09", "f10", "f12", "f13", "f14", "f15",
    "f16", "f17", "f18", "f19", "f20", "f21", "f22", "f23", "f24", "f25", "f26", "f27", "f28",
    "f29", "f30", "f31", "f32", "f34", "f35", "f38", "f39", "f40", "f46",
];

const HANDBOOK: &str = "docs/testing.md";
const DECISION: &str = "docs/decisions/0012-field-notes-read-differently.md";
/// The part of the handbook that is written from the sources.
const SECTION: &str = "## Field notes and their tests";
/// The script that writes it.
const UPDATE: &str = "PAGEMILL_UPDATE_TESTING=1 cargo test --test field_notes_list";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The name of the function that a line begins, if it begins one.
fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = line.strip_prefix("async ").unwrap_or(line);
    let rest = rest.strip_prefix("fn ")?;
    let end = rest.find(|c: char| !(c == '_' || c.is_alphanumeric()))?;
    Some(&rest[..end])
}

/// The id that a test's name begins with.
fn id(name: &str) -> Option<&str> {
    let (id, _sentence) = name.split_once('_')?;
    let number = id.strip_prefix('f')?;
    let is_number = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(id)
}

/// The tests of one file that begin with an id: functions below a line that makes them tests.
fn tests_in(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("#[") {
            is_test |= line == "#[test]" || line.ends_with("::test]");
        } else if let Some(name) = function(line) {
            if std::mem::take(&mut is_test) && id(name).is_some() {
                found.push(name);
            }
        } else if !line.is_empty() && !line.starts_with("//") {
            is_test = false;
        }
    }
    found
}

/// All tests that begin with an id, by id: names, and the files they stand in.
fn tests() -> BTreeMap<String, BTreeSet<(String, String)>> {
    let mut paths = Vec::new();
    for folder in ["src", "tests"] {
        sources(&root().join(folder), &mut paths);
    }
    let mut by_id: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(root()).unwrap().to_str().unwrap();
        let file = file.replace('\\', "/");
        for name in tests_in(&text) {
            let id = id(name).unwrap().to_owned();
            let test = (name.to_owned(), file.clone());
            by_id.entry(id).or_default().insert(test);
        }
    }
    by_id
}

/// The ids that the decision record has a line for, `| F12 ...`.
fn decided() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(DECISION)).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("| F"))
        .filter_map(|rest| rest.get(..2))
        .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        .map(|number| format!("f{number}"))
        .collect()
}

/// The section of the handbook as the sources say it.
fn section() -> String {
    let mut text = format!(
        "{SECTION}\n\n\
         Each way in which large batch jobs went wrong for others has a number, and each test below shows that it\n\
         cannot go wrong like that here. Where pagemill reads one differently, or not in all its parts,\n\
         [a decision](decisions/0012-field-notes-read-differently.md) says why. This section is written from the\n\
         names of the tests, by `{UPDATE}`.\n"
    );
    let decided = decided();
    for (id, tests) in &tests() {
        text += &format!("\n**{}**", id.to_uppercase());
        if decided.contains(id) {
            text += " (see the decision too)";
        }
        text += "\n\n";
        for (name, file) in tests {
            text += &format!("- `{name}` in `{file}`\n");
        }
    }
    text
}

/// The handbook with its section replaced; the section reaches to the next one or to the end.
fn with_section(handbook: &str, section: &str) -> String {
    let (before, after) = match handbook.split_once(SECTION) {
        None => (handbook.trim_end().to_owned() + "\n\n", ""),
        Some((before, rest)) => {
            let end = rest.find("\n## ").map_or(rest.len(), |at| at + 1);
            (before.to_owned(), &rest[end..])
        }
    };
    let gap = if after.is_empty() { "" } else { "\n" };
    format!("{before}{section}{gap}{after}")
}

#[test]
fn every_required_note_has_a_test_or_a_decision() {
    let (tests, decided) = (tests(), decided());
    for required in REQUIRED {
        let is_answered = tests.contains_key(*required) || decided.contains(*required);
        assert!(is_answered, "{required} has neither a test nor a decision");
    }
}

#[test]
fn the_handbook_lists_the_field_notes_with_their_tests() {
    let path = root().join(HANDBOOK);
    let handbook = fs::read_to_string(&path).unwrap();
    let expected = with_section(&handbook, &section());
    if std::env::var_os("PAGEMILL_UPDATE_TESTING").is_some() {
        fs::write(&path, expected).unwrap();
        return;
    }
    assert!(
        handbook == expected,
        "{HANDBOOK} does not list the tests that there are; write it again: {UPDATE}"
    );
}

#[test]
fn tests_are_found_by_their_names() {
    let text = "#[test]\nfn f01_a() {}\n#[test]\nfn p1_b() {}\nfn f02_no_test() {}\n    #[actix::test]\n    \
                // Why.\n    async fn f03_c(\n#[test]\nlet x = 1;\nfn f04_no_test() {}\n#[test]\n\
                #[should_panic]\nfn f1_d() {}\n#[test]\nfn f05a_e() {}\n#[actix::test]\nasync fn f06_f() {}\n";
    assert_eq!(tests_in(text), ["f01_a", "f03_c", "f06_f"]);
}

#[test]
fn the_section_is_replaced_where_it_stands() {
    let section = format!("{SECTION}\n\nnew\n");
    let check = |handbook: &str, expected: &str| {
        assert_eq!(with_section(handbook, &section), expected);
    };
    check("# T\n", &format!("# T\n\n{section}"));
    check(
        &format!("# T\n\n{SECTION}\n\nold\n"),
        &format!("# T\n\n{section}"),
    );
    check(
        &format!("# T\n\n{SECTION}\n\nold\n\n## Next\n\nx\n"),
        &format!("# T\n\n{section}\n## Next\n\nx\n"),
    );
}
