//! The layout: how folders and file names become record keys, and back.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::ids::RecordKey;

/// The longest file or folder name, in bytes, that common file systems take.
pub const LEVEL_BYTES_MAX: usize = 255;
/// The most levels a layout may have.
pub const LEVELS_MAX: usize = 16;

/// The names of the levels below a source folder; the last one is the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    names: Vec<String>,
}

/// Why a text is not a layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("'{0}' is not a level: write a name in braces, such as {{state}}")]
    NotALevel(String),
    #[error(
        "the level name '{0}' must be letters, digits and underscores, and start with a letter"
    )]
    BadName(String),
    #[error("the level name '{0}' is taken: the prompt already calls something else by it")]
    Reserved(String),
    #[error("the level name '{0}' stands twice")]
    Twice(String),
    #[error("a layout has 1 to {LEVELS_MAX} levels, not {0}")]
    Depth(usize),
}

/// Why a text is not a key of this layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("key '{key}' has {found} levels, but the layout has {wanted}")]
    Depth {
        key: String,
        found: usize,
        wanted: usize,
    },
    #[error("key '{key}': {fault}")]
    Level { key: String, fault: LevelFault },
    #[error(
        "key '{0}' has a percent sign that is not followed by two uppercase hex digits of an encoded character"
    )]
    Encoding(String),
}

/// Why a name cannot be a level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LevelFault {
    #[error("a level is empty")]
    Empty,
    #[error("a level is '.' or '..'")]
    Dots,
    #[error("a level contains a slash or a NUL")]
    Separator,
    #[error("a level is longer than {LEVEL_BYTES_MAX} bytes")]
    TooLong,
    #[error("the page '{0}' is not a whole number from 0 to 4294967295")]
    NotANumber(String),
}

/// The names that the prompt template uses for other things.
const RESERVED: [&str; 4] = ["key", "label", "previous", "previous_context"];

impl Layout {
    /// Reads a layout such as `{state}/{school}/{year}/{page}`.
    pub fn parse(text: &str) -> Result<Self, LayoutError> {
        let mut names: Vec<String> = Vec::new();
        for part in text.trim_matches('/').split('/') {
            let name = part
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'))
                .ok_or_else(|| LayoutError::NotALevel(part.to_owned()))?;
            let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic());
            if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(LayoutError::BadName(name.to_owned()));
            }
            if RESERVED.contains(&name) {
                return Err(LayoutError::Reserved(name.to_owned()));
            }
            if names.iter().any(|known| known == name) {
                return Err(LayoutError::Twice(name.to_owned()));
            }
            names.push(name.to_owned());
        }
        if names.is_empty() || names.len() > LEVELS_MAX {
            return Err(LayoutError::Depth(names.len()));
        }
        Ok(Layout { names })
    }

    /// The level names in order; the last one is the page.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many folders stand above a page.
    pub fn book_depth(&self) -> usize {
        self.names.len() - 1
    }

    /// The key of the page at these levels, or what is wrong with one of them.
    pub fn key(&self, levels: &[&str]) -> Result<RecordKey, KeyError> {
        let shown = || levels.join("/");
        if levels.len() != self.names.len() {
            return Err(KeyError::Depth {
                key: shown(),
                found: levels.len(),
                wanted: self.names.len(),
            });
        }
        let mut key = String::with_capacity(levels.iter().map(|level| level.len() + 1).sum());
        for (position, level) in levels.iter().enumerate() {
            check_level(level).map_err(|fault| KeyError::Level {
                key: shown(),
                fault,
            })?;
            if position > 0 {
                key.push(':');
            }
            encode_level(level, &mut key);
        }
        let page = levels[levels.len() - 1];
        page_number(page).map_err(|fault| KeyError::Level {
            key: shown(),
            fault,
        })?;
        Ok(RecordKey::new(key))
    }

    /// The key of a book at these levels: the prefix of its pages' keys.
    pub fn book_key(&self, levels: &[&str]) -> Result<String, LevelFault> {
        let mut key = String::new();
        for (position, level) in levels.iter().enumerate() {
            check_level(level)?;
            if position > 0 {
                key.push(':');
            }
            encode_level(level, &mut key);
        }
        Ok(key)
    }

    /// The key of a page in a book whose key is known.
    pub fn page_key(&self, book: &str, stem: &str) -> Result<RecordKey, LevelFault> {
        check_level(stem)?;
        page_number(stem)?;
        let mut key = String::with_capacity(book.len() + 1 + stem.len());
        key.push_str(book);
        if !book.is_empty() {
            key.push(':');
        }
        encode_level(stem, &mut key);
        Ok(RecordKey::new(key))
    }

    /// The levels of a key of this layout, decoded and checked: the only way from a key to a path.
    pub fn levels(&self, key: &RecordKey) -> Result<Vec<String>, KeyError> {
        let text = key.as_str();
        let levels = text
            .split(':')
            .map(|level| decode_level(level).ok_or_else(|| KeyError::Encoding(text.to_owned())))
            .collect::<Result<Vec<String>, KeyError>>()?;
        let borrowed: Vec<&str> = levels.iter().map(String::as_str).collect();
        let again = self.key(&borrowed)?;
        if again != *key {
            return Err(KeyError::Encoding(text.to_owned()));
        }
        Ok(levels)
    }

    /// The path of a page below `root`, with the given extension (without a dot).
    pub fn path(&self, root: &Path, key: &RecordKey, extension: &str) -> Result<PathBuf, KeyError> {
        let levels = self.levels(key)?;
        let (page, folders) = levels
            .split_last()
            .expect("a layout has at least one level");
        let mut path = root.to_path_buf();
        path.extend(folders);
        path.push(format!("{page}.{extension}"));
        Ok(path)
    }
}

