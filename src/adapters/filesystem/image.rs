//! Finding a page's image and saying whether it may be sent.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, statat};
use sha2::{Digest, Sha256};

use super::durable::{gone, is_disk_fault};
use super::image_end::{JpegEnd, heif_fault, png_fault, webp_fault};
use super::image_folders::ImageFolders;
use super::image_stamp;
use crate::adapters::regular_file;
use crate::domain::ids::{RecordKey, Sha256Hex};
use crate::domain::image::{ImageFacts, ImageFault, ImageType};
use crate::domain::layout::{KeyError, Layout};
use crate::ports::page_source::{Content, SourceError};

const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "heic", "heif"];
/// The same in the other case.
const EXTENSIONS_UPPER: [&str; 6] = ["JPG", "JPEG", "PNG", "WEBP", "HEIC", "HEIF"];
/// How much of a file says what it is.
const HEAD_BYTES: usize = 64;
/// How much of a file is held at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Files up to this size are read in one piece, which is handed on.
const HELD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Finds the one image of a page and checks it; gives its bytes too, unless they are many.
pub(super) fn find_and_check(
    folders: &ImageFolders,
    (root, layout): (&Path, &Layout),
    key: &RecordKey,
    bytes_max: u64,
) -> Result<(PathBuf, ImageFacts, Option<Content>), ImageFault> {
    let checked = find(folders, (root, layout), key).and_then(|path| {
        let (facts, content) = check(&path, bytes_max)?;
        Ok((path, facts, content))
    });
    checked.map_err(|fault| match fault {
        ImageFault::Missing { .. } | ImageFault::Unreadable { .. } => match gone(root) {
            Some(SourceError { path, message, .. }) => ImageFault::Disk {
                path,
                detail: message,
            },
            None => fault,
        },
        other => other,
    })
}

/// A failed look at a file: the disk's fault, or that of the file.
fn unreadable(path: &Path, error: &io::Error) -> ImageFault {
    let (path, detail) = (path.display().to_string(), error.to_string());
    if is_disk_fault(error) {
        ImageFault::Disk { path, detail }
    } else {
        ImageFault::Unreadable { path, detail }
    }
}

/// The path of a page's image but for its extension.
pub(super) fn stem(root: &Path, layout: &Layout, key: &RecordKey) -> Result<PathBuf, KeyError> {
    Ok(layout.path(root, key, "")?.with_extension(""))
}

fn find(
    folders: &ImageFolders,
    (root, layout): (&Path, &Layout),
    key: &RecordKey,
) -> Result<PathBuf, ImageFault> {
    let stem = stem(root, layout, key).map_err(|error| ImageFault::Missing {
        looked_for: error.to_string(),
    })?;
    let mut found = folders.named(&stem);
    if found.is_empty() {
        found = named(&stem)?;
    }
    if found.is_empty() {
        found = match list(&stem) {
            Err(error) if is_disk_fault(&error) => return Err(unreadable(&stem, &error)),
            listed => listed.unwrap_or_default(),
        };
    }
    if found.len() > 1 {
        // Where the file system does not tell cases apart, one file answers to two names.
        found.sort_by_cached_key(|path| fs::canonicalize(path).ok());
        found.dedup_by_key(|path| fs::canonicalize(&*path).unwrap_or_else(|_| path.clone()));
    }
    match found.len() {
        0 => Err(ImageFault::Missing {
            looked_for: format!("{}.{{{}}}", stem.display(), EXTENSIONS.join(",")),
        }),
        1 => Ok(found.remove(0)),
        _ => {
            found.sort();
            let names: Vec<String> = found
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Err(ImageFault::Several(names.join(", ")))
        }
    }
}

/// The images of a stem whose extension is in one case. Listing a folder for each of its pages would be slow
/// where a folder has many; names are simply tried, in the folder, which is looked up once.
fn named(stem: &Path) -> Result<Vec<PathBuf>, ImageFault> {
    let (Some(parent), Some(name)) = (stem.parent(), stem.file_name()) else {
        return Ok(Vec::new());
    };
    let folder = match open_folder(parent) {
        Ok(folder) => folder,
        Err(error) if is_disk_fault(&error) => return Err(unreadable(stem, &error)),
        Err(_absent) => return Ok(Vec::new()),
    };
    let mut found = Vec::new();
    for extension in EXTENSIONS.into_iter().chain(EXTENSIONS_UPPER) {
        let mut file = name.to_owned();
        file.push(".");
        file.push(extension);
        match statat(&folder, &file, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from) {
            Ok(_there) => found.push(parent.join(file)),
            Err(error) if is_disk_fault(&error) => {
                return Err(unreadable(&parent.join(file), &error));
            }
            Err(_absent) => {}
        }
    }
    Ok(found)
}

/// A folder, only to look names up in it.
fn open_folder(folder: &Path) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    let how = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    let how = OFlags::RDONLY;
    let how = how | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, how, Mode::empty())?)
}

