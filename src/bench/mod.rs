//! The work behind `pagemill bench`: which points are measured, the project they are measured on, one
//! measured run in a process of its own, what follows from the figures, and how they are written down.
//!
//! **Invariant:** nothing here touches the state, the outputs or the work folder of a project: every
//! measured run has its own, and the rules that judge figures are in `decide`.

pub mod children;
pub mod facts;
pub mod files;
pub mod history;
pub mod html;
pub mod knobs;
pub mod live;
pub mod measured;
pub mod plan;
pub mod plot;
pub mod point;
pub mod project;
pub mod sweep;
#[cfg(test)]
pub mod tests;
