//! Properties: what holds whatever comes. A failing case prints its seed and its smallest form.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use pagemill::decide::pack::{self, Candidate, Limits};
use pagemill::decide::scan::{self, Known, Label, Rules};
use pagemill::domain::ids::{RecordKey, ScopeToken};
use pagemill::domain::layout::Layout;
use pagemill::domain::page::PageStage;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::result_processor::{Scene, answer};

/// What happens to one page's line on its way to us.
#[derive(Debug, Clone)]
pub enum Mischief {
    Nothing,
    Lost,
    Doubled,
    /// A second line says something else.
    Contradicted,
    /// Only the beginning arrives.
    Cut(Index),
    /// The key is another one, close to a page's but nobody's.
    Renamed(&'static str),
    /// The answer stands twice: once under the page's own key, once under the next page's.
    Misfiled,
}

pub const PAGES: u32 = 5;

pub fn mischief() -> impl Strategy<Value = Mischief> {
    let renames = vec![
        "Book:", " book:", "book: ", "book::", "book:0", "", "../book:",
    ];
    prop_oneof![
        4 => Just(Mischief::Nothing),
        1 => Just(Mischief::Lost),
        1 => Just(Mischief::Doubled),
        1 => Just(Mischief::Contradicted),
        1 => any::<Index>().prop_map(Mischief::Cut),
        1 => select(renames).prop_map(Mischief::Renamed),
        1 => Just(Mischief::Misfiled),
    ]
}

pub fn key(page: u32) -> String {
    format!("book:{}", page * 10)
}

/// The lines of all pages after what happened to them.
pub fn lines_after(mischiefs: &[Mischief]) -> Vec<String> {
    let mut lines = Vec::new();
    for (page, mischief) in (1..).zip(mischiefs) {
        let own = key(page);
        let line = answer(&own, &format!("text of {own}"));
        match mischief {
            Mischief::Nothing => lines.push(line),
            Mischief::Lost => {}
            Mischief::Doubled => lines.extend([line.clone(), line]),
            Mischief::Contradicted => lines.extend([line, answer(&own, "something else")]),
            Mischief::Cut(at) => lines.push(line[..at.index(line.len())].to_owned()),
            Mischief::Renamed(prefix) => {
                let name = format!("{prefix}{}", page * 10);
                lines.push(answer(&name, &format!("text of {own}")));
            }
            Mischief::Misfiled => {
                lines.push(line);
                let next = key(page % PAGES + 1);
                lines.push(answer(&next, &format!("text of {own}")));
            }
        }
    }
    lines
}

/// By the words of P4: a page has the answer that exactly its key names, if there is one only.
pub fn expected(lines: &[String]) -> BTreeMap<String, Option<String>> {
    let mut named: HashMap<String, BTreeSet<&String>> = HashMap::new();
    for line in lines {
        if let Ok(json) = serde_json::from_str::<serde_json::Value>(line) {
            let key = json["key"].as_str().unwrap().to_owned();
            named.entry(key).or_default().insert(line);
        }
    }
    (1..=PAGES)
        .map(|page| {
            let only = named
                .get(&key(page))
                .filter(|lines| lines.len() == 1)
                .and_then(|lines| lines.first());
            let text = only.map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                let text = &line["response"]["candidates"][0]["content"]["parts"][0]["text"];
                let output: serde_json::Value =
                    serde_json::from_str(text.as_str().unwrap()).unwrap();
                output["text"].as_str().unwrap().to_owned()
            });
            (key(page), text)
        })
        .collect()
}

async fn check_join(lines: Vec<String>) -> Result<(), TestCaseError> {
    let expected = expected(&lines);
    let mut scene = Scene::new(PAGES).await;
    let results = lines.join("\n").into_bytes();
    scene.judge(results).await;
    for (key, stage) in scene.stages().await {
        let found = scene.output(&key).map(|output| {
            let output: serde_json::Value = serde_json::from_str(&output).unwrap();
            output["text"].as_str().unwrap().to_owned()
        });
        prop_assert_eq!(&found, &expected[&key], "{} of {:#?}", key, lines);
        let wanted = if found.is_some() {
            "completed"
        } else {
            "discovered"
        };
        prop_assert_eq!(stage, wanted, "{}", key);
    }
    let outputs = scene.sandbox.tree.outputs.borrow().len();
    prop_assert_eq!(outputs, expected.values().flatten().count());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn f01_p4_no_page_ever_gets_another_pages_answer(
        lines in vec(mischief(), PAGES as usize)
            .prop_map(|mischiefs| lines_after(&mischiefs))
            .prop_shuffle(),
    ) {
        actix_rt::System::new().block_on(check_join(lines))?;
    }
}

