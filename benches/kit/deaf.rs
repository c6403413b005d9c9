//! Neighbors of a stage that take every word and do nothing.

use std::cell::Cell;
use std::rc::Rc;

use actix::prelude::*;
use pagemill::actors::activity::Root;
use pagemill::actors::hint::{
    Contact, PagesRegistered, PagesReleased, PagesUnlocked, ScanDone, StageGone, Trouble,
};

pub struct Deaf;

impl Actor for Deaf {
    type Context = Context<Self>;
}

macro_rules! deaf_to {
    ($($arrow:ty),*) => {
        $(
            impl Handler<$arrow> for Deaf {
                type Result = ();

                fn handle(&mut self, _: $arrow, _: &mut Self::Context) {}
            }
        )*
    };
}

deaf_to!(
    Contact,
    PagesRegistered,
    PagesReleased,
    PagesUnlocked,
    StageGone,
    Trouble
);

impl Handler<ScanDone> for Deaf {
    type Result = ();

    fn handle(&mut self, done: ScanDone, _: &mut Self::Context) {
        assert_eq!(done.failed, None, "the bench's own tree can be read");
    }
}

/// A root that is as deaf.
pub fn root(deaf: &Addr<Deaf>) -> Root {
    Root {
        gone: deaf.clone().recipient(),
        trouble: deaf.clone().recipient(),
        contact: deaf.clone().recipient(),
        at_work: Rc::new(Cell::new(0)),
    }
}
