use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use pagemill::ports::page_source::{
    BookListing, Found, LevelFilter, OddityKind, PageSource, Scope,
};

use crate::world::{World, key};

async fn walk(world: &World, scope: Scope) -> (Vec<BookListing>, Vec<(OddityKind, String)>) {
    let mut walk = world.files.walk(&scope).await.unwrap();
    let (mut books, mut oddities) = (Vec::new(), Vec::new());
    while let Some(chunk) = walk.next().await {
        for found in chunk {
            match found {
                Found::Book(book) => books.push(book),
                Found::Oddity(odd) => oddities.push((odd.kind, odd.path)),
                Found::Unchanged(book) => panic!("nobody said how {book} looked"),
            }
        }
    }
    oddities.sort();
    (books, oddities)
}

fn labels(books: &[BookListing]) -> Vec<String> {
    let pages = books.iter().flat_map(|book| &book.labels);
    pages.map(|page| page.key.to_string()).collect()
}

#[tokio::test]
async fn f39_books_come_in_key_order_and_pages_by_number() {
    let world = World::new();
    for page in ["10", "9", "007"] {
        world.put(&format!("labels/a/s/1900/{page}.json"), b"{}");
    }
    world.put("labels/a b/s/1900/1.json", b"{}");
    world.put("labels/a/s!/1900/1.json", b"{}");
    world.put("outputs/a/s/1900/9.json", b"{}");
    world.put("outputs/a/s/1900/10.json", b"{}");
    let (books, oddities) = walk(&world, Scope::default()).await;
    let keys: Vec<&str> = books.iter().map(|book| book.book.as_str()).collect();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(keys, sorted);
    assert_eq!(keys, ["a b:s:1900", "a:s!:1900", "a:s:1900"]);
    assert_eq!(
        labels(&books),
        [
            "a b:s:1900:1",
            "a:s!:1900:1",
            "a:s:1900:007",
            "a:s:1900:9",
            "a:s:1900:10"
        ]
    );
    assert_eq!(books[2].outputs, ["10", "9"]);
    assert_eq!(books[2].levels, ["a", "s", "1900"]);
    assert_eq!(oddities, []);
}

#[tokio::test]
async fn odd_names_become_keys_and_come_back_as_paths() {
    let world = World::new();
    let odd = [
        "-lead ing",
        "Élève 学校",
        "a:b 50%",
        "\"q'\n$(x)",
        ".hidden",
        "*?",
    ];
    for (page, name) in odd.iter().enumerate() {
        world.put(
            &format!("labels/{name}/{name}/{name}/{page}.json"),
            name.as_bytes(),
        );
    }
    let (books, oddities) = walk(&world, Scope::default()).await;
    assert_eq!((books.len(), oddities.len()), (odd.len(), 0));
    for book in &books {
        let text = world.files.label(&book.labels[0].key).await.unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), book.levels[0]);
    }
}

