//! Scanner: walks the label tree, tells StateActor what it found, and says why a page is left
//! alone. It never decides which page runs next; that is asked of StateActor by whoever runs it.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use futures_util::{StreamExt, stream};

use super::activity::{Activity, Root, Stage, answered, stage_handlers};
use super::hint::{PagesRegistered, PagesUnlocked, Rescan, ScanDone};
use super::state::StateActor;
use super::state::messages::{
    ApplyScan, KnownPage, ListImageFaults, PagesOfBooks, RecordOddities, ScanChanges, StateError,
    Summarize,
};
use crate::decide::scan;
use crate::domain::ids::{RunId, ScopeToken};
use crate::domain::layout::Layout;
use crate::domain::page::{PageEvent, PageStage, RequeueCause};
use crate::domain::window::Window;
use crate::ports::clock::Clock;
use crate::ports::page_source::{BookListing, Found, PageSource, Scope, SourceError};
use crate::prompt::Validator;

mod memory;
mod outputs;
mod rows;
mod seen;
mod windows;

use memory::{Memory, Settled};

use rows::{add_changes, group_by_book};
pub use rows::{known_of, labels_of};
use seen::Seen;

/// Pages with an unusable image that are looked at again in one question.
const IMAGE_FAULTS_ASKED: u64 = 200;

/// Chunks of the walk that are compared and applied side by side.
const CHUNKS_TOGETHER: usize = 2;

/// How often the same books are compared before a page that keeps moving counts as a fault.
const ROUNDS_MAX: u32 = 10;

/// What a scanner is told at birth.
#[derive(Clone)]
pub struct ScannerOptions {
    pub run: RunId,
    pub scope: Scope,
    pub token: ScopeToken,
    pub layout: Layout,
    /// Whether a page may run without the context of a dead predecessor.
    pub skip_dead: bool,
    /// Whether a page waits for the one before it at all.
    pub chained: bool,
    /// What an output must pass to count.
    pub validator: Arc<Validator>,
    /// Which labels belong to the run, by when they arrived; all without one.
    pub window: Option<Window>,
}

/// Whom a scanner talks to.
#[derive(Clone)]
pub struct ScannerPeers {
    pub state: Addr<StateActor>,
    pub registered: Recipient<PagesRegistered>,
    pub done: Recipient<ScanDone>,
}

/// The stage.
pub struct Scanner {
    look: Rc<Look>,
    activity: Activity,
    scanning: bool,
    again: bool,
}

/// What one look at the tree needs.
struct Look {
    options: ScannerOptions,
    peers: ScannerPeers,
    source: Rc<dyn PageSource>,
    clock: Rc<dyn Clock>,
    memory: RefCell<Memory>,
}

impl Scanner {
    /// Makes a scanner; it looks when it is told to.
    pub fn new(
        options: ScannerOptions,
        peers: ScannerPeers,
        root: Root,
        source: Rc<dyn PageSource>,
        clock: Rc<dyn Clock>,
    ) -> Self {
        Scanner {
            look: Rc::new(Look {
                options,
                peers,
                source,
                clock,
                memory: RefCell::default(),
            }),
            activity: Activity::new("scanner", root),
            scanning: false,
            again: false,
        }
    }

    fn scan(&mut self, ctx: &mut Context<Self>) {
        if self.scanning || !self.activity.may_take() {
            self.again = self.scanning;
            return;
        }
        self.scanning = true;
        self.activity.begin();
        let look = Rc::clone(&self.look);
        let walk = async move { look.tree().await };
        ctx.spawn(walk.into_actor(self).map(|seen, stage, ctx| {
            stage.scanning = false;
            match seen {
                Err(error) => stage.activity.fail(error, ctx),
                Ok(seen) => {
                    stage.look.peers.done.do_send(ScanDone {
                        pages: seen.pages,
                        oddities: seen.oddities.len() as u64 + seen.oddities_beyond,
                        failed: seen.failed,
                    });
                    if std::mem::take(&mut stage.again) {
                        stage.scan(ctx);
                    }
                }
            }
            stage.activity.end();
        }));
    }
}

