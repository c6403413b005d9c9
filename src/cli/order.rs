//! Giving orders: say what would be done, ask, keep the order, have it carried out. Where a pagemill
//! is at work on the state, that one does it; else this process does it itself.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use actix::Actor;
use clap::Args;
use sea_orm::DatabaseConnection;
use serde_json::{Value, json};

use super::screen::{self, Screen};
use super::{Common, exit};
use crate::actors::activity::answered;
use crate::actors::state::StateActor;
use crate::actors::state::messages::{Close, PlaceOrder};
use crate::actors::state::open::{OpenError, StateOptions};
use crate::actors::state::orders::preview::{Preview, preview};
use crate::actors::state::{orders, read};
use crate::adapters::os_entropy::OsEntropy;
use crate::adapters::system_clock;
use crate::domain::ids::OrderId;
use crate::domain::order::{Effects, KeptOrder, Order, OrderState, Signature};
use crate::notices;
use crate::pipeline::from_settings;
use crate::ports::entropy::Entropy;
use crate::report::words;
use crate::settings::Settings;

/// The version of the JSON form.
const JSON_VERSION: u32 = 1;
/// The pause between two looks at an order that another process carries out.
const LOOK: Duration = Duration::from_millis(50);
/// Pages that are named before the question.
const NAMED_MAX: u64 = 10;
/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 4_096;

/// Who gives an order, and why.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "The order")]
pub struct SignedArgs {
    /// Why; it stands in the history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who gives it [default: PAGEMILL_OPERATOR, or the user's name]
    #[arg(
        long,
        value_name = "NAME",
        env = "PAGEMILL_OPERATOR",
        hide_env_values = true
    )]
    pub by: Option<String>,
}

/// What every order takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "The order")]
pub struct OrderArgs {
    #[command(flatten)]
    pub signed: SignedArgs,
    /// How long a running pagemill is waited for, in seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub wait: u64,
    /// Print JSON (version 1) instead of text
    #[arg(long)]
    pub json: bool,
}

/// What orders that cannot be taken back, or cost money, take as well.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "The order")]
pub struct CarefulArgs {
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// The settings and the database of a command, or the exit code of what is wrong with them.
pub struct Desk {
    pub settings: Settings,
    pub connection: DatabaseConnection,
}

impl Desk {
    /// Loads the settings and opens the database for reading.
    pub async fn open(common: &Common) -> anyhow::Result<Result<Self, u8>> {
        let settings = match common.loaded() {
            Ok(loaded) => loaded.settings,
            Err(code) => return Ok(Err(code)),
        };
        match read::open_read_only(&settings.state.sqlite_file).await {
            Ok(connection) => Ok(Ok(Desk {
                settings,
                connection,
            })),
            Err(fault) => {
                eprintln!("{fault}");
                Ok(Err(exit::FAILED))
            }
        }
    }
}

/// An order on its way.
pub struct Giving<'a> {
    pub desk: &'a Desk,
    pub order: Order,
    pub args: &'a OrderArgs,
    pub careful: CarefulArgs,
    /// The question, for orders that are not given without one.
    pub question: Option<&'static str>,
}

impl Giving<'_> {
    /// Says, asks, gives, and says what came of it; gives the exit code.
    pub async fn run(self, out: &mut impl Write) -> anyhow::Result<u8> {
        let Giving {
            desk,
            order,
            args,
            careful,
            question,
        } = self;
        let signature = match signature(&args.signed) {
            Ok(signature) => signature,
            Err(fault) => {
                eprintln!("{fault}");
                return Ok(exit::USAGE);
            }
        };
        let mut says = Says {
            order: &order,
            json: args.json,
            screen: Screen::of_stdout(),
        };
        let before = match order.which() {
            Some(_) => Some(preview(&desk.connection, &order, NAMED_MAX).await?),
            None => None,
        };
        if careful.dry_run {
            says.dry_run(before.as_ref(), out)?;
            return Ok(exit::DONE);
        }
        if let Some(before) = &before {
            if before.effects.counts.is_empty() {
                says.nothing(before, out)?;
                return Ok(exit::DONE);
            }
            if !args.json {
                says.before(before, out)?;
            }
        }
        if let Some(question) = question
            && !careful.yes
            && !screen::confirmed(question)?
        {
            eprintln!("nothing was changed");
            return Ok(exit::FAILED);
        }
        let kept = give(desk, &order, signature, Duration::from_secs(args.wait)).await?;
        says.after(&kept, out)
    }
}

