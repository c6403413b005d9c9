//! Looks at the database beside its owner, after every commit, and says what must not be there.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use pagemill::domain::ids::RecordKey;
use rusqlite::{Connection, OptionalExtension};

use super::disk::sha256;
use super::ports::Outside;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread, whatever else runs on it: the watch is outside of the
/// runtime that it watches.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// The limits that rows must keep.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_retries: u32,
    pub live_max: usize,
    pub budget: u64,
}

/// The watch.
pub struct Watch {
    connection: Connection,
    /// The index of the write-ahead log, which counts transactions.
    index: File,
    seen: Cell<u32>,
    limits: Limits,
    outside: RefCell<Weak<Outside>>,
    pub commits: Cell<u64>,
    /// Commits that went by together with a later one, so that only the last of them was looked at.
    pub unseen: Cell<u64>,
    pub faults: RefCell<Vec<String>>,
}

/// Where the count of transactions stands in the index.
const COUNT_AT: u64 = 8;

thread_local! {
    static WATCH: RefCell<Option<Rc<Watch>>> = const { RefCell::new(None) };
}

/// Looks, if there is a watch on this thread; for the runtime to call whenever it comes to rest.
pub fn look() {
    let watch = WATCH.with(|watch| watch.borrow().clone());
    if let Some(watch) = watch {
        watch.look();
    }
}

impl Watch {
    /// Watches a database that is there already.
    pub fn on(database: &Path, limits: Limits) -> Rc<Self> {
        let connection = Connection::open(database).unwrap();
        let first = connection.query_row("SELECT count(*) FROM pages", [], |row| row.get(0));
        let _pages: i64 = first.unwrap();
        let mut index = database.as_os_str().to_owned();
        index.push("-shm");
        Rc::new(Watch {
            connection,
            index: File::open(index).unwrap(),
            seen: Cell::new(0),
            limits,
            outside: RefCell::default(),
            commits: Cell::new(0),
            unseen: Cell::new(0),
            faults: RefCell::default(),
        })
    }

    /// From here on this thread's runtime is watched.
    pub fn begin(self: &Rc<Self>, outside: &Rc<Outside>) {
        *self.outside.borrow_mut() = Rc::downgrade(outside);
        WATCH.with(|watch| *watch.borrow_mut() = Some(Rc::clone(self)));
    }

    pub fn end() {
        WATCH.with(|watch| *watch.borrow_mut() = None);
    }

    fn transactions(&self) -> u32 {
        let mut count = [0; 4];
        self.index.read_exact_at(&mut count, COUNT_AT).unwrap();
        u32::from_ne_bytes(count)
    }

