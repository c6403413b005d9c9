//! Claims: which pages are taken up next, and when it is worth asking for some.

use actix::prelude::*;

use super::Uploader;
use crate::actors::activity::answered;
use crate::actors::state::messages::{ClaimPages, Claimed};

impl Uploader {
    /// Somebody says that there may be more pages to claim than there were.
    pub(super) fn claim_more(&mut self, ctx: &mut Context<Self>) {
        self.claimed_all = false;
        self.claim(ctx);
    }

    /// Asks for pages when there is a place for them.
    pub(super) fn claim(&mut self, ctx: &mut Context<Self>) {
        let now = self.ports.clock.now();
        if !self.awake || !self.activity.may_take() || self.paused(now) {
            return;
        }
        // One question or record at a time, so that what the state says of remote bytes and what
        // is known here never overlap.
        if self.claiming || self.recording {
            self.claim_again = true;
            return;
        }
        let places = self
            .claims_max()
            .saturating_sub(self.uploading + self.claimed.len() + self.held.len());
        if self.held.is_empty() && places < self.claims_max() / 4 {
            return;
        }
        let left = self
            .options
            .pages_max
            .map_or(u64::MAX, |max| max.saturating_sub(self.taken));
        // With images held back for room, the question is only how much room there is now.
        let limit = if self.held.is_empty() {
            left.min(places as u64)
        } else {
            0
        };
        if limit == 0 && self.held.is_empty() {
            return;
        }
        self.claiming = true;
        self.claim_again = false;
        self.bytes_fell = false;
        self.activity.begin();
        let question = ClaimPages {
            run: self.options.run.clone(),
            scope: self.options.scope.clone(),
            limit,
            ahead_max: self.options.ahead_max,
            chained: self.options.chained,
            usable_until: now.plus(self.options.life_min),
            at: now,
        };
        let asked = self.peers.state.send(question).into_actor(self);
        ctx.spawn(asked.map(move |reply, stage, ctx| {
            stage.claiming = false;
            match answered(reply) {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(claimed) => stage.take(claimed, limit, ctx),
            }
            stage.activity.end();
        }));
    }

    fn take(&mut self, claimed: Claimed, limit: u64, ctx: &mut Context<Self>) {
        let Claimed {
            pages,
            remote_bytes,
        } = claimed;
        self.remote_bytes = remote_bytes;
        self.claimed_all = (pages.len() as u64) < limit;
        self.taken += pages.len() as u64;
        self.claimed.extend(pages);
        self.fill(ctx);
        if self.worth_recording() {
            self.record(ctx);
        }
        // Otherwise the next record asks, or whoever makes room.
        if self.claim_again {
            self.claim(ctx);
        }
    }
}
