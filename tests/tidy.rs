//! The rules of the house that a machine can check: who may use whom, sizes, words, documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pagemill::domain::failure::ErrorType;

/// The most lines of a file in `src`, and of a function in it.
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// One file of `src`, without its test modules.
struct Source {
    /// Below `src`, with slashes.
    name: String,
    lines: Vec<String>,
    /// How many lines it has with its test modules.
    lines_in_all: usize,
}

/// A part of the program and what it may use: rooms of ours by `crate::`, and other crates.
struct Room {
    /// A folder, or a file without its extension.
    name: &'static str,
    rooms: &'static [&'static str],
    crates: &'static [&'static str],
}

/// The rooms, more special ones first. What is not named here may use everything.
const ROOMS: &[Room] = &[
    Room {
        name: "domain",
        rooms: &[],
        crates: &["thiserror", "jiff"],
    },
    Room {
        name: "decide",
        rooms: &["domain"],
        crates: &["thiserror"],
    },
    Room {
        name: "wire",
        rooms: &["domain"],
        crates: &["serde", "serde_json", "base64", "hex", "thiserror"],
    },
    Room {
        name: "ports",
        rooms: &["domain"],
        crates: &["async_trait", "thiserror"],
    },
    Room {
        name: "adapters",
        rooms: &["ports", "domain", "wire", "meter"],
        crates: &[
            "async_trait",
            "bytes",
            "futures_util",
            "hex",
            "hmac",
            "httpdate",
            "imagesize",
            "memchr",
            "reqwest",
            "rustix",
            "rustls",
            "sha2",
            "tempfile",
            "tokio",
            "tokio_util",
            "tracing",
            "uuid",
            "zstd",
        ],
    },
    Room {
        name: "actors/state",
        rooms: &["domain", "meter"],
        crates: &[
            "actix",
            "entity",
            "migration",
            "rusqlite",
            "sea_orm",
            "sea_orm_migration",
            "serde",
            "serde_json",
            "sqlite",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ],
    },
    Room {
        name: "actors",
        rooms: &[
            "domain", "decide", "wire", "ports", "actors", "prompt", "notices", "meter",
        ],
        crates: &[
            "actix",
            "actix_rt",
            "async_trait",
            "futures_util",
            "governor",
            "hex",
            "serde_json",
            "sha2",
            "thiserror",
            "tokio",
            "tokio_retry",
            "tracing",
            "twox_hash",
        ],
    },
    Room {
        name: "settings",
        rooms: &[
            "settings",
            "domain",
            "decide::cost",
            "ports::page_source",
            "prompt",
        ],
        crates: &[
            "dotenvy",
            "hex",
            "serde",
            "serde_json",
            "serde_yaml",
            "sha2",
            "strsim",
        ],
    },
    Room {
        name: "prompt",
        rooms: &["prompt", "domain", "wire::schema"],
        crates: &[
            "hex",
            "jsonschema",
            "minijinja",
            "serde",
            "serde_json",
            "sha2",
            "strsim",
            "thiserror",
        ],
    },
    Room {
        name: "report",
        rooms: &["domain"],
        crates: &["csv", "serde_json"],
    },
    Room {
        name: "emulator",
        rooms: &["emulator"],
        crates: &[
            "actix_rt",
            "actix_web",
            "base64",
            "bytes",
            "dashmap",
            "futures_util",
            "hex",
            "httpdate",
            "jiff",
            "serde",
            "serde_json",
            "serde_yaml",
            "sha2",
            "tempfile",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
            "uuid",
        ],
    },
    Room {
        name: "demo",
        rooms: &["domain"],
        crates: &["hex", "serde_json", "sha2"],
    },
    Room {
        name: "bench",
        rooms: &[
            "actors", "adapters", "bench", "decide", "demo", "domain", "meter", "pipeline",
            "ports", "report", "settings",
        ],
        crates: &[
            "actix",
            "anyhow",
            "csv",
            "serde",
            "serde_json",
            "sha2",
            "tempfile",
            "thiserror",
            "tokio",
            "tracing",
        ],
    },
    Room {
        name: "meter",
        rooms: &[],
        crates: &["rustix", "tokio"],
    },
    Room {
        name: "notices",
        rooms: &["domain", "decide", "ports", "actors::state::messages"],
        crates: &["tracing"],
    },
];

/// Files that a stage must not touch, whatever its `use` lines say.
const STAGES_MUST_NOT: &[&str] = &[
    "std::fs",
    "tokio::fs",
    "SystemTime",
    "Instant::now",
    "sea_orm",
    "entity::",
    "reqwest",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("tests.rs") || name.contains("/tests/")
}

