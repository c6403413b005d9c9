//! One row a page.

use std::io::{BufWriter, Write};

use super::{PagesArgs, PagesFormat};
use crate::actors::state::page_walk::{PageChoice, PageFacts, PageWalk};
use crate::actors::state::{audit, read};
use crate::adapters::filesystem::export::NewFile;
use crate::adapters::system_clock;
use crate::cli::exit;
use crate::cli::rows::{Cell, Form, RowWriter};
use crate::cli::target::refuse_kept;
use crate::domain::page::PageStage;
use crate::report::words;
use crate::settings::Settings;

/// A stage, or a part of the work list, as it is typed.
pub type Choice = PageChoice;

/// Reads `--stage`.
pub fn choice(word: &str) -> Result<Choice, String> {
    let of_work_list = PageChoice::OF_WORK_LIST.iter();
    let mut of_work_list = of_work_list.filter(|(known, _choice)| *known == word);
    if let Some((_word, choice)) = of_work_list.next() {
        return Ok(*choice);
    }
    PageStage::parse(word)
        .map(PageChoice::Stage)
        .ok_or_else(|| {
            let stages = PageStage::ALL.iter().map(|stage| stage.as_str());
            let others = PageChoice::OF_WORK_LIST.iter().map(|(word, _choice)| *word);
            let known: Vec<&str> = others.chain(stages).collect();
            format!("the stages are {}", known.join(", "))
        })
}

const COLUMNS: &[&str] = &[
    "record_key",
    "stage",
    "status",
    "priority",
    "failures",
    "attempts",
    "error_type",
    "waits_for",
    "not_before",
    "batch_id",
    "run_id",
    "recipe_hash",
    "image_mime",
    "image_bytes",
    "image_width",
    "image_height",
    "image_sha256",
    "output_sha256",
    "output_bytes",
    "created_at",
    "updated_at",
];

/// Runs the command; gives the exit code.
pub async fn run(
    settings: &Settings,
    args: &PagesArgs,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let selection = match args.select.selection(&settings.paths.layout) {
        Ok(selection) => selection,
        Err(fault) => {
            eprintln!("{fault}");
            return Ok(exit::USAGE);
        }
    };
    let file = args.to.as_deref();
    let file = file.filter(|path| path.as_os_str() != "-");
    if let Some(path) = file
        && let Err(fault) = refuse_kept(settings, path)
    {
        eprintln!("{fault}");
        return Ok(exit::USAGE);
    }
    let connection = read::open_read_only(&settings.state.sqlite_file).await?;
    let snapshot = audit::snapshot(&connection).await?;
    let walk = PageWalk::new(&selection, &args.stage, system_clock::now());
    match file {
        None => {
            write(&snapshot, walk, args, BufWriter::new(out)).await?;
        }
        Some(path) => {
            let file = NewFile::create(path)?;
            let (file, pages) = write(&snapshot, walk, args, file).await?;
            file.commit()?;
            let pages = words::count(pages);
            eprintln!("{pages} pages written to {}", path.display());
        }
    }
    audit::end_snapshot(snapshot).await?;
    connection.close().await?;
    Ok(exit::DONE)
}

async fn write<W: Write>(
    conn: &impl sea_orm::ConnectionTrait,
    mut walk: PageWalk,
    args: &PagesArgs,
    mut out: W,
) -> anyhow::Result<(W, u64)> {
    let (form, columns) = match args.format {
        PagesFormat::Csv => {
            let for_spreadsheets = args.for_spreadsheets;
            (Form::Csv { for_spreadsheets }, COLUMNS)
        }
        PagesFormat::Jsonl => (Form::JsonLines, COLUMNS),
        PagesFormat::Keys => {
            let mut pages = 0;
            loop {
                let found = walk.next(conn).await?;
                if found.is_empty() {
                    out.flush()?;
                    return Ok((out, pages));
                }
                pages += found.len() as u64;
                for page in found {
                    writeln!(out, "{}", page.record_key)?;
                }
            }
        }
    };
    let mut writer = RowWriter::new(form, columns, out)?;
    loop {
        let found = walk.next(conn).await?;
        if found.is_empty() {
            let pages = writer.rows;
            return Ok((writer.finish()?, pages));
        }
        for page in found {
            writer.row(cells(page))?;
        }
    }
}

/// The values of a page, in the order of [`COLUMNS`].
fn cells(page: PageFacts) -> Vec<Cell> {
    let PageFacts {
        record_key,
        stage,
        status,
        priority,
        failures,
        attempts,
        error,
        waits_for,
        not_before,
        batch_id,
        run_id,
        recipe_hash,
        image_mime,
        image_bytes,
        image_width,
        image_height,
        image_sha256,
        image_file: _,
        image_expires_at: _,
        output_sha256,
        output_bytes,
        created_at,
        updated_at,
    } = page;
    vec![
        record_key.into(),
        stage.into(),
        status.into(),
        priority.into(),
        failures.into(),
        attempts.into(),
        error.into(),
        waits_for.into(),
        not_before.into(),
        batch_id.into(),
        run_id.into(),
        recipe_hash.into(),
        image_mime.into(),
        image_bytes.into(),
        image_width.into(),
        image_height.into(),
        image_sha256.into(),
        output_sha256.into(),
        output_bytes.into(),
        created_at.into(),
        updated_at.into(),
    ]
}
