use std::fs;
use std::os::unix::fs::symlink;

use pagemill::domain::ids::BatchId;
use pagemill::ports::result_sink::ResultSink;
use sha2::{Digest, Sha256};

use crate::world::{World, key};

#[tokio::test]
async fn outputs_are_written_in_the_order_asked_and_leave_nothing_else() {
    let world = World::new();
    let outputs: Vec<_> = (0..100)
        .map(|page| {
            let key = key(&format!("a%3Ab:s:{}:{page}", page % 3));
            (key, format!("{{\"page\": {page}}}").into_bytes())
        })
        .collect();
    let written = world.files.write_outputs(outputs.clone()).await;
    for ((_key, content), written) in outputs.iter().zip(written) {
        let written = written.unwrap();
        assert_eq!(
            written.sha256.as_str(),
            hex::encode(Sha256::digest(content))
        );
        assert_eq!(written.bytes, content.len() as u64);
    }
    let tree = world.tree("outputs");
    assert_eq!(tree.len(), 100);
    assert!(
        tree.iter()
            .all(|path| path.starts_with("a:b/s/") && path.ends_with(".json"))
    );
    assert_eq!(
        fs::read(world.path("outputs/a:b/s/1/1.json")).unwrap(),
        b"{\"page\": 1}"
    );
    assert!(world.files.write_outputs(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn one_bad_output_does_not_stop_the_others() {
    let world = World::new();
    world.put("outputs/file/in/the", b"way");
    fs::create_dir_all(world.path("outputs/a/b/c/3.json/full")).unwrap();
    let written = world
        .files
        .write_outputs(vec![
            (key("a:b:c:1"), b"one".to_vec()),
            (key("..:b:c:1"), b"x".to_vec()),
            (key("file:in:the:1"), b"x".to_vec()),
            (key("a:b:c:1"), b"again".to_vec()),
            (key("a:b:c:3"), b"x".to_vec()),
            (key("a:b:c:2"), b"two".to_vec()),
        ])
        .await;
    let outcomes: Vec<bool> = written.iter().map(Result::is_ok).collect();
    assert_eq!(outcomes, [true, false, false, false, false, true]);
    assert_eq!(
        world.tree("outputs"),
        ["a/b/c/1.json", "a/b/c/2.json", "file/in/the"]
    );
    assert_eq!(
        fs::read(world.path("outputs/a/b/c/1.json")).unwrap(),
        b"one"
    );
}

#[tokio::test]
async fn f10_of_many_outputs_each_has_its_own_outcome() {
    let world = World::new();
    let outputs: Vec<_> = (0..600)
        .map(|page| {
            (
                key(&format!("a:b:c:{page}")),
                format!("{page}").into_bytes(),
            )
        })
        .collect();
    // A folder where the file should be: the rename at the very end fails.
    for page in (0..600).step_by(7) {
        fs::create_dir_all(world.path(&format!("outputs/a/b/c/{page}.json/full"))).unwrap();
    }
    let written = world.files.write_outputs(outputs).await;
    for (page, written) in written.iter().enumerate() {
        let name = format!("outputs/a/b/c/{page}.json");
        match written {
            Ok(_) => assert_eq!(
                fs::read_to_string(world.path(&name)).unwrap(),
                page.to_string()
            ),
            Err(fault) => assert!(fault.path.ends_with(&name), "{page}: {fault:?}"),
        }
        assert_eq!(written.is_err(), page % 7 == 0, "{page}");
    }
    assert_eq!(written.len(), 600);
    // Nothing is left of those that failed.
    let files = world.tree("outputs");
    assert_eq!(
        files.len(),
        written.iter().filter(|written| written.is_ok()).count()
    );
}

#[tokio::test]
async fn a_link_that_leads_out_is_refused() {
    let world = World::new();
    world.put("outside/keep", b"");
    world.put("outputs/inside/keep", b"");
    symlink(world.path("outside"), world.path("outputs/a")).unwrap();
    symlink(world.path("outputs/inside"), world.path("outputs/b")).unwrap();
    symlink(
        world.path("outside/keep"),
        world.path("outputs/inside/1.json"),
    )
    .unwrap();
    let world_of_two = world
        .files
        .write_outputs(vec![
            (key("a:s:1:1"), b"escaped".to_vec()),
            (key("b:s:1:1"), b"inside".to_vec()),
        ])
        .await;
    assert!(
        world_of_two[0]
            .as_ref()
            .unwrap_err()
            .message
            .contains("leads out")
    );
    assert!(world_of_two[1].is_ok());
    assert_eq!(world.tree("outside"), ["keep"]);
    assert_eq!(
        fs::read(world.path("outputs/inside/s/1/1.json")).unwrap(),
        b"inside"
    );
    assert!(world.files.retire_output(&key("b:s:1:1")).await.is_ok());
}

#[tokio::test]
async fn an_output_link_is_replaced_not_followed() {
    let world = World::new();
    let outside = world.put("outside/1.json", b"theirs");
    fs::create_dir_all(world.path("outputs/a/b/c")).unwrap();
    symlink(&outside, world.path("outputs/a/b/c/1.json")).unwrap();
    let written = world
        .files
        .write_outputs(vec![(key("a:b:c:1"), b"ours".to_vec())])
        .await;
    assert!(written[0].is_ok());
    assert_eq!(fs::read(outside).unwrap(), b"theirs");
    assert_eq!(
        fs::read(world.path("outputs/a/b/c/1.json")).unwrap(),
        b"ours"
    );
}

#[tokio::test]
async fn f10_a_retired_output_is_kept_as_a_revision() {
    let world = World::new();
    for content in ["first", "second"] {
        world.put("outputs/a/b/c/1.json", content.as_bytes());
        world.files.retire_output(&key("a:b:c:1")).await.unwrap();
        assert!(!world.path("outputs/a/b/c/1.json").exists());
    }
    let kept = world.tree("work/revisions");
    assert_eq!(kept.len(), 2);
    let mut contents: Vec<Vec<u8>> = kept
        .iter()
        .map(|path| fs::read(world.path("work/revisions").join(path)).unwrap())
        .collect();
    contents.sort();
    assert_eq!(contents, [b"first".to_vec(), b"second".to_vec()]);
    assert!(
        kept.iter().all(|path| path.starts_with("a/b/c/1.")),
        "{kept:?}"
    );
    world.files.retire_output(&key("a:b:c:1")).await.unwrap();
    assert!(world.files.retire_output(&key("..:b:c:1")).await.is_err());
}

#[tokio::test]
async fn a_spool_file_appears_when_it_is_whole() {
    let world = World::new();
    let batch = BatchId::from("0193-ab");
    let path = world.files.spool_path(&batch);
    assert_eq!(path, world.path("work/spool/0193-ab.jsonl"));
    let mut spool = world.files.open_spool(&batch).await.unwrap();
    spool.write(b"one\n".to_vec()).await.unwrap();
    spool.write(b"two\n".to_vec()).await.unwrap();
    assert!(!path.exists());
    let written = spool.finish().await.unwrap();
    assert_eq!(
        (written.bytes, fs::read(&path).unwrap()),
        (8, b"one\ntwo\n".to_vec())
    );
    assert_eq!(
        written.sha256.as_str(),
        hex::encode(Sha256::digest(b"one\ntwo\n"))
    );

    let mut afresh = world.files.open_spool(&batch).await.unwrap();
    afresh.write(b"three\n".to_vec()).await.unwrap();
    afresh.finish().await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"three\n");
    drop(world.files.open_spool(&batch).await.unwrap());
    world.files.remove_spool(&batch).await.unwrap();
    world.files.remove_spool(&batch).await.unwrap();
    assert_eq!(world.tree("work"), [] as [&str; 0]);
    let odd = world.files.raw_path(&BatchId::from("../../x"));
    assert_eq!(odd, world.path("work/raw/______x.jsonl"));
}

#[tokio::test]
async fn reports_have_plain_names() {
    let world = World::new();
    for text in ["# One", "# Two"] {
        let path = world.files.write_report("batch-1.md", text).await.unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), text);
    }
    assert_eq!(world.tree("work"), ["reports/batch-1.md"]);
    for bad in ["", "../x", "a/b", ".hidden", ".."] {
        assert!(world.files.write_report(bad, "x").await.is_err(), "{bad}");
    }
}
