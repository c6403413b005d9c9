//! The file system adapter against real folders.

mod disk;
mod images;
mod outputs;
mod raw;
mod walk;
mod world;
