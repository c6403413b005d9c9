//! Many files written durably by a bare program: the floor of whoever writes outputs.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Files that a thread writes before it syncs the first of them, where they are set out together. Sixteen threads
/// then have as many open as the program has.
pub const SET_OUT: usize = 12;

/// Writes so many files by so many threads, which take up to `together` at a time and sync each of them: `file` says which
/// and what. Of several the system is told to begin with each. Their folders are not synced.
pub fn write_files(
    count: usize,
    threads: usize,
    together: usize,
    file: impl Fn(usize) -> (PathBuf, Vec<u8>) + Sync,
) {
    let together = together.min(count.div_ceil(threads)).max(1);
    let next = AtomicUsize::new(0);
    let write = |first: usize| {
        let last = (first + together).min(count);
        let begun: Vec<(File, PathBuf)> = (first..last)
            .map(|at| {
                let (path, content) = file(at);
                let mut part = File::create(path.with_extension("tmp")).unwrap();
                part.write_all(&content).unwrap();
                if together > 1 {
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
