//! Wrong use gets an answer that says what to type instead.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::{Cli, Command};
use crate::settings;

/// Words that people type for a command of ours: those of other programs, and of scripts that did
/// such work before.
const WORDS: &[(&str, &str)] = &[
    ("clear_failure_counts", "clear-failures"),
    ("clear_failures", "clear-failures"),
    ("analyze_failures", "failures"),
    ("analyse_failures", "failures"),
    ("errors", "failures"),
    ("dead", "failures"),
    ("nuke_database", "nuke"),
    ("reset", "nuke"),
    ("stats", "status"),
    ("ps", "status"),
    ("alarms", "alerts"),
    ("notify", "alerts"),
    ("webhook", "alerts"),
    ("healthcheck", "health"),
    ("ping", "health"),
    ("info", "status"),
    ("batch", "batches"),
    ("jobs", "batches"),
    ("retry", "redo"),
    ("rerun", "redo"),
    ("requeue", "redo"),
    ("start", "run"),
    ("submit", "run"),
    ("poll", "run"),
    ("collect", "run"),
    ("process", "run"),
    ("continue", "resume"),
    ("unhalt", "resume"),
    ("stop", "pause"),
    ("check", "doctor"),
    ("validate", "verify"),
    ("audit", "verify"),
    ("fsck", "verify"),
    ("repair", "verify"),
    ("sync", "reconcile"),
    ("snapshot", "backup"),
    ("dump", "backup"),
    ("rollback", "restore"),
    ("why", "explain"),
    ("inspect", "show"),
    ("history", "show"),
    ("comment", "note"),
    ("settings", "config"),
    ("new", "init"),
    ("setup", "init"),
    ("mock", "emulator"),
    ("benchmark", "bench"),
    ("tune", "bench"),
    ("perf", "bench"),
    ("completion", "completions"),
    ("manual", "man"),
    ("state", "backup"),
];

