//! `pagemill replay`: stored answers judged once more, by today's schema and rules. Nothing is sent,
//! and nothing is changed.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::explain::facts::Look;
use super::screen::{Columns, Screen, Side, more};
use super::select::SelectArgs;
use super::{Common, exit, show};
use crate::actors::result_processor::JudgeRules;
use crate::actors::result_processor::judge::{self, Judged, Judgement};
use crate::actors::state::desk_page::PageSheet;
use crate::actors::state::desk_story::{self, AttemptLine, Stored};
use crate::actors::state::read;
use crate::adapters::system_clock;
use crate::domain::ids::RecordKey;
use crate::pipeline::from_settings;
use crate::ports::result_sink::RawText;
use crate::prompt::Validator;
use crate::report::words;

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "\
Examples:
  pagemill replay                      how many rejected answers would pass today
  pagemill replay --states Ohio        those of one state
  pagemill replay --accepted           which accepted answers today's schema would refuse
  pagemill replay --json | jq .would

It judges the newest rejected answer of each page that is not done, from the
raw results on disk, by the schema and the rules of the configuration as it is
now. It opens no socket and changes nothing.
Exit codes: 0 judged; 1 an answer could not be read; 2 usage; 78 configuration.")]
pub struct ReplayArgs {
    #[command(flatten)]
    pub which: SelectArgs,
    /// Judge the accepted answers of done pages instead
    #[arg(long)]
    pub accepted: bool,
    /// The most answers that are judged
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub limit: u64,
    /// How many answers that would be judged otherwise are named
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub show: u64,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// The version of the JSON form.
const JSON_VERSION: u32 = 1;
/// Pages whose answers are judged in one go.
const PAGES_TOGETHER: u64 = 200;

/// What an answer was, and what it would be now.
struct Verdict {
    key: RecordKey,
    attempt: u32,
    was: String,
    /// `accepted`, an error type, or `released`.
    now: String,
    why: String,
}

/// What answers are judged by today.
struct Judge {
    schema: Arc<Validator>,
    rules: JudgeRules,
}

/// What was judged so far.
#[derive(Default)]
struct Judgements {
    judged: u64,
    /// Answers that cannot be read from disk.
    unread: Vec<(RecordKey, String)>,
    /// By what they would be now.
    would: BTreeMap<String, u64>,
    /// Those that would be judged otherwise: the first ones, and how many there are.
    otherwise: Vec<Verdict>,
    otherwise_total: u64,
    is_limited: bool,
}

impl Judge {
    fn new(look: &Look<'_>) -> Result<Self, crate::prompt::PromptError> {
        Ok(Judge {
            schema: Arc::clone(&from_settings::recipe(look.settings)?.validator),
            rules: from_settings::judge_rules(look.settings),
        })
    }

    /// Judges the answers of some attempts, in order.
    async fn attempts(
        &self,
        look: &Look<'_>,
        attempts: &[AttemptLine],
    ) -> Vec<Result<Verdict, String>> {
        let mut lines: Vec<RawText> = Vec::new();
        let mut places = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            places.push(show::raw_text(look, attempt).await.map(|line| {
                lines.push(RawText {
                    // The place among these lines: offsets of several files may be equal.
                    offset: lines.len() as u64,
                    ..line
                });
            }));
        }
        let (schema, rules) = (Arc::clone(&self.schema), self.rules.clone());
        let judged = judge::judge_lines(lines, schema, rules).await;
        let mut judged: BTreeMap<u64, Judged> = judged
            .into_iter()
            .map(|judged| (judged.line.offset, judged))
            .collect();
        let mut at = 0;
        let attempts = attempts.iter().zip(places);
        attempts
            .map(|(attempt, place)| {
                place?;
                at += 1;
                let judged = judged.remove(&(at - 1));
                let judged = judged.filter(|judged| judged.key == attempt.key);
                let judged = judged.ok_or("the stored line is not about this page")?;
                Ok(verdict(attempt, judged.judgement))
            })
            .collect()
    }
}

fn verdict(attempt: &AttemptLine, judgement: Judgement) -> Verdict {
    let (now, why) = match judgement {
        Judgement::Accepted { .. } => ("accepted".to_owned(), String::new()),
        Judgement::Rejected(failure) => (failure.error.to_string(), failure.chain),
        Judgement::Released { cause, .. } => ("released".to_owned(), cause),
    };
    Verdict {
        key: attempt.key.clone(),
        attempt: attempt.number,
        was: match attempt.error {
            Some(error) => error.to_string(),
            None => attempt.outcome.clone(),
        },
        now,
        why,
    }
}

impl Verdict {
    fn as_json(&self) -> Value {
        json!({
            "key": self.key.as_str(),
            "attempt": self.attempt,
            "was": self.was,
            "would_be": self.now,
            "why": self.why.lines().collect::<Vec<_>>(),
        })
    }
}

