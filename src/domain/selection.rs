//! Which pages are meant: values of the layout's levels, or pages by key.

use std::fmt;

use super::ids::RecordKey;

/// Which values of a level are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LevelFilter {
    /// One of these names.
    OneOf(Vec<String>),
    /// A number from `start` to `end`, both included; `i64::MIN` and `i64::MAX` are open ends.
    Range { start: i64, end: i64 },
}

impl LevelFilter {
    /// Whether a level with this name is meant. A name that is no number is in no range.
    pub fn admits(&self, name: &str) -> bool {
        match self {
            Self::OneOf(names) => names.iter().any(|candidate| candidate == name),
            Self::Range { start, end } => name
                .parse::<i64>()
                .is_ok_and(|number| (*start..=*end).contains(&number)),
        }
    }
}

impl fmt::Display for LevelFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneOf(names) => f.write_str(&names.join(", ")),
            Self::Range { start, end } => match (*start, *end) {
                (i64::MIN, end) => write!(f, "up to {end}"),
                (start, i64::MAX) => write!(f, "from {start}"),
                (start, end) => write!(f, "{start} to {end}"),
            },
        }
    }
}

/// One level of the layout, by its name and its place from 0, and what is meant of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelChoice {
    pub name: String,
    pub place: usize,
    pub filter: LevelFilter,
}

/// Pages that an operator means: those that pass every choice and, where keys are named, are named.
/// An empty selection means all pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub keys: Vec<RecordKey>,
    pub choices: Vec<LevelChoice>,
}

impl Selection {
    /// One page.
    pub fn of_key(key: RecordKey) -> Self {
        Selection {
            keys: vec![key],
            choices: Vec::new(),
        }
    }

    /// Whether nothing is left out.
    pub fn is_all(&self) -> bool {
        self.keys.is_empty() && self.choices.is_empty()
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("all pages");
        }
        let mut parts = Vec::new();
        match self.keys.as_slice() {
            [] => {}
            [key] => parts.push(format!("page {key}")),
            keys => parts.push(format!("{} named pages", keys.len())),
        }
        for choice in &self.choices {
            parts.push(format!("{} {}", choice.name, choice.filter));
        }
        f.write_str(&parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(name: &str, filter: LevelFilter) -> LevelChoice {
        LevelChoice {
            name: name.to_owned(),
            place: 0,
            filter,
        }
    }

    #[test]
    fn a_selection_says_what_it_means() {
        assert_eq!(Selection::default().to_string(), "all pages");
        let one = Selection::of_key(RecordKey::from("A:B:1:2"));
        assert_eq!(one.to_string(), "page A:B:1:2");
        let names = LevelFilter::OneOf(vec!["Alabama".into(), "Ohio".into()]);
        let years = LevelFilter::Range {
            start: 1849,
            end: i64::MAX,
        };
        let some = Selection {
            keys: Vec::new(),
            choices: vec![choice("state", names), choice("year", years)],
        };
        assert_eq!(some.to_string(), "state Alabama, Ohio; year from 1849");
    }

    #[test]
    fn ranges_hold_both_their_ends() {
        let years = LevelFilter::Range {
            start: 1849,
            end: 1852,
        };
        let admitted = ["1848", "1849", "1852", "1853", "0x", ""].map(|name| years.admits(name));
        assert_eq!(admitted, [false, true, true, false, false, false]);
        assert_eq!(years.to_string(), "1849 to 1852");
    }
}
