//! What the documents name exists: commands and flags, files and anchors, tests.
//!
//! A command line is believed when the program's own parser takes it; nothing is run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::str::Chars;

use clap::{CommandFactory, Parser};
use pagemill::cli::Cli;

/// The languages of blocks in which every line is typed, and of those in which `$ ` says which ones are.
const SCRIPTS: [&str; 2] = ["sh", "crontab"];
const SESSIONS: [&str; 2] = ["text", "console"];
/// What crontab writes before a command.
const CRON_FIELDS: usize = 5;

/// A line of a document, with the language of the block that it is in.
struct Line<'a> {
    number: usize,
    block: Option<&'a str>,
    text: &'a str,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every document by its path, with its text.
fn documents() -> BTreeMap<String, String> {
    let mut paths = ["README", "CHANGELOG", "ARCHITECTURE", "CONTRIBUTING"]
        .map(|name| format!("{name}.md"))
        .to_vec();
    for folder in ["docs", "docs/decisions"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                paths.push(format!("{folder}/{name}"));
            }
        }
    }
    let texts = paths.into_iter().map(|path| {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        (path, text)
    });
    texts.collect()
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut block = None;
    let mut lines = Vec::new();
    for (at, text) in text.lines().enumerate() {
        if let Some(language) = text.trim_start().strip_prefix("```") {
            block = match block {
                None => Some(language.trim()),
                Some(_open) => None,
            };
            continue;
        }
        let number = at + 1;
        lines.push(Line {
            number,
            block,
            text,
        });
    }
    lines
}

/// What is typed in a line of a block, if anything is.
fn typed<'a>(line: &Line<'a>) -> Option<&'a str> {
    let block = line.block?;
    let text = line.text;
    if block == "crontab" {
        let mut rest = text;
        for _field in 0..CRON_FIELDS {
            rest = rest.split_once(char::is_whitespace)?.1.trim_start();
        }
        return Some(rest);
    }
    let text = match text.strip_prefix("$ ") {
        Some(typed) => typed,
        None if SCRIPTS.contains(&block) => text,
        None if SESSIONS.contains(&block) && text.starts_with("pagemill ") => text,
        None => return None,
    };
    // The handbook's exit code at the end of a line.
    let code = text.rsplit_once("  [").filter(|(_, code)| {
        code.strip_suffix(']')
            .is_some_and(|code| code.parse::<u8>().is_ok())
    });
    Some(code.map_or(text, |(typed, _)| typed).trim_end())
}

/// A piece of a shell line.
#[derive(Debug, PartialEq)]
enum Piece {
    Word(String),
    /// `|`, `&&`, `;`: another command follows.
    Next,
    /// `>`, `<`: a file follows.
    Redirection,
}

fn piece(letters: &mut Peekable<Chars<'_>>) -> Option<Piece> {
    while letters.next_if_eq(&' ').is_some() {}
    let first = *letters.peek()?;
    if first == '#' {
        return None;
    }
    for (signs, piece) in [("|&;", Piece::Next), ("<>", Piece::Redirection)] {
        if signs.contains(first) {
            while letters.next_if(|next| "|&;<>".contains(*next)).is_some() {}
            return Some(piece);
        }
    }
    let mut word = String::new();
    while let Some(letter) = letters.next_if(|next| !" |&;<>".contains(*next)) {
        match letter {
            '\'' | '"' => word.extend(letters.by_ref().take_while(|next| *next != letter)),
            letter => word.push(letter),
        }
    }
    // A number before a redirection is no word: `2>&1`.
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && letters.peek().is_some_and(|next| "<>".contains(*next)) {
        return piece(letters);
    }
    Some(Piece::Word(word))
}

/// The words of each command of ours in a shell line, the program's name first.
fn our_commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut letters = line.chars().peekable();
    let mut is_file = false;
    while let Some(piece) = piece(&mut letters) {
        match piece {
            Piece::Next => commands.push(Vec::new()),
            Piece::Redirection => is_file = true,
            Piece::Word(_file) if is_file => is_file = false,
            Piece::Word(word) => commands.last_mut().unwrap().push(word),
        }
    }
    let ours = commands.into_iter().filter_map(|words| {
        let is_variable = |word: &String| word.contains('=') && !word.starts_with('-');
        let mut words: Vec<String> = words.into_iter().skip_while(is_variable).collect();
        words.retain(|word| !["...", "…"].contains(&word.as_str()));
        let name = words.first_mut()?;
        let is_ours = name == "pagemill" || name.ends_with("/pagemill");
        *name = "pagemill".to_owned();
        is_ours.then_some(words)
    });
    ours.collect()
}

