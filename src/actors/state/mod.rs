//! StateActor: the only owner of the database connection.

pub mod messages;