/// All files of `src`, sorted. Test modules stand at the end of their file or in files of their own.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut paths = Vec::new();
    walk(&src, &mut paths);
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&src).unwrap().to_str().unwrap();
            let text = fs::read_to_string(path).unwrap();
            let name = name.replace('\\', "/");
            let lines = text.lines().map(str::to_owned);
            let own = lines.take_while(|line| line != "#[cfg(test)]");
            Source {
                lines: if is_test_file(&name) {
                    vec![]
                } else {
                    own.collect()
                },
                lines_in_all: text.lines().count(),
                name,
            }
        })
        .collect()
}

/// A line without its comment. Good enough for code in which no string holds two slashes and a
/// path of ours.
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _comment)| code)
}

/// The paths that the `use` lines of a file name, and every path of ours wherever it stands.
fn used_paths(source: &Source) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for line in &source.lines {
        let line = code(line);
        let uses = line
            .trim_start()
            .trim_start_matches("pub ")
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub(super) ");
        if let Some(path) = uses.strip_prefix("use ") {
            paths.insert(first_names(path));
        }
        for (at, _) in line.match_indices("crate::") {
            if !line[..at].ends_with(|c: char| c == '$' || c == '_' || c.is_alphanumeric()) {
                paths.insert(first_names(&line[at..]));
            }
        }
    }
    paths
}

/// The names at the beginning of a path, up to what is no name.
fn first_names(path: &str) -> String {
    let end = path
        .find(|c: char| !(c == ':' || c == '_' || c.is_alphanumeric()))
        .unwrap_or(path.len());
    path[..end].trim_end_matches(':').to_owned()
}

fn room_of(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| {
        name.strip_prefix(room.name)
            .is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    })
}

