//! `pagemill man`: the manual pages, made from what `--help` says.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use super::backup::shown;
use super::{Cli, cwd};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill man | man -l -                            read it
  pagemill man --dir ~/.local/share/man/man1         one page for each command
  man pagemill-run")]
pub struct ManArgs {
    /// Write the pages of all commands into this folder; made if it is absent
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Runs the command; gives the exit code.
pub fn run(args: &ManArgs, out: &mut impl Write) -> io::Result<u8> {
    let pages = pages();
    match &args.dir {
        None => {
            if let Some((_name, text)) = pages.first() {
                out.write_all(text)?;
            }
        }
        Some(folder) => {
            let folder = cwd().join(folder);
            if let Err(fault) = write_all(&folder, &pages) {
                eprintln!("{} cannot be written: {fault}", shown(&folder));
                return Ok(super::exit::FAILED);
            }
            let count = pages.len();
            writeln!(out, "wrote {count} pages into {}", shown(&folder))?;
        }
    }
    Ok(super::exit::DONE)
}

fn write_all(folder: &Path, pages: &[(String, Vec<u8>)]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, text) in pages {
        fs::write(folder.join(format!("{name}.1")), text)?;
    }
    Ok(())
}

/// Every page with its name, that of the program first.
pub fn pages() -> Vec<(String, Vec<u8>)> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add(&program, "pagemill".to_owned(), &mut pages);
    pages
}

fn add(command: &Command, name: String, pages: &mut Vec<(String, Vec<u8>)>) {
    let mut text = Vec::new();
    // Clap wants names that live as long as the program; these few do.
    let title: &'static str = name.clone().leak();
    let examples = command.get_after_help().map(ToString::to_string);
    let page = command.clone().name(title).after_help(None::<&str>);
    Man::new(page)
        .section("1")
        .render(&mut text)
        .expect("memory takes everything");
    text.extend(after(&examples.unwrap_or_default()).into_bytes());
    pages.push((name.clone(), text));
    for below in command.get_subcommands() {
        if !below.is_hide_set() && below.get_name() != "help" {
            add(below, format!("{name}-{}", below.get_name()), pages);
        }
    }
}

/// What stands after the options: the examples, line by line as they are, and the rest as text.
fn after(help: &str) -> String {
    let mut page = String::new();
    let (examples, notes) = help.split_once("\n\n").unwrap_or((help, ""));
    if let Some(examples) = examples.strip_prefix("Examples:\n") {
        page.push_str(".SH EXAMPLES\n.nf\n");
        for line in examples.lines() {
            page.push_str(&escaped(line.strip_prefix("  ").unwrap_or(line)));
            page.push('\n');
        }
        page.push_str(".fi\n");
    }
    if !notes.is_empty() {
        page.push_str(".SH NOTES\n");
        for line in notes.lines() {
            let line = if line.is_empty() {
                ".PP".to_owned()
            } else {
                escaped(line.trim_start())
            };
            page.push_str(&line);
            page.push('\n');
        }
    }
    page
}

/// A line of text for a manual page.
fn escaped(line: &str) -> String {
    let plain = line
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq");
    if plain.starts_with('.') {
        format!("\\&{plain}")
    } else {
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_title_and_examples() {
        let pages = pages();
        assert_eq!(pages[0].0, "pagemill");
        for command in Cli::command().get_subcommands() {
            let name = format!("pagemill-{}", command.get_name());
            let found = pages.iter().find(|(page, _text)| *page == name);
            let text = String::from_utf8(found.expect(&name).1.clone()).unwrap();
            let title = name.replace('-', "\\-");
            assert!(text.contains(".TH "), "{text}");
            assert!(text.contains(&title) || text.contains(&name), "{text}");
            assert!(
                text.contains(".SH EXAMPLES\n.nf\npagemill ") || text.contains("PAGEMILL"),
                "{name}: {text}"
            );
        }
        assert!(
            pages
                .iter()
                .any(|(name, _)| name == "pagemill-config-check")
        );
    }
}
