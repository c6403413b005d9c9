//! The request line of a page, rendered as BatchSubmitter renders it, from what is kept and what is
//! on disk.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};

use super::story::Story;
use super::{JSON_VERSION, ShowArgs};
use crate::actors::batch_submitter::{Line, LineWriter, Subject};
use crate::actors::state::desk_page::{self, PageSheet};
use crate::actors::state::desk_story::AttemptLine;
use crate::actors::state::messages::{Member, RecipeRow};
use crate::cli::exit;
use crate::cli::explain::facts::Look;
use crate::domain::failure::ErrorType;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;
use crate::pipeline::from_settings;
use crate::prompt::{Recipe, RecipeRequest};

/// Stands where the address of an image will stand that is not uploaded.
const NO_FILE_YET: &str = "files/not-uploaded-yet";

/// A rendered line, and how it compares with what was sent.
struct Rendered {
    line: Line,
    recipe: Arc<Recipe>,
    /// Absent when it would be sent next.
    attempt: Option<u32>,
    /// What is not as it was when it was sent; `None` where that is not known.
    changes: Option<Vec<&'static str>>,
}

/// Prints the request line; notes go to stderr.
pub async fn run(
    look: &Look<'_>,
    story: &Story,
    args: &ShowArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let sent = sent(story, args);
    let rendered = match sent {
        Some(attempt) if attempt.prompt_sha256.is_some() => as_sent(look, story, attempt).await,
        attempt => next(look, story, attempt).await,
    };
    let rendered = match rendered {
        Ok(rendered) => rendered,
        Err(fault) => {
            eprintln!("{}: {fault:#}", story.sheet.key);
            return Ok(exit::FAILED);
        }
    };
    if args.json {
        let shown = rendered.as_json(story)?;
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
    } else {
        eprintln!("{}", rendered.note());
        out.write_all(&rendered.line.text)?;
    }
    Ok(exit::DONE)
}

/// The attempt that is meant: the one asked for, else the last one unless the page is to be sent.
fn sent<'s>(story: &'s Story, args: &ShowArgs) -> Option<&'s AttemptLine> {
    let is_to_be_sent = matches!(
        story.sheet.stage,
        PageStage::Discovered | PageStage::Uploading | PageStage::Uploaded | PageStage::Skipped
    );
    let last = story.attempts.last();
    last.filter(|_| args.attempt.is_some() || !is_to_be_sent)
}

/// The line of an attempt, by its own recipe, parameters and image.
async fn as_sent(
    look: &Look<'_>,
    story: &Story,
    attempt: &AttemptLine,
) -> anyhow::Result<Rendered> {
    let row = desk_page::recipe(look.connection, &attempt.recipe).await?;
    let row = row.ok_or_else(|| anyhow!("recipe {} is not kept", attempt.recipe))?;
    let writer = writer(look, recipe(look, &row)?);
    let parameters = attempt.parameters.as_deref();
    let parameters: Option<Value> = parameters.map(serde_json::from_str).transpose()?;
    let saw_context = attempt.context_sha256.is_some();
    let subject = Subject {
        key: &story.sheet.key,
        file_uri: attempt
            .image
            .as_ref()
            .map_or(attempt.image_file.as_str(), |image| &image.uri),
        file_mime: attempt.image.as_ref().map_or("", |image| &image.mime),
        predecessor: story.sheet.predecessor.as_ref().filter(|_| saw_context),
        parameters,
    };
    let line = render(look, &writer.0, &subject)
        .await
        .with_context(|| format!("attempt {} cannot be rendered any more", attempt.number))?;
    let changes = changes(story, attempt, &line);
    Ok(Rendered {
        line,
        recipe: writer.1,
        attempt: Some(attempt.number),
        changes: Some(changes),
    })
}

/// What is not as it was when the attempt was sent.
fn changes(story: &Story, attempt: &AttemptLine, line: &Line) -> Vec<&'static str> {
    let mut changes = Vec::new();
    let (context, prompt) = (line.context_sha256(), line.prompt_sha256());
    if attempt.context_sha256.is_some() && context.is_none() {
        changes.push("the output of the page before is gone");
    } else if attempt.context_sha256 != context {
        changes.push("the output of the page before is another one");
    } else if attempt.prompt_sha256.as_ref() != Some(&prompt) {
        changes.push("the label is another one");
    }
    let sent = attempt.image.as_ref().map(|image| image.sha256.as_str());
    let sent = sent.filter(|sha256| !sha256.is_empty());
    if let (Some(sent), Ok((_path, now))) = (sent, &story.image)
        && now.sha256.as_str() != sent
    {
        changes.push("the image is another one");
    }
    changes
}

/// The line that would be sent next, or that a planned batch is going to hold.
async fn next(
    look: &Look<'_>,
    story: &Story,
    planned: Option<&AttemptLine>,
) -> anyhow::Result<Rendered> {
    let of_plan = match planned {
        Some(attempt) => desk_page::recipe(look.connection, &attempt.recipe).await?,
        None => None,
    };
    let recipe = match of_plan {
        Some(row) => recipe(look, &row)?,
        None => Arc::new(from_settings::recipe(look.settings)?),
    };
    let writer = writer(look, recipe);
    let member = member(look, story, planned).await?;
    let line = render(look, &writer.0, &writer.0.subject(&member)).await?;
    Ok(Rendered {
        line,
        recipe: writer.1,
        attempt: planned.map(|attempt| attempt.number),
        changes: None,
    })
}

