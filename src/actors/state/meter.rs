//! Where a StateActor is given the book that counts what its database does.

use std::sync::Arc;

use super::StateActor;
use crate::meter::database::Book;

impl StateActor {
    /// Counts what the database does; to be called before the start.
    pub fn metered(mut self, meter: Arc<Book>) -> Self {
        if let Some((engine, _jobs)) = &mut self.idle {
            engine.slow.meter = Some(Arc::clone(&meter));
        }
        self.meter = Some(meter);
        self
    }
}
