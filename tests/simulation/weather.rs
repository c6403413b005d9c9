//! What goes wrong, by the dice: calls, answers, our own disk.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use pagemill::domain::failure::{AccountFault, Next, Quota};
use pagemill::domain::time::Timestamp;

use super::clock::Dice;
use super::ports::Fates;
use super::provider::Fate;

/// How bad it is now; shared by whoever drives and whatever is driven.
pub struct Sky {
    /// Nothing goes wrong any more.
    pub calm: Cell<bool>,
    /// Calls of a thousand that do not go well.
    pub level: u32,
    /// Until when the account is refused.
    pub refused_until: Cell<Option<Timestamp>>,
    /// Fates that the crash-prone may not meet twice in a row are drawn from here.
    pub dice: RefCell<Dice>,
}

/// Fates by the dice.
pub struct Weather(pub Rc<Sky>);

fn throttled(quota: Quota, after: Option<u64>) -> Fate {
    Fate::Refused(Next::Throttled {
        after: after.map(Duration::from_secs),
        quota,
    })
}

impl Weather {
    fn storm(dice: &mut Dice, call: &str) -> Fate {
        let choices = match call {
            "upload image" | "upload lines" => vec![
                throttled(Quota::Rate, None),
                throttled(Quota::Storage, None),
                Fate::Refused(Next::Transient),
                Fate::Refused(Next::Refused),
                Fate::Unclear,
                Fate::Lost,
                Fate::Odd(0),
                Fate::Odd(2),
                Fate::Odd(9),
                Fate::Odd(10),
                Fate::Late,
                Fate::Doubled,
            ],
            "create" => vec![
                throttled(Quota::Rate, Some(7)),
                Fate::Refused(Next::Refused),
                Fate::Refused(Next::NotReady),
                Fate::Refused(Next::Missing),
                Fate::Unclear,
                Fate::Unclear,
                Fate::Lost,
                Fate::Lost,
                Fate::Odd(0),
                Fate::Late,
                Fate::Doubled,
            ],
            "poll" => vec![
                throttled(Quota::Rate, None),
                Fate::Refused(Next::Transient),
                Fate::Refused(Next::Garbled),
                Fate::Refused(Next::Missing),
                Fate::Odd(0),
                Fate::Odd(1),
                Fate::Late,
            ],
            "download" | "save inline" => vec![
                throttled(Quota::Rate, None),
                Fate::Refused(Next::Transient),
                Fate::Refused(Next::Garbled),
                Fate::Odd(0),
                Fate::Lost,
                Fate::Late,
            ],
            "delete file" | "delete job" => vec![
                throttled(Quota::Rate, None),
                Fate::Refused(Next::Transient),
                Fate::Unclear,
                Fate::Lost,
                Fate::Doubled,
                Fate::Late,
            ],
            _ => vec![
                throttled(Quota::Rate, None),
                Fate::Refused(Next::Transient),
                Fate::Refused(Next::Garbled),
                Fate::Late,
            ],
        };
        choices[dice.below(choices.len())].clone()
    }
}

impl Fates for Weather {
    fn call(&mut self, call: &'static str, _: &str, now: Timestamp) -> Fate {
        let sky = &self.0;
        if sky.calm.get() {
            return Fate::Well;
        }
        if sky.refused_until.get().is_some_and(|until| now < until) {
            return Fate::Refused(Next::Account(AccountFault::Key));
        }
        let dice = &mut *sky.dice.borrow_mut();
        if !dice.permille(sky.level) {
            return Fate::Well;
        }
        if dice.permille(20) {
            let span = Duration::from_secs(dice.range(60, 3_000) as u64);
            sky.refused_until.set(Some(now.plus(span)));
            return Fate::Refused(Next::Account(AccountFault::Key));
        }
        Self::storm(dice, call)
    }

    fn disk_fails(&mut self, _: &'static str) -> bool {
        let level = self.0.level / 3;
        !self.0.calm.get() && self.0.dice.borrow_mut().permille(level)
    }

    fn fraction(&mut self) -> f64 {
        self.0.dice.borrow_mut().below(1000) as f64 / 1000.0
    }
}
