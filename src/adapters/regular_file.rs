//! Opening files that other people put there.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a file for reading, and says what it is. Anything but a regular file is refused, whatever stood there
/// a moment ago: a pipe would keep its reader waiting, a device might never end.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let mut without_waiting = OpenOptions::new();
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    without_waiting
        .read(true)
        .custom_flags(flags.bits().cast_signed());
    let opened = without_waiting
        .open(path)
        .and_then(|file| file.metadata().map(|found| (file, found)));
    match opened {
        Ok((_file, found)) if !found.is_file() => Err(not_regular()),
        Ok(opened) => Ok(opened),
        // What cannot be opened at all, as a socket, or only after its holder lets go of it.
        Err(error) => match fs::metadata(path) {
            Ok(found) if !found.is_file() => Err(not_regular()),
            Ok(found) if error.kind() == io::ErrorKind::WouldBlock => {
                File::open(path).map(|file| (file, found))
            }
            _ => Err(error),
        },
    }
}

fn not_regular() -> io::Error {
    io::Error::other("not a regular file")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_nothing_waits() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), b"text").unwrap();
        let (file, found) = open(&at("file")).unwrap();
        assert_eq!((found.len(), file.metadata().unwrap().len()), (4, 4));
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        assert_eq!(open(&at("link")).unwrap().1.len(), 4);
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        for name in ["pipe", "socket", "folder"] {
            let error = open(&at(name)).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file", "{name}");
            assert_eq!(error.raw_os_error(), None, "{name}: no fault of the disk");
        }
        let error = open(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.to_string(), "not a regular file");
        let error = open(&at("nothing")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