#[tokio::test]
async fn f39_everything_odd_is_named() {
    let world = World::new();
    world.put("labels/a/b/c/1.json", b"{}");
    world.put("labels/a/b/c/01.json", b"{}");
    world.put("labels/a/b/c/001.json", b"{}");
    world.put("labels/a/b/c/five.json", b"{}");
    world.put("labels/a/b/c/4294967296.json", b"{}");
    world.put(&format!("labels/a/b/c/{}1.json", "0".repeat(220)), b"{}");
    world.put("labels/a/b/c/.DS_Store", b"");
    world.put("labels/a/b/c/2.JSON", b"{}");
    world.put(
        &format!("labels/a/b/c/.2.json.{}.tmp", "0123456789abcdef".repeat(2)),
        b"",
    );
    world.put("labels/a/b/c/7.json/x", b"");
    world.put("labels/a/b/3.json", b"{}");
    world.put("labels/a/notes.txt", b"");
    world.put("outputs/a/b/c/1.json", b"{}");
    world.put("outputs/a/b/c/9.json", b"{}");
    world.put("outputs/never/walked/c/9.json", b"{}");
    let bad = OsStr::from_bytes(b"bad\xff.json");
    fs::write(world.path("labels/a/b/c").join(bad), b"").unwrap();
    symlink(world.path("nowhere"), world.path("labels/a/b/c/8.json")).unwrap();
    let (books, oddities) = walk(&world, Scope::default()).await;
    assert_eq!(labels(&books), ["a:b:c:1"]);
    assert_eq!(books[0].outputs, ["1", "9"]);
    let mut expected = vec![
        (OddityKind::WrongDepth, "a/b/3.json".to_owned()),
        (OddityKind::WrongDepth, "a/b/c/7.json".to_owned()),
        (OddityKind::NotANumber, "a/b/c/4294967296.json".to_owned()),
        (OddityKind::NotANumber, "a/b/c/five.json".to_owned()),
        (OddityKind::SameNumber, "a/b/c/001.json".to_owned()),
        (OddityKind::SameNumber, "a/b/c/01.json".to_owned()),
        (
            OddityKind::BadName,
            format!("a/b/c/{}1.json", "0".repeat(220)),
        ),
        (OddityKind::BadName, "a/b/c/bad\u{fffd}.json".to_owned()),
        (OddityKind::NotALabel, "a/b/c/.DS_Store".to_owned()),
        (OddityKind::NotALabel, "a/b/c/2.JSON".to_owned()),
        (OddityKind::NotALabel, "a/b/c/8.json".to_owned()),
        (OddityKind::NotALabel, "a/notes.txt".to_owned()),
        (OddityKind::OutputWithoutLabel, "a/b/c/9.json".to_owned()),
    ];
    expected.sort();
    assert_eq!(oddities, expected);
}

#[tokio::test]
async fn links_are_followed_unless_they_lead_back() {
    let world = World::new();
    world.put("labels/a/b/c/1.json", b"{}");
    world.put("elsewhere/y/5.json", b"{}");
    world.put("elsewhere/6.json", b"{}");
    symlink(world.path("elsewhere"), world.path("labels/a/linked")).unwrap();
    symlink(
        world.path("elsewhere/6.json"),
        world.path("labels/a/b/c/6.json"),
    )
    .unwrap();
    symlink(world.path("labels/a"), world.path("labels/a/b/up")).unwrap();
    symlink(world.path("labels"), world.path("labels/root")).unwrap();
    symlink(world.path("elsewhere"), world.path("elsewhere/y2")).unwrap();
    let (books, oddities) = walk(&world, Scope::default()).await;
    assert_eq!(labels(&books), ["a:b:c:1", "a:b:c:6", "a:linked:y:5"]);
    assert_eq!(
        oddities,
        [
            (OddityKind::WrongDepth, "a/linked/6.json".to_owned()),
            (OddityKind::LinkLoop, "a/b/up".to_owned()),
            (OddityKind::LinkLoop, "a/linked/y2".to_owned()),
            (OddityKind::LinkLoop, "root".to_owned()),
        ]
    );
}

#[tokio::test]
async fn filters_prune_folders_and_leave_the_pages_of_a_book_to_the_rules() {
    let world = World::new();
    for state in ["Alabama", "Ohio"] {
        for year in ["1848", "1850", "undated"] {
            for page in ["1", "2"] {
                world.put(&format!("labels/{state}/s/{year}/{page}.json"), b"{}");
            }
        }
    }
    world.put("outputs/Ohio/s/1850/2.json", b"{}");
    // A file where the walk would have to go, were it not pruned.
    world.put("labels/Texas/five.json", b"");
    let scope = Scope {
        levels: vec![
            Some(LevelFilter::OneOf(vec!["Ohio".into()])),
            None,
            Some(LevelFilter::Range {
                start: 1849,
                end: 1852,
            }),
            Some(LevelFilter::Range { start: 1, end: 1 }),
        ],
    };
    let (books, oddities) = walk(&world, scope).await;
    assert_eq!(labels(&books), ["Ohio:s:1850:1", "Ohio:s:1850:2"]);
    assert_eq!(oddities, []);
}

