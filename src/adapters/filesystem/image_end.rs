//! Whether an image reaches its end: a file cut short costs as much to have read as a whole one.
//!
//! Pixels are not decoded. Each format says where it ends, and that is what is looked for; what a
//! camera appends behind the end does no harm.

use std::io::{self, Read, Seek, SeekFrom};

/// Follows a JPEG through its segments and scans, fed in pieces.
#[derive(Debug)]
pub(super) struct JpegEnd {
    state: Jpeg,
    has_scan: bool,
}

#[derive(Debug, Clone, Copy)]
enum Jpeg {
    /// Between segments.
    Between,
    /// After a 0xFF between segments.
    Marker,
    LengthHigh {
        code: u8,
    },
    LengthLow {
        code: u8,
        high: u8,
    },
    Segment {
        code: u8,
        left: usize,
    },
    /// In compressed data.
    Scan,
    /// After a 0xFF in compressed data.
    ScanMarker,
    End,
}

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;

impl JpegEnd {
    pub(super) fn new() -> Self {
        JpegEnd {
            state: Jpeg::Between,
            has_scan: false,
        }
    }

    /// Takes the next bytes of the file.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                Jpeg::End => return,
                Jpeg::Segment { code, left } => {
                    let step = left.min(bytes.len() - at);
                    at += step;
                    self.state = Self::in_segment(code, left - step);
                }
                Jpeg::Scan | Jpeg::Between => match memchr::memchr(0xFF, &bytes[at..]) {
                    Some(found) => {
                        at += found + 1;
                        self.state = match self.state {
                            Jpeg::Scan => Jpeg::ScanMarker,
                            _ => Jpeg::Marker,
                        };
                    }
                    None => return,
                },
                other => {
                    self.state = self.after(other, bytes[at]);
                    at += 1;
                }
            }
        }
    }

    /// Whether the image ended, and had data before its end.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.state, Jpeg::End) && self.has_scan
    }

    fn after(&mut self, state: Jpeg, byte: u8) -> Jpeg {
        match (state, byte) {
            // Fill bytes.
            (Jpeg::Marker | Jpeg::ScanMarker, 0xFF) => state,
            // An escaped 0xFF or a restart marker.
            (Jpeg::ScanMarker, 0x00 | 0xD0..=0xD7) => Jpeg::Scan,
            (Jpeg::Marker | Jpeg::ScanMarker, END_OF_IMAGE) => Jpeg::End,
            // Markers without a segment.
            (Jpeg::Marker, 0x00 | 0x01 | 0xD0..=0xD8) => Jpeg::Between,
            (Jpeg::Marker | Jpeg::ScanMarker, code) => {
                self.has_scan |= code == START_OF_SCAN;
                Jpeg::LengthHigh { code }
            }
            (Jpeg::LengthHigh { code }, high) => Jpeg::LengthLow { code, high },
            (Jpeg::LengthLow { code, high }, low) => {
                // The length counts its own two bytes.
                let length = usize::from(u16::from_be_bytes([high, low]));
                Self::in_segment(code, length.saturating_sub(2))
            }
            (other, _) => other,
        }
    }

    fn in_segment(code: u8, left: usize) -> Jpeg {
        match left {
            0 if code == START_OF_SCAN => Jpeg::Scan,
            0 => Jpeg::Between,
            left => Jpeg::Segment { code, left },
        }
    }
}

/// Walks the chunks of a PNG; `None` when it reaches IEND, else what is wrong.
pub(super) fn png_fault<R: Read + Seek>(file: &mut R, length: u64) -> io::Result<Option<String>> {
    let mut at: u64 = 8;
    loop {
        if at + 12 > length {
            return Ok(Some("no IEND chunk".to_owned()));
        }
        let head: [u8; 8] = read_at(file, at)?;
        let (size, kind) = head.split_at(4);
        at += 12 + u64::from(be_u32(size));
        if at > length {
            let kind = String::from_utf8_lossy(kind).into_owned();
            return Ok(Some(format!("the chunk {kind:?} is cut short")));
        }
        if kind == b"IEND" {
            return Ok(None);
        }
    }
}

/// Compares the size that a WebP declares with the one it has.
pub(super) fn webp_fault<R: Read + Seek>(file: &mut R, length: u64) -> io::Result<Option<String>> {
    let size: [u8; 4] = read_at(file, 4)?;
    let declared = u64::from(u32::from_le_bytes(size)) + 8;
    Ok((declared > length).then(|| format!("{length} of {declared} bytes are there")))
}

/// Walks the boxes of a HEIC or HEIF; `None` when each fits and there is a picture in them.
pub(super) fn heif_fault<R: Read + Seek>(file: &mut R, length: u64) -> io::Result<Option<String>> {
    let mut at: u64 = 0;
    let mut has_meta = false;
    while at + 8 <= length {
        let head: [u8; 8] = read_at(file, at)?;
        let (size, kind) = head.split_at(4);
        let size = match be_u32(size) {
            // To the end of the file.
            0 => length - at,
            1 if at + 16 <= length => u64::from_be_bytes(read_at(file, at + 8)?),
            size => u64::from(size),
        };
        let end = at.saturating_add(size);
        if size < 8 || end > length {
            let kind = String::from_utf8_lossy(kind).into_owned();
            return Ok(Some(format!("the box {kind:?} is cut short")));
        }
        has_meta |= kind == b"meta";
        at = end;
    }
    Ok((!has_meta).then(|| "no meta box".to_owned()))
}

fn read_at<R: Read + Seek, const N: usize>(file: &mut R, at: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &[u8] = b"\xff\xd8\xff\xe0\x00\x04\xff\xd9\xff\xda\x00\x03\x01ab\xff\x00c\xff\xd3d\xff\xc4\x00\x02\xff\xda\x00\x02x\xff\xff\xd9tail";

    fn is_whole(bytes: &[u8], piece: usize) -> bool {
        let mut end = JpegEnd::new();
        bytes.chunks(piece).for_each(|piece| end.feed(piece));
        end.is_whole()
    }

    #[test]
    fn a_jpeg_ends_where_its_last_scan_ends() {
        let end = SMALL.len() - 4;
        for piece in [1, 2, 3, 100] {
            assert!(is_whole(SMALL, piece));
            assert!(is_whole(&SMALL[..end], piece));
            for cut in 0..end {
                assert!(!is_whole(&SMALL[..cut], piece), "{cut}");
            }
        }
        assert!(!is_whole(b"\xff\xd8\xff\xd9", 9), "an end without a scan");
    }
}