/// Pages to pack; some follow others of them.
fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let page = (
        0_u64..60,
        0_u64..60,
        proptest::option::weighted(0.2, 0_u32..4),
        any::<bool>(),
    );
    vec(page, 0..25)
        .prop_map(|pages| {
            let key = |at: usize| RecordKey::new(format!("book:{at}"));
            let pages = pages.into_iter().enumerate();
            pages
                .map(
                    |(at, (line_bytes, tokens, batch_size_max, follows))| Candidate {
                        key: key(at),
                        predecessor: (follows && at > 0).then(|| key(at - 1)),
                        line_bytes,
                        tokens,
                        batch_size_max,
                    },
                )
                .collect::<Vec<_>>()
        })
        .prop_shuffle()
}

fn check_batch(
    packed: &pack::Packed,
    waiting: &[Candidate],
    limits: Limits,
) -> Result<(), TestCaseError> {
    let chosen: BTreeSet<&RecordKey> = packed.members.iter().collect();
    prop_assert!(!chosen.is_empty(), "a batch of nothing");
    prop_assert_eq!(chosen.len(), packed.members.len(), "a page stands twice");
    let members: Vec<&Candidate> = waiting
        .iter()
        .filter(|page| chosen.contains(&page.key))
        .collect();
    prop_assert_eq!(members.len(), chosen.len(), "a page from nowhere");
    let count = members.len() as u32;
    prop_assert!(count <= limits.pages_max.max(1));
    for member in &members {
        prop_assert!(member.batch_size_max.is_none_or(|max| count <= max.max(1)));
        let follows_a_member = member
            .predecessor
            .as_ref()
            .is_some_and(|key| chosen.contains(key));
        prop_assert!(!follows_a_member, "two pages of one chain");
    }
    let bytes: u64 = members.iter().map(|member| member.line_bytes).sum();
    let tokens: u64 = members.iter().map(|member| member.tokens).sum();
    prop_assert_eq!((bytes, tokens), (packed.line_bytes, packed.tokens));
    if count > 1 {
        prop_assert!(bytes <= limits.bytes_max);
        prop_assert!(limits.tokens_max.is_none_or(|max| tokens <= max));
    }
    Ok(())
}

proptest! {
    #[test]
    fn packing_loses_doubles_and_overfills_nothing_in_any_order(
        candidates in candidates(),
        pages_max in 0_u32..6,
        bytes_max in 0_u64..200,
        tokens_max in proptest::option::of(0_u64..200),
    ) {
        let limits = Limits { pages_max, bytes_max, tokens_max };
        let mut waiting = candidates;
        let mut batches = 0;
        let all = waiting.len();
        while let Some(packed) = pack::pack(&waiting, limits) {
            check_batch(&packed, &waiting, limits)?;
            waiting.retain(|page| !packed.members.contains(&page.key));
            batches += 1;
            prop_assert!(batches <= all, "it goes on for ever");
        }
        prop_assert!(waiting.is_empty(), "left behind: {:?}", waiting);
    }
}

/// Names as people give them, and worse.
fn level() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{1,12}",
        "[a%:2F. ~\u{301}é學\u{7f}\t\n-]{1,8}",
        any::<String>()
    ]
}

