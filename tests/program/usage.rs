//! Wrong use, the wrong folder, completions and manual pages, as a shell meets them.

use std::fs;
use std::process::{Command, Stdio};

use crate::kit::{World, WorldOptions, write};

#[test]
fn s3_40_wrong_use_is_told_what_to_type_instead() {
    let world = World::new(&WorldOptions::default());
    for (arguments, says) in [
        (&["stat"][..], &["status"][..]),
        (&["analyze_failures", "--summary"], &["pagemill failures"]),
        (&["nuke_database.py", "--dry-run"], &["pagemill nuke"]),
        (&["dead", "list"], &["pagemill failures"]),
        (&["stats"], &["pagemill status"]),
        (&["run", "--limt", "3"], &["--limit", "pagemill run --help"]),
        (
            &["backup", "--keep", "soon"],
            &["30d", "a number of backups"],
        ),
        (&["restore"], &["<FILE>", "pagemill restore --help"]),
        (&["completions", "tcsh"], &["bash", "zsh", "fish"]),
        (&[], &["Usage: pagemill", "pagemill init", "pagemill run"]),
    ] {
        world.run_to(2, arguments).assert_says(says);
    }
    // Where no configuration is, and no database.
    let empty = world.folder().join("empty");
    fs::create_dir(&empty).unwrap();
    for (code, command) in [(1, "status"), (78, "run"), (1, "backup")] {
        let ended = world.start_in(&empty, &[command]).wait();
        ended.assert_code(code);
        ended.assert_says(&["there is no", "pagemill.yaml", "pagemill init"]);
    }
    let ended = world.run_to(1, &["status"]);
    ended.assert_says(&["there is no database at"]);
    assert!(!ended.err.contains("pagemill init"), "{}", ended.err);
}

#[test]
fn completions_are_taken_by_the_shell() {
    let world = World::new(&WorldOptions::default());
    let script = world.run_to(0, &["completions", "bash"]).out;
    let path = world.folder().join("completions.bash");
    write(&path, script.as_bytes());
    let shell = Command::new("bash").arg("-n").arg(&path).output();
    let shell = shell.expect("these tests need bash");
    assert!(shell.status.success(), "{shell:?}");
    // What the shell would offer for `pagemill ba`.
    let offered = Command::new("bash")
        .args([
            "-c",
            "source \"$0\"; COMP_WORDS=(pagemill ba); COMP_CWORD=1; \
               _pagemill pagemill ba pagemill; echo \"${COMPREPLY[@]}\"",
        ])
        .arg(&path)
        .output()
        .unwrap();
    let offered = String::from_utf8(offered.stdout).unwrap();
    assert!(offered.contains("backup"), "{offered}");
}

#[test]
fn manual_pages_are_written_and_read() {
    let world = World::new(&WorldOptions::default());
    let program = world.run_to(0, &["man"]).out;
    let ended = world.run_to(0, &["man", "--dir", "man1"]);
    ended.assert_says(&["pages into man1"]);
    let folder = world.root().join("man1");
    assert_eq!(
        fs::read_to_string(folder.join("pagemill.1")).unwrap(),
        program
    );
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let page = fs::read_to_string(&path).unwrap();
        assert!(
            page.contains("\n.TH ") && page.contains("\n.SH EXAMPLES\n"),
            "{page}"
        );
        let formatter = Command::new("groff")
            .args(["-man", "-Tascii", "-ww", "-z"])
            .arg(&path)
            .stdout(Stdio::null())
            .output();
        // Not every machine has one; where there is one, it has nothing to complain about.
        if let Ok(formatter) = formatter {
            let complaints = String::from_utf8_lossy(&formatter.stderr);
            assert!(complaints.is_empty(), "{}: {complaints}", path.display());
        }
    }
}
