//! Where the bytes of an upload are while it lasts.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::files::{Content, DiskFile};
use super::world::random_id;

/// Content up to this size stays in memory.
const MEMORY_BYTES_MAX: usize = 1_048_576;

/// Where committed bytes are; what lies beyond the committed length is of an unfinished chunk.
pub(super) enum Kept {
    Nothing,
    Memory(Vec<u8>),
    Disk(File, DiskFile),
}

impl Kept {
    /// Drops what lies beyond the committed bytes.
    pub(super) fn rewind(&mut self, bytes: u64) -> io::Result<()> {
        match self {
            Kept::Nothing => {}
            Kept::Memory(kept) => kept.truncate(usize::try_from(bytes).unwrap_or(usize::MAX)),
            Kept::Disk(file, _) => {
                file.set_len(bytes)?;
                file.seek(SeekFrom::Start(bytes))?;
            }
        }
        Ok(())
    }

    /// Takes a piece; what grows too large for memory goes to disk.
    pub(super) fn push(&mut self, piece: &[u8], folder: &Path) -> io::Result<()> {
        if let Kept::Memory(kept) = self
            && kept.len() + piece.len() > MEMORY_BYTES_MAX
        {
            let path: PathBuf = folder.join(format!("upload-{}", random_id(24)));
            let mut file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)?;
            file.write_all(kept)?;
            *self = Kept::Disk(file, DiskFile::new(path));
        }
        match self {
            Kept::Nothing => Ok(()),
            Kept::Memory(kept) => {
                kept.extend_from_slice(piece);
                Ok(())
            }
            Kept::Disk(file, _) => file.write_all(piece),
        }
    }

    /// Hands the bytes over to the file they make.
    pub(super) fn into_content(self) -> Content {
        match self {
            Kept::Nothing => Content::Forgotten,
            Kept::Memory(kept) => Content::Memory(kept),
            Kept::Disk(_, kept) => Content::Disk(kept),
        }
    }
}
