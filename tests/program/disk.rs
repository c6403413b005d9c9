//! The program on small, full, read-only and vanishing disks.
//!
//! Disks are mounted in a mount namespace of the test's own: the test starts itself again inside one,
//! and nothing is left behind however it ends. Where that is not allowed, the tests of mounts say so and
//! a limit on the size of files, which needs no right at all, takes their place.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::books::Books;
use crate::kit::{World, WorldOptions, key, png, write};

/// Says to a test that it is in its own namespace.
const INSIDE: &str = "PAGEMILL_TEST_OWN_MOUNTS";
const OUTPUTS: &str = "dataset/output_results";
const TROUBLE: [&str; 2] = ["the local disk fails", "the database cannot be written"];

/// Runs a test of this module in a mount namespace of its own, or a substitute where there is none.
fn on_own_mounts(name: &str, test: impl FnOnce(), substitute: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let Some(flags) = ["-rm", "-m"].into_iter().find(|flags| can_mount(flags)) else {
        eprintln!("{name}: nothing can be mounted here; a file size limit takes the disk's place");
        return substitute();
    };
    let status = Command::new("unshare")
        .arg(flags)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("disk::{name}"), "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{name}, in its own namespace");
}

fn can_mount(flags: &str) -> bool {
    let place = tempfile::tempdir().unwrap();
    let mut try_it = Command::new("unshare");
    try_it
        .args([flags, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(place.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    try_it.status().is_ok_and(|status| status.success())
}

/// Runs a command of the system that must succeed.
fn must(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

fn mount_tmpfs(at: &Path, size: &str) {
    fs::create_dir_all(at).unwrap();
    let options = format!("size={size}");
    must("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", text(at)]);
}

fn mount_bind(from: &Path, at: &Path) {
    fs::create_dir_all(from).unwrap();
    fs::create_dir_all(at).unwrap();
    must("mount", &["--bind", text(from), text(at)]);
}

fn unmount(at: &Path) {
    must("umount", &["--lazy", text(at)]);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Fills a disk to its last byte.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut file = File::create(&path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
    path
}

/// Four chained books on a provider that takes a moment.
fn books(settings: &[(&str, &str)]) -> World {
    let mut world = World::new(&WorldOptions {
        books: 8,
        pages: 3,
        latency_ms: 300,
        settings,
        ..WorldOptions::default()
    });
    if !settings
        .iter()
        .any(|(path, _)| *path == "paths.free_bytes_min")
    {
        world.set("paths.free_bytes_min", "0B");
    }
    world
}

/// Everything is done and nothing shows of the disk: no failure, no second request for any page.
fn assert_as_if_nothing_had_happened(world: &World) {
    Books::default().check(world);
    assert_eq!(world.number("SELECT count(*) FROM failure_counts"), 0);
    assert_eq!(world.number("SELECT count(*) FROM failure_logs"), 0);
    assert_eq!(world.number("SELECT max(attempt_number) FROM attempts"), 1);
    let requests = world.ledger().requests_by_key;
    assert!(requests.values().all(|count| *count == 1), "{requests:?}");
}

/// Every output that is there is whole.
fn assert_outputs_whole(world: &World) {
    for page in &world.pages {
        if let Ok(output) = fs::read(world.output(&page.key)) {
            let parsed = serde_json::from_slice::<serde_json::Value>(&output);
            assert!(parsed.is_ok(), "{}: {} bytes", page.key, output.len());
        }
    }
}

/// Fills a disk while jobs are under way, waits until the program says so, makes room, and sees it end.
fn fill_and_free(world: &World, disk: &Path) {
    let mut running = world.start(&["run"]);
    running.wait_until("a job was made", || world.ledger().jobs_made > 0);
    let filler = fill(disk);
    running.wait_until_said(&TROUBLE);
    assert_outputs_whole(world);
    fs::remove_file(filler).unwrap();
    let ended = running.wait();
    ended.assert_code(0);
    let told = TROUBLE.map(|text| ended.err.matches(text).count());
    assert!(told.iter().sum::<usize>() <= 6, "told {told:?} times");
    assert_as_if_nothing_had_happened(world);
}

/// A limit on the size of every file that is written, lifted when it has been met.
fn with_small_files() {
    let mut world = books(&[]);
    world.run_to(0, &["run"]);
    for book in 8..12 {
        let key = key(book, 1);
        write(&world.label(&key), b"{\"title\": \"page 1\"}");
        write(&world.image(&key), &png(100 + book as u32));
        world.pages.push(crate::kit::Page {
            key,
            book,
            number: 1,
        });
    }
    // The log of changes of the database begins empty, and soon wants to be larger than this.
    world.wrapper = Some("trap '' XFSZ; ulimit -S -f 64; exec \"$@\"".to_owned());
    let mut running = world.start(&["run"]);
    running.wait_until_said(&TROUBLE);
    let id = running.id().to_string();
    must("prlimit", &["--pid", &id, "--fsize=unlimited"]);
    running.wait().assert_code(0);
    assert_as_if_nothing_had_happened(&world);
}

#[test]
fn f46_a_limit_on_the_size_of_files_holds_everything_up_and_loses_nothing() {
    with_small_files();
}

#[test]
fn f46_a_full_work_disk_database_and_all_is_waited_for() {
    let test = || {
        let world = books(&[]);
        let work = world.root().join("data");
        mount_tmpfs(&work, "6m");
        fill_and_free(&world, &work);
    };
    let name = "f46_a_full_work_disk_database_and_all_is_waited_for";
    on_own_mounts(name, test, with_small_files);
}

#[test]
fn f46_f10_a_full_output_disk_is_waited_for_and_leaves_no_half_output() {
    let test = || {
        let world = books(&[]);
        let outputs = world.root().join(OUTPUTS);
        mount_tmpfs(&outputs, "1m");
        fill_and_free(&world, &outputs);
    };
    let name = "f46_f10_a_full_output_disk_is_waited_for_and_leaves_no_half_output";
    on_own_mounts(name, test, with_small_files);
}

#[test]
fn f46_one_full_disk_for_work_and_outputs_is_waited_for() {
    let test = || {
        let world = books(&[]);
        let (root, disk) = (world.root(), world.folder().join("disk"));
        mount_tmpfs(&disk, "6m");
        mount_bind(&disk.join("work"), &root.join("data"));
        mount_bind(&disk.join("outputs"), &root.join(OUTPUTS));
        fill_and_free(&world, &disk);
    };
    let name = "f46_one_full_disk_for_work_and_outputs_is_waited_for";
    on_own_mounts(name, test, with_small_files);
}

#[test]
fn f46_below_the_free_space_that_is_to_be_left_no_job_is_made() {
    let test = || {
        let world = books(&[("paths.free_bytes_min", "4MiB")]);
        let work = world.root().join("data");
        mount_tmpfs(&work, "8m");
        let filler = work.join("filler");
        fs::write(&filler, vec![b'x'; 5 << 20]).unwrap();
        let mut running = world.start(&["run"]);
        running.wait_until_said(&["fewer than paths.free_bytes_min (4194304): make room"]);
        assert_eq!(world.ledger().jobs_made, 0);
        fs::remove_file(filler).unwrap();
        let ended = running.wait();
        ended.assert_code(0);
        ended.assert_says(&["the local disk works again"]);
        assert_as_if_nothing_had_happened(&world);
    };
    let name = "f46_below_the_free_space_that_is_to_be_left_no_job_is_made";
    on_own_mounts(name, test, with_small_files);
}

#[test]
fn f46_a_read_only_output_disk_is_waited_for() {
    let test = || {
        let world = books(&[]);
        let outputs = world.root().join(OUTPUTS);
        mount_tmpfs(&outputs, "1m");
        let mut running = world.start(&["run"]);
        running.wait_until("a job was made", || world.ledger().jobs_made > 0);
        must("mount", &["-o", "remount,ro", text(&outputs)]);
        running.wait_until_said(&["Read-only file system"]);
        must("mount", &["-o", "remount,rw", text(&outputs)]);
        running.wait().assert_code(0);
        assert_as_if_nothing_had_happened(&world);
    };
    on_own_mounts(
        "f46_a_read_only_output_disk_is_waited_for",
        test,
        with_small_files,
    );
}

#[test]
fn f46_a_file_in_place_of_an_output_folder_costs_nothing_and_is_waited_for() {
    let world = books(&[]);
    let in_the_way = world.root().join(OUTPUTS).join("S1");
    write(&in_the_way, b"in the way");
    let mut running = world.start(&["run"]);
    running.wait_until_said(&["the local disk fails"]);
    fs::remove_file(in_the_way).unwrap();
    running.wait().assert_code(0);
    assert_as_if_nothing_had_happened(&world);
}

#[test]
fn f46_vanished_mounts_buy_nothing_twice_kill_no_page_and_are_waited_for() {
    let test = || {
        let mut world = books(&[]);
        let (root, disk) = (world.root(), world.folder().join("disk"));
        let (outputs, images) = (root.join(OUTPUTS), root.join("dataset/raw_image_dataset"));
        let labels = root.join("dataset/label_to_curricular");
        mount_bind(&disk.join("outputs"), &outputs);
        world.run_to(0, &["run"]);
        let bought = world.ledger().requests_by_key;

        unmount(&outputs);
        let ended = world.run_to(1, &["run"]);
        ended.assert_says(&["24 pages are done, and there is no output"]);
        assert_eq!(world.ledger().requests_by_key, bought);
        assert_eq!(
            fs::read_dir(&outputs).unwrap().count(),
            0,
            "nothing behind it"
        );
        mount_bind(&disk.join("outputs"), &outputs);
        assert_as_if_nothing_had_happened(&world);

        // A page more, and its image's file system is not mounted.
        let late = key(9, 1);
        write(&world.label(&late), b"{\"title\": \"page 1\"}");
        write(&world.image(&late), &png(4711));
        world.pages.push(crate::kit::Page {
            key: late,
            book: 9,
            number: 1,
        });
        let elsewhere = disk.join("images");
        fs::rename(&images, &elsewhere).unwrap();
        fs::create_dir(&images).unwrap();
        let mut running = world.start(&["run"]);
        running.wait_until_said(&["the folder is empty: is its file system mounted?"]);
        mount_bind(&elsewhere, &images);
        running.wait().assert_code(0);
        assert_as_if_nothing_had_happened(&world);

        let elsewhere = disk.join("labels");
        fs::rename(&labels, &elsewhere).unwrap();
        fs::create_dir(&labels).unwrap();
        let ended = world.run_to(1, &["run"]);
        ended.assert_says(&[
            "the tree could not be looked at",
            "is its file system mounted?",
        ]);
        mount_bind(&elsewhere, &labels);
        world.run_to(0, &["run"]);
        assert_as_if_nothing_had_happened(&world);
    };
    let name = "f46_vanished_mounts_buy_nothing_twice_kill_no_page_and_are_waited_for";
    on_own_mounts(name, test, with_small_files);
}
