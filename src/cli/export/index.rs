//! `index.json`: every page of an export, a line a page, in the order of the keys. It is JSON for
//! everyone, and for pagemill a file that is read and written line by line, however long it is.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::StateFormat;
use crate::domain::page::PageStage;
use crate::domain::time::Timestamp;

/// The version of the index.
const VERSION: u32 = 1;
/// The name of the index below the root.
pub const NAME: &str = "index.json";
/// The folder of the documents below the root.
pub const FOLDER: &str = "processed";

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    /// Below the root, with slashes.
    pub path: String,
    pub stage: String,
    pub sha256: String,
}

impl Entry {
    fn line(&self) -> String {
        let key = Value::from(self.key.as_str());
        let said = json!({"path": self.path, "stage": self.stage, "sha256": self.sha256});
        format!("{key}: {said}")
    }

    fn parse(line: &str) -> Option<Entry> {
        let whole: Value = serde_json::from_str(&format!("{{{line}}}")).ok()?;
        let (key, said) = whole.as_object()?.iter().next()?;
        let text = |name: &str| Some(said.get(name)?.as_str()?.to_owned());
        Some(Entry {
            key: key.clone(),
            path: text("path")?,
            stage: text("stage")?,
            sha256: text("sha256")?,
        })
    }

    /// Where the document is, if the path can be one of an export: in its folder, and with its ending.
    pub fn place(&self, root: &Path) -> Option<PathBuf> {
        let path = Path::new(&self.path);
        let extension = path.extension().and_then(|end| end.to_str());
        let is_document = extension.and_then(StateFormat::parse).is_some();
        let is_below = path.starts_with(FOLDER)
            && path
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
        (is_document && is_below).then(|| root.join(path))
    }
}

/// What an index says of itself, before its pages and behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub format: StateFormat,
    /// Whether every page was exported, and not only some that were chosen.
    pub complete: bool,
}

/// An index that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexFault {
    #[error("{path} cannot be read: {fault}")]
    Unreadable { path: String, fault: io::Error },
    #[error("{path} is not as pagemill writes it: {detail}")]
    Foreign { path: String, detail: String },
}

/// Reads an index, entry by entry.
pub struct Reader {
    path: PathBuf,
    pub head: Head,
    lines: io::Lines<BufReader<File>>,
    ahead: Option<Entry>,
    sums: Sums,
    /// What the index says its sums are, once its end was read.
    said: Option<Value>,
}

impl Reader {
    /// Opens the index of an export; `None` where there is none.
    pub fn open(root: &Path) -> Result<Option<Reader>, IndexFault> {
        let path = root.join(NAME);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(fault) => {
                let path = path.display().to_string();
                return Err(IndexFault::Unreadable { path, fault });
            }
        };
        let mut lines = BufReader::new(file).lines();
        let mut head = String::new();
        loop {
            let line = next_line(&path, &mut lines)?;
            let line = line.ok_or_else(|| foreign(&path, "it ends too early"))?;
            if line == "\"pages\": {" {
                break;
            }
            head.push_str(&line);
        }
        let head = read_head(&path, &head)?;
        let mut reader = Reader {
            path,
            head,
            lines,
            ahead: None,
            sums: Sums::default(),
            said: None,
        };
        reader.advance()?;
        Ok(Some(reader))
    }

    /// The entry that is next.
    pub fn peek(&self) -> Option<&Entry> {
        self.ahead.as_ref()
    }

    /// Takes the next entry.
    pub fn take(&mut self) -> Result<Option<Entry>, IndexFault> {
        let taken = self.ahead.take();
        if taken.is_some() {
            self.advance()?;
        }
        Ok(taken)
    }

    /// Whether the index's sums are those of its entries; to be asked at its end.
    pub fn adds_up(&self) -> bool {
        self.said.as_ref() == Some(&self.sums.value())
    }

    fn advance(&mut self) -> Result<(), IndexFault> {
        let line = next_line(&self.path, &mut self.lines)?;
        let line = line.ok_or_else(|| foreign(&self.path, "it ends too early"))?;
        if line == "}," {
            let mut rest = String::from("{");
            while let Some(line) = next_line(&self.path, &mut self.lines)? {
                rest.push_str(&line);
            }
            let said = serde_json::from_str(&rest);
            self.said = Some(said.map_err(|error| foreign(&self.path, &error.to_string()))?);
            return Ok(());
        }
        let line = line.strip_suffix(',').unwrap_or(&line);
        let entry = Entry::parse(line);
        let entry = entry.ok_or_else(|| foreign(&self.path, "a line is no page"))?;
        self.sums.add(&entry);
        self.ahead = Some(entry);
        Ok(())
    }
}

fn foreign(path: &Path, detail: &str) -> IndexFault {
    IndexFault::Foreign {
        path: path.display().to_string(),
        detail: detail.to_owned(),
    }
}

fn next_line(
    path: &Path,
    lines: &mut impl Iterator<Item = io::Result<String>>,
) -> Result<Option<String>, IndexFault> {
    lines
        .next()
        .transpose()
        .map_err(|fault| IndexFault::Unreadable {
            path: path.display().to_string(),
            fault,
        })
}

