//! Raw results and exports in less space: the content stays, whatever happens on the way.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use pagemill::domain::ids::{BatchId, Sha256Hex};
use pagemill::domain::time::Timestamp;
use pagemill::ports::archive::{Archive, Compression, StopWord};
use pagemill::ports::file_audit::FileAudit;
use pagemill::ports::result_sink::{RawText, ResultSink, Written};
use sha2::{Digest, Sha256};

use crate::world::World;

fn facts(content: &[u8]) -> Written {
    Written {
        sha256: Sha256Hex::new(hex::encode(Sha256::digest(content))),
        bytes: content.len() as u64,
    }
}

/// Lines of many lengths, some of them with a carriage return, one too long to be held.
fn lines() -> Vec<u8> {
    let mut text = Vec::new();
    for number in 0..2_000_usize {
        text.extend(
            format!(
                "{{\"key\":\"page {number}\",\"text\":\"{}\"}}",
                "x".repeat(number)
            )
            .bytes(),
        );
        text.extend_from_slice(if number % 7 == 0 { b"\r\n" } else { b"\n" });
    }
    text.extend(vec![b'y'; 2 * 1024 * 1024]);
    text.extend(b"\nthe last one has no end");
    text
}

async fn all_lines(world: &World, path: &Path) -> Vec<RawText> {
    let mut reader = world.files.open_raw(path).await.unwrap();
    let mut all = Vec::new();
    while let Some(run) = reader.next_lines().await.unwrap() {
        all.extend(run);
    }
    all
}

async fn compressed(world: &World, path: &Path, content: &[u8]) -> Compression {
    let (facts, stop) = (facts(content), StopWord::default());
    let done = world.files.compress_raw(path, &facts, &stop).await;
    done.unwrap()
}

#[tokio::test]
async fn s2_39_compressed_results_read_as_they_did() {
    let world = World::new();
    let content = lines();
    let path = world.put("work/raw/b1.jsonl", &content);
    let before = all_lines(&world, &path).await;
    let Compression::Done { path: now, bytes } = compressed(&world, &path, &content).await else {
        panic!("not compressed");
    };
    assert_eq!(now, world.path("work/raw/b1.jsonl.zst"));
    assert!(bytes * 4 < content.len() as u64, "{bytes} bytes");
    // Until that is recorded, both are there.
    assert!(path.exists());
    let doubled = world.files.doubled_raw().await.unwrap();
    assert_eq!(doubled, std::slice::from_ref(&now));
    assert_eq!(
        world.files.remove_raw(&now).await.unwrap(),
        content.len() as u64
    );
    assert_eq!(world.files.remove_raw(&now).await.unwrap(), 0);
    assert_eq!(world.tree("work/raw"), ["b1.jsonl.zst"]);

    // By either name, by a name from before the folder was moved, and by the batch.
    let moved = Path::new("/nowhere/data/raw/b1.jsonl");
    for path in [&path, &now, moved] {
        assert_eq!(all_lines(&world, path).await, before);
        assert!(world.files.has_raw(path, content.len() as u64).await);
        assert!(!world.files.has_raw(path, bytes).await);
        let found = world.files.raw_facts_of(path).await.unwrap().unwrap();
        assert_eq!(found.sha256, facts(&content).sha256);
        assert_eq!(found.bytes, content.len() as u64);
        for line in before.iter().step_by(97) {
            let Some(text) = &line.text else { continue };
            let again = world.files.raw_line(path, line.offset, line.bytes).await;
            assert_eq!(again.unwrap(), *text);
        }
        let beyond = world
            .files
            .raw_line(path, content.len() as u64 - 3, 9)
            .await;
        assert!(beyond.is_err());
    }
    let batch = BatchId::from("b1");
    assert!(world.files.is_raw_here(&batch).await);
    assert_eq!(
        world.files.raw_facts(&batch).await.unwrap(),
        Some(facts(&content))
    );
    // Done before: nothing is left to do.
    let again = compressed(&world, &path, &content).await;
    assert_eq!(again, Compression::Done { path: now, bytes });
}

#[tokio::test]
async fn a_work_folder_that_was_moved_keeps_its_results() {
    let world = World::new();
    let content = b"{\"key\":\"a\"}\n";
    world.put("work/raw/b1.jsonl", content);
    let old = Path::new("/srv/old/data/raw/b1.jsonl");
    assert!(world.files.has_raw(old, content.len() as u64).await);
    assert_eq!(all_lines(&world, old).await.len(), 1);
    assert!(matches!(
        compressed(&world, old, content).await,
        Compression::Done { .. }
    ));
}

