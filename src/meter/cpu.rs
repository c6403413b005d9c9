//! The processor time and the memory of this process and its threads, as the system counts them.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// What this thread has worked so far.
pub fn of_thread() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

/// What all threads of this process have worked so far, those that have ended included.
pub fn of_process() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

/// What the living threads of this process with such a name have worked; `None` where the system
/// does not tell (it does on Linux). The system keeps the first 15 letters of a name.
pub fn of_threads(name: &str) -> Option<Duration> {
    let wanted = &name[..name.len().min(THREAD_NAME_MAX)];
    let mut nanos = 0;
    for entry in fs::read_dir("/proc/self/task").ok()? {
        let folder = entry.ok()?.path();
        // A thread may end between the listing and the look.
        let Ok(found) = fs::read_to_string(folder.join("comm")) else {
            continue;
        };
        if found.trim_end().starts_with(wanted) {
            let text = fs::read_to_string(folder.join("schedstat")).ok()?;
            nanos += text.split(' ').next()?.parse::<u64>().ok()?;
        }
    }
    Some(Duration::from_nanos(nanos))
}

/// The letters of a thread's name that the system keeps.
const THREAD_NAME_MAX: usize = 15;

/// The most memory that this process has held at once, in bytes; `None` where the system does not
/// tell.
pub fn peak_memory_bytes() -> Option<u64> {
    peak_of(&fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The ticks that the machine's processors have worked since its start, and all that there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineTicks {
    busy: u64,
    all: u64,
}

/// The ticks of the machine so far; `None` where the system does not tell.
pub fn of_machine() -> Option<MachineTicks> {
    ticks_of(&fs::read_to_string("/proc/stat").ok()?)
}

fn ticks_of(stat: &str) -> Option<MachineTicks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Option<Vec<u64>> = line
        .split_ascii_whitespace()
        .take(TICK_KINDS)
        .map(|text| text.parse().ok())
        .collect();
    let ticks = ticks?;
    let all: u64 = ticks.iter().sum();
    let idle: u64 = ticks.get(IDLE..=IO_WAIT)?.iter().sum();
    Some(MachineTicks {
        busy: all - idle,
        all,
    })
}

/// User, nice, system, idle, waiting for a disk, two kinds of interrupts, taken by another machine; what
/// follows is counted among these already.
const TICK_KINDS: usize = 8;
const IDLE: usize = 3;
const IO_WAIT: usize = 4;

impl MachineTicks {
    /// Which part of the processors was busy since `before`.
    pub fn busy_since(self, before: MachineTicks) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        let busy = self.busy.checked_sub(before.busy)?;
        Some(busy as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_memory_is_read_from_the_systems_words() {
        let status = "Name:\tpagemill\nVmPeak:\t  900 kB\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(peak_of(status), Some(12345 * 1024));
        assert_eq!(peak_of("Name:\tpagemill\n"), None);
        assert_eq!(peak_of("VmHWM:\tmuch\n"), None);
    }

    #[test]
    fn a_machine_is_busy_where_it_is_neither_idle_nor_waits_for_a_disk() {
        let before = ticks_of("cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 1\n").unwrap();
        let after = ticks_of("cpu  50 0 20 110 20 0 0 0 0 0\ncpu0 1 1\n").unwrap();
        assert_eq!(after.busy_since(before), Some(0.5));
        assert_eq!(before.busy_since(before), None);
        assert_eq!(ticks_of("intr 1 2 3\n"), None);
    }
}
