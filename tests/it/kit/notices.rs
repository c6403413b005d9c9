//! What was told to the operator: warnings and errors, as the log has them.
//!
//! Every test runs on a thread of its own, and so do its actors; each thread hears only itself. What a
//! state tells on the thread of its database is heard by all.

use std::cell::RefCell;
use std::fmt::Write;
use std::sync::{Mutex, Once};

use pagemill::actors::state::engine::THREAD_NAME;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

thread_local! {
    static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

static TOLD_BY_STATES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Ear;

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).expect("a text takes everything");
    }
}

impl<S: Subscriber> Layer<S> for Ear {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > Level::WARN {
            return;
        }
        let mut words = Words(event.metadata().level().to_string());
        event.record(&mut words);
        if std::thread::current().name() == Some(THREAD_NAME) {
            TOLD_BY_STATES.lock().unwrap().push(words.0);
        } else {
            TOLD.with_borrow_mut(|told| told.push(words.0));
        }
    }
}

/// Begins to listen; what was told before is forgotten.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = Registry::default().with(Ear);
        tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
    });
    TOLD.take();
}

/// What was told on this thread since and holds these words.
pub fn told(words: &str) -> Vec<String> {
    TOLD.with_borrow(|told| holding(told, words))
}

/// What the states of any test have told and holds these words.
pub fn told_by_states(words: &str) -> Vec<String> {
    holding(&TOLD_BY_STATES.lock().unwrap(), words)
}

fn holding(told: &[String], words: &str) -> Vec<String> {
    let matching = told.iter().filter(|line| line.contains(words));
    matching.cloned().collect()
}
