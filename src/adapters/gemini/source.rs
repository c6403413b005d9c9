//! A file being uploaded: read in windows, and compared with what it was when it was checked. What is
//! held in memory since it was checked needs neither.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::adapters::regular_file;
use crate::ports::file_api::Upload;

/// The file behind an upload. Reads forward; everything read is hashed once.
pub(super) struct Source {
    file: File,
    hasher: Sha256,
    /// How far the file is read and hashed.
    position: u64,
    bytes: u64,
    sha256: String,
    /// The last window, kept for a resume inside it.
    start: u64,
    window: Bytes,
}

impl Source {
    pub(super) fn open(upload: &Upload) -> io::Result<Self> {
        let (file, found) = regular_file::open(&upload.path)?;
        if found.len() != upload.bytes {
            return Err(changed());
        }
        Ok(Source {
            file,
            hasher: Sha256::new(),
            position: 0,
            bytes: upload.bytes,
            sha256: upload.sha256.as_str().to_ascii_lowercase(),
            start: 0,
            window: Bytes::new(),
        })
    }

    /// The bytes from `offset` on, `length` of them or up to the end. The last window is given out
    /// only when the whole file is still what was checked.
    pub(super) fn window(&mut self, offset: u64, length: usize) -> io::Result<Bytes> {
        let end = self.start + self.window.len() as u64;
        let kept = if (self.start..=end).contains(&offset) {
            let within = usize::try_from(offset - self.start).map_err(io::Error::other)?;
            self.window.slice(within..)
        } else {
            Bytes::new()
        };
        let kept = kept.slice(..kept.len().min(length));
        let from = offset + kept.len() as u64;
        let wanted = (self.bytes - from).min((length - kept.len()) as u64);
        let window = if wanted == 0 {
            kept
        } else {
            self.go_to(from)?;
            let mut joined = Vec::with_capacity(length.min(kept.len() + wanted as usize));
            joined.extend_from_slice(&kept);
            let before = joined.len();
            let read = (&self.file).take(wanted).read_to_end(&mut joined)? as u64;
            if read != wanted {
                return Err(changed());
            }
            self.hasher.update(&joined[before..]);
            self.position += read;
            Bytes::from(joined)
        };
        self.start = offset;
        self.window = window.clone();
        if offset + window.len() as u64 == self.bytes {
            self.check_whole()?;
        }
        Ok(window)
    }

    /// Reads on to `offset`, from the start if it lies behind: only what was hashed counts.
    fn go_to(&mut self, offset: u64) -> io::Result<()> {
        if offset < self.position {
            self.file.seek(SeekFrom::Start(0))?;
            self.hasher = Sha256::new();
            self.position = 0;
        }
        let mut buffer = vec![0; 256 * 1024];
        while self.position < offset {
            let wanted = (offset - self.position).min(buffer.len() as u64) as usize;
            let read = self.file.read(&mut buffer[..wanted])?;
            if read == 0 {
                return Err(changed());
            }
            self.hasher.update(&buffer[..read]);
            self.position += read as u64;
        }
        Ok(())
    }

    fn check_whole(&mut self) -> io::Result<()> {
        if self.position < self.bytes {
            self.go_to(self.bytes)?;
        }
        let has_more = self.file.read(&mut [0])? > 0;
        let digest = hex::encode(self.hasher.clone().finalize());
        // The probe stands at the end either way; a later window starts over if it must.
        if has_more || digest != self.sha256 {
            return Err(changed());
        }
        Ok(())
    }
}

/// Content that is held, as one piece of bytes.
pub(super) fn held(upload: &Upload) -> Option<Bytes> {
    let content = upload.content.as_ref()?;
    let is_whole = content.len() as u64 == upload.bytes;
    is_whole.then(|| Bytes::from_owner(Held(Arc::clone(content))))
}

struct Held(Arc<Vec<u8>>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn changed() -> io::Error {
    io::Error::other("the file is not what it was when it was checked; it changed meanwhile")
}
