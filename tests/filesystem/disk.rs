//! The adapter on folders that are not mounted, files that cannot be read, and what a crash left.

use std::fs;
use std::os::unix::fs::symlink;

use pagemill::domain::ids::BatchId;
use pagemill::domain::image::ImageFault;
use pagemill::ports::page_source::{PageSource, Scope};
use pagemill::ports::result_sink::ResultSink;

use crate::world::{World, key};

/// A file that is there and whose reading is an input/output error, on every Linux.
const UNREADABLE: &str = "/proc/self/mem";

#[tokio::test]
async fn f46_an_input_output_error_is_the_disks_fault_and_a_missing_file_is_not() {
    let world = World::new();
    for folder in ["labels/a/b/c", "outputs/a/b/c"] {
        world.put(&format!("{folder}/2.json"), b"{}");
        symlink(UNREADABLE, world.path(&format!("{folder}/1.json"))).unwrap();
    }
    let (bad, missing) = (key("a:b:c:1"), key("a:b:c:3"));
    for error in [
        world.files.label(&bad).await.unwrap_err(),
        world.files.output(&bad).await.unwrap_err(),
    ] {
        assert!(error.disk && !error.missing, "{error}");
    }
    for error in [
        world.files.label(&missing).await.unwrap_err(),
        world.files.output(&missing).await.unwrap_err(),
    ] {
        assert!(error.missing && !error.disk, "{error}");
    }
}

#[tokio::test]
async fn f46_where_a_whole_folder_is_gone_no_single_file_of_it_is_missing() {
    let world = World::new();
    let page = key("a:b:c:1");
    for empty in [true, false] {
        for folder in ["labels", "images", "outputs"] {
            let _gone = fs::remove_dir_all(world.path(folder));
            if empty {
                fs::create_dir(world.path(folder)).unwrap();
            }
        }
        for error in [
            world.files.label(&page).await.unwrap_err(),
            world.files.output(&page).await.unwrap_err(),
            world.files.output_folder().await.unwrap_err(),
            world.files.walk(&Scope::default()).await.err().unwrap(),
        ] {
            assert!(error.disk && !error.missing, "{error}");
        }
        let fault = world.files.image(&page).await.unwrap_err();
        assert!(matches!(fault, ImageFault::Disk { .. }), "{fault}");
    }
}

#[tokio::test]
async fn f46_outputs_are_not_written_where_outputs_were_and_are_not() {
    let world = World::new();
    let outputs = |number: u32| vec![(key(&format!("a:b:c:{number}")), b"{}".to_vec())];
    assert!(
        world.files.write_outputs(outputs(1)).await[0].is_ok(),
        "the first of all"
    );
    fs::rename(world.path("outputs"), world.path("elsewhere")).unwrap();
    for _mount_point in [false, true] {
        let error = world
            .files
            .write_outputs(outputs(2))
            .await
            .remove(0)
            .unwrap_err();
        assert!(error.disk, "{error}");
        fs::create_dir_all(world.path("outputs")).unwrap();
        assert_eq!(world.tree("outputs"), [] as [&str; 0]);
    }
    fs::remove_dir(world.path("outputs")).unwrap();
    fs::rename(world.path("elsewhere"), world.path("outputs")).unwrap();
    assert!(world.files.write_outputs(outputs(2)).await[0].is_ok());
    assert_eq!(world.tree("outputs"), ["a/b/c/1.json", "a/b/c/2.json"]);
    // The same holds for a process that has only seen or been told of them.
    for told in [true, false] {
        let world = World::new();
        world.put("labels/a/b/c/1.json", b"{}");
        world.put("outputs/a/b/c/1.json", b"{}");
        if told {
            world.files.expect_outputs();
        } else {
            let mut walk = world.files.walk(&Scope::default()).await.unwrap();
            while walk.next().await.is_some() {}
        }
        fs::remove_dir_all(world.path("outputs")).unwrap();
        assert!(world.files.write_outputs(outputs(2)).await[0].is_err());
        // Whoever deleted them on purpose says so with any file.
        world.put("outputs/on purpose", b"");
        assert!(world.files.write_outputs(outputs(2)).await[0].is_ok());
    }
}

