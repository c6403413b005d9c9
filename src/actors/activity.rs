//! What every stage keeps of itself: how much is in flight, whether it may take more, and whom to
//! tell when it is quiet.

use std::cell::Cell;
use std::rc::Rc;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::hint::{Contact, StageGone, Trouble};
use super::state::messages::StateError;

/// A stage's line to the root.
#[derive(Clone)]
pub struct Root {
    pub gone: Recipient<StageGone>,
    pub trouble: Recipient<Trouble>,
    pub contact: Recipient<Contact>,
    /// What all stages together have in flight.
    pub at_work: Rc<Cell<usize>>,
}

/// The in-flight book of one stage.
pub struct Activity {
    stage: &'static str,
    root: Root,
    in_flight: usize,
    draining: bool,
    quiet_waiters: Vec<oneshot::Sender<()>>,
    last_word: Option<String>,
}

impl Activity {
    /// Opens the book of a stage.
    pub fn new(stage: &'static str, root: Root) -> Self {
        Activity {
            stage,
            root,
            in_flight: 0,
            draining: false,
            quiet_waiters: Vec::new(),
            last_word: None,
        }
    }

    /// One more piece of work is under way.
    pub fn begin(&mut self) {
        self.in_flight += 1;
        self.root.at_work.set(self.root.at_work.get() + 1);
    }

    /// One piece of work is over. To be called after whatever follows from it has begun.
    pub fn end(&mut self) {
        self.in_flight = self
            .in_flight
            .checked_sub(1)
            .expect("each end has its begin");
        self.root.at_work.set(self.root.at_work.get() - 1);
        if self.in_flight == 0 {
            for waiter in self.quiet_waiters.drain(..) {
                // Whoever no longer waits does not need to know.
                let _gone = waiter.send(());
            }
        }
    }

    /// Whether new work may be taken.
    pub fn may_take(&self) -> bool {
        !self.draining
    }

    /// Takes no more work from here on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// A future that ends when nothing is in flight.
    pub fn quiet(&mut self) -> ResponseFuture<()> {
        let (sender, receiver) = oneshot::channel();
        if self.in_flight == 0 {
            let _gone = sender.send(());
        } else {
            self.quiet_waiters.push(sender);
        }
        Box::pin(async move {
            // A dropped sender means that the stage is gone, which is quiet too.
            let _quiet = receiver.await;
        })
    }

    /// The provider answered.
    pub fn contact(&self) {
        self.root.contact.do_send(Contact {});
    }

    /// The provider refuses us, or is not there.
    pub fn trouble(&self, message: String) {
        self.root.trouble.do_send(Trouble {
            stage: self.stage,
            message,
        });
    }

    /// A wrong or unreachable state is worse than a stop: ends the stage, and with it the process.
    pub fn fail<A: Actor<Context = Context<A>>>(
        &mut self,
        error: impl std::fmt::Display,
        ctx: &mut Context<A>,
    ) {
        self.last_word = Some(error.to_string());
        self.draining = true;
        ctx.stop();
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.root.gone.do_send(StageGone {
            stage: self.stage,
            reason: self.last_word.take(),
        });
    }
}

/// An answer of StateActor, with a closed mailbox counted as a closed state.
pub fn answered<T>(reply: Result<Result<T, StateError>, MailboxError>) -> Result<T, StateError> {
    reply.unwrap_or(Err(StateError::Closed))
}

/// What all stages have in common.
pub trait Stage: Actor<Context = Context<Self>> {
    /// The stage's book.
    fn activity(&mut self) -> &mut Activity;

    /// Lets go of work that waits and has not begun.
    fn let_go(&mut self) {}
}

/// Gives a stage the handlers of the messages that every stage takes in the same way.
macro_rules! stage_handlers {
    ($stage:ty) => {
        impl actix::Handler<$crate::actors::hint::Idle> for $stage {
            type Result = actix::ResponseFuture<()>;

            fn handle(
                &mut self,
                _: $crate::actors::hint::Idle,
                _: &mut Self::Context,
            ) -> Self::Result {
                $crate::actors::activity::Stage::activity(self).quiet()
            }
        }

        impl actix::Handler<$crate::actors::hint::Drain> for $stage {
            type Result = actix::ResponseFuture<()>;

            fn handle(
                &mut self,
                _: $crate::actors::hint::Drain,
                _: &mut Self::Context,
            ) -> Self::Result {
                $crate::actors::activity::Stage::let_go(self);
                let activity = $crate::actors::activity::Stage::activity(self);
                activity.drain();
                activity.quiet()
            }
        }

        impl actix::Handler<$crate::actors::hint::Leave> for $stage {
            type Result = ();

            fn handle(&mut self, _: $crate::actors::hint::Leave, ctx: &mut Self::Context) {
                actix::ActorContext::stop(ctx);
            }
        }
    };
}
pub(crate) use stage_handlers;
