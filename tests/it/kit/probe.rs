//! A neighbor that only remembers what it was told.

use actix::prelude::*;
use pagemill::actors::hint;

/// Records every message of one type.
pub struct Probe<M> {
    seen: Vec<M>,
}

/// Asks a probe for what it has seen, and empties it. Messages are taken in order, so whatever was
/// sent before this was asked is in the answer.
#[derive(Message)]
#[rtype(result = "Vec<M>")]
pub struct Take<M: 'static>(std::marker::PhantomData<fn() -> M>);

impl<M: Unpin + Send + 'static> Probe<M> {
    /// Starts a probe.
    pub fn start_new() -> Addr<Self> {
        Probe { seen: Vec::new() }.start()
    }
}

/// What a probe has seen since it was last asked.
pub async fn seen<M: Unpin + Send + 'static>(probe: &Addr<Probe<M>>) -> Vec<M> {
    let take = Take(std::marker::PhantomData);
    probe
        .send(take)
        .await
        .expect("a probe lives as long as its test")
}

impl<M: Unpin + 'static> Actor for Probe<M> {
    type Context = Context<Self>;
}

impl<M: Unpin + Send + 'static> Handler<Take<M>> for Probe<M> {
    type Result = MessageResult<Take<M>>;

    fn handle(&mut self, _: Take<M>, _: &mut Self::Context) -> Self::Result {
        MessageResult(std::mem::take(&mut self.seen))
    }
}

/// Lets probes take these messages.
macro_rules! probed {
    ($($message:ty),+ $(,)?) => {
        $(
            impl Handler<$message> for Probe<$message> {
                type Result = ();

                fn handle(&mut self, message: $message, _: &mut Self::Context) {
                    self.seen.push(message);
                }
            }
        )+
    };
}

probed!(
    hint::PagesRegistered,
    hint::PagesUploaded,
    hint::BatchSubmitted,
    hint::ResultsReady,
    hint::PagesReleased,
    hint::RoomAhead,
    hint::PagesUnlocked,
    hint::ScanDone,
    hint::Trouble,
    hint::Contact,
    hint::StageGone,
);
