//! `pagemill show`: the whole story of one page, and what was sent and answered, word for word.

use std::io::Write;

use clap::Args;

use super::explain::facts::Look;
use super::screen::Screen;
use super::{Common, exit, replay, shell};
use crate::actors::state::desk_page::{self, PageSheet};
use crate::actors::state::read;
use crate::adapters::system_clock;
use crate::domain::ids::RecordKey;

mod answers;
mod files;
mod json;
mod print;
mod request;
mod story;
mod timeline;

pub use answers::raw_text;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  pagemill show 'Alabama:Howard College:1849:14'   the whole story
  pagemill show KEY --request | jq .               what is asked about it, as it is sent
  pagemill show KEY --request --attempt 1          what the first attempt asked
  pagemill show KEY --raw                          the answers as the provider sent them
  pagemill show KEY --output                       its accepted output
  pagemill show KEY --validate                     its stored answers, held to today's schema

It needs no API key, opens no socket and changes nothing.
Exit codes: 0 shown; 1 there is no such page, or not what was asked for of it;
2 this is no key.")]
pub struct ShowArgs {
    /// The record key, or the path of the page's label, image or output
    #[arg(value_name = "KEY")]
    pub key: String,
    /// Print the request line that was sent, or would be sent next; nothing else goes to stdout
    #[arg(long, group = "part")]
    pub request: bool,
    /// Print the raw result lines, as the provider sent them
    #[arg(long, group = "part", conflicts_with = "json")]
    pub raw: bool,
    /// Print the accepted output
    #[arg(long, group = "part", conflicts_with_all = ["json", "attempt"])]
    pub output: bool,
    /// Judge the stored answers once more, by today's schema
    #[arg(long, group = "part")]
    pub validate: bool,
    /// Only this attempt, by its number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
    /// How many of the newest events are shown
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub events: u32,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// The version of the JSON form.
const JSON_VERSION: u32 = 1;

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &ShowArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let settings = match common.loaded() {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let connection = read::open_read_only(&settings.state.sqlite_file).await?;
    let look = Look::new(&settings, &connection, system_clock::now());
    let Some(key) = look.named(&args.key).await? else {
        return Ok(exit::USAGE);
    };
    let Some(sheet) = desk_page::page(&connection, &key).await? else {
        tell_stranger(&look, &key).await?;
        return Ok(exit::FAILED);
    };
    let code = of_page(&look, sheet, args, out).await?;
    connection.close().await?;
    Ok(code)
}

async fn of_page(
    look: &Look<'_>,
    sheet: PageSheet,
    args: &ShowArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    if args.output {
        return answers::output(look, &sheet, out).await;
    }
    let story = story::gather(look, sheet, args).await?;
    if let Some(wanted) = args.attempt
        && story.attempts.is_empty()
    {
        eprintln!("{} has no attempt {wanted}", story.sheet.key);
        return Ok(exit::FAILED);
    }
    if args.request {
        return request::run(look, &story, args, out).await;
    }
    if args.raw {
        return answers::raw(look, &story, out).await;
    }
    if args.validate {
        return replay::of_page(look, &story.sheet, &story.attempts, args.json, out).await;
    }
    if args.json {
        let shown = json::story(look, &story).await;
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
    } else {
        print::story(look, &story, Screen::of_stdout(), out)?;
    }
    Ok(exit::DONE)
}

/// Says what is known of a key that the state does not know.
async fn tell_stranger(look: &Look<'_>, key: &RecordKey) -> anyhow::Result<()> {
    let why = look.explain_stranger(key).await;
    let said = super::explain::with_style(Screen::plain(u16::MAX), look.at, |style| {
        super::explain::sentence(&why, style)
    });
    eprintln!("{said}");
    look.tell_nearest(key.as_str()).await
}

/// The command that shows a part of a page.
fn command(key: &RecordKey, flags: &[&str]) -> String {
    let words = ["pagemill", "show", key.as_str()];
    let words: Vec<&str> = words.iter().chain(flags).copied().collect();
    shell::command(&words)
}
