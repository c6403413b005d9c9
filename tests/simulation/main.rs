//! The crash suite and the seeded simulation: real actors and a real SQLite file in a world where
//! everything else, time included, is a value in the test's hand. `docs/testing.md` says how to run
//! many and how to replay one.

mod clock;
mod crash;
mod disk;
mod gates;
mod history;
mod intended;
mod life;
mod pinned;
mod ports;
mod provider;
mod seeds;
mod watch;
mod weather;
mod world;
