//! The file system adapter against real folders.

mod archive;
mod disk;
mod images;
mod outputs;
mod paths;
mod raw;
mod walk;
mod world;