impl Look {
    /// One look at the whole tree in scope.
    async fn tree(&self) -> Result<Seen, StateError> {
        let mut seen = Seen::default();
        if let Err(gone) = self.source.output_folder().await {
            seen.failed = self.outputs_gone(&gone).await?;
            if seen.failed.is_some() {
                return Ok(seen);
            }
        }
        let memory = self.memory.take().before_look();
        let scope = &self.options.scope;
        let walk = match self.source.walk_changed(scope, memory.stamps()).await {
            Ok(walk) => walk,
            Err(error) => {
                let nothing_yet =
                    self.source.label_folder_is_empty().await && self.pages_in_all().await? == 0;
                seen.failed = (!nothing_yet).then(|| error.to_string());
                return Ok(seen);
            }
        };
        let chunks = stream::unfold(walk, async |mut walk| {
            let chunk = walk.next().await?;
            Some((chunk, walk))
        });
        // The state works on one chunk while the next one is compared.
        let mut looks = std::pin::pin!(
            chunks
                .map(|chunk| self.chunk(chunk, &memory))
                .buffered(CHUNKS_TOGETHER)
        );
        while let Some(of_chunk) = looks.next().await {
            seen.take_in(of_chunk?);
        }
        if seen.failed.is_none() {
            let looks = memory.looks();
            *self.memory.borrow_mut() = Memory::after(looks, std::mem::take(&mut seen.settled));
        }
        self.images_again().await?;
        let (run, at) = (self.options.run.clone(), self.clock.now());
        let oddities = seen.oddities.clone();
        answered(
            self.peers
                .state
                .send(RecordOddities { run, oddities, at })
                .await,
        )?;
        Ok(seen)
    }

    /// Compares the books of one chunk of the walk.
    async fn chunk(&self, chunk: Vec<Found>, memory: &Memory) -> Result<Seen, StateError> {
        let mut seen = Seen::default();
        let mut books = Vec::new();
        for found in chunk {
            match found {
                Found::Book(book) => books.push(book),
                Found::Oddity(oddity) => seen.note(&oddity),
                Found::Unchanged(book) => {
                    if let Some(settled) = memory.of(&book) {
                        seen.pages += settled.pages;
                        seen.settled.push((book, settled));
                    }
                }
            }
        }
        if !books.is_empty() {
            self.books(books, &mut seen).await?;
        }
        Ok(seen)
    }

    /// Pages that are known: where there are none, an empty label folder is only new.
    async fn pages_in_all(&self) -> Result<u64, StateError> {
        let question = Summarize {
            scope: None,
            at: self.clock.now(),
        };
        let summary = answered(self.peers.state.send(question).await)?;
        Ok(summary.pages.iter().map(|(_stage, count)| count).sum())
    }

    /// Says so where outputs should be and none is: taken for deleted, they would all be paid for
    /// again.
    async fn outputs_gone(&self, gone: &SourceError) -> Result<Option<String>, StateError> {
        let question = Summarize {
            scope: None,
            at: self.clock.now(),
        };
        let summary = answered(self.peers.state.send(question).await)?;
        let done = summary.pages_in(PageStage::Completed);
        Ok((done > 0).then(|| {
            format!(
                "{done} pages are done, and there is no output: {gone}. To run them again on purpose, \
                 put any file into the folder"
            )
        }))
    }