#[tokio::test]
async fn f10_a_write_that_fails_leaves_the_old_output_and_no_temporary_file() {
    let world = World::new();
    let page = key("a:b:c:1");
    // A folder where the file should be: the rename at the very end fails.
    world.put("outputs/a/b/c/1.json/old", b"old");
    let other = (key("a:b:c:2"), b"{\"text\": 2}".to_vec());
    let written = world
        .files
        .write_outputs(vec![(page, b"{}".to_vec()), other])
        .await;
    assert!(written[0].is_err() && written[1].is_ok(), "{written:?}");
    assert_eq!(world.tree("outputs"), ["a/b/c/1.json/old", "a/b/c/2.json"]);
}

#[tokio::test]
async fn f46_what_a_crash_left_is_removed_and_nothing_else_is() {
    let world = World::new();
    let planned = BatchId::from("planned");
    let temporary = format!(".14.json.{}.tmp", "0".repeat(32));
    for name in [
        "work/spool/planned.jsonl",
        "work/spool/planned.jsonl.part",
        "work/spool/sent.jsonl",
        "work/spool/notes.txt",
        "work/raw/sent.jsonl",
        "work/raw/sent.jsonl.part",
        "work/reports/sent.md",
        &format!("work/reports/{temporary}"),
        "outputs/a/b/c/13.json",
        &format!("outputs/a/b/c/{temporary}"),
        "outputs/a/b/c/.DS_Store",
    ] {
        world.put(name, b"{}");
    }
    let removed = world.files.remove_leftovers(&[planned]).await.unwrap();
    assert_eq!(removed, 4);
    let left = [
        "raw/sent.jsonl",
        "reports/sent.md",
        "spool/notes.txt",
        "spool/planned.jsonl",
    ];
    assert_eq!(world.tree("work"), left);
    // Outputs may be many: their folders are looked at when the first output is written there.
    let output = |number: u32| vec![(key(&format!("a:b:c:{number}")), b"{}".to_vec())];
    assert!(world.files.write_outputs(output(14)).await[0].is_ok());
    assert_eq!(
        world.tree("outputs"),
        ["a/b/c/.DS_Store", "a/b/c/13.json", "a/b/c/14.json"]
    );
    world.put(&format!("outputs/a/b/c/{temporary}"), b"");
    assert!(world.files.write_outputs(output(15)).await[0].is_ok());
    assert!(
        world
            .tree("outputs")
            .contains(&format!("a/b/c/{temporary}")),
        "after that it may be one that is being written"
    );
}

#[tokio::test]
async fn f46_room_is_what_the_disk_has_beyond_what_is_to_be_left() {
    let world = World::with_free_bytes_min(0);
    world.files.room().await.unwrap();
    assert!(world.path("work").is_dir());
    let world = World::with_free_bytes_min(u64::MAX);
    let error = world.files.room().await.unwrap_err();
    assert!(error.disk, "{error}");
    assert!(
        error.message.contains("fewer than paths.free_bytes_min"),
        "{error}"
    );
}

#[tokio::test]
async fn f46_a_spool_file_that_cannot_be_finished_leaves_nothing_behind() {
    let world = World::new();
    let batch = BatchId::from("b");
    // A folder where the file should be: the rename at the end fails.
    fs::create_dir_all(world.path("work/spool/b.jsonl/x")).unwrap();
    let mut spool = world.files.open_spool(&batch).await.unwrap();
    spool.write(b"line\n".to_vec()).await.unwrap();
    assert!(spool.finish().await.is_err());
    assert_eq!(world.tree("work"), [] as [&str; 0]);
}
