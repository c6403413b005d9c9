//! What went wrong for others with large batch jobs, note by note; `docs/testing.md` lists them.

mod answers;
mod brakes;
mod collecting;
mod runs;
mod sending;
mod settings;
