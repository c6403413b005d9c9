//! Flags that say which pages are meant, for the commands that look at pages or change them.

use std::path::PathBuf;

use clap::Args;

use crate::domain::ids::RecordKey;
use crate::domain::layout::Layout;
use crate::domain::selection::{LevelChoice, LevelFilter, Selection};

/// Chooses pages by the levels of the layout, or by key.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which pages")]
pub struct SelectArgs {
    /// All pages
    #[arg(long, conflicts_with_all = ["keys", "keys_from", "states", "schools", "year_start", "year_end", "wheres"])]
    pub all: bool,
    /// These pages, by record key
    #[arg(long = "key", num_args = 1.., value_name = "KEY")]
    pub keys: Vec<String>,
    /// The pages named in this file, one record key a line; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub keys_from: Option<PathBuf>,
    /// Only these values of the level `state`
    #[arg(long, num_args = 1.., value_name = "STATE")]
    pub states: Vec<String>,
    /// Only these values of the level `school`
    #[arg(long, num_args = 1.., value_name = "SCHOOL")]
    pub schools: Vec<String>,
    /// Only years from this one on (level `year`)
    #[arg(long, value_name = "YEAR")]
    pub year_start: Option<i64>,
    /// Only years up to this one (level `year`)
    #[arg(long, value_name = "YEAR")]
    pub year_end: Option<i64>,
    /// Only this value, or these numbers, of any level; values of one level add up
    #[arg(long = "where", value_name = "LEVEL=VALUE|FROM..TO")]
    pub wheres: Vec<String>,
}

/// Flags that do not say which pages are meant.
#[derive(Debug, thiserror::Error)]
pub enum SelectFault {
    #[error(
        "--where takes LEVEL=VALUE or LEVEL=FROM..TO, such as --where year=1849..1852, not '{0}'"
    )]
    NotAnAssignment(String),
    #[error("the layout has no level '{level}'; its levels are {names}: use --where LEVEL=VALUE")]
    NoLevel { level: String, names: String },
    #[error("the level '{level}' is limited twice, by a range and by something else; keep one")]
    Twice { level: String },
    #[error("the range of '{level}' starts at {start}, after its end {end}")]
    Reversed { level: String, start: i64, end: i64 },
    #[error(
        "'{key}' is no record key of this layout: write {form}, with %3A for a colon and %25 for a percent sign within a level"
    )]
    NoKey { key: String, form: String },
    #[error("{path} cannot be read: {fault}")]
    KeysFrom { path: String, fault: std::io::Error },
    #[error("{path} names no page")]
    NoKeys { path: String },
    #[error(
        "say which pages: --all, --key KEY, or one of --states, --schools, --year-start, --year-end, --where"
    )]
    Nothing,
}

impl SelectArgs {
    /// Whether no flag was given, `--all` included.
    pub fn is_empty(&self) -> bool {
        !self.all && self.names_nothing()
    }

    fn names_nothing(&self) -> bool {
        self.keys.is_empty()
            && self.keys_from.is_none()
            && self.states.is_empty()
            && self.schools.is_empty()
            && self.year_start.is_none()
            && self.year_end.is_none()
            && self.wheres.is_empty()
    }

    /// The selection; saying nothing is a fault, for commands that change something.
    pub fn required(&self, layout: &Layout) -> Result<Selection, SelectFault> {
        if self.is_empty() {
            return Err(SelectFault::Nothing);
        }
        self.selection(layout)
    }

    /// The selection; saying nothing means all pages.
    pub fn selection(&self, layout: &Layout) -> Result<Selection, SelectFault> {
        let mut choices = Choices {
            layout,
            found: Vec::new(),
        };
        if !self.states.is_empty() {
            choices.names("state", &self.states)?;
        }
        if !self.schools.is_empty() {
            choices.names("school", &self.schools)?;
        }
        if self.year_start.is_some() || self.year_end.is_some() {
            let start = self.year_start.unwrap_or(i64::MIN);
            choices.range("year", start, self.year_end.unwrap_or(i64::MAX))?;
        }
        for text in &self.wheres {
            let fault = || SelectFault::NotAnAssignment(text.clone());
            let (level, value) = text.split_once('=').ok_or_else(fault)?;
            match value.split_once("..") {
                Some((start, end)) => {
                    let bound = |text: &str, open: i64| match text {
                        "" => Ok(open),
                        _ => text.parse().map_err(|_no_number| fault()),
                    };
                    choices.range(level, bound(start, i64::MIN)?, bound(end, i64::MAX)?)?;
                }
                None => choices.names(level, &[value.to_owned()])?,
            }
        }
        Ok(Selection {
            keys: self.all_keys(layout)?,
            choices: choices.found,
        })
    }