/// Why the program would not take a command line, if it would not.
fn refusal(words: &[String]) -> Option<String> {
    let error = Cli::try_parse_from(words).err()?;
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default().to_owned();
    error.use_stderr().then_some(first)
}

/// The code spans of a text, blocks left out.
fn spans(text: &str) -> Vec<String> {
    let prose: Vec<&str> = lines(text)
        .iter()
        .filter(|line| line.block.is_none())
        .map(|line| line.text.trim())
        .collect();
    let mut spans = Vec::new();
    for paragraph in prose.join("\n").split("\n\n") {
        let paragraph = paragraph.replace('\n', " ").replace("\\|", "|");
        let parts = paragraph.split('`').enumerate();
        spans.extend(
            parts
                .filter(|(at, _)| at % 2 == 1)
                .map(|(_, span)| span.to_owned()),
        );
    }
    spans
}

/// What a command that is named in a sentence, perhaps in part, has that does not exist.
fn unknown_in(span: &str, program: &clap::Command) -> Option<String> {
    let mut command = program;
    let mut is_path = true;
    for word in span.split_whitespace().skip(1) {
        let word = word.trim_matches(|sign| "[],".contains(sign));
        if let Some(flag) = word.strip_prefix("--") {
            let name = flag.split('=').next().unwrap_or_default();
            let is_known = command
                .get_arguments()
                .any(|known| known.get_long() == Some(name));
            if !is_known && name != "help" && name != "version" {
                return Some(format!("{} has no --{name}", command.get_name()));
            }
            is_path = false;
        } else if is_path && command.has_subcommands() {
            let Some(below) = command.find_subcommand(word) else {
                let is_place = word.chars().all(|letter| !letter.is_lowercase());
                return (!is_place).then(|| format!("there is no '{word}'"));
            };
            command = below;
        } else {
            is_path = false;
        }
    }
    None
}

/// The anchors of a document, as the usual renderers make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in lines(text) {
        let level = line.text.bytes().take_while(|byte| *byte == b'#').count();
        if line.block.is_some() || level == 0 || !line.text[level..].starts_with(' ') {
            continue;
        }
        let kept = line.text[level + 1..]
            .chars()
            .filter_map(|letter| match letter {
                ' ' => Some('-'),
                letter if letter.is_alphanumeric() || "-_".contains(letter) => Some(letter),
                _ => None,
            });
        let anchor = kept.collect::<String>().to_lowercase();
        let is_new = anchors.insert(anchor.clone());
        assert!(is_new, "the heading '{anchor}' is there twice");
    }
    anchors
}

/// The targets of the links in a line.
fn targets(line: &str) -> Vec<&str> {
    let after = line.split("](").skip(1);
    after.filter_map(|rest| rest.split(')').next()).collect()
}

fn assert_none(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n{}", faults.join("\n"));
}

#[test]
fn every_command_that_is_typed_in_a_document_is_understood() {
    let mut faults = Vec::new();
    let mut understood = 0;
    for (path, text) in documents() {
        for line in lines(&text) {
            let Some(typed) = typed(&line) else { continue };
            for words in our_commands(typed) {
                understood += 1;
                if let Some(reason) = refusal(&words) {
                    faults.push(format!("{path}:{}: {typed}: {reason}", line.number));
                }
            }
        }
    }
    assert_none("these commands cannot be typed", &faults);
    assert!(understood > 100, "only {understood} were found");
}

#[test]
fn every_command_and_flag_that_a_sentence_names_exists() {
    let mut program = Cli::command();
    program.build();
    let mut faults = Vec::new();
    for (path, text) in documents() {
        let ours = spans(&text);
        for span in ours.iter().filter(|span| span.starts_with("pagemill ")) {
            if let Some(what) = unknown_in(span, &program) {
                faults.push(format!("{path}: `{span}`: {what}"));
            }
        }
    }
    assert_none("these do not exist", &faults);
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let documents = documents();
    let mut faults = Vec::new();
    for (path, text) in &documents {
        let folder = Path::new(path).parent().unwrap();
        for line in lines(text).iter().filter(|line| line.block.is_none()) {
            for target in targets(line.text) {
                if target.contains("://") {
                    continue;
                }
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let place = match file {
                    "" => root().join(path),
                    file => root().join(folder).join(file),
                };
                let is_there = place.exists();
                let has_anchor = is_there
                    && (anchor.is_empty()
                        || anchors(&fs::read_to_string(&place).unwrap()).contains(anchor));
                if !has_anchor {
                    faults.push(format!("{path}:{}: {target}", line.number));
                }
            }
        }
    }
    assert_none("these links lead nowhere", &faults);
}

