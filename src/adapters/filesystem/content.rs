//! The content of a file that may be compressed: where it is, and how it is read.
//!
//! A raw result file is looked for by its name in the work folder first, and where it was recorded
//! then: so a work folder that was moved is read like one that was not. It may stand there
//! compressed, whatever was recorded.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder;

use crate::adapters::regular_file;
use crate::domain::ids::Sha256Hex;
use crate::ports::result_sink::Written;

/// What the name of a compressed file ends with.
pub(super) const COMPRESSED: &str = ".zst";
/// What is read at a time.
pub(super) const BUFFER_BYTES: usize = 1024 * 1024;
/// The longest header of a compressed file.
const HEADER_BYTES: u64 = 18;

/// Whether a path is that of a compressed file.
pub(super) fn is_compressed(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.ends_with(COMPRESSED))
}

/// The path that a file has when it is compressed.
pub(super) fn compressed(path: &Path) -> PathBuf {
    let mut longer: OsString = path.into();
    longer.push(COMPRESSED);
    longer.into()
}

/// The path that it has when it is not.
pub(super) fn plain(path: &Path) -> PathBuf {
    match path.file_name().and_then(|name| name.to_str()) {
        Some(name) => path.with_file_name(name.strip_suffix(COMPRESSED).unwrap_or(name)),
        None => path.to_path_buf(),
    }
}

/// Where the raw results that were recorded under a path are now.
pub(super) fn find(work_dir: &Path, recorded: &Path) -> Option<PathBuf> {
    let own = recorded.file_name();
    let own = own.map(|name| work_dir.join("raw").join(name));
    let places = own.into_iter().chain([recorded.to_path_buf()]);
    for place in places {
        let other = if is_compressed(&place) {
            plain(&place)
        } else {
            compressed(&place)
        };
        for path in [place, other] {
            if path.is_file() {
                return Some(path);
            }
        }
    }
    None
}

/// Opens a file for reading its content.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let (file, _found) = regular_file::open(path)?;
    if !is_compressed(path) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, file)));
    }
    let decoder = Decoder::new(file)?;
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)))
}

/// Size and hash of the content of a file.
pub(super) fn facts(path: &Path) -> io::Result<Written> {
    let mut content = open(path)?;
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    loop {
        let piece = content.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        hasher.update(piece);
        let length = piece.len();
        bytes += length as u64;
        content.consume(length);
    }
    Ok(Written {
        sha256: Sha256Hex::new(hex::encode(hasher.finalize())),
        bytes,
    })
}

/// The size of the content of a file, without reading it; `None` when the file does not say.
pub(super) fn length(path: &Path) -> io::Result<Option<u64>> {
    if !is_compressed(path) {
        return Ok(Some(std::fs::metadata(path)?.len()));
    }
    let mut header = Vec::new();
    File::open(path)?
        .take(HEADER_BYTES)
        .read_to_end(&mut header)?;
    Ok(zstd::zstd_safe::get_frame_content_size(&header).unwrap_or(None))
}

/// Some bytes of the content of a file, fewer where it ends. A compressed file is read from its
/// beginning.
pub(super) fn part(path: &Path, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut content: Box<dyn Read> = if is_compressed(path) {
        let mut content = open(path)?;
        io::copy(&mut content.by_ref().take(offset), &mut io::sink())?;
        Box::new(content)
    } else {
        use std::io::{Seek, SeekFrom};
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        Box::new(file)
    };
    let mut text = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    content.by_ref().take(bytes).read_to_end(&mut text)?;
    Ok(text)
}