fn may_use(room: &Room, path: &str, modules: &BTreeSet<&str>) -> bool {
    let Some(ours) = path.strip_prefix("crate::") else {
        let first = path.split("::").next().unwrap_or(path);
        let own = ["std", "core", "self", "super", "crate"].contains(&first);
        let sibling = first.starts_with(char::is_uppercase) || modules.contains(first);
        return own || sibling || room.crates.contains(&first);
    };
    let own_path = room.name.replace('/', "::");
    let below = |allowed: &str| {
        ours.strip_prefix(allowed)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    below(&own_path) || room.rooms.iter().any(|allowed| below(allowed))
}

/// The breaches of the rooms table in one file.
fn breaches(source: &Source) -> Vec<String> {
    let Some(room) = room_of(&source.name) else {
        return Vec::new();
    };
    let modules: BTreeSet<&str> = source
        .lines
        .iter()
        .filter_map(|line| {
            if let Some(rest) = line.strip_prefix("macro_rules! ") {
                return rest.split_whitespace().next();
            }
            let (_visibility, name) = line.trim_end_matches(';').split_once("mod ")?;
            line.ends_with(';').then_some(name)
        })
        .collect();
    used_paths(source)
        .into_iter()
        .filter(|path| !may_use(room, path, &modules))
        .map(|path| format!("src/{} uses {path}", source.name))
        .collect()
}

fn assert_none(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

#[test]
fn every_room_uses_only_what_it_may() {
    let faults: Vec<String> = sources().iter().flat_map(breaches).collect();
    assert_none("a new arrow between rooms needs a decision", &faults);
}

#[test]
fn a_breach_of_the_rooms_table_is_seen() {
    let check = |name: &str, line: &str| {
        let lines = vec![line.to_owned()];
        let name = name.to_owned();
        let lines_in_all = 1;
        breaches(&Source {
            name,
            lines,
            lines_in_all,
        })
        .len()
    };
    assert_eq!(check("domain/page.rs", "use serde::Serialize;"), 1);
    assert_eq!(check("domain/page.rs", "use super::ids::RecordKey;"), 0);
    assert_eq!(
        check(
            "decide/pack.rs",
            "    let x = crate::wire::request::line();"
        ),
        1
    );
    assert_eq!(check("actors/state/mod.rs", "use crate::decide::pack;"), 1);
    assert_eq!(
        check("actors/state/mod.rs", "use crate::actors::poller;"),
        1
    );
    assert_eq!(
        check("actors/poller.rs", "use crate::actors::state::messages;"),
        0
    );
    assert_eq!(check("actors/poller.rs", "use reqwest::Client;"), 1);
    assert_eq!(check("settings/mod.rs", "use crate::decide::pack;"), 1);
    assert_eq!(
        check("settings/mod.rs", "use crate::decide::cost::Price;"),
        0
    );
    assert_eq!(check("notices.rs", "use crate::actors::poller::Poller;"), 1);
    assert_eq!(
        check("emulator/mod.rs", "pub use crate::domain::ids::BatchId;"),
        1
    );
    assert_eq!(check("cli/run.rs", "use crate::actors::poller;"), 0);
}

#[test]
fn stages_reach_the_world_only_through_ports() {
    let mut faults = Vec::new();
    for source in sources() {
        let is_stage =
            source.name.starts_with("actors/") && !source.name.starts_with("actors/state/");
        let pure = ["domain/", "decide/"]
            .iter()
            .any(|room| source.name.starts_with(room));
        for (number, line) in (1..).zip(&source.lines) {
            let line = code(line);
            let words = STAGES_MUST_NOT.iter().filter(|word| line.contains(**word));
            if is_stage || pure {
                faults.extend(words.map(|word| format!("src/{}:{number} {word}", source.name)));
            }
        }
    }
    assert_none(
        "files, clocks, networks and databases have one owner each",
        &faults,
    );
}

#[test]
fn files_are_short_enough_to_be_read() {
    let faults: Vec<String> = sources()
        .iter()
        .filter(|source| source.lines_in_all > FILE_LINES_MAX)
        .map(|source| format!("src/{}: {} lines", source.name, source.lines_in_all))
        .collect();
    assert_none("split these files", &faults);
}

/// Whether a line begins a function, and how far it is indented.
fn function(line: &str) -> Option<(usize, String)> {
    let trimmed = line.trim_start();
    let mut rest = trimmed;
    for word in [
        "pub(crate) ",
        "pub(super) ",
        "pub ",
        "const ",
        "async ",
        "unsafe ",
    ] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    Some((line.len() - trimmed.len(), first_names(name)))
}

/// The functions of some lines with their sizes. The code is formatted, so that a function ends
/// with the brace that stands below its first letter.
fn functions(lines: &[String]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (begin, line) in lines.iter().enumerate() {
        let Some((indent, name)) = function(line) else {
            continue;
        };
        let ends = |line: &String| {
            let depth = line.len() - line.trim_start().len();
            depth == indent && (line.trim() == "}" || line.ends_with(';') || line.ends_with("{}"))
        };
        let on_one_line = line.ends_with(';') || line.ends_with('}');
        let length = if on_one_line {
            1
        } else {
            let after = lines[begin + 1..].iter().position(ends);
            after.map_or(lines.len() - begin, |after| after + 2)
        };
        found.push((name, length));
    }
    found
}

#[test]
fn functions_are_short_enough_to_be_read() {
    let mut faults = Vec::new();
    for source in sources() {
        for (name, length) in functions(&source.lines) {
            if length > FUNCTION_LINES_MAX {
                faults.push(format!("src/{}: {name} has {length} lines", source.name));
            }
        }
    }
    assert_none("split these functions", &faults);
}

#[test]
fn functions_are_measured_from_their_name_to_their_brace() {
    let text = "impl X {\n    pub fn a(&self) {\n        if b {\n        }\n    }\n\n    async fn long(\n        &self,\n    ) -> Y\n    where\n        Z: A,\n    {\n        x()\n    }\n    fn c();\n}\npub fn d() {}\n";
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let expected = [("a", 4), ("long", 8), ("c", 1), ("d", 1)];
    let expected = expected.map(|(name, length)| (name.to_owned(), length));
    assert_eq!(functions(&lines), expected);
}

#[test]
fn every_error_type_has_a_section_in_the_handbook() {
    let text = fs::read_to_string(root().join("docs/failures.md")).unwrap();
    let sections: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    for error in ErrorType::ALL {
        let has_section = sections
            .iter()
            .any(|title| title.trim_matches('`') == error.as_str());
        assert!(has_section, "docs/failures.md has no section '## {error}'");
    }
}

#[test]
fn nothing_is_left_for_later() {
    // Split, so that this file does not hold the words itself.
    let words = [
        concat!("todo", "!"),
        concat!("unimplemented", "!"),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("for", " now"),
        concat!("#[", "ignore"),
        concat!("dbg", "!("),
    ];
    let mut paths = Vec::new();
    for folder in ["src", "tests", "entity/src", "migration/src", "sqlite"] {
        walk(&root().join(folder), &mut paths);
    }
    let mut faults = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let found = words.iter().filter(|word| line.contains(**word));
            faults.extend(found.map(|word| format!("{}:{number} {word}", path.display())));
        }
    }
    assert_none("finish it, or write an issue", &faults);
}
