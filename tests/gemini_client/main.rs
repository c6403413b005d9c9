//! The Gemini client against a scripted server on loopback.

mod create;
mod download;
mod recordings;
mod secrets;
mod server;
mod upload;