/// The signature that the flags and the environment give, or what is wrong with it.
pub fn signature(args: &SignedArgs) -> Result<Signature, String> {
    let reason = args.reason.clone().unwrap_or_default();
    if reason.len() > REASON_BYTES_MAX {
        return Err(format!(
            "the reason is longer than {REASON_BYTES_MAX} bytes; write a shorter one"
        ));
    }
    let user = ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|name| !name.is_empty());
    let by = args
        .by
        .clone()
        .or(user)
        .unwrap_or_else(|| "unknown".to_owned());
    Ok(Signature { by, reason })
}

/// Keeps an order and sees to it that it is carried out; gives how it stands then.
async fn give(
    desk: &Desk,
    order: &Order,
    signature: Signature,
    wait: Duration,
) -> anyhow::Result<KeptOrder> {
    let at = system_clock::now();
    let id = OrderId::from(OsEntropy.unique_id(at));
    let path = &desk.settings.state.sqlite_file;
    let state = StateActor::open(StateOptions {
        path: path.clone(),
        unlock_behind_dead: from_settings::skip_dead(&desk.settings),
    })
    .await;
    match state {
        Ok(state) => {
            let state = state.start();
            let place = PlaceOrder {
                id: id.clone(),
                order: order.clone(),
                signature,
                at,
            };
            answered(state.send(place).await)?;
            let clerk = from_settings::clerk(&desk.settings, state.clone());
            let worked = clerk.work_off(false).await;
            answered(state.send(Close {}).await)?;
            if let Some(fault) = worked?.held {
                notices::OutputNotRetired { fault: &fault }.emit();
            }
        }
        Err(OpenError::InUse { .. }) => {
            orders::place_beside(path, &id, order, &signature, at).await?;
            wait_for(&desk.connection, &id, wait).await?;
        }
        Err(fault) => return Err(fault.into()),
    }
    let kept = orders::order(&desk.connection, &id).await?;
    kept.ok_or_else(|| anyhow::anyhow!("order {id} was not kept"))
}

/// Waits until another process has carried the order out, but not longer than this.
async fn wait_for(
    connection: &DatabaseConnection,
    id: &OrderId,
    wait: Duration,
) -> anyhow::Result<()> {
    let deadline = system_clock::now().plus(wait);
    loop {
        let kept = orders::order(connection, id).await?;
        let is_open = kept.is_some_and(|kept| kept.state == OrderState::Open);
        if !is_open || system_clock::now() >= deadline {
            return Ok(());
        }
        actix_rt::time::sleep(LOOK).await;
    }
}

/// Tells of an order.
struct Says<'a> {
    order: &'a Order,
    json: bool,
    screen: Screen,
}