/// The number of a page whose file stem is `stem`: decimal digits only.
pub fn page_number(stem: &str) -> Result<u32, LevelFault> {
    let digits_only = !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
    digits_only
        .then(|| stem.parse().ok())
        .flatten()
        .ok_or_else(|| LevelFault::NotANumber(stem.to_owned()))
}

fn check_level(level: &str) -> Result<(), LevelFault> {
    match level {
        "" => Err(LevelFault::Empty),
        "." | ".." => Err(LevelFault::Dots),
        _ if level.contains(['/', '\0']) => Err(LevelFault::Separator),
        _ if level.len() > LEVEL_BYTES_MAX => Err(LevelFault::TooLong),
        _ => Ok(()),
    }
}

/// A level as it stands in keys.
pub fn encoded_level(level: &str) -> String {
    let mut encoded = String::with_capacity(level.len());
    encode_level(level, &mut encoded);
    encoded
}

/// A level of a key as it was named; one that nobody encoded stays as it is.
pub fn decoded_level(level: &str) -> String {
    decode_level(level).unwrap_or_else(|| level.to_owned())
}

/// Encodes what would make a key ambiguous (`%`, `:`) or break a line (control characters).
fn encode_level(level: &str, into: &mut String) {
    for character in level.chars() {
        match character {
            '%' | ':' => write_encoded(character, into),
            _ if character.is_ascii_control() => write_encoded(character, into),
            _ => into.push(character),
        }
    }
}

fn write_encoded(character: char, into: &mut String) {
    write!(into, "%{:02X}", u32::from(character)).expect("writing to a string cannot fail");
}

fn decode_level(level: &str) -> Option<String> {
    let mut decoded = String::with_capacity(level.len());
    let mut rest = level;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let byte = u8::from_str_radix(rest.get(at + 1..at + 3)?, 16).ok()?;
        if !byte.is_ascii() {
            return None;
        }
        decoded.push(char::from(byte));
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default_layout() -> Layout {
        Layout::parse("{state}/{school}/{year}/{page}").unwrap()
    }

    fn check_round_trip(levels: [&str; 4], expected: &str) {
        let layout = default_layout();
        let key = layout.key(&levels).unwrap();
        assert_eq!(key.as_str(), expected);
        assert_eq!(layout.levels(&key).unwrap(), levels);
    }

    #[test]
    fn keys_round_trip() {
        check_round_trip(
            ["Alabama", "Howard College", "1849", "14"],
            "Alabama:Howard College:1849:14",
        );
        check_round_trip(["a:b", "50%", "x", "4"], "a%3Ab:50%25:x:4");
        check_round_trip(["%3A", "-lead", "\"q'", "04"], "%253A:-lead:\"q':04");
        check_round_trip(
            ["Élève 学校", "a\nb", "\u{7f}", "0"],
            "Élève 学校:a%0Ab:%7F:0",
        );
    }

    fn check_refused(levels: &[&str]) {
        assert!(default_layout().key(levels).is_err(), "{levels:?}");
    }

    #[test]
    fn what_is_no_page_has_no_key() {
        check_refused(&["a", "b", "c"]);
        check_refused(&["a", "b", "c", "d", "5"]);
        check_refused(&["a", "..", "c", "5"]);
        check_refused(&["a", "", "c", "5"]);
        check_refused(&["a", "b/c", "c", "5"]);
        check_refused(&["a", "b\0", "c", "5"]);
        check_refused(&["a", "b", "c", "five"]);
        check_refused(&["a", "b", "c", "+5"]);
        check_refused(&["a", "b", "c", "4294967296"]);
        check_refused(&[&"x".repeat(256), "b", "c", "5"]);
    }

    #[test]
    fn a_foreign_key_builds_no_path() {
        let layout = default_layout();
        for text in [
            "..:..:..:1",
            "a:b:c",
            "a:b:c:%41",
            "a:b%2Fc:d:1",
            "a:b:%:1",
            "/etc:b:c:1",
        ] {
            let key = RecordKey::from(text);
            assert!(
                layout.path(Path::new("/out"), &key, "json").is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_key_gives_one_path() {
        let key = RecordKey::from("a%3Ab:50%25:x:04");
        let path = default_layout()
            .path(Path::new("/out"), &key, "json")
            .unwrap();
        assert_eq!(path, Path::new("/out/a:b/50%/x/04.json"));
    }

    #[test]
    fn layouts_are_checked() {
        assert_eq!(Layout::parse("{page}").unwrap().book_depth(), 0);
        assert!(Layout::parse("{a}/{a}").is_err());
        assert!(Layout::parse("state/{page}").is_err());
        assert!(Layout::parse("{label}/{page}").is_err());
        assert!(Layout::parse("{1a}/{page}").is_err());
        assert!(Layout::parse("").is_err());
    }
}
