//! Labels, images, outputs, spooled requests, raw results and reports on a file system.
//!
//! **Invariant:** a path below a configured folder is built from a key by
//! [`crate::domain::layout::Layout`] only, nothing is written outside the configured folders, and
//! whatever is reported as written is synced.

mod archive;
mod audit;
mod content;
mod durable;
pub mod export;
mod folder_stamp;
mod image;
mod image_end;
mod image_folders;
mod image_stamp;
mod inside;
mod leftovers;
mod outputs;
mod parallel;
pub mod place;
mod raw;
mod room;
mod sink;
mod source;
mod spool;
mod walk;
mod walk_book;

pub use source::{Filesystem, FilesystemOptions};