    /// Compares some books with the state and applies what follows. Where a page moved between the
    /// question and the change, nothing was changed, and the books are compared again.
    async fn books(&self, books: Vec<BookListing>, seen: &mut Seen) -> Result<(), StateError> {
        let names: Vec<String> = books.iter().map(|book| book.book.clone()).collect();
        for round in 1.. {
            let question = PagesOfBooks {
                books: names.clone(),
            };
            let known = answered(self.peers.state.send(question).await)?;
            let mut of_these = Seen::default();
            let changes = self.compare(&books, known, &mut of_these).await;
            match self.apply(changes).await {
                Err(StateError::Illegal(moved)) if round < ROUNDS_MAX => {
                    tracing::debug!(reason = %moved, "books are compared again");
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    seen.take_in(of_these);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn apply(&self, changes: ScanChanges) -> Result<(), StateError> {
        if changes == ScanChanges::default() {
            return Ok(());
        }
        let count = changes.register.len() + changes.requeue.len() + changes.rescope.len();
        let apply = ApplyScan {
            run: self.options.run.clone(),
            scope: self.options.token.clone(),
            changes,
            at: self.clock.now(),
        };
        answered(self.peers.state.send(apply).await)?;
        let count = count as u64;
        self.peers.registered.do_send(PagesRegistered { count });
        Ok(())
    }

    async fn compare(
        &self,
        books: &[BookListing],
        known: Vec<KnownPage>,
        seen: &mut Seen,
    ) -> ScanChanges {
        let mut known = group_by_book(known);
        let mut changes = ScanChanges::default();
        let mut unread = HashSet::new();
        let mut to_judge = Vec::new();
        let rules = scan::Rules {
            scope: self.options.token.clone(),
            skip_dead: self.options.skip_dead,
            chained: self.options.chained,
        };
        let mut arrived = Vec::new();
        for book in books {
            let in_window = self.in_window(book, &mut arrived, &mut unread, seen).await;
            let (scope, layout) = (&self.options.scope, &self.options.layout);
            let labels = labels_of(book, scope, layout, in_window.as_deref());
            let pages = labels.iter().filter(|label| label.in_scope).count() as u64;
            seen.pages += pages;
            let of_book = known.remove(&book.book).unwrap_or_default();
            let found = scan::compare(&labels, &of_book, &rules, |key, why| {
                tracing::debug!(page.key = key.as_str(), reason = %why, "page left alone");
            });
            // What arrived when is told by the files, not by their folder.
            if let Some(stamp) = book.stamp
                && self.options.window.is_none()
                && found.leaves_nothing_open()
            {
                seen.settled
                    .push((book.book.clone(), Settled { stamp, pages }));
            }
            add_changes(book, found, &mut changes, &mut to_judge);
        }
        changes.requeue = self.really_gone(changes.requeue, &mut unread, seen).await;
        changes.adopt = self.judge(to_judge, &mut unread, seen).await;
        changes.arrived = self.booked(&changes, arrived);
        // A book with an output that the disk does not give now is left as it is: taken for missing,
        // the output would be paid for again.
        rows::leave_out(&mut changes, &unread);
        changes
    }

    /// Looks again at the images of pages that are dead for their image: what was mended runs.
    async fn images_again(&self) -> Result<(), StateError> {
        let mut after = None;
        loop {
            let scope = self.options.token.clone();
            let question = ListImageFaults {
                scope,
                after,
                limit: IMAGE_FAULTS_ASKED,
            };
            let keys = answered(self.peers.state.send(question).await)?;
            let Some(last) = keys.last().cloned() else {
                return Ok(());
            };
            let mut requeue = Vec::new();
            for key in keys {
                match self.source.image(&key).await {
                    Ok(_usable) => {
                        let cause = RequeueCause::ImageChanged;
                        // The pages behind it are to wait again: the next look at the book says so.
                        self.memory.borrow_mut().forget(key.book());
                        requeue.push((key, PageEvent::Requeued { cause }));
                    }
                    Err(fault) => {
                        let reason = format_args!("{}: {fault}", scan::LeftAlone::ImageNotUsable);
                        tracing::debug!(page.key = key.as_str(), reason = %reason, "page left alone");
                    }
                }
            }
            self.apply(ScanChanges {
                requeue,
                ..ScanChanges::default()
            })
            .await?;
            after = Some(last);
        }
    }
}

impl Actor for Scanner {
    type Context = Context<Self>;
}

impl Handler<Rescan> for Scanner {
    type Result = ();

    fn handle(&mut self, _: Rescan, ctx: &mut Self::Context) {
        self.scan(ctx);
    }
}

impl Handler<PagesUnlocked> for Scanner {
    type Result = ();

    /// The rows are known already; all that is new is that they wait for nobody. Pages that stand alone
    /// never did.
    fn handle(&mut self, unlocked: PagesUnlocked, _: &mut Self::Context) {
        let PagesUnlocked { count } = unlocked;
        let look = &self.look;
        if look.options.chained {
            look.peers.registered.do_send(PagesRegistered { count });
        }
    }
}

impl Stage for Scanner {
    fn activity(&mut self) -> &mut Activity {
        &mut self.activity
    }
}

stage_handlers!(Scanner);
