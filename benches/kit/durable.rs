//! Many files written durably by a bare program: the floor of whoever writes outputs.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Files that all threads together have open at a time, as the program's own limit is.
const OPEN_MAX: usize = 192;

/// When a thread syncs what it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    /// Each file as soon as it is written.
    AtOnce,
    /// Some files, which the system is told to begin with before the first of them is synced.
    SetOut,
}

/// Writes so many files by so many threads: `file` says which and what. Their folders are not synced.
pub fn write_files(
    count: usize,
    threads: usize,
    syncs: Syncs,
    file: impl Fn(usize) -> (PathBuf, Vec<u8>) + Sync,
) {
    let together = match syncs {
        Syncs::AtOnce => 1,
        Syncs::SetOut => (OPEN_MAX / threads).min(count.div_ceil(threads)).max(1),
    };
    let next = AtomicUsize::new(0);
    let write = |first: usize| {
        let last = (first + together).min(count);
        let begun: Vec<(File, PathBuf)> = (first..last)
            .map(|at| {
                let (path, content) = file(at);
                let mut part = File::create(path.with_extension("tmp")).unwrap();
                part.write_all(&content).unwrap();
                if syncs == Syncs::SetOut {
                    let begin = rustix::fs::Advice::DontNeed;
                    rustix::fs::fadvise(&part, 0, None, begin).unwrap();
                }
                (part, path)
            })
            .collect();
        for (part, path) in begun {
            part.sync_all().unwrap();
            fs::rename(path.with_extension("tmp"), path).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let first = next.fetch_add(together, Ordering::Relaxed);
                    if first >= count {
                        break;
                    }
                    write(first);
                }
            });
        }
    });
}
