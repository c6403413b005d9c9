//! Nothing is written outside the folders: every test compares all that is in the temporary folder
//! before and after.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use pagemill::domain::ids::BatchId;
use pagemill::ports::page_source::{Found, Oddity, OddityKind, PageSource, Scope};
use pagemill::ports::result_sink::ResultSink;

use crate::world::{World, key};

/// Every path with what is there: a folder, a link with its target, or a content.
fn listing(root: &Path) -> BTreeMap<String, String> {
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
            let below = path.strip_prefix(root).unwrap();
            found.insert(below.to_string_lossy().into_owned(), what);
        }
    }
    found
}

/// What came, went or changed since.
fn changes(before: &BTreeMap<String, String>, root: &Path) -> Vec<String> {
    let after = listing(root);
    let mut changed: Vec<String> = before
        .iter()
        .filter(|(path, what)| after.get(*path) != Some(what))
        .chain(after.iter().filter(|(path, _)| !before.contains_key(*path)))
        .map(|(path, _)| path.clone())
        .collect();
    changed.sort();
    changed
}

async fn write_one(world: &World, text: &str) -> Result<(), String> {
    let outputs = vec![(key(text), b"{}\n".to_vec())];
    let written = world.files.write_outputs(outputs).await;
    match &written[0] {
        Ok(_written) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn scan(world: &World) -> (Vec<String>, Vec<Oddity>) {
    let mut walk = world.files.walk(&Scope::default()).await.unwrap();
    let (mut labels, mut oddities) = (Vec::new(), Vec::new());
    while let Some(chunk) = walk.next().await {
        for found in chunk {
            match found {
                Found::Book(book) => {
                    let keys = book.labels.into_iter();
                    labels.extend(keys.map(|label| label.key.to_string()));
                }
                Found::Oddity(oddity) => oddities.push(oddity),
                Found::Unchanged(book) => panic!("nobody said how {book} looked"),
            }
        }
    }
    (labels, oddities)
}

#[tokio::test]
async fn p13_f39_a_key_from_a_stranger_writes_nothing() {
    let world = World::new();
    world.put("outside/keep", b"theirs");
    let long = format!("{}:b:c:1", "x".repeat(256));
    let deep = format!("a:b:c:{}1", "0".repeat(255));
    let before = listing(world.folder.path());
    for text in [
        "../../x",
        "..:..:..:1",
        "..:b:c:1",
        ".:b:c:1",
        "a:b:c:..",
        "a:b:c:../1",
        "/etc:b:c:1",
        "a/../..:b:c:1",
        "a:b%2F..%2F..:c:1",
        "a:%2E%2E:c:1",
        "a:b\0:c:1",
        "a:b%00:c:1",
        "a::c:1",
        "a:b:c",
        "a:b:c:1:",
        "",
        &long,
        &deep,
    ] {
        let refusal = write_one(&world, text).await.unwrap_err();
        assert!(!refusal.is_empty());
        let retired = world.files.retire_output(&key(text)).await;
        assert!(retired.is_err(), "{text}");
        assert!(world.files.image(&key(text)).await.is_err(), "{text}");
        assert!(world.files.label(&key(text)).await.is_err(), "{text}");
    }
    assert_eq!(changes(&before, world.folder.path()), [] as [&str; 0]);
}

#[tokio::test]
async fn p13_a_name_too_long_for_its_file_is_refused_and_leaves_only_folders() {
    let world = World::new();
    let before = listing(world.folder.path());
    // A level may have 255 bytes; with its extension the file would have 256.
    let page = format!("{}1", "0".repeat(250));
    assert!(write_one(&world, &format!("a:b:c:{page}")).await.is_err());
    let book = "x".repeat(255);
    write_one(&world, &format!("a:b:{book}:1")).await.unwrap();
    let made = [
        "outputs".to_owned(),
        "outputs/a".to_owned(),
        "outputs/a/b".to_owned(),
        "outputs/a/b/c".to_owned(),
        format!("outputs/a/b/{book}"),
        format!("outputs/a/b/{book}/1.json"),
    ];
    assert_eq!(changes(&before, world.folder.path()), made);
}

#[tokio::test]
async fn p13_names_that_only_look_like_paths_stay_one_folder() {
    let world = World::new();
    let before = listing(world.folder.path());
    for text in [
        r"..\..\x:C%3A\b:c:1",
        "~:$HOME:*:2",
        "-rf:..a:...:3",
        "a%0Ab:c d:\u{202e}e:4",
    ] {
        write_one(&world, text).await.unwrap();
    }
    let changed = changes(&before, world.folder.path());
    let files: Vec<&String> = changed
        .iter()
        .filter(|path| path.ends_with(".json"))
        .collect();
    assert_eq!(
        files,
        [
            "outputs/-rf/..a/.../3.json",
            "outputs/..\\..\\x/C:\\b/c/1.json",
            "outputs/a\nb/c d/\u{202e}e/4.json",
            "outputs/~/$HOME/*/2.json",
        ]
    );
    assert!(changed.iter().all(|path| path.starts_with("outputs")));
}

#[tokio::test]
async fn p13_a_link_out_of_the_outputs_is_refused_at_every_level_and_says_where_it_leads() {
    for level in ["a", "a/b", "a/b/c"] {
        let world = World::new();
        world.put("outside/keep", b"theirs");
        let link = world.path("outputs").join(level);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(world.path("outside"), &link).unwrap();
        let before = listing(world.folder.path());
        let refusal = write_one(&world, "a:b:c:1").await.unwrap_err();
        let expected = format!("{}: a link that leads out of", link.display());
        assert!(refusal.starts_with(&expected), "{refusal}");
        assert!(refusal.contains("/outside; put a folder in its place"));
        assert_eq!(
            changes(&before, world.folder.path()),
            [] as [&str; 0],
            "{level}"
        );
    }
}

#[tokio::test]
async fn p13_a_book_whose_outputs_lead_elsewhere_is_no_work() {
    let world = World::new();
    for book in ["out", "nowhere", "file", "inside", "plain"] {
        world.put(&format!("labels/{book}/b/c/1.json"), b"{}");
    }
    world.put("outside/b/c/1.json", b"{}");
    world.put("outputs/moved/b/c/1.json", b"{}");
    world.put("outputs/file", b"in the way");
    symlink(world.path("outside"), world.path("outputs/out")).unwrap();
    symlink(world.path("unmounted"), world.path("outputs/nowhere")).unwrap();
    symlink(world.path("outputs/moved"), world.path("outputs/inside")).unwrap();
    let before = listing(world.folder.path());
    let (labels, oddities) = scan(&world).await;
    assert_eq!(labels, ["inside:b:c:1", "plain:b:c:1"]);
    let shown: Vec<(OddityKind, &str)> = oddities
        .iter()
        .map(|oddity| (oddity.kind, oddity.path.as_str()))
        .collect();
    let expected = ["file/b/c", "nowhere/b/c", "out/b/c"];
    let kinds = [
        OddityKind::DiskFault,
        OddityKind::OutputFolder,
        OddityKind::OutputFolder,
    ];
    assert_eq!(shown, kinds.into_iter().zip(expected).collect::<Vec<_>>());
    let details: Vec<&str> = oddities.iter().map(|odd| odd.detail.as_str()).collect();
    assert!(details[0].ends_with("not a folder"), "{details:?}");
    assert!(details[1].contains("cannot be followed"), "{details:?}");
    assert!(details[2].contains("leads out of"), "{details:?}");
    assert_eq!(changes(&before, world.folder.path()), [] as [&str; 0]);
}

#[tokio::test]
async fn p13_folders_that_the_operator_named_may_be_links() {
    let world = World::new();
    fs::create_dir_all(world.path("disk/results")).unwrap();
    fs::create_dir_all(world.path("disk/work")).unwrap();
    symlink(world.path("disk/results"), world.path("outputs")).unwrap();
    symlink(world.path("disk/work"), world.path("work")).unwrap();
    world.put("labels/a/b/c/1.json", b"{}");
    write_one(&world, "a:b:c:1").await.unwrap();
    world.files.write_report("r.md", "# R").await.unwrap();
    assert_eq!(scan(&world).await.0, ["a:b:c:1"]);
    world.files.retire_output(&key("a:b:c:1")).await.unwrap();
    let disk = world.tree("disk");
    assert_eq!(disk.len(), 2, "{disk:?}");
    assert!(disk[0].starts_with("work/reports/r.md"), "{disk:?}");
    assert!(disk[1].starts_with("work/revisions/a/b/c/1."), "{disk:?}");
}

#[tokio::test]
async fn p8_a_link_to_a_disk_that_is_not_mounted_is_not_an_empty_folder() {
    let world = World::new();
    world.put("labels/a/b/c/1.json", b"{}");
    symlink(world.path("unmounted"), world.path("outputs")).unwrap();
    let (labels, oddities) = scan(&world).await;
    assert_eq!(labels, [] as [&str; 0]);
    assert_eq!(oddities[0].kind, OddityKind::OutputFolder);
    assert!(oddities[0].detail.contains("leads nowhere"), "{oddities:?}");
    assert!(write_one(&world, "a:b:c:1").await.is_err());
    assert!(!world.path("unmounted").exists());
}

#[tokio::test]
async fn p13_links_in_the_place_of_our_files_are_replaced_and_never_followed() {
    let world = World::new();
    let batch = BatchId::from("0193-ab");
    for (place, name) in [
        ("outputs/a/b/c", "1.json"),
        ("work/spool", "0193-ab.jsonl"),
        ("work/spool", "0193-ab.jsonl.part"),
        ("work/reports", "0193-ab.md"),
    ] {
        let theirs = world.put(&format!("outside/{name}"), b"theirs");
        fs::create_dir_all(world.path(place)).unwrap();
        symlink(theirs, world.path(place).join(name)).unwrap();
    }
    let before = listing(&world.path("outside"));
    write_one(&world, "a:b:c:1").await.unwrap();
    let mut spool = world.files.open_spool(&batch).await.unwrap();
    spool.write(b"line\n".to_vec()).await.unwrap();
    spool.finish().await.unwrap();
    world.files.write_report("0193-ab.md", "# R").await.unwrap();
    assert_eq!(changes(&before, &world.path("outside")), [] as [&str; 0]);
    for (path, content) in [
        ("outputs/a/b/c/1.json", "{}\n"),
        ("work/spool/0193-ab.jsonl", "line\n"),
        ("work/reports/0193-ab.md", "# R"),
    ] {
        let path = world.path(path);
        assert!(!path.is_symlink(), "{}", path.display());
        assert_eq!(fs::read_to_string(path).unwrap(), content);
    }
    let again = world.path("work/spool/0193-ab.jsonl.part");
    symlink(world.path("outside/1.json"), again).unwrap();
    world.files.remove_spool(&batch).await.unwrap();
    assert_eq!(changes(&before, &world.path("outside")), [] as [&str; 0]);
}

#[tokio::test]
async fn p13_revisions_do_not_leave_their_folder() {
    let world = World::new();
    world.put("outside/keep", b"theirs");
    world.put("outputs/a/b/c/1.json", b"{}");
    fs::create_dir_all(world.path("work/revisions")).unwrap();
    symlink(world.path("outside"), world.path("work/revisions/a")).unwrap();
    let before = listing(world.folder.path());
    let refusal = world.files.retire_output(&key("a:b:c:1")).await;
    assert!(refusal.unwrap_err().message.contains("leads out of"));
    assert_eq!(changes(&before, world.folder.path()), [] as [&str; 0]);
}
