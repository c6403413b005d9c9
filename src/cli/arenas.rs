//! Few arenas for the memory of a run.
//!
//! The allocator of the C library gives nearly every thread an arena of its own and returns little
//! of one that was large once. A run has many threads that each do large work now and then, so that
//! it would hold several times what it uses.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The variable by which the C library is told; it reads it once, when a process begins.
const VARIABLE: &str = "MALLOC_ARENA_MAX";
/// Small pieces come from what each thread keeps for itself in any case.
const ARENAS: &str = "1";

/// Begins this process anew with few arenas, unless the variable says already how many. Where that
/// cannot be done, it goes on as it is and takes more memory.
pub fn hold_few() {
    if env::var_os(VARIABLE).is_some() {
        return;
    }
    let Ok(program) = env::current_exe() else {
        return;
    };
    let mut arguments = env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // It returns only when it failed.
    let _as_it_is = again.args(arguments).env(VARIABLE, ARENAS).exec();
}
