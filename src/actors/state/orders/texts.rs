//! Orders and their answers as the JSON that `orders.arguments` and `orders.answer` hold.

use serde_json::{Value, json};

use crate::actors::state::messages::StateResult;
use crate::actors::state::rows::corrupt;
use crate::domain::ids::{BatchId, KeyFingerprint, RecordKey};
use crate::domain::order::{Effects, Order, OrderKind, Priority};
use crate::domain::selection::{LevelChoice, LevelFilter, Selection};

/// The arguments of an order.
pub(super) fn arguments(order: &Order) -> String {
    let value = match order {
        Order::Pause | Order::Resume => json!({}),
        Order::Skip { which } | Order::Unskip { which } => {
            json!({"which": selection_json(which)})
        }
        Order::ClearFailures { which, done_only } => {
            json!({"which": selection_json(which), "done_only": done_only})
        }
        Order::Redo {
            which,
            reset_failures,
        } => json!({"which": selection_json(which), "reset_failures": reset_failures}),
        Order::Prioritize { which, priority } => {
            json!({"which": selection_json(which), "priority": priority.as_str()})
        }
        Order::Note { key, text } => json!({"key": key.as_str(), "text": text}),
        Order::Rekey { from, to } => {
            let from: Vec<&str> = from.iter().map(KeyFingerprint::as_str).collect();
            json!({"from": from, "to": to.as_str()})
        }
        Order::Nuke { recreate_tables } => json!({"recreate_tables": recreate_tables}),
        Order::CancelBatch { batch } => json!({"batch_id": batch.as_str()}),
        Order::ForgetBatch {
            batch,
            cancel_remote,
        } => json!({"batch_id": batch.as_str(), "cancel_remote": cancel_remote}),
    };
    value.to_string()
}

fn selection_json(which: &Selection) -> Value {
    let keys: Vec<&str> = which.keys.iter().map(RecordKey::as_str).collect();
    let levels: Vec<Value> = which
        .choices
        .iter()
        .map(|choice| {
            let LevelChoice {
                name,
                place,
                filter,
            } = choice;
            match filter {
                LevelFilter::OneOf(names) => {
                    json!({"name": name, "place": place, "one_of": names})
                }
                LevelFilter::Range { start, end } => {
                    json!({"name": name, "place": place, "start": start, "end": end})
                }
            }
        })
        .collect();
    json!({"keys": keys, "levels": levels})
}

/// The order that a row holds.
pub(super) fn order(thing: &str, kind: OrderKind, arguments: &str) -> StateResult<Order> {
    let read = || -> Option<Order> {
        let value: Value = serde_json::from_str(arguments).ok()?;
        let which = || selection(value.get("which")?);
        let batch = || Some(BatchId::from(value.get("batch_id")?.as_str()?));
        let order = match kind {
            OrderKind::Pause => Order::Pause,
            OrderKind::Resume => Order::Resume,
            OrderKind::ClearFailures => Order::ClearFailures {
                which: which()?,
                done_only: value.get("done_only")?.as_bool()?,
            },
            OrderKind::Redo => Order::Redo {
                which: which()?,
                reset_failures: value.get("reset_failures")?.as_bool()?,
            },
            OrderKind::Skip => Order::Skip { which: which()? },
            OrderKind::Unskip => Order::Unskip { which: which()? },
            OrderKind::Prioritize => Order::Prioritize {
                which: which()?,
                priority: Priority::parse(value.get("priority")?.as_str()?)?,
            },
            OrderKind::Note => Order::Note {
                key: RecordKey::from(value.get("key")?.as_str()?),
                text: value.get("text")?.as_str()?.to_owned(),
            },
            OrderKind::Rekey => {
                let from = value.get("from")?.as_array()?.iter();
                let from = from.map(|key| key.as_str().map(KeyFingerprint::from));
                Order::Rekey {
                    from: from.collect::<Option<Vec<KeyFingerprint>>>()?,
                    to: KeyFingerprint::from(value.get("to")?.as_str()?),
                }
            }
            OrderKind::Nuke => Order::Nuke {
                recreate_tables: value.get("recreate_tables")?.as_bool()?,
            },
            OrderKind::CancelBatch => Order::CancelBatch { batch: batch()? },
            OrderKind::ForgetBatch => Order::ForgetBatch {
                batch: batch()?,
                cancel_remote: value.get("cancel_remote")?.as_bool()?,
            },
        };
        Some(order)
    };
    read().ok_or_else(|| corrupt(thing, format!("arguments do not fit '{kind}': {arguments}")))
}

