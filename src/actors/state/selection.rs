//! A selection of pages as a condition in SQL.

use sea_orm::Value;
use serde_json::json;

use crate::domain::ids::RecordKey;
use crate::domain::selection::{LevelFilter, Selection};

/// A condition on the table `pages` under the alias `p`, and the parameter that it needs.
pub struct Condition {
    pub sql: String,
    pub value: Value,
}

/// The condition of a selection. `parameter` is the number under which the statement binds
/// [`Condition::value`]; nothing of the selection becomes part of the statement's text.
///
/// Where the outermost levels are single names, the keys of their pages stand together, and the
/// primary key finds them; that is the difference between a book and all pages.
pub fn condition(selection: &Selection, parameter: usize) -> Condition {
    let mut parts = Vec::new();
    let mut values = serde_json::Map::new();
    if !selection.keys.is_empty() {
        let keys = selection.keys.iter().map(RecordKey::as_str);
        values.insert("keys".into(), keys.collect::<Vec<&str>>().into());
        parts.push(format!(
            "p.record_key IN (SELECT value FROM json_each(?{parameter}, '$.keys'))"
        ));
    }
    if let Some(prefix) = prefix(selection) {
        // ';' is the character after ':'.
        values.insert("from".into(), format!("{prefix}:").into());
        values.insert("to".into(), format!("{prefix};").into());
        parts.push(format!(
            "p.record_key >= ?{parameter}->>'$.from' AND p.record_key < ?{parameter}->>'$.to'"
        ));
    }
    for choice in &selection.choices {
        let place = choice.place;
        let level = format!("p.levels->>'$[{place}]'");
        let (value, sql) = match &choice.filter {
            LevelFilter::OneOf(names) => (
                json!(names),
                format!("{level} IN (SELECT value FROM json_each(?{parameter}, '$.l{place}'))"),
            ),
            LevelFilter::Range { start, end } => (
                json!([start, end]),
                format!(
                    "{level} <> '' AND {level} NOT GLOB '*[^0-9]*' AND CAST({level} AS INTEGER) \
                     BETWEEN ?{parameter}->>'$.l{place}[0]' AND ?{parameter}->>'$.l{place}[1]'"
                ),
            ),
        };
        values.insert(format!("l{place}"), value);
        parts.push(sql);
    }
    // A parameter that is never named cannot be bound.
    parts.push(format!("?{parameter} IS NOT NULL"));
    Condition {
        sql: parts.join(" AND "),
        value: serde_json::Value::Object(values).to_string().into(),
    }
}

/// The part of the key that all pages of a selection share.
pub fn prefix(selection: &Selection) -> Option<String> {
    let mut levels = Vec::new();
    loop {
        let mut choices = selection.choices.iter();
        let Some(choice) = choices.find(|choice| choice.place == levels.len()) else {
            break;
        };
        let LevelFilter::OneOf(names) = &choice.filter else {
            break;
        };
        let [name] = names.as_slice() else { break };
        levels.push(crate::domain::layout::encoded_level(name));
    }
    (!levels.is_empty()).then(|| levels.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::selection::LevelChoice;

    fn one(name: &str, place: usize) -> LevelChoice {
        LevelChoice {
            name: "level".into(),
            place,
            filter: LevelFilter::OneOf(vec![name.into()]),
        }
    }

    fn check(choices: Vec<LevelChoice>, expected: Option<&str>) {
        let selection = Selection {
            keys: Vec::new(),
            choices,
        };
        assert_eq!(prefix(&selection).as_deref(), expected);
    }

    #[test]
    fn the_outermost_single_names_narrow_the_keys() {
        check(vec![], None);
        check(vec![one("Alabama", 0)], Some("Alabama"));
        check(
            vec![one("Lincoln: High", 1), one("Ohio", 0)],
            Some("Ohio:Lincoln%3A High"),
        );
        check(vec![one("Lincoln", 1)], None);
        check(vec![one("Ohio", 0), one("1849", 2)], Some("Ohio"));
    }
}