#[test]
fn every_section_of_the_handbook_is_in_its_table_of_contents() {
    let text = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let (contents, sections) = text.split_once("\n## ").unwrap();
    let listed: BTreeSet<&str> = targets(contents).into_iter().collect();
    let headings = format!("## {sections}");
    let headings = lines(&headings);
    let headings = headings
        .iter()
        .filter(|line| line.block.is_none() && line.text.starts_with("## "));
    for heading in headings {
        let anchor = format!("#{}", anchors(heading.text).pop_first().unwrap());
        assert!(listed.contains(anchor.as_str()), "{anchor}");
    }
}

#[test]
fn every_step_of_the_playbook_is_a_command_and_has_a_test() {
    let mut tests = BTreeSet::new();
    for entry in fs::read_dir(root().join("tests/program")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        let names = text.lines().filter_map(|line| line.strip_prefix("fn "));
        tests.extend(names.filter_map(|line| Some(line.split_once('(')?.0.to_owned())));
    }
    let text = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let table = text.split_once("\n## The original playbook\n").unwrap().1;
    let mut steps = 0;
    let mut faults = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [_step, today, test] = cells[..] else {
            panic!("three cells: {row}");
        };
        steps += 1;
        for span in spans(today) {
            faults.extend(
                our_commands(&span)
                    .iter()
                    .filter_map(|words| refusal(words)),
            );
        }
        for name in spans(test) {
            if !tests.contains(&name) {
                faults.push(format!("there is no test {name}"));
            }
        }
    }
    assert_none("these are not there", &faults);
    assert!(steps > 20, "{steps}");
}

#[test]
fn the_architecture_names_every_rule_every_port_and_every_message() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named: BTreeSet<String> = spans(&text).into_iter().collect();
    let mut wanted = BTreeSet::new();
    for room in ["domain", "decide", "ports"] {
        for entry in fs::read_dir(root().join("src").join(room)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".rs") && name != "mod.rs" {
                wanted.insert(name);
            }
        }
    }
    let messages = root().join("src/actors/state/messages");
    let parts = fs::read_dir(&messages).unwrap();
    let mut files: Vec<PathBuf> = parts.map(|entry| entry.unwrap().path()).collect();
    files.push(messages.with_extension("rs"));
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let blocks = text.split("\nmessages! {\n").skip(1);
        let blocks = blocks.filter_map(|block| block.split("\n}").next());
        let lines = blocks
            .flat_map(str::lines)
            .filter_map(|line| line.strip_prefix("    "));
        let names = lines.filter_map(|line| Some(line.split_once(" {")?.0));
        let names = names.filter(|name| name.starts_with(char::is_uppercase));
        wanted.extend(names.map(str::to_owned));
    }
    let missing: Vec<String> = wanted.difference(&named).cloned().collect();
    assert_none("these are not named", &missing);
    assert!(wanted.contains("CarryOut"), "{wanted:?}");
}

#[test]
fn a_command_that_does_not_exist_is_seen() {
    let program = {
        let mut program = Cli::command();
        program.build();
        program
    };
    let commands = |line: &str| {
        let line = Line {
            number: 1,
            block: Some("text"),
            text: line,
        };
        our_commands(typed(&line).unwrap_or_default())
    };
    let words = |line: &str| commands(line).pop().unwrap();
    let good = "$ A=1 pagemill show 'a:b c:1' --raw | jq . >out 2>&1  # why   [75]";
    assert_eq!(words(good), ["pagemill", "show", "a:b c:1", "--raw"]);
    assert_eq!(words("$ cd x && pagemill run --once      [75]").len(), 3);
    assert_eq!(commands("prints pagemill run").len(), 0);
    assert_eq!(refusal(&words(good)), None);
    assert!(refusal(&words("$ pagemill dead list")).is_some());
    assert!(refusal(&words("$ pagemill run --fast")).is_some());
    assert_eq!(unknown_in("pagemill verify [--fix]", &program), None);
    assert_eq!(unknown_in("pagemill batches forget ID", &program), None);
    assert!(unknown_in("pagemill batches drop", &program).is_some());
    assert!(unknown_in("pagemill run --fast", &program).is_some());
    let headings = anchors("# A `b`: C, d\n## X_y 2\n```sh\n# no\n```\n");
    assert!(headings.into_iter().eq(["a-b-c-d", "x_y-2"]));
}
