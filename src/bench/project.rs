//! The project that points are measured on: made pages of the asked size, and the demo's prompt and
//! schema. One project serves all points with images of one size.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::demo::dataset::{self, DatasetError};

/// Pages of one folder.
const BOOK_PAGES: u64 = 250;
/// What every label says; the demo's prompt asks for it.
const LABEL: &[u8] = include_bytes!("../../assets/demo/labels/howard-1.json");
/// The bytes of a kilobyte, as in `--image-kb`.
const KB: u64 = 1_000;

/// A project on disk.
#[derive(Debug, Clone)]
pub struct Project {
    pub labels: PathBuf,
    pub images: PathBuf,
    /// The configuration that its prompt and schema belong to.
    pub config_file: PathBuf,
    pub pages: u64,
    /// Of one image.
    pub image_bytes: u64,
}

/// Why a project cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ProjectFault {
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("cannot write '{}': {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Makes a project of so many pages below a folder that does not exist yet.
pub fn create(root: &Path, pages: u64, image_kb: u64) -> Result<Project, ProjectFault> {
    let dataset = dataset::create(&root.join("demo"))?;
    let (labels, images) = (root.join("labels"), root.join("images"));
    let mut image = Picture::new(image_kb * KB);
    for number in 0..pages {
        let (book, page) = (number / BOOK_PAGES, number % BOOK_PAGES + 1);
        let below = Path::new("Bench")
            .join(format!("Book {book:06}"))
            .join("1900");
        if page == 1 {
            for top in [&labels, &images] {
                let folder = top.join(&below);
                fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
            }
        }
        write(&labels.join(&below).join(format!("{page}.json")), LABEL)?;
        let path = images.join(&below).join(format!("{page}.png"));
        write(&path, image.of_page(number))?;
    }
    Ok(Project {
        labels,
        images,
        config_file: dataset.config_file,
        pages,
        image_bytes: image.file.len() as u64,
    })
}

fn write(path: &Path, content: &[u8]) -> Result<(), ProjectFault> {
    fs::write(path, content).map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> ProjectFault {
    ProjectFault::Io {
        path: path.to_owned(),
        source,
    }
}

/// A PNG of noise, so that nothing on its way makes it smaller. Pages differ in a text that stands
/// before the picture's end.
struct Picture {
    file: Vec<u8>,
    /// Where the text of the page begins.
    text: usize,
}

/// The bytes of a file around its pixels, with one stored block of them.
const AROUND: u64 = 8 + 25 + 12 + 2 + 5 + 4 + TEXT_CHUNK as u64 + 12;
const TEXT_CHUNK: usize = 12 + TEXT_BYTES;
/// "Page", a zero, and a number of 16 digits.
const TEXT_BYTES: usize = 21;
/// The most that one stored block holds.
const BLOCK_BYTES: usize = 65_535;
/// The first byte of a row says how it is coded; then the pixels, one byte each.
const ROW_BYTES: u64 = 1 + 255;

impl Picture {
    /// A picture of about so many bytes, and never less than one row.
    fn new(bytes: u64) -> Self {
        let blocks = bytes / BLOCK_BYTES as u64;
        let pixels = bytes.saturating_sub(AROUND + 5 * blocks);
        let rows = (pixels / ROW_BYTES).clamp(1, u64::from(u32::MAX));
        let raw = noise(rows);
        let mut header = Vec::new();
        header.extend(((ROW_BYTES - 1) as u32).to_be_bytes());
        header.extend((rows as u32).to_be_bytes());
        // Eight bits of gray, and nothing special.
        header.extend([8, 0, 0, 0, 0]);
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        add_chunk(&mut file, *b"IHDR", &header);
        add_chunk(&mut file, *b"IDAT", &stored(&raw));
        let text = file.len();
        add_chunk(&mut file, *b"tEXt", &[0; TEXT_BYTES]);
        add_chunk(&mut file, *b"IEND", &[]);
        Picture { file, text }
    }

    /// The file of one page.
    fn of_page(&mut self, number: u64) -> &[u8] {
        let mut chunk = Vec::with_capacity(TEXT_CHUNK);
        add_chunk(
            &mut chunk,
            *b"tEXt",
            format!("Page\0{number:016}").as_bytes(),
        );
        self.file[self.text..self.text + chunk.len()].copy_from_slice(&chunk);
        &self.file
    }
}

/// Rows of pixels that cannot be compressed, the same ones each time.
fn noise(rows: u64) -> Vec<u8> {
    let mut raw = Vec::new();
    for row in 0..rows {
        raw.push(0);
        for part in 0..(ROW_BYTES - 1).div_ceil(32) {
            let digest = Sha256::digest([row.to_be_bytes(), part.to_be_bytes()].concat());
            raw.extend(&digest[..]);
        }
        raw.truncate(((row + 1) * ROW_BYTES) as usize);
    }
    raw
}

fn add_chunk(file: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    let begin = file.len();
    file.extend(kind);
    file.extend(data);
    let check = crc32(&file[begin..]);
    file.extend(check.to_be_bytes());
}

/// The bytes in stored blocks, as a zlib stream.
fn stored(raw: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = raw.chunks(BLOCK_BYTES).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    let (low, high) = raw.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    stream.extend(((high << 16) | low).to_be_bytes());
    stream
}

fn crc32(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::filesystem::{Filesystem, FilesystemOptions};
    use crate::domain::ids::RecordKey;
    use crate::domain::layout::Layout;
    use crate::ports::page_source::PageSource;

    #[tokio::test]
    async fn made_images_have_their_size_and_pass_the_check_of_a_run() {
        for kb in [1, 40, 200, 1_000] {
            let folder = tempfile::tempdir().unwrap();
            let project = create(&folder.path().join("project"), 2, kb).unwrap();
            let asked = kb * KB;
            let off = project.image_bytes.abs_diff(asked);
            assert!(
                off <= asked / 50 + ROW_BYTES,
                "{kb}: {}",
                project.image_bytes
            );
            let tree = Filesystem::new(FilesystemOptions {
                label_dir: project.labels.clone(),
                image_dir: project.images.clone(),
                output_dir: folder.path().join("outputs"),
                work_dir: folder.path().join("work"),
                layout: Layout::parse("{state}/{school}/{year}/{page}").unwrap(),
                image_bytes_max: u64::MAX,
                line_bytes_max: 1 << 20,
                writers: 1,
                free_bytes_min: 0,
            });
            let mut seen = Vec::new();
            for page in [1, 2] {
                let key = RecordKey::from(format!("Bench:Book 000000:1900:{page}"));
                let (_path, facts) = tree.image(&key).await.unwrap();
                assert_eq!(facts.bytes, project.image_bytes);
                seen.push(facts.sha256);
            }
            assert_ne!(seen[0], seen[1], "pages have images of their own");
        }
    }
}