/// The images of a stem in its folder, whatever the case of their extensions.
fn list(stem: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let Some(folder) = stem.parent() else {
        return Ok(found);
    };
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.with_extension("") == stem && is_image_name(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

fn is_image_name(path: &Path) -> bool {
    path.extension().is_some_and(is_image_extension)
}

/// Whether files with this extension are images.
pub(super) fn is_image_extension(extension: &OsStr) -> bool {
    EXTENSIONS
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// Checks an image: kind by its first bytes, size, dimensions, end, hash.
fn check(path: &Path, bytes_max: u64) -> Result<(ImageFacts, Option<Content>), ImageFault> {
    let shown = path.display().to_string();
    let (mut file, found) = regular_file::open(path).map_err(|error| unreadable(path, &error))?;
    let length = found.len();
    if length == 0 {
        return Err(ImageFault::Empty(shown));
    }
    if length > bytes_max {
        return Err(ImageFault::TooLarge {
            path: shown,
            bytes: length,
            limit: bytes_max,
        });
    }
    let scan = if length <= HELD_BYTES_MAX {
        scan_at_once(&mut file, length)
    } else {
        scan(&mut file)
    };
    let scan = scan.map_err(|error| unreadable(path, &error))?;
    if scan.bytes != length {
        let changed = io::Error::other("it changed while it was read");
        return Err(unreadable(path, &changed));
    }
    let mime = image_type(&scan.head).ok_or_else(|| ImageFault::Unsupported(shown.clone()))?;
    let damaged = |detail: String| ImageFault::Damaged {
        path: shown.clone(),
        detail,
    };
    let fault = match mime {
        ImageType::Jpeg if scan.is_whole_jpeg => Ok(None),
        ImageType::Jpeg => Ok(Some("no end-of-image marker".to_owned())),
        ImageType::Png => png_fault(&mut file, length),
        ImageType::Webp => webp_fault(&mut file, length),
        ImageType::Heic | ImageType::Heif => heif_fault(&mut file, length),
    };
    match fault {
        Ok(None) => {}
        Ok(Some(detail)) => return Err(damaged(detail)),
        Err(error) if is_disk_fault(&error) => return Err(unreadable(path, &error)),
        // The walk asks only for bytes that the file should have.
        Err(error) => return Err(damaged(error.to_string())),
    }
    let (width, height) = match &scan.content {
        Some(content) => dimensions(Cursor::new(content.as_slice())),
        None => dimensions(BufReader::new(&file)),
    }
    .map_err(damaged)?;
    let facts = ImageFacts {
        mime,
        bytes: length,
        width,
        height,
        sha256: scan.sha256,
        stamp: image_stamp::of_read(path, &file, &found),
    };
    Ok((facts, scan.content))
}

/// What one pass over a file tells.
struct Scan {
    head: Vec<u8>,
    bytes: u64,
    sha256: Sha256Hex,
    is_whole_jpeg: bool,
    /// The whole file, where it was read at once.
    content: Option<Content>,
}

/// Reads a file of an expected length in one piece, and no further than one byte beyond it.
fn scan_at_once(file: &mut File, length: u64) -> io::Result<Scan> {
    let room = usize::try_from(length).map_err(io::Error::other)?;
    let mut content = Vec::with_capacity(room.saturating_add(1));
    let bytes = file
        .take(length.saturating_add(1))
        .read_to_end(&mut content)? as u64;
    let mut jpeg = JpegEnd::new();
    jpeg.feed(&content);
    Ok(Scan {
        head: content[..content.len().min(HEAD_BYTES)].to_vec(),
        bytes,
        sha256: Sha256Hex::new(hex::encode(Sha256::digest(&content))),
        is_whole_jpeg: jpeg.is_whole(),
        content: Some(Content::new(content)),
    })
}

fn scan(file: &mut File) -> io::Result<Scan> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let mut hasher = Sha256::new();
    let mut jpeg = JpegEnd::new();
    let mut bytes: u64 = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        let piece = &buffer[..read];
        let missing = (HEAD_BYTES - head.len()).min(read);
        head.extend_from_slice(&piece[..missing]);
        hasher.update(piece);
        jpeg.feed(piece);
        bytes += read as u64;
    }
    Ok(Scan {
        head,
        bytes,
        sha256: Sha256Hex::new(hex::encode(hasher.finalize())),
        is_whole_jpeg: jpeg.is_whole(),
        content: None,
    })
}

/// The kind of an image by its first bytes; its name counts for nothing.
fn image_type(head: &[u8]) -> Option<ImageType> {
    let starts = |at: usize, with: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(with));
    if starts(0, b"\xff\xd8\xff") {
        return Some(ImageType::Jpeg);
    }
    if starts(0, b"\x89PNG\r\n\x1a\n") {
        return Some(ImageType::Png);
    }
    if starts(0, b"RIFF") && starts(8, b"WEBP") {
        return Some(ImageType::Webp);
    }
    if !starts(4, b"ftyp") {
        return None;
    }
    const HEIC: [&[u8]; 8] = [
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs",
    ];
    match head.get(8..12)? {
        brand if HEIC.contains(&brand) => Some(ImageType::Heic),
        // A general brand: the compatible ones tell the coding.
        b"mif1" | b"msf1" | b"mif2" => {
            let declared = u32::from_be_bytes(head.get(..4)?.try_into().ok()?) as usize;
            let brands = head.get(16..declared.min(head.len()))?.chunks(4);
            let mut kind = ImageType::Heif;
            for brand in brands {
                if brand == b"avif" || brand == b"avis" {
                    return None;
                }
                if HEIC.contains(&brand) {
                    kind = ImageType::Heic;
                }
            }
            Some(kind)
        }
        _ => None,
    }
}

fn dimensions(mut image: impl BufRead + Seek) -> Result<(u32, u32), String> {
    image
        .seek(SeekFrom::Start(0))
        .map_err(|error| error.to_string())?;
    let size = imagesize::reader_size(image).map_err(|error| error.to_string())?;
    match (u32::try_from(size.width), u32::try_from(size.height)) {
        (Ok(width), Ok(height)) if width > 0 && height > 0 => Ok((width, height)),
        _ => Err(format!("{} x {} pixels", size.width, size.height)),
    }
}