    fn all_keys(&self, layout: &Layout) -> Result<Vec<RecordKey>, SelectFault> {
        let mut texts = self.keys.clone();
        if let Some(path) = &self.keys_from {
            let shown = path.display().to_string();
            let read = if shown == "-" {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(path)
            };
            let text = read.map_err(|fault| SelectFault::KeysFrom {
                path: shown.clone(),
                fault,
            })?;
            let named = text
                .lines()
                .map(str::trim_end)
                .filter(|line| !line.is_empty());
            let before = texts.len();
            texts.extend(named.map(str::to_owned));
            if texts.len() == before {
                return Err(SelectFault::NoKeys { path: shown });
            }
        }
        let keys = texts.iter().map(|text| known_key(layout, text));
        keys.collect()
    }
}

/// A key that fits the layout.
pub fn known_key(layout: &Layout, text: &str) -> Result<RecordKey, SelectFault> {
    let key = RecordKey::from(text);
    match layout.levels(&key) {
        Ok(_levels) => Ok(key),
        Err(_fault) => Err(SelectFault::NoKey {
            key: text.to_owned(),
            form: layout.names().join(":"),
        }),
    }
}

struct Choices<'a> {
    layout: &'a Layout,
    found: Vec<LevelChoice>,
}

impl Choices<'_> {
    fn place(&self, level: &str) -> Result<usize, SelectFault> {
        let names = self.layout.names();
        let place = names.iter().position(|name| name == level);
        place.ok_or_else(|| SelectFault::NoLevel {
            level: level.to_owned(),
            names: names.join(", "),
        })
    }

    fn names(&mut self, level: &str, values: &[String]) -> Result<(), SelectFault> {
        let place = self.place(level)?;
        let known = self.found.iter_mut().find(|choice| choice.place == place);
        match known.map(|choice| &mut choice.filter) {
            Some(LevelFilter::OneOf(names)) => names.extend(values.iter().cloned()),
            Some(LevelFilter::Range { .. }) => {
                return Err(SelectFault::Twice {
                    level: level.to_owned(),
                });
            }
            None => self.add(level, place, LevelFilter::OneOf(values.to_vec())),
        }
        Ok(())
    }

    fn range(&mut self, level: &str, start: i64, end: i64) -> Result<(), SelectFault> {
        let place = self.place(level)?;
        if start > end {
            return Err(SelectFault::Reversed {
                level: level.to_owned(),
                start,
                end,
            });
        }
        if self.found.iter().any(|choice| choice.place == place) {
            return Err(SelectFault::Twice {
                level: level.to_owned(),
            });
        }
        self.add(level, place, LevelFilter::Range { start, end });
        Ok(())
    }

    fn add(&mut self, level: &str, place: usize, filter: LevelFilter) {
        self.found.push(LevelChoice {
            name: level.to_owned(),
            place,
            filter,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::parse("{state}/{school}/{year}/{page}").unwrap()
    }

    fn check(args: SelectArgs, expected: &str) {
        let said = match args.required(&layout()) {
            Ok(selection) => selection.to_string(),
            Err(fault) => format!("fault: {fault}"),
        };
        assert_eq!(said, expected);
    }

    fn wheres(texts: &[&str]) -> SelectArgs {
        SelectArgs {
            wheres: texts.iter().map(|text| (*text).to_owned()).collect(),
            ..SelectArgs::default()
        }
    }

    #[test]
    fn s1_17_flags_name_levels_and_ranges() {
        check(
            SelectArgs {
                states: vec!["California".into()],
                schools: vec!["LincolnHigh".into(), "RooseveltHigh".into()],
                year_start: Some(2020),
                year_end: Some(2023),
                ..SelectArgs::default()
            },
            "state California; school LincolnHigh, RooseveltHigh; year 2020 to 2023",
        );
        check(
            wheres(&["state=Ohio", "state=Alabama"]),
            "state Ohio, Alabama",
        );
        check(wheres(&["year=1849..1852"]), "year 1849 to 1852");
        check(wheres(&["year=1849.."]), "year from 1849");
        check(
            SelectArgs {
                all: true,
                ..SelectArgs::default()
            },
            "all pages",
        );
    }

    #[test]
    fn flags_that_say_nothing_useful_are_refused_with_what_to_type() {
        check(
            SelectArgs::default(),
            "fault: say which pages: --all, --key KEY, or one of --states, --schools, \
             --year-start, --year-end, --where",
        );
        check(
            wheres(&["town=Lima"]),
            "fault: the layout has no level 'town'; its levels are state, school, year, page: \
             use --where LEVEL=VALUE",
        );
        check(
            wheres(&["year=5..1"]),
            "fault: the range of 'year' starts at 5, after its end 1",
        );
        check(
            wheres(&["year=1..5", "year=7"]),
            "fault: the level 'year' is limited twice, by a range and by something else; keep one",
        );
        check(
            wheres(&["year"]),
            "fault: --where takes LEVEL=VALUE or LEVEL=FROM..TO, such as --where year=1849..1852, \
             not 'year'",
        );
        check(
            SelectArgs {
                keys: vec!["Ohio:1".into()],
                ..SelectArgs::default()
            },
            "fault: 'Ohio:1' is no record key of this layout: write state:school:year:page, with \
             %3A for a colon and %25 for a percent sign within a level",
        );
    }
}