impl Says<'_> {
    fn subject(&self) -> String {
        match self.order.which() {
            Some(which) => format!("{} ({which})", self.order.kind()),
            None => self.order.kind().to_string(),
        }
    }

    fn dry_run(&mut self, before: Option<&Preview>, out: &mut impl Write) -> anyhow::Result<()> {
        if self.json {
            let shown = json!({
                "version": JSON_VERSION, "dry_run": true, "command": self.order.kind().as_str(),
                "preview": before.map(preview_json),
            });
            writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
            return Ok(());
        }
        match before {
            Some(before) if before.effects.counts.is_empty() => self.nothing(before, out)?,
            Some(before) => self.before(before, out)?,
            None => writeln!(out, "would {}", self.subject())?,
        }
        writeln!(out, "nothing was changed (--dry-run)")?;
        Ok(())
    }

    /// What the order is going to do.
    fn before(&self, before: &Preview, out: &mut impl Write) -> anyhow::Result<()> {
        writeln!(out, "{}:", self.subject())?;
        counts(&before.effects, out)?;
        left_alone(before, out)?;
        for key in &before.first {
            writeln!(
                out,
                "    {}",
                self.screen.faint(&screen::one_line(key.as_str()))
            )?;
        }
        let shown = before.first.len() as u64;
        let pages = before.effects.counts.first().map_or(0, |(_, count)| *count);
        screen::more(shown, pages, "pages are not named here", out)?;
        Ok(())
    }

    fn nothing(&self, before: &Preview, out: &mut impl Write) -> anyhow::Result<()> {
        if self.json {
            let shown = json!({
                "version": JSON_VERSION, "command": self.order.kind().as_str(),
                "state": "nothing to do", "preview": preview_json(before),
            });
            writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
            return Ok(());
        }
        if before.means_none {
            writeln!(out, "{}: no known page is meant", self.subject())?;
            return Ok(());
        }
        writeln!(out, "{}: nothing to do", self.subject())?;
        left_alone(before, out)?;
        Ok(())
    }

    fn after(&self, kept: &KeptOrder, out: &mut impl Write) -> anyhow::Result<u8> {
        let code = match kept.state {
            OrderState::Done => exit::DONE,
            OrderState::Refused => exit::FAILED,
            OrderState::Open => exit::WORK_LEFT,
        };
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&as_json(kept))?)?;
            return Ok(code);
        }
        match kept.state {
            OrderState::Done => {
                writeln!(out, "{}", self.screen.good("done:"))?;
                counts(&kept.effects, out)?;
                if !kept.effects.message.is_empty() {
                    writeln!(out, "  {}", kept.effects.message)?;
                }
            }
            OrderState::Refused => eprintln!("refused: {}", kept.effects.message),
            OrderState::Open => eprintln!(
                "order {} is kept and not carried out yet: the pagemill at work on this state does \
                 it as soon as it can, or the next run; see `pagemill orders`",
                kept.id
            ),
        }
        Ok(code)
    }
}

fn counts(effects: &Effects, out: &mut impl Write) -> std::io::Result<()> {
    for (word, count) in &effects.counts {
        writeln!(out, "  {:>9}  {word}", words::count(*count))?;
    }
    Ok(())
}

fn left_alone(before: &Preview, out: &mut impl Write) -> std::io::Result<()> {
    for (stage, count) in &before.left_alone {
        let count = words::count(*count);
        writeln!(out, "  {count:>9}  {stage}: left as they are")?;
    }
    Ok(())
}

fn preview_json(before: &Preview) -> Value {
    let left: serde_json::Map<String, Value> = before
        .left_alone
        .iter()
        .map(|(stage, count)| (stage.as_str().to_owned(), json!(count)))
        .collect();
    let first: Vec<&str> = before.first.iter().map(|key| key.as_str()).collect();
    json!({
        "counts": orders::effects_json(&before.effects)["counts"],
        "left_alone": left,
        "first": first,
    })
}

/// An order as JSON, the same wherever it is shown.
pub fn as_json(kept: &KeptOrder) -> Value {
    let answer = orders::effects_json(&kept.effects);
    json!({
        "version": JSON_VERSION,
        "order_id": kept.id.as_str(),
        "command": kept.order.kind().as_str(),
        "which": kept.order.which().map(|which| which.to_string()),
        "by": kept.signature.by,
        "reason": kept.signature.reason,
        "state": kept.state.as_str(),
        "counts": answer["counts"],
        "message": answer["message"],
        "created_at": kept.created_at.to_string(),
        "done_at": kept.done_at.map(|at| at.to_string()),
    })
}

/// Says that there is no such page; gives the exit code.
pub fn no_page(path: &Path, key: &str) -> u8 {
    eprintln!(
        "there is no page '{key}' in {}: `pagemill explain '{key}'` tells more",
        path.display()
    );
    exit::FAILED
}
