//! The demo dataset, checked with the tools that a run will use on it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::domain::ids::RecordKey;
use crate::domain::layout::{Layout, page_number};

fn created() -> (tempfile::TempDir, Dataset) {
    let folder = tempfile::tempdir().unwrap();
    let dataset = create(&folder.path().join("demo")).unwrap();
    (folder, dataset)
}

fn yaml(path: &Path) -> serde_yaml::Value {
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn text<'a>(value: &'a serde_yaml::Value, section: &str, name: &str) -> &'a str {
    value[section][name].as_str().unwrap()
}

fn layout(dataset: &Dataset) -> Layout {
    Layout::parse(text(&yaml(&dataset.config_file), "paths", "layout")).unwrap()
}

fn key(layout: &Layout, page: &DemoPage) -> RecordKey {
    layout
        .key(&[page.state, page.school, page.year, page.page])
        .unwrap()
}

fn label(page: &DemoPage) -> Value {
    serde_json::from_slice(page.label).unwrap()
}

fn files_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files_below(&entry.path()),
            false => 1,
        })
        .sum()
}

#[test]
fn every_page_stands_where_the_layout_and_the_configuration_say() {
    let (_folder, dataset) = created();
    let config = yaml(&dataset.config_file);
    let layout = layout(&dataset);
    let dir = |name| dataset.root.join(text(&config, "paths", name));
    for page in &PAGES {
        let key = key(&layout, page);
        let image = layout.path(&dir("image_source_dir"), &key, page.extension);
        let label = layout.path(&dir("label_source_dir"), &key, "json");
        assert!(fs::read(image.unwrap()).unwrap() == page.image, "{key}");
        assert!(fs::read(label.unwrap()).unwrap() == page.label, "{key}");
    }
    let first = layout.path(&dir("output_dir"), &key(&layout, &PAGES[0]), "json");
    assert_eq!(dataset.first_output, first.unwrap());
    assert!(!dir("output_dir").exists(), "nothing is done yet");
    assert_eq!(dataset.pages, PAGES.len());
    assert_eq!(files_below(&dataset.root), 2 * PAGES.len() + FILES.len());
}

#[test]
fn the_pages_of_a_book_are_numbered_without_a_gap() {
    let mut books: BTreeMap<[&str; 3], Vec<u32>> = BTreeMap::new();
    for page in &PAGES {
        let book = books
            .entry([page.state, page.school, page.year])
            .or_default();
        book.push(page_number(page.page).unwrap());
    }
    let lengths: Vec<usize> = books.values().map(Vec::len).collect();
    assert_eq!(lengths, [6, 4]);
    for numbers in books.values() {
        let expected: Vec<u32> = (1..).take(numbers.len()).collect();
        assert_eq!(*numbers, expected);
    }
}

#[test]
fn images_are_what_their_names_say_and_no_two_are_the_same() {
    let mut hashes = BTreeSet::new();
    for page in &PAGES {
        let (magic, kind): (&[u8], _) = match page.extension {
            "jpg" => (&[0xff, 0xd8, 0xff], imagesize::ImageType::Jpeg),
            "png" => (b"\x89PNG\r\n\x1a\n", imagesize::ImageType::Png),
            other => panic!("unexpected extension {other}"),
        };
        assert!(page.image.starts_with(magic), "{}", page.page);
        assert_eq!(imagesize::image_type(page.image).unwrap(), kind);
        let size = imagesize::blob_size(page.image).unwrap();
        assert_eq!(size.width, 770);
        assert!((990..=1000).contains(&size.height));
        hashes.insert(Sha256::digest(page.image));
    }
    assert_eq!(hashes.len(), PAGES.len());
}

#[test]
fn the_assets_stay_small() {
    let pages: usize = PAGES.iter().map(|p| p.image.len() + p.label.len()).sum();
    let files: usize = FILES.iter().map(|(_, contents)| contents.len()).sum();
    assert!(pages + files < 700_000, "{} bytes", pages + files);
}

#[test]
fn the_configuration_names_files_that_are_there() {
    let (_folder, dataset) = created();
    let config = yaml(&dataset.config_file);
    assert!(dataset.root.join(text(&config, "schema", "file")).is_file());
    let registry = dataset.root.join(text(&config, "prompt", "registry_dir"));
    let prompt = registry.join(text(&config, "prompt", "name"));
    for name in ["template_file", "context_file"] {
        let file = prompt.join(text(&config, "prompt", name));
        assert!(file.is_file(), "{}", file.display());
    }
    assert_eq!(config["batch"]["poll_interval_seconds"].as_u64(), Some(1));
    assert_eq!(config["execution"]["batch_size_limit"].as_u64(), Some(4));
}

#[test]
fn the_fault_profile_spoils_one_answer_for_one_page() {
    let (_folder, dataset) = created();
    let layout = layout(&dataset);
    let named = PAGES
        .iter()
        .filter(|page| key(&layout, page).as_str() == dataset.failing_key);
    assert_eq!(named.count(), 1);
    let rule = json!({"key": dataset.failing_key, "kind": "invalid_schema", "times": 1});
    let profile: Value =
        serde_yaml::from_str(&fs::read_to_string(&dataset.faults_file).unwrap()).unwrap();
    assert_eq!(profile, json!({"seed": 1, "pages": [rule]}));
}

