//! What a setting may be: its kind, range, default and meaning. The list is [`super::table`].

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Section and name, joined by a dot.
    pub path: &'static str,
    pub kind: Kind,
    /// YAML; empty when the setting is optional and absent by default.
    pub default: &'static str,
    /// Meaning, unit and range.
    pub doc: &'static str,
}

/// What a setting's value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Relative to the folder of the configuration file.
    Path,
    Bool,
    /// A whole number in the range, both ends included.
    Integer {
        min: u64,
        max: u64,
    },
    /// A size in the range, both ends included.
    Bytes {
        min: u64,
        max: u64,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A list of some of these words, each at most once.
    Words(&'static [&'static str]),
    /// A list of names, or a range of numbers.
    Filter,
    /// A filter for each of any levels.
    FilterMap,
    /// Parameters of the model, merged name by name.
    Generation,
}

impl Kind {
    /// Whether the value is a mapping whose entries are merged, not replaced.
    pub fn is_map(self) -> bool {
        matches!(self, Kind::FilterMap | Kind::Generation)
    }
}

/// The setting at a dotted path.
pub fn find(path: &str) -> Option<&'static Key> {
    super::table::KEYS.iter().find(|key| key.path == path)
}

/// The setting that a path leads into, such as `filters.where` for `filters.where.school`.
pub fn find_map(path: &str) -> Option<(&'static Key, &str)> {
    super::table::KEYS
        .iter()
        .filter(|key| key.kind.is_map())
        .find_map(|key| {
            let entry = path.strip_prefix(key.path)?.strip_prefix('.')?;
            Some((key, entry))
        })
}

/// The sections, in the order of the list.
pub fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&'static str> = Vec::new();
    for key in super::table::KEYS {
        let section = key
            .path
            .split_once('.')
            .map_or(key.path, |(section, _)| section);
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    sections
}

/// Whether settings stand below a path.
pub fn is_section(path: &str) -> bool {
    let mut keys = super::table::KEYS.iter();
    keys.any(|key| {
        key.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// The setting that someone who wrote `path` most likely meant.
pub fn suggestion(path: &str) -> Option<String> {
    let (section, name) = path.split_once('.').unwrap_or(("", path));
    if section.is_empty() {
        let near_section = closest(name, sections().into_iter());
        let same_name = super::table::KEYS.iter().find(|key| {
            key.path
                .split_once('.')
                .is_some_and(|(_, known)| known == name)
        });
        return near_section.or(same_name.map(|key| key.path.to_owned()));
    }
    let siblings = super::table::KEYS
        .iter()
        .filter_map(|key| key.path.split_once('.'))
        .filter(|(known, _)| *known == section)
        .map(|(_, known)| known);
    if let Some(near) = closest(name, siblings) {
        return Some(format!("{section}.{near}"));
    }
    let elsewhere = super::table::KEYS.iter().find(|key| {
        key.path
            .split_once('.')
            .is_some_and(|(_, known)| known == name)
    });
    if let Some(key) = elsewhere {
        return Some(key.path.to_owned());
    }
    closest(path, super::table::KEYS.iter().map(|key| key.path))
}

/// The nearest of some words, unless even that one is far.
pub fn closest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<String> {
    let word = word.to_lowercase();
    words
        .map(|known| {
            (
                strsim::damerau_levenshtein(&word, &known.to_lowercase()),
                known,
            )
        })
        .filter(|(distance, known)| *distance * 3 <= known.len().max(word.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known.to_owned())
}
