//! What several test modules share.

pub mod state_world;
