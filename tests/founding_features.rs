//! `docs/founding-features.md` says where each feature of the founding documents lives: this test
//! holds it against the sources. Every row of the list is there, and every file, command and test that
//! it names exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use pagemill::cli::Cli;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> String {
    fs::read_to_string(root().join("docs/founding-features.md")).unwrap()
}

/// The rows that the operator's desk has to cover, by document: first and last number.
const ROWS: &[(u32, u32, u32)] = &[
    (0, 28, 31),
    (0, 37, 38),
    (1, 14, 39),
    (2, 1, 51),
    (3, 1, 43),
    (4, 1, 6),
    (4, 17, 37),
    (4, 41, 43),
    (4, 54, 60),
];

fn expected_ids() -> BTreeSet<String> {
    let ids = ROWS.iter().flat_map(|(document, first, last)| {
        (*first..=*last).map(move |number| format!("S{document}-{number:02}"))
    });
    ids.collect()
}

/// One row: its cells after the id.
fn rows() -> Vec<(String, Vec<String>)> {
    let text = document();
    let lines = text.lines().filter(|line| line.starts_with("| S"));
    lines
        .map(|line| {
            let cells: Vec<String> = line
                .trim_matches('|')
                .split(" | ")
                .map(|cell| cell.trim().to_owned())
                .collect();
            (cells[0].clone(), cells[1..].to_vec())
        })
        .collect()
}

/// What stands between backticks in a text.
fn quoted(text: &str) -> Vec<String> {
    let parts = text.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

/// The names of all functions of a source file.
fn functions(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap();
    let names = text.split("fn ").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        rest[..end.unwrap_or(rest.len())].to_owned()
    });
    names.collect()
}

#[test]
fn every_row_stands_there_once_with_what_it_is_about() {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut faults = Vec::new();
    for (id, cells) in rows() {
        *seen.entry(id.clone()).or_default() += 1;
        if cells.len() != 4 || cells[0].is_empty() {
            faults.push(format!(
                "{id} has {} cells after its id, not 4",
                cells.len()
            ));
            continue;
        }
        let has_test = quoted(&cells[2]).iter().any(|name| name.contains("::"));
        let says_why = cells[3].len() >= 20;
        if !has_test && !says_why {
            faults.push(format!("{id} names no test and does not say why"));
        }
    }
    let twice = seen.iter().filter(|(_, count)| **count > 1);
    faults.extend(twice.map(|(id, count)| format!("{id} stands there {count} times")));
    let missing = expected_ids();
    let missing = missing.iter().filter(|id| !seen.contains_key(*id));
    faults.extend(missing.map(|id| format!("{id} is missing")));
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_file_command_and_test_that_it_names_exists() {
    let program = Cli::command();
    let mut known: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    let mut faults = Vec::new();
    let (mut files, mut commands, mut tests) = (0, 0, 0);
    for (id, cells) in rows() {
        for name in cells.iter().flat_map(|cell| quoted(cell)) {
            if let Some(rest) = name.strip_prefix("pagemill ") {
                commands += 1;
                let fault = unknown_command(&program, rest);
                faults.extend(fault.map(|fault| format!("{id}: `{name}`: {fault}")));
                continue;
            }
            let (file, test) = match name.split_once("::") {
                Some((file, test)) => (file, Some(test)),
                None => (name.as_str(), None),
            };
            let is_path = [
                "src/",
                "tests/",
                "docs/",
                "config/",
                "benches/",
                "migration/",
                "entity/",
            ];
            if !is_path.iter().any(|start| file.starts_with(start)) {
                continue;
            }
            files += 1;
            let path = root().join(file);
            if !path.exists() {
                faults.push(format!("{id}: there is no {file}"));
                continue;
            }
            let Some(test) = test else { continue };
            tests += 1;
            let names = known
                .entry(path.clone())
                .or_insert_with(|| functions(&path));
            if !names.contains(test) {
                faults.push(format!("{id}: {file} has no {test}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(
        files > 100 && commands > 40 && tests > 80,
        "{files} {commands} {tests}"
    );
}

/// What of a command line, without the program's name, the program does not know.
fn unknown_command(program: &clap::Command, line: &str) -> Option<String> {
    let mut command = program;
    for word in line.split_whitespace() {
        if let Some(flag) = word.strip_prefix("--") {
            let flag = flag.split('=').next().unwrap_or(flag);
            let mut arguments = command.get_arguments().chain(program.get_arguments());
            let is_known = arguments.any(|argument| argument.get_long() == Some(flag));
            if !is_known {
                return Some(format!("no flag --{flag}"));
            }
        } else if let Some(below) = command.find_subcommand(word) {
            command = below;
        } else if std::ptr::eq(command, program) {
            return Some(format!("no command {word}"));
        }
    }
    None
}

/// A check that cannot fail is none.
#[test]
fn what_does_not_exist_is_noticed() {
    let program = Cli::command();
    assert!(unknown_command(&program, "run --once").is_none());
    assert!(unknown_command(&program, "run --oncee").is_some());
    assert!(unknown_command(&program, "batches forget ID --cancel-remote").is_none());
    assert!(unknown_command(&program, "frobnicate").is_some());
    assert_eq!(quoted("see `a` and `b`"), ["a", "b"]);
    let here = functions(&root().join("tests/founding_features.rs"));
    assert!(here.contains("what_does_not_exist_is_noticed") && !here.contains("nonsense"));
    assert_eq!(expected_ids().len(), 163);
}
