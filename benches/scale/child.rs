//! Processes that are measured from outside, and end with this one.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// The argument that makes this executable another program, tied to its parent.
pub const TIED: &str = "--tied";
/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What a process took, so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// The most that was resident at once, as the system counted it, in bytes.
    pub peak: u64,
    /// The most of its own that was seen resident at once, without mapped files, in bytes.
    pub own: u64,
}

/// A process that is killed when this value, or this process, goes away.
pub struct Tied {
    child: Child,
    memory: Memory,
}

/// Becomes the program that follows [`TIED`] in the arguments, after asking the system to kill it
/// when its parent ends. Returns when the arguments name none.
pub fn become_tied() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != TIED) {
        return;
    }
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    // A parent that was gone before the request would never be noticed.
    assert!(getppid().is_some_and(|parent| parent.as_raw_nonzero().get() > 1));
    let program = arguments.next().unwrap();
    panic!("{}", Command::new(program).args(arguments).exec());
}

impl Tied {
    /// Starts `pagemill` in `folder`; what it prints goes to files there, named after `name`.
    pub fn pagemill(folder: &Path, name: &str, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let file = |kind: &str| File::create(folder.join(format!("{name}.{kind}"))).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .arg(TIED)
            .arg(env!("CARGO_BIN_EXE_pagemill"))
            .args(arguments)
            .current_dir(folder)
            .env_remove("PAGEMILL_CONFIG")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap();
        Tied {
            child,
            memory: Memory::default(),
        }
    }

    /// Waits until it ends by itself; gives how, and its memory. Fails after `patience`.
    pub fn end(mut self, patience: Duration) -> (ExitStatus, Memory) {
        let since = Instant::now();
        loop {
            self.look();
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.memory);
            }
            assert!(since.elapsed() < patience, "no end after {patience:?}");
            thread::sleep(LOOK);
        }
    }

    /// Waits until `done` says so, at most for `patience`; says whether it did.
    pub fn until(&mut self, patience: Duration, mut done: impl FnMut() -> bool) -> bool {
        let since = Instant::now();
        while since.elapsed() < patience {
            self.look();
            if done() {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return done();
            }
            thread::sleep(LOOK);
        }
        false
    }

    fn look(&mut self) {
        let path = format!("/proc/{}/status", self.child.id());
        let Ok(status) = fs::read_to_string(path) else {
            return;
        };
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
            Some(kibibytes * 1024)
        };
        let Memory { peak, own } = &mut self.memory;
        *peak = (*peak).max(of("VmHWM:").unwrap_or(0));
        *own = (*own).max(of("RssAnon:").unwrap_or(0));
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
