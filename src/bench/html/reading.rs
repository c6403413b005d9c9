//! How the page is to be read: each word of it in a sentence.

use super::{Report, add, close, escaped, open};

const WORDS: &[(&str, &str)] = &[
    (
        "pages/s",
        "Pages that were completed, divided by the time from the start of a run to its end: from the look at the \
         labels to the deletion of the last file. Where a point was measured several times, the middle one.",
    ),
    (
        "MB/s",
        "Millions of bytes of images brought to the provider's store in a second.",
    ),
    (
        "CPU ms/page",
        "Processor time of pagemill alone, for one page, in milliseconds. The played provider is a process of its \
         own and is not in it; but it uses the same processors, so that a real provider leaves more to pagemill.",
    ),
    (
        "stages of the processor time",
        "What a stage did on the thread that all stages share, and on the threads it gave work to. The state actor is \
         the mailbox of the database's owner on that thread; the database thread is where the owner and SQLite work. \
         Connections is the rest of the shared thread: HTTP and the event loop. Other could be given to nobody. The \
         parts add up to the whole.",
    ),
    (
        "commits/s, rows/commit",
        "Transactions of the database that could change something, and the rows each of them changed on the average. \
         Many rows in few commits are cheap.",
    ),
    (
        "peak memory",
        "The most memory that the process of a run held at once.",
    ),
    (
        "limit",
        "What held the run up, with the part of the time for which it did. The first cause is named: uploads that wait \
         for the rate gate fill their places, too. Where nothing held it up for most of the time, the largest share is \
         told all the same.",
    ),
    (
        "stages of a page",
        "discovered: known, not yet sent; uploading: claimed, until its image is recorded as sent; uploaded: waits for a \
         batch; batched: with the provider; validating: its answer is being judged and written.",
    ),
    (
        "spots",
        "Places in a stage. An upload slot is one of files.upload_concurrency; the upload rate gate is where \
         files.uploads_per_second makes uploads wait; a collection slot is one of results.downloads_in_flight.",
    ),
    (
        "step",
        "When a setting helped, the other settings were measured again around its better value: step 1, and so on.",
    ),
];

/// Adds the last section.
pub(super) fn add_reading(text: &mut String, report: &Report) {
    open(text, "reading", "How to read this");
    add(text, format_args!("<dl class=\"read\">"));
    for (word, meaning) in WORDS {
        let (word, meaning) = (escaped(word), escaped(meaning));
        add(text, format_args!("<dt>{word}</dt><dd>{meaning}</dd>"));
    }
    if !report.is_live {
        let meaning = escaped(
            "The pages are made up, each with an image of its own; prompt and schema are the demo's; pages stand \
             alone (execution.context: none); the first batch is not kept small (breaker.pilot_pages: 0) and nothing \
             halts (breaker); the root beats every 50 ms instead of 250, and jobs are looked at more often than \
             batch.poll_interval_seconds. Network, TLS and the service's own speed are not measured.",
        );
        add(
            text,
            format_args!("<dt>what differs from a run of yours</dt><dd>{meaning}</dd>"),
        );
    }
    add(text, format_args!("</dl>"));
    close(text);
}