fn read_head(path: &Path, text: &str) -> Result<Head, IndexFault> {
    let whole = format!("{}}}", text.trim_end_matches(','));
    let head: Value =
        serde_json::from_str(&whole).map_err(|error| foreign(path, &error.to_string()))?;
    if head["version"] != VERSION {
        return Err(foreign(path, "it is of another version"));
    }
    let format = head["format"].as_str().and_then(StateFormat::parse);
    Ok(Head {
        format: format.ok_or_else(|| foreign(path, "it names no format"))?,
        complete: head["complete"] == true,
    })
}

/// What stands behind the pages: how many of each stage, and a hash of their lines.
#[derive(Default)]
pub struct Sums {
    pub pages: u64,
    /// In the order of the stages.
    by_stage: [u64; PageStage::ALL.len()],
    hasher: Sha256,
}

impl Sums {
    fn add(&mut self, entry: &Entry) {
        self.pages += 1;
        let place = PageStage::ALL
            .iter()
            .position(|stage| stage.as_str() == entry.stage);
        if let Some(place) = place {
            self.by_stage[place] += 1;
        }
        self.hasher.update(entry.line());
        self.hasher.update("\n");
    }

    /// How many pages of each stage there are.
    pub fn stages(&self) -> Value {
        let counts = PageStage::ALL.iter().zip(&self.by_stage);
        counts
            .map(|(stage, count)| (stage.as_str().to_owned(), json!(count)))
            .collect::<serde_json::Map<String, Value>>()
            .into()
    }

    fn value(&self) -> Value {
        json!({
            "count": self.pages,
            "stages": self.stages(),
            "checksum": hex::encode(self.hasher.clone().finalize()),
        })
    }
}

/// Writes an index, entry by entry.
pub struct Writer<W: Write> {
    out: W,
    pub sums: Sums,
}

impl<W: Write> Writer<W> {
    /// Begins it.
    pub fn new(mut out: W, head: &Head, at: Timestamp) -> io::Result<Self> {
        writeln!(out, "{{")?;
        writeln!(out, "\"version\": {VERSION},")?;
        writeln!(out, "\"format\": \"{}\",", head.format.as_str())?;
        writeln!(out, "\"complete\": {},", head.complete)?;
        writeln!(out, "\"exported_at\": \"{at}\",")?;
        writeln!(out, "\"pages\": {{")?;
        Ok(Writer {
            out,
            sums: Sums::default(),
        })
    }

    /// Adds the next page; keys come in order.
    pub fn add(&mut self, entry: &Entry) -> io::Result<()> {
        if self.sums.pages > 0 {
            writeln!(self.out, ",")?;
        }
        self.sums.add(entry);
        write!(self.out, "{}", entry.line())
    }

    /// Ends it.
    pub fn finish(mut self) -> io::Result<(W, Sums)> {
        if self.sums.pages > 0 {
            writeln!(self.out)?;
        }
        writeln!(self.out, "}},")?;
        let sums = serde_json::to_string_pretty(&self.sums.value())?;
        let sums = sums.strip_prefix("{\n").unwrap_or(&sums);
        writeln!(self.out, "{sums}")?;
        Ok((self.out, self.sums))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str) -> Entry {
        Entry {
            key: key.to_owned(),
            path: format!("processed/{}.yaml", key.replace(':', "/")),
            stage: "completed".to_owned(),
            sha256: "ab".to_owned(),
        }
    }

    fn written(root: &Path, entries: &[Entry]) {
        let file = File::create(root.join(NAME)).unwrap();
        let head = Head {
            format: StateFormat::Yaml,
            complete: true,
        };
        let mut writer = Writer::new(file, &head, Timestamp::EPOCH).unwrap();
        for entry in entries {
            writer.add(entry).unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn s2_08_an_index_is_json_and_is_read_back_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(Reader::open(root).unwrap().is_none());
        for entries in [
            vec![],
            vec![entry("a:1")],
            vec![entry("a:1"), entry("\"b\n:2")],
        ] {
            written(root, &entries);
            let text = std::fs::read_to_string(root.join(NAME)).unwrap();
            let whole: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(whole["count"], entries.len());
            assert_eq!(whole["stages"]["completed"], entries.len());
            assert_eq!(whole["pages"].as_object().unwrap().len(), entries.len());
            let mut reader = Reader::open(root).unwrap().unwrap();
            let mut read = Vec::new();
            while let Some(entry) = reader.take().unwrap() {
                read.push(entry);
            }
            assert_eq!(read, entries);
            assert!(reader.adds_up());
        }
    }

    #[test]
    fn an_index_that_was_changed_does_not_add_up_or_is_foreign() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        written(root, &[entry("a:1"), entry("a:2")]);
        let path = root.join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("\"ab\"", "\"cd\"", 1)).unwrap();
        let mut reader = Reader::open(root).unwrap().unwrap();
        while reader.take().unwrap().is_some() {}
        assert!(!reader.adds_up());
        for other in ["", "{}", "{\n\"version\": 1,\n\"pages\": {\nx\n"] {
            std::fs::write(&path, other).unwrap();
            assert!(Reader::open(root).is_err(), "{other}");
        }
    }

    #[test]
    fn only_documents_of_the_export_have_a_place() {
        let at = |path: &str| {
            let path = path.to_owned();
            Entry {
                path,
                ..entry("a:1")
            }
            .place(Path::new("/x"))
        };
        assert!(at("processed/a/1.yaml").is_some());
        for path in [
            "/etc/1.yaml",
            "processed/../../1.yaml",
            "other/1.yaml",
            "processed/1.txt",
            "index.json",
        ] {
            assert_eq!(at(path), None, "{path}");
        }
    }
}
