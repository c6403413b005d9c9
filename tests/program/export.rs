//! `pagemill export`: the tree of readable files, its index, and the table of pages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::kit::{Ended, World, WorldOptions, key, sha256, wait_for, write};

/// Two books; the last page of the second one is dead.
fn finished() -> (World, String) {
    let dead = key(1, 2);
    let faults = format!("pages: [{{key: '{dead}', kind: invalid_schema, times: always}}]");
    let world = World::new(&WorldOptions {
        books: 2,
        pages: 2,
        faults: &faults,
        settings: &[("execution.max_retries", "1")],
        ..WorldOptions::default()
    });
    world.run_to(3, &["run"]);
    (world, dead)
}

fn export(world: &World) -> PathBuf {
    world.root().join("data/export")
}

fn document(world: &World, key: &str, ending: &str) -> PathBuf {
    let name = format!("processed/{}.{ending}", key.replace(':', "/"));
    export(world).join(name)
}

fn index(world: &World) -> Value {
    let text = fs::read_to_string(export(world).join("index.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every file below a folder with what is in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read(&path).unwrap();
                found.insert(path, text);
            }
        }
    }
    found
}

/// Writes to the database as nobody should.
fn plant(world: &World, sql: &str) {
    use sea_orm::ConnectionTrait;
    wait_for(async {
        let connection = sqlite::connect_to(&world.database()).await.unwrap();
        for pragma in ["foreign_keys = OFF", "ignore_check_constraints = ON"] {
            let pragma = format!("PRAGMA {pragma}");
            connection.execute_unprepared(&pragma).await.unwrap();
        }
        connection.execute_unprepared(sql).await.unwrap();
        connection.close().await.unwrap();
    });
}

fn differences(ended: &Ended) -> Vec<(String, String)> {
    let json = ended.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    json["named"]
        .as_array()
        .unwrap()
        .iter()
        .map(|difference| (text(&difference["kind"]), text(&difference["thing"])))
        .collect()
}

#[test]
fn s2_06_s2_08_s2_16_s2_17_every_page_has_a_readable_file_and_a_line_in_the_index() {
    let (world, dead) = finished();
    let json = world.run_to(0, &["export", "state", "--json"]).json();
    assert_eq!(json["version"], 1);
    assert_eq!((&json["pages"], &json["written"]), (&4.into(), &4.into()));
    assert_eq!(json["stages"]["dead"], 1);
    assert_eq!(json["completion_percentage"], 75.0);

    let text = fs::read_to_string(document(&world, &dead, "yaml")).unwrap();
    assert!(text.contains(&format!("record_key: {dead}\n")), "{text}");
    let page: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(page["stage"], "dead");
    assert_eq!(page["title"], "S1, School 1, 1850, page 2");
    assert_eq!(page["levels"]["year"], "1850");
    assert_eq!(page["failures"], 2);
    assert_eq!(page["attempts"]["upload"], 2);
    assert_eq!(page["attempts"]["submit"], 2);
    assert_eq!(page["attempts"]["validate"], 2);
    assert_eq!(page["recipe"]["model"], "gemini-3.8-flash");
    let history = page["error_history"].as_sequence().unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[0]["error"], "ValidationError");
    assert_eq!(page["requests"][1]["outcome"], "rejected");
    let done = fs::read_to_string(document(&world, &key(0, 1), "yaml")).unwrap();
    let done: serde_yaml::Value = serde_yaml::from_str(&done).unwrap();
    assert!(done["tokens"]["total"].as_i64().unwrap() > 0);
    let output = done["files"]["output"].as_str().unwrap();
    assert_eq!(
        sha256(&fs::read(output).unwrap()),
        done["output"]["sha256"].as_str().unwrap()
    );

    let index = index(&world);
    assert_eq!(index["count"], 4);
    assert_eq!(index["stages"]["completed"], 3);
    for page in &world.pages {
        let entry = &index["pages"][&page.key];
        let path = export(&world).join(entry["path"].as_str().unwrap());
        assert_eq!(path, document(&world, &page.key, "yaml"));
        assert_eq!(entry["sha256"], sha256(&fs::read(path).unwrap()));
    }
    // Everything is where the layout says, and nothing else is there.
    let names: Vec<String> = files(&export(&world))
        .keys()
        .map(|path| path.strip_prefix(export(&world)).unwrap())
        .map(|path| path.components().next().unwrap().as_os_str())
        .map(|name| name.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "index.json",
            "processed",
            "processed",
            "processed",
            "processed",
            "reports"
        ]
    );
}