#[tokio::test]
async fn results_that_are_not_what_was_recorded_are_left_alone() {
    let world = World::new();
    let content = lines();
    let path = world.put("work/raw/b1.jsonl", b"something else\n");
    assert!(matches!(
        compressed(&world, &path, &content).await,
        Compression::Damaged { .. }
    ));
    assert_eq!(world.tree("work/raw"), ["b1.jsonl"]);
    let elsewhere = world.put("archive/b2.jsonl", &content);
    assert_eq!(
        compressed(&world, &elsewhere, &content).await,
        Compression::Missing
    );
    assert_eq!(
        compressed(&world, &world.path("work/raw/b3.jsonl"), b"x").await,
        Compression::Missing
    );
    // Compressed by somebody, or cut by the disk.
    let cut = world.put("work/raw/b4.jsonl.zst", b"\x28\xb5\x2f\xfd");
    assert!(world.files.raw_facts_of(&cut).await.is_err());
    assert!(!world.files.has_raw(&cut, 4).await);
    assert!(
        world
            .files
            .compress_raw(&cut, &facts(b"x"), &StopWord::default())
            .await
            .is_err()
    );
    let plain = world.path("work/raw/b1.jsonl");
    assert!(world.files.remove_raw(&plain).await.is_err());
    assert!(
        world
            .files
            .remove_raw(&world.path("work/raw/b1.jsonl.zst"))
            .await
            .is_err()
    );
    assert!(plain.exists());
}

#[tokio::test]
async fn a_word_to_stop_leaves_nothing_half_done() {
    let world = World::new();
    let content = lines();
    let path = world.put("work/raw/b1.jsonl", &content);
    let stop = StopWord::default();
    stop.say();
    let done = world
        .files
        .compress_raw(&path, &facts(&content), &stop)
        .await;
    assert_eq!(done.unwrap(), Compression::Stopped);
    assert_eq!(world.tree("work/raw"), ["b1.jsonl"]);
}

#[tokio::test]
async fn what_a_crash_leaves_is_recognized_and_removed() {
    let world = World::new();
    let content = lines();
    let path = world.put("work/raw/b1.jsonl", &content);
    compressed(&world, &path, &content).await;
    // A half-written file under its temporary name, and one of the same name with another content.
    let half = ".b2.jsonl.zst.0123456789abcdef0123456789abcdef.tmp";
    world.put(&format!("work/raw/{half}"), b"half");
    world.put("work/raw/b2.jsonl", b"whole\n");
    fs::copy(
        world.path("work/raw/b1.jsonl.zst"),
        world.path("work/raw/b2.jsonl.zst"),
    )
    .unwrap();
    let doubled = world.files.doubled_raw().await.unwrap();
    assert_eq!(doubled, [world.path("work/raw/b1.jsonl.zst")]);
    let listed = world.files.work_files().await.unwrap();
    assert_eq!(listed.temporary.len(), 1);
    assert_eq!(listed.raw.len(), 4, "{:?}", listed.raw);
    assert_eq!(world.files.remove_leftovers(&[]).await.unwrap(), 1);
    assert!(!world.path(&format!("work/raw/{half}")).exists());
}

#[tokio::test]
async fn old_exports_are_compressed_and_their_index_is_not() {
    let world = World::new();
    let content = lines();
    let old = world.put("work/export/Ohio/1.json", &content);
    world.put("work/export/Ohio/2.json", b"new");
    let index = world.put("work/export/index.json", b"{}");
    world.put("work/export/Ohio/3.json.zst", b"done");
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for path in [&old, &index] {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(past)
            .unwrap();
    }
    let before = Timestamp::from_micros(2_000_000_000_000);
    let found = world.files.old_exports(before, 10).await.unwrap();
    assert_eq!(found, [(old.clone(), content.len() as u64)]);
    assert_eq!(world.files.old_exports(before, 0).await.unwrap(), []);
    let bytes = world
        .files
        .compress_export(&old, &StopWord::default())
        .await
        .unwrap();
    assert!(bytes.unwrap() < content.len() as u64);
    assert!(!old.exists());
    let found = world.files.raw_facts_of(&old).await.unwrap().unwrap();
    assert_eq!(found.sha256, facts(&content).sha256);
    let outside = world.put("work/raw/b1.jsonl", b"x");
    assert!(
        world
            .files
            .compress_export(&outside, &StopWord::default())
            .await
            .is_err()
    );
}
