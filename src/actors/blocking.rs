//! Small pieces of work for the blocking pool.

use sha2::{Digest, Sha256};

use crate::domain::ids::Sha256Hex;

/// The SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Sha256Hex {
    Sha256Hex::from(hex::encode(Sha256::digest(bytes)))
}