#[test]
fn s2_39_old_exports_are_compressed_and_are_still_what_was_exported() {
    let (world, dead) = finished();
    world.run_to(0, &["export", "state"]);
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    for path in files(&export(&world).join("processed")).into_keys() {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(past).unwrap();
    }
    let done = world.run_to(0, &["maintain", "--json"]).json();
    assert_eq!(done["exports"], 4);
    let plain = document(&world, &dead, "yaml");
    let compressed = std::path::PathBuf::from(format!("{}.zst", plain.display()));
    assert!(!plain.exists() && compressed.exists());
    world.run_to(0, &["export", "state", "--check"]);
    world.run_to(0, &["verify"]);
    world
        .run_to(0, &["export", "state"])
        .assert_says(&["4 unchanged"]);

    // A page that changes is written as it is, and its compressed form goes.
    let status = format!("UPDATE pages SET status = 'looked at' WHERE record_key = '{dead}'");
    plant(&world, &status);
    world.run_to(0, &["export", "state"]);
    assert!(plain.exists() && !compressed.exists());
    world.run_to(0, &["export", "state", "--check"]);
    fs::write(&plain, b"another").unwrap();
    world.run_to(1, &["export", "state", "--check"]);
}

#[test]
fn an_export_is_brought_up_to_date_and_touches_only_its_own() {
    let (world, dead) = finished();
    world.run_to(0, &["export", "state"]);
    let before = files(&export(&world).join("processed"));
    let ended = world.run_to(0, &["export", "state"]);
    ended.assert_says(&["4 pages in", "4 unchanged"]);
    assert_eq!(files(&export(&world).join("processed")), before);

    // A page changes, another one vanishes, and a stranger's file stands between them.
    let gone = key(1, 1);
    let strange = export(&world).join("processed/S1/School 1/1850/9.yaml");
    write(&strange, b"mine");
    plant(
        &world,
        &format!(
            "UPDATE pages SET status = 'looked at' WHERE record_key = '{dead}';
             DELETE FROM pages WHERE record_key = '{gone}'"
        ),
    );
    let json = world.run_to(0, &["export", "state", "--json"]).json();
    assert_eq!((&json["written"], &json["removed"]), (&1.into(), &1.into()));
    assert!(!document(&world, &gone, "yaml").exists());
    assert_eq!(fs::read(&strange).unwrap(), b"mine");
    assert_eq!(index(&world)["count"], 3);

    // Of chosen pages: the others stay as they are.
    let json = [
        "export", "state", "--format", "json", "--states", "S0", "--json",
    ];
    let json = world.run_to(0, &json).json();
    assert_eq!((&json["written"], &json["kept"]), (&2.into(), &1.into()));
    assert!(document(&world, &key(0, 1), "json").exists());
    assert!(!document(&world, &key(0, 1), "yaml").exists());
    assert!(document(&world, &dead, "yaml").exists());
    fs::remove_file(&strange).unwrap();
    world.run_to(0, &["export", "state", "--check"]);
    let page = fs::read(document(&world, &key(0, 1), "json")).unwrap();
    let page: Value = serde_json::from_slice(&page).unwrap();
    assert_eq!(page["record_key"], key(0, 1).as_str());

    // A folder of somebody else's is left alone, and so are pagemill's own.
    write(&world.root().join("other/letter.txt"), b"Dear");
    let ended = world.run_to(1, &["export", "state", "--to", "other"]);
    ended.assert_says(&["letter.txt", "name an empty folder"]);
    let ended = world.run_to(2, &["export", "state", "--to", "dataset/output_results"]);
    ended.assert_says(&["paths.output_dir"]);
    fs::write(export(&world).join("index.json"), "{}").unwrap();
    let ended = world.run_to(1, &["export", "state"]);
    ended.assert_says(&["is not as pagemill writes it", "delete it"]);
}