/// The page as a member of the next batch.
async fn member(
    look: &Look<'_>,
    story: &Story,
    planned: Option<&AttemptLine>,
) -> anyhow::Result<Member> {
    let sheet = &story.sheet;
    let before = match &sheet.predecessor {
        Some(before) => desk_page::page(look.connection, before).await?,
        None => None,
    };
    let file = planned.map(|attempt| &attempt.image_file);
    let address = match file.or(sheet.image_file.as_ref()) {
        Some(name) => desk_page::address(look.connection, name).await?,
        None => None,
    };
    let (file_uri, file_mime) = address.unwrap_or_else(|| (NO_FILE_YET.to_owned(), mime(story)));
    let ended = |errors: &[ErrorType]| {
        let ended = story.attempts.iter();
        let ended = ended.filter(|attempt| attempt.error.is_some_and(|it| errors.contains(&it)));
        u32::try_from(ended.count()).unwrap_or(u32::MAX)
    };
    let PageSheet {
        key,
        number,
        predecessor,
        releases,
        batch_size_max,
        ..
    } = sheet.clone();
    Ok(Member {
        key,
        number,
        stage: Some(sheet.stage),
        file_uri,
        file_mime,
        file_expires_at: Timestamp::EPOCH,
        image_sha256: None,
        predecessor,
        predecessor_completed: before.is_some_and(|page| page.stage == PageStage::Completed),
        attempt_number: story.attempts.last().map_or(1, |last| last.number + 1),
        failures: u32::try_from(sheet.failures).unwrap_or(u32::MAX),
        releases,
        whole_failures: 0,
        truncations: ended(&[ErrorType::Truncated]),
        refusals: ended(&[
            ErrorType::Recitation,
            ErrorType::ContentFiltered,
            ErrorType::Repetition,
        ]),
        batch_size_max,
    })
}

fn mime(story: &Story) -> String {
    let now = story.image.as_ref().ok();
    let known = story.sheet.image.as_ref();
    now.map(|(_path, facts)| facts.mime.as_str().to_owned())
        .or_else(|| known.map(|image| image.mime.clone()))
        .unwrap_or_default()
}

/// A recipe as it is kept, compiled again.
pub fn recipe(look: &Look<'_>, row: &RecipeRow) -> anyhow::Result<Arc<Recipe>> {
    let generation_config = serde_json::from_str(&row.generation_config)?;
    let recipe = Recipe::assemble(
        &RecipeRequest {
            prompt_name: &row.prompt_name,
            template_file: &row.prompt_name,
            context_file: row.context_template.as_ref().map(|_| "for the page before"),
            schema_file: Path::new("the schema that is kept"),
            layout: &look.settings.paths.layout,
            model: &row.model,
            generation_config: &generation_config,
        },
        row.prompt_template.clone(),
        row.context_template.clone(),
        row.schema.clone(),
    )
    .with_context(|| format!("recipe {}", row.hash))?;
    Ok(Arc::new(recipe))
}

fn writer(look: &Look<'_>, recipe: Arc<Recipe>) -> (LineWriter, Arc<Recipe>) {
    use crate::settings::Context;
    let settings = look.settings;
    let writer = LineWriter::new(
        Arc::clone(&recipe),
        settings.paths.layout.clone(),
        settings.execution.context == Context::Chain,
        from_settings::prices_of_lines(settings, None),
    );
    (writer, recipe)
}

async fn render(
    look: &Look<'_>,
    writer: &LineWriter,
    subject: &Subject<'_>,
) -> anyhow::Result<Line> {
    let lines = writer.lines(std::slice::from_ref(subject), &look.files);
    let line = lines.await?.into_iter().next();
    let line = line.ok_or_else(|| anyhow!("no line was made"))?;
    line.map_err(|refusal| anyhow!("{}: {}", refusal.error, refusal.message))
}

impl Rendered {
    fn note(&self) -> String {
        let hash = self.line.prompt_sha256();
        match (self.attempt, &self.changes) {
            (Some(number), Some(changes)) if changes.is_empty() => {
                format!("attempt {number}, as it was sent (prompt sha256 {hash})")
            }
            (Some(number), Some(changes)) => format!(
                "attempt {number} NOT as it was sent: since then {}",
                changes.join(", and ")
            ),
            (Some(number), None) => format!("attempt {number}, as it is going to be sent"),
            (None, _) => "as it would be sent next".to_owned(),
        }
    }

    fn as_json(&self, story: &Story) -> anyhow::Result<Value> {
        let line: Value = serde_json::from_slice(&self.line.text)?;
        Ok(json!({
            "version": JSON_VERSION,
            "key": story.sheet.key.as_str(),
            "attempt": self.attempt,
            "is_as_sent": self.changes.as_ref().map(Vec::is_empty),
            "changes": self.changes,
            "recipe_hash": self.recipe.hash.as_str(),
            "prompt_name": self.recipe.prompt_name,
            "model": self.recipe.model,
            "prompt": self.line.prompt(),
            "prompt_sha256": self.line.prompt_sha256().as_str(),
            "context_sha256": self.line.context_sha256().as_ref().map(|hash| hash.as_str()),
            "parameters": self.line.parameters,
            "line": line,
        }))
    }
}