proptest! {
    #[test]
    fn a_key_maps_to_exactly_one_path_and_back(
        folders in vec(level(), 3),
        others in vec(level(), 3),
        page in any::<u32>(),
    ) {
        let layout = Layout::parse("{state}/{school}/{year}/{page}").unwrap();
        let page = page.to_string();
        let levels = |folders: &[String]| -> Vec<String> {
            folders.iter().cloned().chain([page.clone()]).collect()
        };
        let key_of = |levels: &[String]| {
            layout.key(&levels.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let here = levels(&folders);
        if let Ok(key) = key_of(&here) {
            prop_assert_eq!(&layout.levels(&key).unwrap(), &here);
            prop_assert_eq!(key.as_str().matches(':').count(), 3);
            prop_assert!(!key.as_str().contains(|c: char| c.is_ascii_control()));
            let path = layout.path(Path::new("/out"), &key, "json").unwrap();
            let below: Vec<String> = path
                .strip_prefix("/out")
                .unwrap()
                .components()
                .map(|part| part.as_os_str().to_str().unwrap().to_owned())
                .collect();
            let mut wanted = folders.clone();
            wanted.push(format!("{page}.json"));
            prop_assert_eq!(below, wanted, "nothing is above the root or elsewhere below it");
            if let Ok(other) = key_of(&levels(&others)) {
                prop_assert_eq!(key == other, folders == others, "two places, two keys");
            }
        } else {
            let refusable = |level: &String| {
                level.is_empty() || level.len() > 255 || level.contains(['/', '\0'])
                    || level == "." || level == ".."
            };
            prop_assert!(folders.iter().any(refusable), "{:?}", folders);
        }
    }

    #[test]
    fn no_text_from_a_result_file_builds_a_path_outside_the_root(text in "[a./:%20-9F\\\\]{0,20}") {
        let layout = Layout::parse("{book}/{page}").unwrap();
        if let Ok(path) = layout.path(Path::new("/out"), &RecordKey::new(text), "json") {
            let below = path.strip_prefix("/out").unwrap();
            prop_assert_eq!(below.components().count(), 2);
            prop_assert!(below.components().all(|part| matches!(part, std::path::Component::Normal(_))));
        }
    }
}

/// A book: for each page number whether there is a label, whether it is in scope, whether there is
/// an output, and the stage in which the state knows it.
fn book() -> impl Strategy<Value = BTreeMap<u32, (bool, bool, bool, Option<PageStage>)>> {
    let stage = proptest::option::of(select(PageStage::ALL));
    let page = (
        any::<bool>(),
        proptest::bool::weighted(0.8),
        any::<bool>(),
        stage,
    );
    proptest::collection::btree_map(0_u32..12, page, 0..10)
}

proptest! {
    #[test]
    fn a_scan_registers_every_unknown_page_once_and_no_known_one(
        book in book(),
        skip_dead in any::<bool>(),
    ) {
        let key = |number: &u32| RecordKey::new(format!("book:{number}"));
        let mut labels = Vec::new();
        let mut known = Vec::new();
        for (number, (listed, in_scope, has_output, stage)) in &book {
            if *listed {
                labels.push(Label {
                    key: key(number),
                    number: *number,
                    in_scope: *in_scope,
                    has_output: *has_output,
                });
            }
            known.extend(stage.map(|stage| Known {
                key: key(number),
                stage,
                predecessor: None,
                waits_for: None,
                chain_ahead: 0,
                scope: None,
                left_out: false,
                dead_for: None,
            }));
        }
        let rules = Rules { scope: ScopeToken::from("scope"), skip_dead, chained: true };
        let found = scan::compare(&labels, &known, &rules, |_, _| {});
        let known: BTreeSet<RecordKey> = known.into_iter().map(|page| page.key).collect();
        let unknown: Vec<RecordKey> = {
            let mut keys: Vec<RecordKey> = labels
                .iter()
                .filter(|label| label.in_scope && !known.contains(&label.key))
                .map(|label| label.key.clone())
                .collect();
            keys.sort();
            keys
        };
        let registered: Vec<RecordKey> = found.register.iter().map(|place| place.key.clone()).collect();
        prop_assert_eq!(registered, unknown);
        for place in &found.register {
            let before = place.number.checked_sub(1).map(|number| key(&number));
            prop_assert!(place.predecessor.is_none() || place.predecessor == before);
            prop_assert!(place.waits_for.is_none() || place.waits_for == place.predecessor);
        }
        for (key, _cause) in &found.requeue {
            prop_assert!(known.contains(key));
        }
        for key in &found.label_vanished {
            prop_assert!(known.contains(key));
            prop_assert!(labels.iter().all(|label| label.key != *key));
        }
    }
}