#[test]
fn s2_49_planted_mismatches_between_export_and_database_are_found() {
    let (world, dead) = finished();
    let ended = world.run_to(1, &["export", "state", "--check"]);
    ended.assert_says(&["there is no export in", "pagemill export state"]);
    world.run_to(0, &["export", "state"]);
    world.run_to(0, &["export", "state", "--check"]);
    world.run_to(0, &["verify"]);

    let (changed, missing, vanished) = (key(0, 1), key(0, 2), key(1, 1));
    fs::write(document(&world, &changed, "yaml"), "by hand").unwrap();
    fs::remove_file(document(&world, &missing, "yaml")).unwrap();
    write(&export(&world).join("processed/S7/x.yaml"), b"who are you");
    plant(
        &world,
        &format!(
            "UPDATE pages SET status = 'looked at' WHERE record_key = '{dead}';
             INSERT INTO pages (record_key, book, levels, page_number, stage, created_at, updated_at)
             VALUES ('S9:N:1:1', 'S9:N:1', '[\"S9\",\"N\",\"1\",\"1\"]', 1, 'skipped', 'x', 'x');
             DELETE FROM pages WHERE record_key = '{vanished}'"
        ),
    );
    let ended = world.run_to(1, &["export", "state", "--check", "--json"]);
    let path = |key: &str| format!("processed/{}.yaml", key.replace(':', "/"));
    let mut expected = vec![
        ("damaged".to_owned(), path(&changed)),
        ("damaged".to_owned(), path(&missing)),
        ("behind".to_owned(), vanished.clone()),
        ("behind".to_owned(), dead.clone()),
        ("behind".to_owned(), "S9:N:1:1".to_owned()),
        ("damaged".to_owned(), "processed/S7/x.yaml".to_owned()),
    ];
    let mut found = differences(&ended);
    expected.sort();
    found.sort();
    assert_eq!(found, expected);

    let verified = world.run_to(1, &["verify", "--json"]).json();
    let count = |kind: &str| {
        let kinds = verified["kinds"].as_array().unwrap();
        let found = kinds.iter().find(|found| found["kind"] == kind).unwrap();
        (
            found["severity"].as_str().unwrap().to_owned(),
            found["count"].clone(),
        )
    };
    assert_eq!(count("export damaged"), ("wrong".to_owned(), 3.into()));
    assert_eq!(count("export behind"), ("note".to_owned(), 3.into()));

    // An index with a hole, or with a figure that was changed, is told too.
    world.run_to(0, &["export", "state"]);
    let place = export(&world).join("index.json");
    let text = fs::read_to_string(&place).unwrap();
    fs::write(&place, text.replace("\"count\": 4", "\"count\": 5")).unwrap();
    let ended = world.run_to(1, &["export", "state", "--check"]);
    ended.assert_says(&["its counts or its checksum"]);
    fs::write(&place, text.lines().take(8).collect::<Vec<_>>().join("\n")).unwrap();
    let ended = world.run_to(1, &["export", "state", "--check"]);
    ended.assert_says(&["it ends too early"]);
}

#[test]
fn s4_47_pages_are_a_table_and_their_keys_can_be_given_back() {
    let (world, dead) = finished();
    let ended = world.run_to(0, &["export", "pages"]);
    let mut reader = csv::Reader::from_reader(ended.out.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let read: Vec<&str> = rows.iter().map(|row| &row[0]).collect();
    let mut all: Vec<&str> = world.pages.iter().map(|page| page.key.as_str()).collect();
    all.sort_unstable();
    assert_eq!(read, all);
    let dead_row = rows.iter().find(|row| row[0] == *dead).unwrap();
    assert_eq!(
        (&dead_row[1], &dead_row[4], &dead_row[5]),
        ("dead", "2", "2")
    );

    let lines = [
        "export",
        "pages",
        "--format",
        "jsonl",
        "--to",
        "pages.jsonl",
        "--states",
        "S1",
    ];
    let ended = world.run_to(0, &lines);
    ended.assert_says(&["2 pages written to pages.jsonl"]);
    let text = fs::read_to_string(world.root().join("pages.jsonl")).unwrap();
    let pages: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(pages.len(), 2);
    assert_eq!(pages[1]["record_key"], dead.as_str());
    assert_eq!(pages[1]["output_sha256"], Value::Null);

    let keys = [
        "export", "pages", "--stage", "dead", "--format", "keys", "--to", "dead.txt",
    ];
    world.run_to(0, &keys);
    let text = fs::read_to_string(world.root().join("dead.txt")).unwrap();
    assert_eq!(text, format!("{dead}\n"));
    let again = ["failures", "--keys-from", "dead.txt", "--json"];
    assert_eq!(world.run_to(0, &again).json()["pages"], 1);

    plant(
        &world,
        &format!(
            "UPDATE pages SET stage = 'discovered', output_sha256 = NULL, output_bytes = NULL,
                    error = NULL;
             UPDATE pages SET waits_for = '{dead}' WHERE record_key = '{}';
             UPDATE pages SET not_before = '2999-01-01T00:00:00.000000Z' WHERE record_key = '{}'",
            key(0, 2),
            key(1, 1),
        ),
    );
    for (choice, expected) in [
        ("ready", 2),
        ("waiting", 1),
        ("blocked", 1),
        ("completed", 0),
    ] {
        let keys = world.run_to(
            0,
            &["export", "pages", "--stage", choice, "--format", "keys"],
        );
        assert_eq!(keys.out.lines().count(), expected, "{choice}");
    }
    let ended = world.run_to(2, &["export", "pages", "--stage", "asleep"]);
    ended.assert_says(&["the stages are ready, blocked, waiting, discovered"]);
    let ended = world.run_to(
        2,
        &["export", "pages", "--to", "dataset/output_results/x.csv"],
    );
    ended.assert_says(&["paths.output_dir"]);
}
