//! `pagemill explain`: why a page is not running, in one sentence, and what would make it run.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::screen::{Screen, one_line};
use super::select::known_key;
use super::{Common, exit, shell};
use crate::actors::state::desk_page::{self, PageSheet};
use crate::actors::state::read;
use crate::adapters::system_clock;
use crate::decide::explain::{Explanation, Style};
use crate::domain::ids::RecordKey;
use crate::domain::time::Timestamp;
use crate::report::words;

pub mod facts;
pub mod nearest;

use facts::Look;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill explain 'Alabama:Howard College:1849:14'
  pagemill explain 'dataset/label_to_curricular/Alabama/Howard College/1849/14.json'
  pagemill explain KEY --json | jq -r .reason

It reads the database, the label, the image and the output, opens no socket and
changes nothing.
Exit codes: 0 the page is known, or will be; 1 there is no such page; 2 this is
no key.")]
pub struct ExplainArgs {
    /// The record key, or the path of the page's label, image or output
    #[arg(value_name = "KEY")]
    pub key: String,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// The version of the JSON form.
const JSON_VERSION: u32 = 1;

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &ExplainArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let settings = match common.loaded() {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let connection = read::open_read_only(&settings.state.sqlite_file).await?;
    let look = Look::new(&settings, &connection, system_clock::now());
    let Some(key) = look.named(&args.key).await? else {
        return Ok(exit::USAGE);
    };
    let sheet = desk_page::page(&connection, &key).await?;
    let why = match &sheet {
        Some(sheet) => look.explain(sheet).await?,
        None => look.explain_stranger(&key).await,
    };
    let shown = Shown {
        why: &why,
        sheet: sheet.as_ref(),
        holder: look.holder(&key).await?,
        max_retries: settings.execution.max_retries,
        now: look.at,
    };
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&shown.as_json())?)?;
    } else {
        shown.print(Screen::of_stdout(), out)?;
    }
    let known = sheet.is_some() || why.code() != "not_known";
    if !known {
        look.tell_nearest(key.as_str()).await?;
    }
    connection.close().await?;
    Ok(if known { exit::DONE } else { exit::FAILED })
}

/// The sentence: the page, why it is not running, and what would make it run.
pub fn sentence(why: &Explanation, style: &Style<'_>) -> String {
    let remedy = why.remedy();
    let mut text = format!("{} {}", why.key, why.predicate(style));
    if !remedy.words.is_empty() {
        text = format!("{text}; {}", remedy.words);
    }
    match remedy.command.is_empty() {
        true => format!("{text}."),
        false => format!("{text}: {}", shell::command(&remedy.command)),
    }
}

/// Prints the sentence. On a terminal the command to type has a line of its own, so that it can be
/// copied whole.
pub fn tell(
    why: &Explanation,
    screen: Screen,
    now: Timestamp,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let said = with_style(screen.without_colors(), now, |style| sentence(why, style));
    let said = one_line(&said);
    let command = shell::command(&why.remedy().command);
    let words = said.strip_suffix(&command).filter(|_| screen.is_terminal);
    match words.filter(|_| !command.is_empty()) {
        Some(words) => {
            screen.paragraph(0, words.trim_end(), out)?;
            writeln!(out, "  {command}")
        }
        None => screen.paragraph(0, &said, out),
    }
}

/// Words with instants relative and absolute.
pub fn with_style<T>(screen: Screen, now: Timestamp, tell: impl FnOnce(&Style<'_>) -> T) -> T {
    tell(&Style {
        when: &|at| screen.when(at, now),
        span: &words::span,
        count: &words::count,
        bytes: &words::bytes,
    })
}

struct Shown<'a> {
    why: &'a Explanation,
    sheet: Option<&'a PageSheet>,
    /// The page that really holds it up.
    holder: Option<RecordKey>,
    max_retries: u32,
    now: Timestamp,
}

impl Shown<'_> {
    fn print(&self, screen: Screen, out: &mut impl Write) -> std::io::Result<()> {
        let screen = screen.without_colors();
        tell(self.why, screen, self.now, out)?;
        let Some(sheet) = self.sheet else {
            return Ok(());
        };
        writeln!(out)?;
        let mut line = |name: &str, text: &str| {
            write!(out, "  {name:<12} ")?;
            screen.paragraph(15, &one_line(text), out)
        };
        let since = screen.when(sheet.since, self.now);
        line("stage", &format!("{}, {since}", sheet.stage))?;
        line("status", &sheet.status)?;
        let failures = format!(
            "{} counted, {} retries allowed",
            words::count(sheet.failures),
            words::count(u64::from(self.max_retries))
        );
        line("failures", &failures)?;
        if let Some(batch) = &sheet.batch {
            line("batch", batch.as_str())?;
        }
        if let Some(before) = &sheet.predecessor {
            line("page before", before.as_str())?;
        }
        if let Some(holder) = &self.holder {
            line("held up by", holder.as_str())?;
        }
        let story = shell::command(&["pagemill", "show", sheet.key.as_str()]);
        line("more", &story)
    }

    fn as_json(&self) -> serde_json::Value {
        let remedy = self.why.remedy();
        let said = with_style(Screen::plain(u16::MAX), self.now, |style| {
            sentence(self.why, style)
        });
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
        json!({
            "version": JSON_VERSION,
            "at": self.now.to_string(),
            "key": self.why.key.as_str(),
            "known": self.sheet.is_some(),
            "reason": self.why.code(),
            "left_alone": self.why.left_alone().map(|why| why.to_string()),
            "sentence": said,
            "remedy": remedy.words,
            "command": remedy.command,
            "is_running": self.why.running,
            "page": self.sheet.map(|sheet| json!({
                "stage": sheet.stage.as_str(),
                "since": sheet.since.to_string(),
                "moved_by": sheet.moved_by,
                "status": sheet.status,
                "priority": sheet.priority,
                "failures": sheet.failures,
                "max_retries": self.max_retries,
                "releases": sheet.releases,
                "upload_cycles": sheet.upload_cycles,
                "batch_id": sheet.batch.as_ref().map(|batch| batch.as_str()),
                "predecessor": sheet.predecessor.as_ref().map(RecordKey::as_str),
                "waits_for": sheet.waits_for.as_ref().map(RecordKey::as_str),
                "held_up_by": self.holder.as_ref().map(RecordKey::as_str),
                "not_before": text(sheet.not_before),
                "error": sheet.error.map(|error| error.as_str()),
            })),
        })
    }
}

impl Look<'_> {
    /// The key that was meant: as it was given, or the one of a file of the page. `None` when it is
    /// neither, which stderr says.
    pub async fn named(&self, given: &str) -> anyhow::Result<Option<RecordKey>> {
        let fault = match known_key(&self.settings.paths.layout, given) {
            Ok(key) => return Ok(Some(key)),
            Err(fault) => fault,
        };
        if let Some(key) = nearest::key_of_path(&self.settings.paths, given) {
            return Ok(Some(key));
        }
        eprintln!("{fault}");
        self.tell_nearest(given).await?;
        Ok(None)
    }

    /// Names known pages whose keys are like this one, on stderr.
    pub async fn tell_nearest(&self, given: &str) -> anyhow::Result<()> {
        let near = nearest::keys(self.connection, &self.settings.paths.layout, given).await?;
        if near.is_empty() {
            return Ok(());
        }
        let near: Vec<String> = near.iter().map(|key| shell::command(&[key])).collect();
        eprintln!("known pages nearest to it: {}", near.join(", "));
        Ok(())
    }
}