fn selection(value: &Value) -> Option<Selection> {
    let keys = value.get("keys")?.as_array()?.iter();
    let keys = keys.map(|key| key.as_str().map(RecordKey::from));
    let levels = value.get("levels")?.as_array()?.iter();
    let choices = levels.map(|level| {
        let filter = match level.get("one_of") {
            Some(names) => {
                let names = names.as_array()?.iter();
                let names = names.map(|name| name.as_str().map(str::to_owned));
                LevelFilter::OneOf(names.collect::<Option<Vec<String>>>()?)
            }
            None => LevelFilter::Range {
                start: level.get("start")?.as_i64()?,
                end: level.get("end")?.as_i64()?,
            },
        };
        Some(LevelChoice {
            name: level.get("name")?.as_str()?.to_owned(),
            place: usize::try_from(level.get("place")?.as_u64()?).ok()?,
            filter,
        })
    });
    Some(Selection {
        keys: keys.collect::<Option<Vec<RecordKey>>>()?,
        choices: choices.collect::<Option<Vec<LevelChoice>>>()?,
    })
}

/// What an order did, as JSON.
pub fn effects_json(effects: &Effects) -> Value {
    let Effects { counts, message } = effects;
    let counts: serde_json::Map<String, Value> = counts
        .iter()
        .map(|(word, count)| (word.clone(), json!(count)))
        .collect();
    json!({"counts": counts, "message": message})
}

/// What an order did, of its row.
pub(super) fn effects(thing: &str, answer: &str) -> StateResult<Effects> {
    let read = || -> Option<Effects> {
        let value: Value = serde_json::from_str(answer).ok()?;
        let mut effects = Effects::default();
        for (word, count) in value
            .get("counts")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            effects.add(word, count.as_u64()?);
        }
        if let Some(message) = value.get("message").and_then(Value::as_str) {
            message.clone_into(&mut effects.message);
        }
        Some(effects)
    };
    read().ok_or_else(|| corrupt(thing, format!("answer '{answer}' is none")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_were_kept() {
        let choice = |place, filter| LevelChoice {
            name: "level".to_owned(),
            place,
            filter,
        };
        let which = Selection {
            keys: vec![RecordKey::from("a:b:1")],
            choices: vec![
                choice(0, LevelFilter::OneOf(vec!["a".into(), "it's".into()])),
                choice(
                    2,
                    LevelFilter::Range {
                        start: i64::MIN,
                        end: 7,
                    },
                ),
            ],
        };
        let batch = BatchId::from("b");
        let orders = [
            Order::Pause,
            Order::Resume,
            Order::ClearFailures {
                which: which.clone(),
                done_only: true,
            },
            Order::Redo {
                which: which.clone(),
                reset_failures: true,
            },
            Order::Skip {
                which: Selection::default(),
            },
            Order::Unskip {
                which: which.clone(),
            },
            Order::Prioritize {
                which,
                priority: Priority::Low,
            },
            Order::Note {
                key: RecordKey::from("k"),
                text: "a \"word\"\nor two".into(),
            },
            Order::Nuke {
                recreate_tables: true,
            },
            Order::Rekey {
                from: vec![KeyFingerprint::from("old")],
                to: KeyFingerprint::from("new"),
            },
            Order::CancelBatch {
                batch: batch.clone(),
            },
            Order::ForgetBatch {
                batch,
                cancel_remote: true,
            },
        ];
        assert_eq!(orders.len(), OrderKind::ALL.len());
        for given in orders {
            let read = order("thing", given.kind(), &arguments(&given)).unwrap();
            assert_eq!(read, given);
        }
        assert!(order("thing", OrderKind::Note, "{}").is_err());
    }

    #[test]
    fn answers_are_read_as_they_were_kept() {
        let mut given = Effects::said("a word");
        given.add("dead", 3);
        let text = effects_json(&given).to_string();
        assert_eq!(effects("thing", &text).unwrap(), given);
        assert_eq!(effects("thing", "{}").unwrap(), Effects::default());
        assert!(effects("thing", "nonsense").is_err());
    }
}