/// What to say beside what clap says, a line each.
pub fn hints(kind: ErrorKind, typed: &[String]) -> Vec<String> {
    match kind {
        ErrorKind::InvalidSubcommand => {
            let word = first_word(typed);
            let named = word.and_then(meant);
            match named {
                Some(line) => vec![String::new(), line],
                None => Vec::new(),
            }
        }
        ErrorKind::MissingRequiredArgument | ErrorKind::UnknownArgument => {
            let command = Cli::command();
            let known = first_word(typed).filter(|word| command.find_subcommand(word).is_some());
            match known {
                Some(word) => vec![format!("Its examples: pagemill {word} --help")],
                None => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

/// What to say when a command failed where there is no configuration file, for then its folder may
/// be the wrong one.
pub fn without_configuration(cli: &Cli) -> Option<String> {
    let needs_none = matches!(
        cli.command,
        Command::Demo(_)
            | Command::Emulator(_)
            | Command::Bench(_)
            | Command::Init(_)
            | Command::Completions(_)
            | Command::Man(_)
    );
    let (file, is_named) = settings::config_file(&cli.common.sources(Vec::new()));
    // One that was named and is not there is told as a fault already.
    if needs_none || is_named || file.exists() {
        return None;
    }
    Some(format!(
        "there is no {}, so every setting has its default: pagemill init writes one, --config FILE \
         names one elsewhere",
        file.display()
    ))
}

/// The first word that is no option.
fn first_word(typed: &[String]) -> Option<&str> {
    let with_value = ["--config", "--log-format", "--log-level"];
    let mut words = typed.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if with_value.contains(&word) {
            words.next();
        } else if !word.starts_with('-') {
            return Some(word);
        }
    }
    None
}

/// The command that a word stands for, if there is one of that name.
fn meant(word: &str) -> Option<String> {
    let plain = word.rsplit('/').next().unwrap_or(word);
    let plain = plain.strip_suffix(".py").unwrap_or(plain);
    let plain = plain.to_lowercase().replace('-', "_");
    let (_word, name) = WORDS.iter().find(|(word, _name)| *word == plain)?;
    let program = Cli::command();
    let command = program.find_subcommand(name)?;
    let about = command.get_about().map(ToString::to_string);
    let about = about.unwrap_or_default();
    Some(format!("Perhaps: pagemill {name}\n  {about}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// The longest line of a help text.
    const COLUMNS_MAX: usize = 100;

    fn typed(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    fn walk(
        command: &mut clap::Command,
        name: &str,
        visit: &mut dyn FnMut(&mut clap::Command, &str),
    ) {
        visit(command, name);
        let names: Vec<String> = command
            .get_subcommands()
            .map(|below| below.get_name().to_owned())
            .filter(|below| below != "help")
            .collect();
        for below in names {
            let name = format!("{name} {below}");
            walk(command.find_subcommand_mut(&below).unwrap(), &name, visit);
        }
    }

    #[test]
    fn s1_39_every_command_says_what_it_does_with_examples_that_fit() {
        let mut faults = Vec::new();
        let mut program = Cli::command();
        program.build();
        walk(&mut program, "pagemill", &mut |command, name| {
            if command.get_about().is_none() {
                faults.push(format!("{name}: says nothing about itself"));
            }
            let examples = command.get_after_help().map(ToString::to_string);
            let examples = examples.unwrap_or_default();
            if !examples.starts_with("Examples:\n  ") || !examples.contains("pagemill") {
                faults.push(format!("{name}: has no examples"));
            }
            let help = command.render_long_help().to_string();
            for line in help
                .lines()
                .filter(|line| line.chars().count() > COLUMNS_MAX)
            {
                faults.push(format!("{name}: {line}"));
            }
            for argument in command.get_arguments() {
                if argument.get_help().is_none() {
                    faults.push(format!(
                        "{name}: nothing is said about {}",
                        argument.get_id()
                    ));
                }
            }
        });
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }

    #[test]
    fn examples_can_be_typed() {
        let mut faults = Vec::new();
        let mut program = Cli::command();
        program.build();
        let mut lines = Vec::new();
        walk(&mut program, "pagemill", &mut |command, _name| {
            let examples = command.get_after_help().map(ToString::to_string);
            let examples = examples.unwrap_or_default();
            let examples = examples.lines().skip(1).take_while(|line| !line.is_empty());
            lines.extend(examples.map(str::to_owned));
        });
        for line in lines {
            let Some(line) = line.trim_start().strip_prefix("pagemill ") else {
                continue;
            };
            let ends = [line.find("  "), line.find([';', '|', '>'])];
            let end = ends.into_iter().flatten().min().unwrap_or(line.len());
            let line = line[..end].trim_end();
            // Words in quotes hold blanks; the parser does not mind which ones.
            let mut words = vec!["pagemill".to_owned()];
            for (place, part) in line.split('\'').enumerate() {
                if place % 2 == 1 {
                    let last = words.last_mut().unwrap();
                    last.push_str(part);
                } else {
                    let parts = part.split(' ').filter(|word| !word.is_empty());
                    words.extend(parts.map(str::to_owned));
                    if part.ends_with(' ') {
                        words.push(String::new());
                    }
                }
            }
            words.retain(|word| !word.is_empty());
            if let Err(error) = Cli::try_parse_from(&words)
                && error.use_stderr()
            {
                faults.push(format!("{line}: {error}"));
            }
        }
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }

    #[test]
    fn s3_40_words_of_other_tools_lead_to_ours() {
        let hint = |line: &str| hints(ErrorKind::InvalidSubcommand, &typed(line)).join("");
        assert!(hint("analyze_failures --summary").contains("pagemill failures"));
        assert!(hint("scripts/analyze_failures.py").contains("pagemill failures"));
        assert!(hint("--config x.yaml nuke_database --dry-run").contains("pagemill nuke"));
        assert!(hint("dead list").contains("pagemill failures"));
        assert!(hint("stats").contains("pagemill status"));
        assert_eq!(hint("frobnicate"), "");
        let unknown = |line: &str| hints(ErrorKind::UnknownArgument, &typed(line)).join("");
        assert_eq!(unknown("run --limt 3"), "Its examples: pagemill run --help");
        assert_eq!(unknown("--limt 3"), "");
    }

    #[test]
    fn no_word_that_leads_elsewhere_is_a_command_itself() {
        let program = Cli::command();
        for (word, _name) in WORDS {
            let itself = program.find_subcommand(word).map(clap::Command::get_name);
            assert!(itself.is_none() || itself == Some("batches"), "{word}");
        }
    }
}
