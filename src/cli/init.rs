//! `pagemill init`: a commented starter configuration.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What is written, and where below the folder.
const FILES: [(&str, &str); 4] = [
    (
        "pagemill.yaml",
        include_str!("../../config/starter/pagemill.yaml"),
    ),
    (
        "prompts/page_ocr/v1.jinja",
        include_str!("../../config/starter/v1.jinja"),
    ),
    (
        "prompts/page_ocr/context.jinja",
        include_str!("../../config/starter/context.jinja"),
    ),
    (
        "schemas/page_ocr.v1.json",
        include_str!("../../config/starter/page_ocr.v1.json"),
    ),
];
/// The folders that the starter names as sources; empty, for the user to fill.
const FOLDERS: [&str; 2] = ["dataset/label_to_curricular", "dataset/raw_image_dataset"];

/// Writes a commented starter configuration.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  pagemill init            into this folder
  pagemill init archive    into another one
  pagemill config check    what is still to be done")]
pub struct InitArgs {
    /// Folder to write into; made if it is absent. Nothing in it is overwritten.
    #[arg(default_value = ".")]
    pub folder: PathBuf,
}

/// What `init` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// These files were written, relative to the folder.
    Written(Vec<&'static str>),
    /// These files are there already; nothing was written.
    Exists(Vec<&'static str>),
}

/// Writes the starter files into a folder, unless one of them is there.
pub fn write_starter(folder: &Path) -> io::Result<Outcome> {
    let names = FILES.iter().map(|(name, _)| *name);
    // A link that leads nowhere is something as well.
    let existing: Vec<&str> = names
        .clone()
        .filter(|name| folder.join(name).symlink_metadata().is_ok())
        .collect();
    if !existing.is_empty() {
        return Ok(Outcome::Exists(existing));
    }
    for below in FOLDERS {
        fs::create_dir_all(folder.join(below))?;
    }
    for (name, text) in FILES {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(text.as_bytes())?;
    }
    Ok(Outcome::Written(names.collect()))
}

/// Runs the command; gives the exit code: 0, or 1 when nothing or not everything was written.
pub fn run(args: &InitArgs, cwd: &Path, out: &mut dyn Write) -> io::Result<u8> {
    let folder = cwd.join(&args.folder);
    match write_starter(&folder) {
        Ok(Outcome::Written(names)) => {
            for name in names {
                writeln!(out, "wrote {}", folder.join(name).display())?;
            }
            print_next_steps(&args.folder, out)?;
            Ok(0)
        }
        Ok(Outcome::Exists(names)) => {
            writeln!(out, "nothing was written, for these are there already:")?;
            for name in names {
                writeln!(out, "  {}", folder.join(name).display())?;
            }
            writeln!(out, "choose another folder, or move them away")?;
            Ok(1)
        }
        Err(error) => {
            writeln!(out, "cannot write into {}: {error}", folder.display())?;
            Ok(1)
        }
    }
}

fn print_next_steps(folder: &Path, out: &mut dyn Write) -> io::Result<()> {
    let is_here = folder == Path::new(".");
    let cd = if is_here {
        String::new()
    } else {
        format!("cd {} && ", folder.display())
    };
    writeln!(
        out,
        "\nNext:\n\
         1. put labels into {} and images into {},\n   \
            as {{state}}/{{school}}/{{year}}/{{page}}, or change paths: in pagemill.yaml\n\
         2. export GEMINI_API_KEY=..., or write it into .env beside pagemill.yaml\n\
         3. {cd}pagemill config check\n\
         4. {cd}pagemill run --dry-run",
        FOLDERS[0], FOLDERS[1],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_in(folder: &Path) -> (u8, String) {
        let mut out = Vec::new();
        let args = InitArgs {
            folder: PathBuf::from("new"),
        };
        let code = run(&args, folder, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_starter_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let (code, text) = run_in(folder.path());
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("pagemill config check"), "{text}");
        let settings = folder.path().join("new/pagemill.yaml");
        fs::write(&settings, "mine").unwrap();
        let (code, text) = run_in(folder.path());
        assert_eq!(code, 1, "{text}");
        assert_eq!(text.matches("new/").count(), FILES.len(), "{text}");
        assert_eq!(fs::read_to_string(settings).unwrap(), "mine");
    }

    #[test]
    fn one_file_that_is_there_stops_all() {
        let folder = tempfile::tempdir().unwrap();
        let schemas = folder.path().join("new/schemas");
        fs::create_dir_all(&schemas).unwrap();
        fs::write(schemas.join("page_ocr.v1.json"), "{}").unwrap();
        let (code, text) = run_in(folder.path());
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("schemas/page_ocr.v1.json"), "{text}");
        assert!(!folder.path().join("new/pagemill.yaml").exists());
        assert!(!folder.path().join("new/dataset").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("new"), "a file").unwrap();
        let (code, text) = run_in(folder.path());
        assert_eq!(code, 1);
        assert!(text.contains("cannot write into"), "{text}");
    }
}