fn schema() -> Value {
    let (_, text) = FILES
        .iter()
        .find(|(name, _)| name.ends_with("page_ocr.v1.json"))
        .unwrap();
    serde_json::from_str(text).unwrap()
}

fn good_answer() -> Value {
    json!({
        "title": "Course of study",
        "page_label": null,
        "sections": [{"heading": "FRESHMAN YEAR.", "text": "Latin. | Livy, begun."}],
        "courses": [{"name": "Livy, begun", "term": "first", "year_of_study": 1}],
        "language": "en",
        "notes": null,
    })
}

#[test]
fn the_schema_accepts_a_good_answer_and_refuses_a_spoiled_one() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    assert!(validator.is_valid(&good_answer()));
    let spoil: [fn(&mut Value); 5] = [
        |answer| answer["extra"] = json!(1),
        |answer| answer["sections"] = json!([]),
        |answer| answer["language"] = json!("English"),
        |answer| answer["courses"][0]["year_of_study"] = json!("first"),
        |answer| drop(answer.as_object_mut().unwrap().remove("notes")),
    ];
    for (at, spoil) in spoil.into_iter().enumerate() {
        let mut answer = good_answer();
        spoil(&mut answer);
        assert!(!validator.is_valid(&answer), "spoiled in way {at}");
    }
}

#[test]
fn labels_say_what_the_prompt_asks_for() {
    for page in &PAGES {
        let label = label(page);
        assert!(label["title"].is_string());
        assert!(!label["expected_sections"].as_array().unwrap().is_empty());
        assert!(label["curriculum"].is_string() || label["curriculum"].is_null());
        assert!(label["printed_page"].is_null() || label["printed_page"] == page.page);
    }
}

fn templates() -> minijinja::Environment<'static> {
    let mut templates = minijinja::Environment::new();
    templates.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    templates.add_filter("tail", |text: String, n: usize| -> String {
        let from = text.chars().count().saturating_sub(n);
        text.chars().skip(from).collect()
    });
    for (name, contents) in FILES {
        if let Some(name) = name.strip_prefix("prompts/page_ocr/") {
            templates.add_template(name, contents).unwrap();
        }
    }
    templates
}

/// The template engine's value for a JSON value, made without its optional serde support.
fn values(json: Value) -> minijinja::Value {
    match json {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(flag) => minijinja::Value::from(flag),
        Value::Number(number) => minijinja::Value::from(number.as_i64().unwrap()),
        Value::String(text) => minijinja::Value::from(text),
        Value::Array(items) => items.into_iter().map(values).collect(),
        Value::Object(fields) => minijinja::Value::from_pairs(
            fields
                .into_iter()
                .map(|(name, value)| (name, values(value))),
        ),
    }
}

#[test]
fn the_prompt_renders_strictly_for_every_page_with_and_without_context() {
    let templates = templates();
    let context = templates.get_template("context.jinja").unwrap();
    let carried = context
        .render(values(json!({"previous": good_answer()})))
        .unwrap();
    assert!(carried.contains("Livy, begun, year 1"), "{carried}");
    let prompt = templates.get_template("v1.jinja").unwrap();
    for page in &PAGES {
        let render = |previous_context: Option<&str>| {
            let known = json!({
                "state": page.state,
                "school": page.school,
                "year": page.year,
                "page": page.page,
                "label": label(page),
                "previous_context": previous_context,
            });
            prompt.render(values(known)).unwrap()
        };
        let (alone, chained) = (render(None), render(Some(&carried)));
        assert!(alone.contains(page.school) && !alone.contains("<<<"));
        assert!(chained.contains(&carried), "{chained}");
    }
}

#[test]
fn a_page_without_courses_still_gives_context() {
    let mut previous = good_answer();
    previous["courses"] = json!([]);
    let templates = templates();
    let context = templates.get_template("context.jinja").unwrap();
    let carried = context
        .render(values(json!({"previous": previous})))
        .unwrap();
    assert!(!carried.contains("Last course"), "{carried}");
}

#[test]
fn a_second_dataset_in_the_same_folder_is_refused_and_changes_nothing() {
    let (_folder, dataset) = created();
    fs::write(&dataset.config_file, "mine").unwrap();
    let error = create(&dataset.root).unwrap_err();
    assert!(matches!(&error, DatasetError::NotEmpty(root) if *root == dataset.root));
    let said = error.to_string();
    assert!(
        said.contains("is not empty: name an empty folder"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&dataset.config_file).unwrap(), "mine");
}

#[test]
fn an_empty_folder_will_do_and_a_hidden_file_makes_it_full() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = create(folder.path()).unwrap();
    assert_eq!(dataset.root, folder.path());
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join(".keep"), "").unwrap();
    let error = create(other.path()).unwrap_err();
    assert!(matches!(error, DatasetError::NotEmpty(_)), "{error}");
    assert_eq!(files_below(other.path()), 1);
}

#[test]
fn a_file_is_no_place_for_a_dataset() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = create(file.path()).unwrap_err();
    assert!(matches!(error, DatasetError::NotAFolder(_)), "{error}");
}
