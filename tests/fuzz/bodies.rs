//! What every input must keep to, whoever made it up: one function a target. It takes bytes and
//! panics when a promise is broken. `tests/fuzz/main.rs` calls it with thrown inputs, and the
//! crate in `fuzz/` with those that libFuzzer finds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};
use std::time::Duration;

use pagemill::actors::result_processor::index::{Entry, Index};
use pagemill::decide::{cadence, verdict};
use pagemill::domain::answer::RowBody;
use pagemill::domain::attempt::RawLine;
use pagemill::domain::failure::{Effect, Next};
use pagemill::domain::ids::RecordKey;
use pagemill::domain::image::ImageType;
use pagemill::domain::layout::{LEVELS_MAX, Layout};
use pagemill::domain::remote::RemoteBatch;
use pagemill::domain::time::Timestamp;
use pagemill::ports::result_sink::RawText;
use pagemill::settings::{self, Sources};
use pagemill::wire::error::{Call, HttpAnswer, api_error};
use pagemill::wire::response::{Row, answered_key, row};
use pagemill::wire::{file, operation};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[path = "room.rs"]
pub mod room;
use room::{IMAGE_BYTES_MAX, KEY, LINE_BYTES_MAX, in_room};

/// A target: its name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const ALL: [Target; 9] = [
    ("result_file", result_file),
    ("result_line", result_line),
    ("operation", operation),
    ("error", error),
    ("retry_hint", retry_hint),
    ("record_key", record_key),
    ("layout", layout),
    ("config", config),
    ("image", image),
];

/// The members of the batch that result files are joined to. Any text may be a key here: joining
/// does not depend on what a key looks like.
const MEMBERS: [&str; 6] = ["a", "b", "p1", "Élève 学校:1849:14", "../../x", ""];

/// The longest message of an error that a row or a log line may have to hold, in bytes: the words
/// of the provider and ours in front of them.
const MESSAGE_BYTES_MAX: usize = 500 + 200;
const STATUS_BYTES_MAX: usize = 2_000;

/// A whole result file: it is split at its line feeds and nowhere else, and a line answers its own
/// key or nobody, in whatever order the lines stand.
pub fn result_file(data: &[u8]) {
    let lines = in_room(|room| room.lines_of(data));
    check_split(data, &lines);
    let forward = joined(lines.iter());
    let backward = joined(lines.iter().rev());
    assert_eq!(
        forward, backward,
        "the order of the lines changes who is answered"
    );
    for (key, text) in &forward {
        check_key_of(text, key);
    }
}

/// Compares with the plainest way of splitting.
fn check_split(data: &[u8], lines: &[RawText]) {
    let mut expected = Vec::new();
    let mut offset = 0;
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        expected.push(RawText {
            offset,
            bytes: text.len() as u64,
            text: (text.len() as u64 <= LINE_BYTES_MAX).then(|| text.to_vec()),
        });
        offset += line.len() as u64;
    }
    assert_eq!(lines, expected);
}

/// Which line answers which member.
fn joined<'l>(lines: impl Iterator<Item = &'l RawText>) -> BTreeMap<&'static str, &'l [u8]> {
    let mut index = Index::new(MEMBERS.map(RecordKey::from));
    let mut seen: Vec<&RawText> = Vec::new();
    let mut filled = 0;
    for line in lines {
        if let Some(text) = &line.text {
            let whole = match row(text) {
                Row::Answer { key, .. } => Some(key),
                _ => None,
            };
            assert_eq!(answered_key(text), whole);
        }
        let place = RawLine {
            offset: line.offset,
            bytes: line.bytes,
        };
        index.add(Entry::read(place, line.text.as_deref()));
        let is_blank = line.text.as_ref().is_some_and(|text| is_blank(text));
        filled += u64::from(!is_blank);
        seen.push(line);
    }
    let mut answers = BTreeMap::new();
    for member in MEMBERS {
        let key = RecordKey::from(member);
        let mut found = seen
            .iter()
            .filter(|line| index.is_answer(&key, line.offset));
        let Some(line) = found.next() else { continue };
        assert!(found.next().is_none(), "two answers for one page");
        let text = line.text.as_deref().expect("a line over the limit answers");
        answers.insert(member, text.trim_ascii());
    }
    let unanswered = index.unanswered();
    assert_eq!(answers.len() + unanswered.len(), MEMBERS.len());
    let conflicting: u64 = unanswered.iter().filter_map(|(_key, lines)| *lines).sum();
    let counts = index.counts;
    assert_eq!(counts.lines, filled, "a line is not counted");
    let accounted = counts.foreign + counts.unreadable + counts.repeated + conflicting;
    assert_eq!(
        accounted + answers.len() as u64,
        filled,
        "a line is in no account"
    );
    answers
}