#[tokio::test]
async fn folders_that_cannot_be_listed_are_told() {
    let world = World::new();
    world.put("labels/a/b/c/1.json", b"{}");
    // A file where the book's output folder should be: unreadable even for root.
    world.put("outputs/a/b/c", b"");
    let (books, oddities) = walk(&world, Scope::default()).await;
    // Pages that may be done, and could not be written, are no work.
    assert_eq!(labels(&books), [] as [&str; 0]);
    assert_eq!(oddities, [(OddityKind::DiskFault, "a/b/c".to_owned())]);

    fs::remove_dir_all(world.path("labels")).unwrap();
    let error = world.files.walk(&Scope::default()).await.err().unwrap();
    assert!(error.disk && !error.missing, "{error}");
    fs::write(world.path("labels"), b"").unwrap();
    assert!(world.files.walk(&Scope::default()).await.is_err());
}

#[tokio::test]
async fn a_folder_without_permission_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    world.put("labels/a/b/c/1.json", b"{}");
    let closed = world.path("labels/a/b");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let is_root = fs::read_dir(&closed).is_ok();
    let (books, oddities) = walk(&world, Scope::default()).await;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    if !is_root {
        assert_eq!(labels(&books), [] as [&str; 0]);
        assert_eq!(oddities, [(OddityKind::Unreadable, "a/b".to_owned())]);
    }
}

#[tokio::test]
async fn a_layout_of_pages_only_has_one_book() {
    let world = World::with_layout("{page}");
    world.put("labels/2.json", b"{}");
    world.put("labels/sub/3.json", b"{}");
    let (books, oddities) = walk(&world, Scope::default()).await;
    assert_eq!((books.len(), books[0].book.as_str()), (1, ""));
    assert_eq!(labels(&books), ["2"]);
    assert_eq!(oddities, [(OddityKind::WrongDepth, "sub".to_owned())]);
}

#[tokio::test]
async fn a_large_tree_comes_in_chunks_of_whole_books() {
    let world = World::with_layout("{book}/{page}");
    for book in 0..7 {
        for page in 0..1_000 {
            world.put(&format!("labels/{book}/{page}.json"), b"");
        }
    }
    let mut walk = world.files.walk(&Scope::default()).await.unwrap();
    let mut sizes = Vec::new();
    while let Some(chunk) = walk.next().await {
        sizes.push(chunk.len());
    }
    assert_eq!(sizes, [5, 2]);
    // A reader that goes away ends the walk.
    drop(world.files.walk(&Scope::default()).await.unwrap());
}

#[tokio::test]
async fn labels_and_outputs_are_read_bounded() {
    let world = World::new();
    world.put("labels/a/b/c/1.json", b"label");
    world.put("outputs/a/b/c/1.json", b"output");
    world.put("labels/a/b/c/3.json/x", b"");
    assert_eq!(world.files.label(&key("a:b:c:1")).await.unwrap(), b"label");
    assert_eq!(
        world.files.output(&key("a:b:c:1")).await.unwrap(),
        b"output"
    );
    assert!(
        world
            .files
            .label(&key("a:b:c:2"))
            .await
            .unwrap_err()
            .missing
    );
    assert!(
        !world
            .files
            .label(&key("a:b:c:3"))
            .await
            .unwrap_err()
            .missing
    );
    assert!(
        !world
            .files
            .label(&key("..:b:c:3"))
            .await
            .unwrap_err()
            .missing
    );
    let large = fs::File::create(world.path("labels/a/b/c/4.json")).unwrap();
    large.set_len(64 * 1024 * 1024 + 1).unwrap();
    let error = world.files.label(&key("a:b:c:4")).await.unwrap_err();
    assert!(error.message.contains("longer than"), "{error}");
}
