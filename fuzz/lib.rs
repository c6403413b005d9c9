//! The bodies of `tests/fuzz`, for libFuzzer. Nothing lives here but the way to them.

#[path = "../tests/fuzz/bodies.rs"]
pub mod bodies;
