//! The emulator under a plain HTTP client: the protocol, the refusals, the answers, the faults.

mod batches;
mod control;
mod faults;
mod kit;
mod refusals;
mod uploads;
