//! The filters of the settings as a scope of the layout, and its short name.

use serde_yaml::Value;
use sha2::{Digest, Sha256};

use super::fault::Fault;
use super::raw::kind_of;
use crate::domain::ids::ScopeToken;
use crate::domain::layout::Layout;
use crate::ports::page_source::{LevelFilter, Scope};

/// Reads one filter: a list, one name, or a mapping with `start` and `end`.
pub fn read_filter(path: &str, value: &Value) -> Result<LevelFilter, Fault> {
    match value {
        Value::Sequence(items) => {
            let names = items.iter().map(name).collect::<Option<Vec<String>>>();
            let names = names.ok_or_else(|| {
                Fault::new(
                    path,
                    "holds something that is no name",
                    "list names, in quotes if in doubt",
                )
            })?;
            if names.is_empty() {
                return Err(Fault::new(
                    path,
                    "is an empty list and would leave nothing",
                    "name at least one value, or take the filter out",
                ));
            }
            Ok(LevelFilter::OneOf(names))
        }
        Value::Mapping(_) => read_range(path, value),
        Value::String(_) | Value::Number(_) => {
            Ok(LevelFilter::OneOf(name(value).into_iter().collect()))
        }
        _ => Err(Fault::new(
            path,
            format!("is {}, not a filter", kind_of(value)),
            "write a list such as [Alabama, California] or {start: 1849, end: 1852}",
        )),
    }
}

fn read_range(path: &str, value: &Value) -> Result<LevelFilter, Fault> {
    let remedy = "write {start: 1849, end: 1852}, both included";
    let names = value.as_mapping().into_iter().flat_map(|map| map.keys());
    for key in names {
        if key
            .as_str()
            .is_none_or(|key| key != "start" && key != "end")
        {
            return Err(Fault::new(
                path,
                "a range has start and end and nothing else",
                remedy,
            ));
        }
    }
    let bound = |name: &str, open: i64| match value.get(name) {
        None | Some(Value::Null) => Ok(open),
        Some(number) => number
            .as_i64()
            .ok_or_else(|| Fault::new(format!("{path}.{name}"), "is not a whole number", remedy)),
    };
    let (start, end) = (bound("start", i64::MIN)?, bound("end", i64::MAX)?);
    if start > end {
        return Err(Fault::new(
            path,
            format!("starts at {start}, after its end {end}"),
            remedy,
        ));
    }
    if start == i64::MIN && end == i64::MAX {
        return Err(Fault::new(path, "has neither start nor end", remedy));
    }
    Ok(LevelFilter::Range { start, end })
}

fn name(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(_) | Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
        Value::Tagged(_) => None,
    }
}

/// Puts filters in their places in the layout.
pub fn place(
    layout: &Layout,
    filters: Vec<(String, String, LevelFilter)>,
    faults: &mut Vec<Fault>,
) -> Scope {
    let mut levels: Vec<Option<LevelFilter>> = vec![None; layout.names().len()];
    for (path, level, filter) in filters {
        let Some(position) = layout.names().iter().position(|name| *name == level) else {
            faults.push(Fault::new(
                path,
                format!("the layout has no level '{level}'"),
                format!(
                    "its levels are {}; use filters.where",
                    layout.names().join(", ")
                ),
            ));
            continue;
        };
        if levels[position].is_some() {
            faults.push(Fault::new(
                path,
                format!("the level '{level}' is filtered twice"),
                "keep one of the filters",
            ));
            continue;
        }
        levels[position] = Some(filter);
    }
    Scope { levels }
}

/// The short name of a scope: the same for the same choice, however its lists are ordered.
pub fn token(layout: &Layout, scope: &Scope) -> ScopeToken {
    let mut hash = Sha256::new();
    let mut feed = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    feed("pagemill scope 1");
    for (name, filter) in layout.names().iter().zip(&scope.levels) {
        feed(name);
        match filter {
            None => feed("all"),
            Some(LevelFilter::Range { start, end }) => feed(&format!("range {start} {end}")),
            Some(LevelFilter::OneOf(names)) => {
                let mut names = names.clone();
                names.sort();
                names.dedup();
                feed(&format!("one of {}", names.len()));
                for name in &names {
                    feed(name);
                }
            }
        }
    }
    let digest = hex::encode(hash.finalize());
    ScopeToken::new(&digest[..16])
}