/// Runs the command; gives the exit code.
pub async fn run(common: &Common, args: &ReplayArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let settings = match common.loaded() {
        Ok(loaded) => loaded.settings,
        Err(code) => return Ok(code),
    };
    let selection = match args.which.selection(&settings.paths.layout) {
        Ok(selection) => selection,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::USAGE);
        }
    };
    let connection = read::open_read_only(&settings.state.sqlite_file).await?;
    let look = Look::new(&settings, &connection, system_clock::now());
    let judge = match Judge::new(&look) {
        Ok(judge) => judge,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::CONFIGURATION);
        }
    };
    let which = match args.accepted {
        true => Stored::Accepted,
        false => Stored::Rejected,
    };
    let mut judgements = Judgements::default();
    let mut after = String::new();
    loop {
        let left = args.limit - judgements.judged;
        let together = left.min(PAGES_TOGETHER);
        let keys =
            desk_story::pages_with_answers(&connection, &selection, which, &after, together.max(1))
                .await?;
        let Some(last) = keys.last() else { break };
        if left == 0 {
            judgements.is_limited = true;
            break;
        }
        after = last.to_string();
        let attempts = desk_story::answers(&connection, &keys, which).await?;
        let judged = judge.attempts(&look, &attempts).await;
        for (attempt, judged) in attempts.iter().zip(judged) {
            judgements.add(attempt, judged, args.show);
        }
    }
    connection.close().await?;
    judgements.tell(args, out)?;
    Ok(match judgements.unread.is_empty() {
        true => exit::DONE,
        false => exit::FAILED,
    })
}

impl Judgements {
    fn add(&mut self, attempt: &AttemptLine, judged: Result<Verdict, String>, shown: u64) {
        self.judged += 1;
        let verdict = match judged {
            Ok(verdict) => verdict,
            Err(fault) => {
                self.unread.push((attempt.key.clone(), fault));
                return;
            }
        };
        *self.would.entry(verdict.now.clone()).or_default() += 1;
        if verdict.now == verdict.was {
            return;
        }
        self.otherwise_total += 1;
        if self.otherwise_total <= shown {
            self.otherwise.push(verdict);
        }
    }

    fn tell(&self, args: &ReplayArgs, out: &mut impl Write) -> anyhow::Result<()> {
        for (key, fault) in self.unread.iter().take(usize::try_from(args.show)?) {
            eprintln!("{key}: {fault}");
        }
        if args.json {
            let shown = json!({
                "version": JSON_VERSION,
                "which": if args.accepted { "accepted" } else { "rejected" },
                "judged": self.judged,
                "is_limited": self.is_limited,
                "unread": self.unread.len(),
                "would": self.would,
                "otherwise_total": self.otherwise_total,
                "otherwise": self.otherwise.iter().map(Verdict::as_json).collect::<Vec<_>>(),
            });
            writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
            return Ok(());
        }
        let kind = if args.accepted {
            "accepted"
        } else {
            "rejected"
        };
        let judged = words::count(self.judged);
        writeln!(out, "{judged} {kind} answers judged by today's schema")?;
        for (now, count) in &self.would {
            writeln!(out, "  {:<20} {:>12}", now, words::count(*count))?;
        }
        if !self.unread.is_empty() {
            let unread = words::count(self.unread.len() as u64);
            writeln!(out, "  {:<20} {unread:>12}", "cannot be read")?;
        }
        if !self.otherwise.is_empty() {
            writeln!(out)?;
            table(&self.otherwise, out)?;
        }
        let all = format!("--show {}", self.otherwise_total);
        more(self.otherwise.len() as u64, self.otherwise_total, &all, out)?;
        if self.is_limited {
            writeln!(out, "there are more answers: --limit N judges more")?;
        }
        Ok(())
    }
}

fn table(verdicts: &[Verdict], out: &mut impl Write) -> std::io::Result<()> {
    let left = |name| (name, Side::Left);
    let headings = ["page", "attempt", "was", "would be", "because"].map(left);
    let mut table = Columns::new(Screen::of_stdout(), &headings);
    for verdict in verdicts {
        let attempt = verdict.attempt.to_string();
        let why = verdict.why.lines().next().unwrap_or_default();
        table.row(&[
            verdict.key.as_str(),
            &attempt,
            &verdict.was,
            &verdict.now,
            why,
        ]);
    }
    table.print(out)
}

/// `pagemill show KEY --validate`: all stored answers of one page.
pub async fn of_page(
    look: &Look<'_>,
    sheet: &PageSheet,
    attempts: &[AttemptLine],
    as_json: bool,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let judge = match Judge::new(look) {
        Ok(judge) => judge,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::CONFIGURATION);
        }
    };
    let mut verdicts = Vec::new();
    let judged = judge.attempts(look, attempts).await;
    for (attempt, judged) in attempts.iter().zip(judged) {
        match judged {
            Ok(verdict) => verdicts.push(verdict),
            Err(fault) => eprintln!("attempt {}: {fault}", attempt.number),
        }
    }
    if as_json {
        let shown = json!({
            "version": JSON_VERSION,
            "key": sheet.key.as_str(),
            "answers": verdicts.iter().map(Verdict::as_json).collect::<Vec<_>>(),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
    } else if !verdicts.is_empty() {
        table(&verdicts, out)?;
    }
    if verdicts.is_empty() {
        eprintln!("{} has no stored answer", sheet.key);
        return Ok(exit::FAILED);
    }
    Ok(exit::DONE)
}