fn is_blank(text: &[u8]) -> bool {
    text.trim_ascii().is_empty()
}

/// The key of a line as a plain reader of JSON sees it: the one text that stands in both places, or
/// in one of them with nothing in the other. `None` where the plain reader gives up.
fn key_of(line: &[u8]) -> Option<Option<String>> {
    let text = std::str::from_utf8(line).ok()?;
    let text = text.trim_start_matches('\u{feff}').trim();
    let Keys { key, metadata } = serde_json::from_str(text).ok()?;
    let in_metadata = metadata.and_then(|mut metadata| Some(metadata.get_mut("key")?.take()));
    let mut named = [key, in_metadata]
        .into_iter()
        .flatten()
        .filter(|value| !value.is_null());
    let (first, second) = (named.next(), named.next());
    Some(match (first, second) {
        (Some(Value::String(key)), None) => Some(key),
        (Some(Value::String(key)), Some(Value::String(again))) if key == again => Some(key),
        _ => None,
    })
}

fn check_key_of(line: &[u8], key: &str) {
    if let Some(seen) = key_of(line) {
        assert_eq!(seen.as_deref(), Some(key), "a foreign key");
    }
}

/// The part of a line that says whose it is. What else stands in the line is passed over, so that
/// it may be nested as deep as it likes.
#[derive(serde::Deserialize)]
struct Keys {
    key: Option<Value>,
    metadata: Option<Value>,
}

/// One line of a result file: nothing that is kept of it is longer than its limit, and reading it
/// takes no notice of the space around it.
pub fn result_line(data: &[u8]) {
    let read = row(data);
    assert_eq!(
        row(&[data, b" \t\r"].concat()),
        read,
        "space behind it counts"
    );
    match &read {
        Row::Answer { key, body } => {
            check_key_of(data, key);
            check_body(body, data.len());
        }
        Row::NoBody { key } => check_key_of(data, key),
        Row::TwoKeys { first, second } => assert_ne!(first, second),
        Row::Blank | Row::NotUtf8 | Row::NotJson { .. } | Row::NotAnObject | Row::NoKey => {}
    }
}

fn check_body(body: &RowBody, bytes: usize) {
    match body {
        RowBody::Error(status) => assert!(status.message.len() <= STATUS_BYTES_MAX),
        RowBody::Response(response) => {
            let texts = [
                &response.text,
                &response.finish_reason,
                &response.block_reason,
                &response.model_version,
            ];
            let kept: usize = texts.into_iter().flatten().map(String::len).sum();
            assert!(
                kept <= bytes,
                "{kept} bytes of text out of {bytes} bytes of line"
            );
            if let Some(text) = &response.text
                && let Some(json) = verdict::extract_json(text)
            {
                assert!(text.contains(json), "an answer that nobody gave");
            }
        }
    }
    // What it is worth is decided without a panic; the words are checked where they are made.
    let _reading = verdict::read(body);
}

/// Answers about jobs and files.
pub fn operation(data: &[u8]) {
    if let Ok(batch) = operation::batch(data) {
        check_batch(&batch);
    }
    if let Ok(page) = operation::batch_page(data) {
        page.items.iter().for_each(check_batch);
        assert_ne!(page.next.as_deref(), Some(""));
    }
    if let Ok(read) = file::file(data) {
        assert!(!read.name.as_str().is_empty());
        let is_digest = |text: &String| text.len() == 64 && *text == text.to_ascii_lowercase();
        assert!(read.sha256.as_ref().is_none_or(is_digest));
    }
    if let Ok(page) = file::file_page(data) {
        assert!(page.items.iter().all(|file| !file.name.as_str().is_empty()));
        assert_ne!(page.next.as_deref(), Some(""));
    }
    if let Ok(Some(lines)) = operation::inline_lines(data) {
        assert!(
            lines.len() <= 2 * data.len(),
            "results grow when they are kept"
        );
    }
    inline_row(data);
}

fn check_batch(batch: &RemoteBatch) {
    assert!(!batch.name.as_str().is_empty());
    if let Some(error) = &batch.error {
        assert!(error.message.len() <= STATUS_BYTES_MAX);
    }
}

/// A row inside a job says the same as the same row in a file.
fn inline_row(data: &[u8]) {
    let is_row = serde_json::from_slice::<&serde_json::value::RawValue>(data).is_ok();
    if !is_row {
        return;
    }
    let mut body = br#"{"name":"batches/b","response":{"inlinedResponses":["#.to_vec();
    body.extend_from_slice(data);
    body.extend_from_slice(b"]}}");
    let lines = operation::inline_lines(&body)
        .expect("an operation around a row")
        .expect("a row inside an operation");
    let line = lines.strip_suffix(b"\n").expect("a line has an end");
    assert!(!line.contains(&b'\n'), "one row became two lines");
    let flat: Vec<u8> = data
        .iter()
        .map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            other => *other,
        })
        .collect();
    assert_eq!(row(line), row(&flat), "a row says something else in a file");
}

