//! Names from strangers and links in the way: the program writes below its folders or not at all,
//! and what was paid for is kept.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::books::Books;
use crate::kit::{World, WorldOptions, key};

/// Every path below a folder; a link is itself, whatever it leads to.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let what = if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_dir() {
                folders.push(path.clone());
                "folder".to_owned()
            } else {
                String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), what);
        }
    }
    found
}

/// A run may write into these, and its own printed lines stand beside the project.
fn assert_only_in_its_folders(before: &BTreeMap<PathBuf, String>, world: &World) {
    let after = listing(world.folder());
    let is_ours = |path: &Path| {
        let name = path.to_string_lossy();
        name.starts_with("printed-")
            || name.starts_with("project/data")
            || name.starts_with("project/dataset/output_results")
    };
    for (path, what) in before {
        if !is_ours(path) {
            assert_eq!(after.get(path), Some(what), "{} changed", path.display());
        }
    }
    for path in after.keys() {
        let is_known = before.contains_key(path) || is_ours(path);
        assert!(is_known, "{} was written", path.display());
    }
}

fn world(books: usize, latency_ms: u64, faults: &str) -> World {
    World::new(&WorldOptions {
        books,
        pages: 2,
        latency_ms,
        faults,
        settings: &[("execution.context", "none")],
        ..WorldOptions::default()
    })
}

#[test]
fn p13_p4_result_lines_with_foreign_keys_write_nothing() {
    let world = world(2, 0, "rows_unknown_key: 1\n");
    let before = listing(world.folder());
    world.run_to(0, &["run"]);
    Books::default().check(&world);
    assert_only_in_its_folders(&before, &world);
    let foreign = world.number("SELECT sum(lines_foreign) FROM submissions");
    assert!(foreign > 0, "no foreign line was met");
}

#[test]
fn p13_a_book_whose_output_folder_leads_out_is_not_sent_until_it_is_mended() {
    let world = world(2, 0, "");
    let outside = world.folder().join("outside");
    fs::create_dir(&outside).unwrap();
    let link = world.root().join("dataset/output_results/S0");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink(&outside, &link).unwrap();
    let before = listing(world.folder());
    let ended = world.run_to(0, &["run"]);
    ended.assert_says(&[
        "the outputs of a book cannot be kept where they belong; the book is left alone",
        "a link that leads out of",
    ]);
    assert_only_in_its_folders(&before, &world);
    assert_eq!(world.requested(), [key(1, 1), key(1, 2)]);
    world
        .run_to(0, &["status"])
        .assert_says(&["output folder cannot be used"]);

    fs::remove_file(&link).unwrap();
    world.run_to(0, &["run"]);
    Books::default().check(&world);
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn p13_p8_a_link_that_comes_while_a_batch_runs_loses_no_answer_and_is_not_followed() {
    let world = world(2, 1500, "");
    let outside = world.folder().join("outside");
    fs::create_dir(&outside).unwrap();
    let link = world.root().join("dataset/output_results/S0");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    let mut running = world.start(&["run"]);
    running.wait_until("a job", || world.ledger().jobs_made > 0);
    symlink(&outside, &link).unwrap();
    let others = [key(1, 1), key(1, 2)];
    running.wait_until("the other book's outputs", || {
        others.iter().all(|key| world.output(key).exists())
    });
    running.wait_until_said(&["a link that leads out of"]);
    running.signal("TERM");
    let ended = running.wait();
    ended.assert_code(75);
    ended.assert_says(&["the local disk fails", "a link that leads out of"]);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);

    fs::remove_file(&link).unwrap();
    world.run_to(0, &["run"]);
    Books::default().check(&world);
    let paid = world.ledger().requests_by_key;
    assert!(paid.values().all(|count| *count == 1), "{paid:?}");
}

#[test]
fn p8_outputs_on_a_disk_that_is_not_mounted_are_not_paid_for_again() {
    let world = world(2, 0, "");
    let outputs = world.root().join("dataset/output_results");
    let disk = world.root().join("dataset/output_results/disk");
    world.run_to(0, &["run"]);
    fs::create_dir(&disk).unwrap();
    fs::rename(outputs.join("S0"), disk.join("S0")).unwrap();
    symlink(disk.join("S0"), outputs.join("S0")).unwrap();
    world.run_to(0, &["run"]);
    let away = world.folder().join("away");
    fs::rename(&disk, &away).unwrap();
    world.run_to(0, &["run"]);
    let paid = world.ledger().requests_by_key;
    assert!(paid.values().all(|count| *count == 1), "{paid:?}");
    // The same for the whole output folder.
    fs::rename(&outputs, world.folder().join("moved")).unwrap();
    symlink(world.folder().join("nowhere"), &outputs).unwrap();
    world
        .run_to(78, &["run"])
        .assert_says(&["paths.output_dir"]);
    assert!(!world.folder().join("nowhere").exists());
}

#[test]
fn p13_f21_names_of_every_kind_stay_below_their_folders() {
    let world = world(1, 0, "");
    let labels = world.root().join("dataset/label_to_curricular");
    let images = world.root().join("dataset/raw_image_dataset");
    let image = fs::read(world.image(&world.pages[0].key)).unwrap();
    let school = "x".repeat(255);
    let odd = [
        "..a/b../...",
        r"..\..\x/C:\y/1850",
        "~/$HOME/`id`",
        "مدرسة/🏫/١٨٤٩",
        "-rf/a%2F..%2Fb/%2E%2E",
        "a:b/%/\u{202e}x\ny",
        &format!("S/{school}/1"),
    ];
    for book in odd {
        for (root, name, content) in [
            (&labels, "7.json", b"{\"title\": \"t\"}".as_slice()),
            (&images, "7.png", image.as_slice()),
        ] {
            crate::kit::write(&root.join(book).join(name), content);
        }
    }
    let long = labels.join(format!("S/s/1/{}1.json", "0".repeat(240)));
    crate::kit::write(&long, b"{\"title\": \"t\"}");
    let before = listing(world.folder());
    world.run_to(0, &["run"]);
    assert_only_in_its_folders(&before, &world);
    for book in odd {
        let output = world.root().join("dataset/output_results").join(book);
        assert!(output.join("7.json").is_file(), "{book} has no output");
    }
    let asked = world.requested();
    assert_eq!(asked.len(), odd.len() + world.pages.len(), "{asked:?}");
    world
        .run_to(0, &["status"])
        .assert_says(&["name cannot be used"]);
}