    /// Looks at the rows if there was a commit since the last time.
    pub fn look(&self) {
        let now = self.transactions();
        let before = self.seen.replace(now);
        if now == before {
            return;
        }
        self.commits.set(self.commits.get() + 1);
        let more = u64::from(now.wrapping_sub(before).saturating_sub(1));
        if before != 0 {
            self.unseen.set(self.unseen.get() + more);
        }
        for fault in self.check() {
            let mut faults = self.faults.borrow_mut();
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }

    /// The one text column that a question gives.
    pub fn ask(&self, question: &'static str) -> Vec<String> {
        let mut asked = self.connection.prepare_cached(question).unwrap();
        let rows = asked.query_map([], |row| row.get::<_, Option<String>>(0));
        let rows: Result<Vec<_>, _> = rows.and_then(Iterator::collect);
        let rows = rows.unwrap_or_else(|error| panic!("{question}: {error}"));
        rows.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// The one number that a question gives.
    pub fn ask_number(&self, question: &'static str) -> i64 {
        let number = self.connection.query_row(question, [], |row| row.get(0));
        number.unwrap()
    }

    /// P3: what is wrong with a create of this name now, if anything is.
    pub fn not_submitting(&self, display_name: &str) -> Option<String> {
        let state = self.connection.query_row(
            "SELECT state FROM submissions WHERE display_name = ?1",
            [display_name],
            |row| row.get::<_, String>(0),
        );
        match state.optional().unwrap() {
            Some(state) if state == "submitting" => None,
            state => Some(format!(
                "P3 {display_name} is created while its row says {state:?}"
            )),
        }
    }

    fn check(&self) -> Vec<String> {
        let outside = self.outside.borrow().upgrade();
        let Some(outside) = outside else {
            return Vec::new();
        };
        let Limits {
            max_retries,
            live_max,
            budget,
        } = self.limits;
        let now = outside.clock.now().to_string();
        let mut asked = self.connection.prepare_cached(FAULTS).unwrap();
        let limits = (max_retries, live_max as i64, budget as i64, now);
        let found = asked.query_map(limits, |row| row.get::<_, String>(0));
        let found: Result<Vec<String>, _> = found.and_then(Iterator::collect);
        let found = found.unwrap();
        let disk = outside.disk.borrow();
        let mut faults = Vec::new();
        for words in found {
            let parts: Vec<&str> = words.split('|').collect();
            match parts[..] {
                ["output", key, hash] => {
                    let key = RecordKey::from(key);
                    let output = disk.outputs.get(&key);
                    let whole = output.is_some_and(|bytes| sha256(bytes).as_str() == hash);
                    if !whole && !disk.taken.contains(&key) {
                        faults.push(format!("PM-5 {key} is completed without its output"));
                    }
                }
                ["raw", path, bytes] => {
                    if !disk.has(Path::new(path), bytes.parse().unwrap()) {
                        faults.push(format!("P8 {path} is recorded and not on disk"));
                    }
                }
                _ => faults.push(words),
            }
        }
        faults
    }
}

/// Everything that the rows can say of the promises, in one question. Rows that begin with
/// `output` and `raw` are to be compared with the disk.
///
/// Failures of an image do not count for P7 here: a page whose image was mended is meant to run. That
/// its old failures still count against its retries is wrong.
const FAULTS: &str = "
WITH live AS (SELECT batch_id, state FROM submissions
              WHERE state IN ('planned','submitting','in doubt','submitted','ready')),
     history AS (SELECT record_key, from_stage, to_stage, event,
                        lag(to_stage) OVER each AS before, lead(id) OVER each AS later
                 FROM page_events WINDOW each AS (PARTITION BY record_key ORDER BY id)),
     outcomes AS (SELECT batch_id, count(*) AS members,
                         count(*) FILTER (WHERE outcome = 'pending') AS open,
                         count(*) FILTER (WHERE outcome = 'accepted') AS succeeded,
                         count(*) FILTER (WHERE outcome = 'rejected') AS refused,
                         count(*) FILTER (WHERE outcome = 'released') AS released
                  FROM attempts GROUP BY batch_id)
SELECT 'P2 ' || m.record_key || ' is in ' || count(*) || ' live batches'
  FROM batch_record_keys AS m JOIN live USING (batch_id) GROUP BY m.record_key HAVING count(*) > 1
UNION ALL SELECT 'P2 ' || i.record_key || ' is held by a batch that is over'
  FROM inflight_records AS i WHERE i.batch_id NOT IN (SELECT batch_id FROM live)
UNION ALL SELECT 'P2 ' || m.record_key || ' is a member of a live batch that does not hold it'
  FROM batch_record_keys AS m JOIN live USING (batch_id)
  LEFT JOIN inflight_records AS i ON i.record_key = m.record_key AND i.batch_id = m.batch_id
  WHERE i.record_key IS NULL
UNION ALL SELECT 'PM-1 ' || p.record_key || ' is ' || p.stage || ' in a batch that is not live'
  FROM pages AS p LEFT JOIN live AS l ON l.batch_id = p.batch_id
  WHERE p.stage IN ('batched','validating') AND l.batch_id IS NULL
UNION ALL SELECT 'PM-1 ' || p.record_key || ' is validating in a batch that is ' || l.state
  FROM pages AS p JOIN live AS l ON l.batch_id = p.batch_id
  WHERE p.stage = 'validating' AND l.state <> 'ready'
UNION ALL SELECT 'PM-4 ' || remote_name || ' was adopted ' || count(*) || ' times'
  FROM submissions WHERE remote_name IS NOT NULL GROUP BY remote_name HAVING count(*) > 1
UNION ALL SELECT 'P5 pages were registered or lost without a word'
  WHERE (SELECT count(*) FROM pages) <> (SELECT count(*) FROM page_events WHERE event = 'seen')
UNION ALL SELECT 'P5 batch ' || s.batch_id || ' is ' || s.state || ' and does not add up'
  FROM submissions AS s LEFT JOIN outcomes AS o ON o.batch_id = s.batch_id
  WHERE s.state IN ('settled','abandoned') AND
        (coalesce(o.open, 0) <> 0 OR coalesce(o.members, 0) <> s.count_submitted
         OR coalesce(o.succeeded, 0) <> s.count_succeeded
         OR coalesce(o.refused, 0) <> s.count_failed + s.count_missing
         OR coalesce(o.released, 0) <> s.count_released)
UNION ALL SELECT 'P6 ' || k.record_key || ' has ' || coalesce(c.count, 0) || ' failures and '
       || coalesce(l.logged, 0) || ' counted lines'
  FROM pages AS k
  LEFT JOIN failure_counts AS c ON c.record_key = k.record_key
  LEFT JOIN (SELECT record_key, count(*) AS logged FROM failure_logs WHERE counted = 1
             GROUP BY record_key) AS l ON l.record_key = k.record_key
  WHERE coalesce(c.count, 0) <> coalesce(l.logged, 0)
UNION ALL SELECT 'P6 ' || record_key || ' failed ' || count(*) || ' times in ' || batch_id
  FROM failure_logs WHERE counted = 1 AND batch_id <> ''
  GROUP BY record_key, batch_id HAVING count(*) > 1
UNION ALL SELECT 'P7 ' || p.record_key || ' is ' || p.stage || ' after ' || count(*) || ' failures'
  FROM pages AS p JOIN failure_logs AS l
    ON l.record_key = p.record_key AND l.counted = 1 AND l.error_type <> 'ImageError'
  WHERE p.stage IN ('uploading','uploaded','batched','validating')
  GROUP BY p.record_key HAVING count(*) > ?1
UNION ALL SELECT 'P8 batch ' || a.batch_id || ' has verdicts and no raw results'
  FROM attempts AS a JOIN submissions AS s USING (batch_id)
  WHERE a.outcome IN ('accepted','rejected') AND s.raw_path IS NULL
    AND NOT (s.abandon_code IN ('failed','refused') AND a.error_type = 'ApiError')
    AND NOT EXISTS (SELECT 1 FROM late_jobs AS l
                    WHERE l.batch_id = s.batch_id AND l.raw_path IS NOT NULL)
UNION ALL SELECT 'P10 images of ' || sum(bytes) || ' bytes are in the store'
  FROM remote_files WHERE purpose = 'image' AND state = 'live' AND expires_at > ?4
  GROUP BY purpose HAVING sum(bytes) > ?3
UNION ALL SELECT 'PM-2 ' || p.record_key || ' is ' || p.stage || ', its history says ' || h.to_stage
  FROM pages AS p LEFT JOIN history AS h ON h.record_key = p.record_key AND h.later IS NULL
  WHERE h.to_stage IS NOT p.stage
UNION ALL SELECT 'PM-2 the history of ' || record_key || ' has a gap before ' || event
  FROM history WHERE before IS NOT from_stage
UNION ALL SELECT 'PM-6 ' || record_key || ' left ' || from_stage || ' by ' || event
  FROM history WHERE from_stage IN ('completed','dead','review','skipped')
                 AND event NOT IN ('requeued','adopted')
UNION ALL SELECT 'PM-6 batch ' || batch_id || ' left ' || from_state || ' by ' || event
  FROM submission_events WHERE from_state IN ('settled','abandoned')
UNION ALL SELECT 'PM-8 ' || count(*) || ' batches are live' FROM live HAVING count(*) > ?2
UNION ALL SELECT 'output|' || record_key || '|' || output_sha256 FROM pages WHERE stage = 'completed'
UNION ALL SELECT 'raw|' || raw_path || '|' || raw_bytes FROM submissions
  WHERE raw_path IS NOT NULL AND state = 'ready'";