/// An answer that is an error: call, status, `Retry-After` and `Date`, then the body.
pub fn error(data: &[u8]) {
    const CALLS: [Call; 6] = [
        Call::CreateBatch,
        Call::GetBatch,
        Call::Upload,
        Call::GetFile,
        Call::DeleteFile,
        Call::Download,
    ];
    let [call, high, low, rest @ ..] = data else {
        return;
    };
    let call = CALLS[usize::from(*call) % CALLS.len()];
    let status = u16::from_be_bytes([*high, *low]) % 500 + 100;
    let mut parts = rest.splitn(3, |byte| *byte == b'\n');
    let mut header = || std::str::from_utf8(parts.next().unwrap_or_default()).ok();
    let (retry_after, date) = (header(), header());
    let body = parts.next().unwrap_or_default();
    let error = api_error(
        call,
        &HttpAnswer {
            status,
            retry_after,
            date,
            body,
        },
    );
    assert!(error.message.len() <= MESSAGE_BYTES_MAX);
    assert!(!error.message.chars().any(char::is_control));
    assert!(!error.message.contains("AIza"), "a key in a message");
    let is_definite = (400..500).contains(&status) && status != 408;
    if call.doubt() == Effect::Maybe && !is_definite {
        assert_eq!(
            error.effect,
            Effect::Maybe,
            "HTTP {status} proves that nothing happened"
        );
    }
    if call.doubt() == Effect::None {
        assert_eq!(error.effect, Effect::None);
    }
    if let Next::Throttled { after, .. } = error.next {
        check_hint(after);
    }
}

