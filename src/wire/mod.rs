//! The provider's protocol: what is sent and what comes back, as functions of values.
//!
//! **Invariant:** nothing here touches a file, the network, a clock or the settings, and no answer,
//! however broken, makes anything here panic.

pub mod alert;
pub mod error;
pub mod file;
mod loose;
pub mod manifest;
pub mod model;
pub mod operation;
pub mod request;
pub mod response;
pub mod schema;
mod usual;
