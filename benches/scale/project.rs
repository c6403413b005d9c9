//! A folder with all that a run needs: settings, prompt, schema, trees of hard links, database.

use std::fs;
use std::path::{Path, PathBuf};

use actix::Actor;
use pagemill::actors::state::StateActor;
use pagemill::actors::state::messages::Close;
use pagemill::actors::state::open::StateOptions;
use pagemill::pipeline::from_settings;
use pagemill::settings::{self, Settings, Sources};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::answers;
use super::tables::{BOOK_PAGES, Tables, levels_of};

/// Links that one file is given; the file system allows 65,000.
const LINKS_MAX: u64 = 60_000;
/// Lines of a log that tell why a run ended.
const LAST_LINES: usize = 20;
const API_KEY: &str = "bench-key-of-no-account";
const LABEL: &[u8] = include_bytes!("../../assets/demo/labels/howard-1.json");
const PROMPT: &str = include_str!("../../assets/demo/prompts/v1.jinja");

/// A project in a temporary folder.
pub struct Project {
    folder: TempDir,
    env: Vec<(String, String)>,
    image: Vec<u8>,
}

impl Project {
    /// A project whose provider listens at `provider`; `settings` are lines of YAML below what is
    /// the same everywhere. The prompt is as long as `prompt_bytes` says, where that is longer.
    pub fn new(provider: &str, settings: &str, prompt_bytes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for below in ["labels", "images", "outputs"] {
            fs::create_dir(folder.path().join(below)).unwrap();
        }
        let usual = "paths: {label_source_dir: labels, image_source_dir: images, \
                     output_dir: outputs, work_dir: data}\n";
        write("pagemill.yaml", format!("{usual}{settings}").as_bytes());
        write(
            "schemas/page_ocr.v1.json",
            answers::schema().to_string().as_bytes(),
        );
        let mut prompt = PROMPT.to_owned();
        while prompt.len() < prompt_bytes {
            prompt.push_str("Transcribe every line as it stands, and mark what cannot be read.\n");
        }
        write("prompts/page_ocr/v1.jinja", prompt.as_bytes());
        write("prompts/page_ocr/context.jinja", b"{{ previous }}");
        let env = [
            ("GEMINI_API_KEY", API_KEY),
            ("GOOGLE_GEMINI_BASE_URL", provider),
        ];
        Project {
            folder,
            env: env
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            image: image(),
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The environment of its runs.
    pub fn env(&self) -> Vec<(&str, &str)> {
        let pairs = self.env.iter();
        pairs
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    /// The end of what its last run said.
    pub fn last_words(&self) -> String {
        let said = fs::read_to_string(self.path().join("run.err")).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    fn settings(&self) -> Settings {
        let sources = Sources {
            file: None,
            env: self.env.iter().cloned().collect(),
            flags: Vec::new(),
            cwd: self.path().to_owned(),
        };
        settings::load(sources).unwrap().settings
    }

    /// Its database.
    pub fn database(&self) -> PathBuf {
        self.settings().state.sqlite_file
    }

    /// Makes the database.
    pub async fn fill(&self, tables: &Tables) {
        let settings = self.settings();
        let options = StateOptions {
            path: settings.state.sqlite_file.clone(),
            unlock_behind_dead: true,
        };
        let state = StateActor::open(options).await.unwrap().start();
        state.send(Close {}).await.unwrap().unwrap();
        let of_this = Tables {
            scope: settings.scope_token().to_string(),
            key_fingerprint: from_settings::fingerprint(&settings).to_string(),
            image_sha256: hex::encode(Sha256::digest(&self.image)),
            image_bytes: self.image.len() as u64,
            ..tables.clone()
        };
        of_this.fill(&settings.state.sqlite_file).await;
    }

    /// Labels of these pages.
    pub fn labels(&self, first: u64, last: u64) {
        self.tree("labels", "json", LABEL, first, last);
    }

    /// Images of these pages.
    pub fn images(&self, first: u64, last: u64) {
        self.tree("images", "jpg", &self.image, first, last);
    }

    /// Outputs of these pages.
    pub fn outputs(&self, first: u64, last: u64) {
        self.tree("outputs", "json", b"{}\n", first, last);
    }

    /// Hard links of one file, in the place of each page's own.
    fn tree(&self, below: &str, extension: &str, content: &[u8], first: u64, last: u64) {
        let root = self.path().join(below);
        let mut original = PathBuf::new();
        let mut book = PathBuf::new();
        for number in first..=last {
            let [state, school, year, page] = levels_of(number);
            if number == first || (number - 1).is_multiple_of(BOOK_PAGES) {
                book = root.join(state).join(school).join(year);
                fs::create_dir_all(&book).unwrap();
            }
            let path = book.join(format!("{page}.{extension}"));
            if (number - first).is_multiple_of(LINKS_MAX) {
                fs::write(&path, content).unwrap();
                original = path;
            } else {
                fs::hard_link(&original, path).unwrap();
            }
        }
    }
}

/// A small JPEG that is whole: one block of gray.
fn image() -> Vec<u8> {
    let mut jpeg = vec![0xFF, 0xD8];
    let mut segment = |code: u8, content: &[u8]| {
        let length = (content.len() as u16 + 2).to_be_bytes();
        jpeg.extend([0xFF, code]);
        jpeg.extend(length);
        jpeg.extend(content);
    };
    segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    segment(0xDB, &[&[0][..], &[16; 64]].concat());
    segment(0xC0, &[8, 0, 8, 0, 8, 1, 1, 0x11, 0]);
    let one_code = |class: u8| {
        let mut table = vec![class];
        table.push(1);
        table.extend([0; 15]);
        table.push(0);
        table
    };
    segment(0xC4, &one_code(0x00));
    segment(0xC4, &one_code(0x10));
    segment(0xDA, &[1, 1, 0, 0, 63, 0]);
    jpeg.extend([0x3F, 0xFF, 0xD9]);
    jpeg
}