/// A wish to be left alone for a while, in every form in which it comes.
pub fn retry_hint(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let quoted = Value::from(&*text).to_string();
    let detail =
        |delay: &str| format!(r#"{{"error":{{"code":429,"details":[{{"retryDelay":{delay}}}]}}}}"#);
    let parts = text.split_once('\n').unwrap_or((&text, ""));
    let told = Value::from(format!("Please retry in {text}.")).to_string();
    let bodies = [
        String::new(),
        detail(&quoted),
        detail(&text),
        detail(&format!(r#"{{"seconds":{},"nanos":{}}}"#, parts.0, parts.1)),
        format!(r#"{{"error":{{"code":429,"message":{told}}}}}"#),
    ];
    for body in &bodies {
        for retry_after in [None, Some(&*text)] {
            let answer = HttpAnswer {
                status: 429,
                retry_after,
                date: Some("Sun, 22 Nov 2026 10:00:00 GMT"),
                body: body.as_bytes(),
            };
            let error = api_error(Call::Upload, &answer);
            let Next::Throttled { after, .. } = error.next else {
                panic!("a 429 is no throttling: {error:?}");
            };
            check_hint(after);
        }
    }
}

/// However long a wish is, what comes of it stays within our own bounds and inside the calendar.
fn check_hint(hint: Option<Duration>) {
    const FLOOR: Duration = Duration::from_secs(1);
    const CEILING: Duration = Duration::from_secs(600);
    let held = cadence::clamped_hint(hint, FLOOR, CEILING);
    assert!((FLOOR..=CEILING).contains(&held));
    let until = Timestamp::EPOCH.plus(hint.unwrap_or(Duration::MAX));
    assert!(until.to_string().ends_with('Z'));
    let grown = cadence::backoff(held, u32::MAX, CEILING, 1.0);
    assert!(grown <= CEILING * 11 / 10);
}

/// Any text as a record key, and any texts as the levels of a page.
pub fn record_key(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for layout in ["{page}", "{book}/{page}", "{state}/{school}/{year}/{page}"] {
        let layout = Layout::parse(layout).expect("a layout of this file");
        check_key(&layout, &RecordKey::from(&*text));
        for separator in ['/', '|', '\n'] {
            let levels: Vec<&str> = text.split(separator).collect();
            check_levels(&layout, &levels);
        }
    }
}

/// A key has a path below the folder and is that path's only key, or has none.
fn check_key(layout: &Layout, key: &RecordKey) {
    let root = Path::new("/root/of/all");
    let path = layout.path(root, key, "json");
    let Ok(levels) = layout.levels(key) else {
        assert!(path.is_err(), "a path without levels: {path:?}");
        return;
    };
    let path = path.expect("a key with levels has a path");
    let below = path.strip_prefix(root).expect("a path outside its folder");
    let mut found: Vec<&str> = below
        .components()
        .map(|component| match component {
            Component::Normal(name) => name.to_str().expect("a name that is no text"),
            other => panic!("{path:?} has {other:?}"),
        })
        .collect();
    let page = found.last_mut().expect("a page has a name");
    *page = page.strip_suffix(".json").expect("the extension asked for");
    assert_eq!(found, levels, "{key}");
    assert_eq!(
        layout.key(&found).as_ref(),
        Ok(key),
        "two keys for one path"
    );
}

fn check_levels(layout: &Layout, levels: &[&str]) {
    let Ok(key) = layout.key(levels) else {
        return;
    };
    let again = layout.levels(&key).expect("a key of this layout");
    assert_eq!(again, levels);
    assert!(
        !key.as_str().chars().any(|c| c.is_ascii_control()),
        "{key:?}"
    );
    let folders = &levels[..levels.len() - 1];
    assert_eq!(layout.book_key(folders).as_deref(), Ok(key.book()));
    check_key(layout, &key);
}

/// Any text as the layout of a project.
pub fn layout(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(layout) = Layout::parse(&text) else {
        return;
    };
    let names: BTreeSet<&String> = layout.names().iter().collect();
    assert_eq!(names.len(), layout.names().len(), "a level stands twice");
    assert!((1..=LEVELS_MAX).contains(&names.len()));
    let shown: Vec<String> = layout
        .names()
        .iter()
        .map(|name| format!("{{{name}}}"))
        .collect();
    assert_eq!(Layout::parse(&shown.join("/")).as_ref(), Ok(&layout));
    let levels = vec!["7"; names.len()];
    check_levels(&layout, &levels);
}

/// A configuration: the first byte says whether the rest is the file, the file of variables, or
/// one variable.
pub fn config(data: &[u8]) {
    let [place, rest @ ..] = data else { return };
    let mut env = BTreeMap::from([("GEMINI_API_KEY".to_owned(), KEY.to_owned())]);
    let (mut file, mut dot_env): (&[u8], &[u8]) = (b"", b"");
    match place % 3 {
        0 => file = rest,
        1 => dot_env = rest,
        _ => {
            let text = String::from_utf8_lossy(rest);
            let (name, value) = text.split_once('=').unwrap_or((&text, "1"));
            let taken = ["GEMINI_API_KEY", "PAGEMILL_CONFIG"].contains(&name);
            if !taken {
                env.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    let cwd = in_room(|room| room.configured(file, dot_env));
    let loaded = settings::load(Sources {
        file: None,
        env,
        flags: Vec::new(),
        cwd: cwd.clone(),
    });
    match loaded {
        Ok(loaded) => {
            check_secret(&format!("{:?}", loaded.settings));
            check_secret(&loaded.settings.snapshot_yaml());
            let paths = &loaded.settings.paths;
            for path in [&paths.output_dir, &paths.work_dir] {
                assert!(path.is_absolute(), "{}", path.display());
            }
            let lines = loaded.settings.results.line_bytes_max;
            assert!((64 << 10..=1 << 30).contains(&lines));
            loaded.settings.warnings();
            loaded.settings.scope_token();
        }
        Err(error) => {
            assert!(!error.faults.is_empty());
            check_secret(&error.to_string());
            // A fault names what is wrong; it does not hand the whole of it back.
            assert!(
                error.to_string().len() <= 64 * data.len() + 64 * 1024,
                "a flood of faults"
            );
        }
    }
    let prices = String::from_utf8_lossy(rest);
    if let Err(error) = settings::prices::parse(&prices) {
        assert!(!error.faults.is_empty());
    }
}

fn check_secret(text: &str) {
    assert!(!text.contains(KEY), "the key is in {text}");
}

/// Any bytes as the image of a page: what is taken is what it was, whole and of a known kind.
pub fn image(data: &[u8]) {
    let Ok((path, facts)) = in_room(|room| room.image_of(data)) else {
        return;
    };
    assert!(path.ends_with("image/a/b/c/1.jpg"), "{}", path.display());
    assert_eq!(facts.bytes, data.len() as u64);
    assert!((1..=IMAGE_BYTES_MAX).contains(&facts.bytes));
    assert_eq!(facts.sha256.as_str(), hex::encode(Sha256::digest(data)));
    assert!(facts.width > 0 && facts.height > 0);
    let begins: &[u8] = match facts.mime {
        ImageType::Jpeg => b"\xff\xd8\xff",
        ImageType::Png => b"\x89PNG\r\n\x1a\n",
        ImageType::Webp => b"RIFF",
        ImageType::Heic | ImageType::Heif => return assert_eq!(&data[4..8], b"ftyp"),
    };
    assert!(data.starts_with(begins));
}
