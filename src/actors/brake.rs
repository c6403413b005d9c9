//! Stops submission when the last results, or the account, call for it. Whoever ends a batch or
//! hears a refusal presses; the rules decide, and the state keeps the halt.

use actix::Addr;

use super::activity::answered;
use super::state::StateActor;
use super::state::messages::{FeelPulse, Halt, KeepPace, ReadPace, StateError};
use crate::decide::brake::{self, BrakeRules};
use crate::decide::pace::{self, PaceEvent, PaceRules};
use crate::decide::retry;
use crate::domain::failure::ApiError;
use crate::domain::halt::HaltReason;
use crate::domain::time::Timestamp;
use crate::notices;

/// The rules that submission slows down and stops by.
#[derive(Debug, Clone, Copy)]
pub struct Brake {
    pub rules: BrakeRules,
    pub pace: PaceRules,
}

impl Brake {
    /// Halts submission if the last results were too bad.
    pub(super) async fn press(
        &self,
        state: &Addr<StateActor>,
        now: Timestamp,
    ) -> Result<(), StateError> {
        let window = self.rules.window;
        let pulse = answered(state.send(FeelPulse { window }).await)?;
        match brake::judge(&pulse, &self.rules) {
            Some((reason, words)) => halt(state, reason, words, now).await,
            None => Ok(()),
        }
    }

    /// Sends less or more at a time, as the service takes it.
    pub(super) async fn adapt(
        &self,
        state: &Addr<StateActor>,
        model: &str,
        event: PaceEvent,
        now: Timestamp,
    ) -> Result<(), StateError> {
        match self.adapted(state, model, event, now).await? {
            Some(keep) => answered(state.send(keep).await),
            None => Ok(()),
        }
    }

    /// How much is sent at a time from here on, if that changes; whoever asks tells the state.
    pub(super) async fn adapted(
        &self,
        state: &Addr<StateActor>,
        model: &str,
        event: PaceEvent,
        now: Timestamp,
    ) -> Result<Option<KeepPace>, StateError> {
        let question = ReadPace {
            model: model.to_owned(),
        };
        let before = answered(state.send(question).await)?;
        let Some(pace) = pace::next(&before, &event, &self.pace) else {
            return Ok(None);
        };
        if pace.reason != before.reason {
            notices::PaceChanged {
                model,
                pages_max: pace.pages_max,
                tokens_max: pace.tokens_max,
                reason: &pace.reason,
            }
            .emit();
        }
        Ok(Some(KeepPace {
            model: model.to_owned(),
            pace,
            at: now,
        }))
    }
}

/// Halts submission if a failed call says that the account is at fault. Tells whether it did.
pub(super) async fn heed(
    state: &Addr<StateActor>,
    error: &ApiError,
    now: Timestamp,
) -> Result<bool, StateError> {
    match retry::halt(error) {
        Some(reason) => {
            halt(state, reason, error.message.clone(), now).await?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Halts submission, and tells of it once.
pub(super) async fn halt(
    state: &Addr<StateActor>,
    reason: HaltReason,
    message: String,
    now: Timestamp,
) -> Result<(), StateError> {
    let order = Halt {
        reason,
        message: message.clone(),
        at: now,
    };
    if answered(state.send(order).await)? {
        notices::Halted {
            reason,
            message: &message,
            remedy: reason.remedy(),
        }
        .emit();
    }
    Ok(())
}
