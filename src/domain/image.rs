//! What is known of an image from its bytes.

use super::failure::words;
use super::ids::{ImageStamp, Sha256Hex};
words! {
    /// The image types that the provider takes.
    ImageType {
        Jpeg => "image/jpeg",
        Png => "image/png",
        Webp => "image/webp",
        Heic => "image/heic",
        Heif => "image/heif",
    }
}

/// An image that may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    pub mime: ImageType,
    pub bytes: u64,
    pub width: u32,
    pub height: u32,
    pub sha256: Sha256Hex,
    /// By which it can be seen later that nothing happened to it; absent where that cannot be told.
    pub stamp: Option<ImageStamp>,
}

/// Why an image may not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageFault {
    #[error("no image beside the label: looked for {looked_for}")]
    Missing { looked_for: String },
    #[error("several images for one page: {0}")]
    Several(String),
    #[error("the image is empty: {0}")]
    Empty(String),
    #[error("the image is {bytes} bytes, over the limit of {limit}: {path}")]
    TooLarge {
        path: String,
        bytes: u64,
        limit: u64,
    },
    #[error("the image is not JPEG, PNG, WebP, HEIC or HEIF, whatever its name says: {0}")]
    Unsupported(String),
    #[error("the image is cut short or damaged ({detail}): {path}")]
    Damaged { path: String, detail: String },
    #[error("the image cannot be read ({detail}): {path}")]
    Unreadable { path: String, detail: String },
    /// The disk is at fault, not the image; it may be read some other time.
    #[error("the disk does not give the image ({detail}): {path}")]
    Disk { path: String, detail: String },
}
