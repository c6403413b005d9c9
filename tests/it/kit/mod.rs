//! What tests share: a world of one's own, with every port in hand.

pub mod fake_provider;
pub mod large_state;
pub mod manual_clock;
pub mod memory_tree;
pub mod notices;
pub mod probe;
pub mod sandbox;
pub mod schedule;
pub mod state_world;
