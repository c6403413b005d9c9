//! The demo dataset: two small books with all that a run needs, written into an empty folder.
//!
//! The assets are part of the binary, so that a demo needs no files and no network. Where they
//! come from is told in `assets/demo/README.md`.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// What was written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The folder that holds everything.
    pub root: PathBuf,
    /// The configuration of the run.
    pub config_file: PathBuf,
    /// The fault profile for the emulator.
    pub faults_file: PathBuf,
    /// How many pages the books have together.
    pub pages: usize,
    /// The key of the page whose first answer the fault profile spoils.
    pub failing_key: String,
    /// Where the output of the first page will be.
    pub first_output: PathBuf,
}

/// Why the dataset cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// Something is there already, and it may be somebody's work.
    #[error("the folder '{}' is not empty: name an empty folder, or one that does not exist", .0.display())]
    NotEmpty(PathBuf),
    /// The name is taken by something else than a folder.
    #[error("'{}' is not a folder: name an empty folder, or one that does not exist", .0.display())]
    NotAFolder(PathBuf),
    /// The file system refused.
    #[error("cannot write the demo's '{}': {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Writes the dataset into `root`, which must be empty or absent.
///
/// A failure halfway leaves what was written so far.
pub fn create(root: &Path) -> Result<Dataset, DatasetError> {
    prepare(root)?;
    for page in &PAGES {
        let image = page.path(&root.join(IMAGE_DIR), page.extension);
        write_new(&image, page.image)?;
        write_new(&page.path(&root.join(LABEL_DIR), "json"), page.label)?;
    }
    for (name, contents) in FILES {
        write_new(&root.join(name), contents.as_bytes())?;
    }
    Ok(Dataset {
        root: root.to_path_buf(),
        config_file: root.join(CONFIG_FILE),
        faults_file: root.join(FAULTS_FILE),
        pages: PAGES.len(),
        failing_key: FAILING_KEY.to_owned(),
        first_output: PAGES[0].path(&root.join(OUTPUT_DIR), "json"),
    })
}

const LABEL_DIR: &str = "dataset/label_to_curricular";
const IMAGE_DIR: &str = "dataset/raw_image_dataset";
const OUTPUT_DIR: &str = "dataset/output_results";
const CONFIG_FILE: &str = "pagemill.yaml";
const FAULTS_FILE: &str = "faults.yaml";

/// In the shorter chain: its second try then costs the demo no extra round.
const FAILING_KEY: &str = "Missouri:Ste. Geneviève's Academy:1884:2";

/// What a run needs beside the pages: the path below the root, and the text.
const FILES: [(&str, &str); 5] = [
    (CONFIG_FILE, include_str!("../../assets/demo/pagemill.yaml")),
    (FAULTS_FILE, include_str!("../../assets/demo/faults.yaml")),
    (
        "prompts/page_ocr/v1.jinja",
        include_str!("../../assets/demo/prompts/v1.jinja"),
    ),
    (
        "prompts/page_ocr/context.jinja",
        include_str!("../../assets/demo/prompts/context.jinja"),
    ),
    (
        "schemas/page_ocr.v1.json",
        include_str!("../../assets/demo/schemas/page_ocr.v1.json"),
    ),
];

/// One page of the demo; the fields up to `page` are the levels of the default layout.
struct DemoPage {
    state: &'static str,
    school: &'static str,
    year: &'static str,
    page: &'static str,
    extension: &'static str,
    image: &'static [u8],
    label: &'static [u8],
}

impl DemoPage {
    fn path(&self, top: &Path, extension: &str) -> PathBuf {
        let book = top.join(self.state).join(self.school).join(self.year);
        book.join(format!("{}.{extension}", self.page))
    }
}

/// A page of Howard College's catalogue.
macro_rules! howard {
    ($page:literal, $extension:literal) => {
        DemoPage {
            state: "Alabama",
            school: "Howard College",
            year: "1849",
            page: $page,
            extension: $extension,
            image: include_bytes!(concat!(
                "../../assets/demo/pages/howard-",
                $page,
                ".",
                $extension
            )),
            label: include_bytes!(concat!("../../assets/demo/labels/howard-", $page, ".json")),
        }
    };
}

/// A page of the Academy's announcement, whose name has a period, an accent and an apostrophe.
macro_rules! genevieve {
    ($page:literal, $extension:literal, $image:literal) => {
        DemoPage {
            state: "Missouri",
            school: "Ste. Geneviève's Academy",
            year: "1884",
            page: $page,
            extension: $extension,
            image: include_bytes!(concat!("../../assets/demo/pages/", $image)),
            label: include_bytes!(concat!(
                "../../assets/demo/labels/genevieve-",
                $page,
                ".json"
            )),
        }
    };
}

static PAGES: [DemoPage; 10] = [
    howard!("1", "jpg"),
    howard!("2", "png"),
    howard!("3", "jpg"),
    howard!("4", "jpg"),
    howard!("5", "jpg"),
    howard!("6", "png"),
    genevieve!("1", "jpg", "genevieve-1.jpg"),
    genevieve!("2", "png", "genevieve-2.png"),
    genevieve!("3", "jpg", "genevieve-3.jpg"),
    genevieve!("4", "jpg", "huckleberry-finn-1884-chapter-3.jpg"),
];

/// Makes sure that `root` is an empty folder.
fn prepare(root: &Path) -> Result<(), DatasetError> {
    match fs::read_dir(root) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(DatasetError::NotEmpty(root.to_path_buf())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(DatasetError::NotAFolder(root.to_path_buf()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(root).map_err(|source| failed(root, source))
        }
        Err(source) => Err(failed(root, source)),
    }
}

/// Writes a file that was not there, with the folders above it.
fn write_new(path: &Path, contents: &[u8]) -> Result<(), DatasetError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
    }
    fs::File::create_new(path)
        .and_then(|mut file| file.write_all(contents))
        .map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> DatasetError {
    DatasetError::Io {
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests;
