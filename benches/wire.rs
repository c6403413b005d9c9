//! Coding and judging of lines, one thread: request lines out, result lines in, answers judged;
//! each against bare serde_json on the same bytes.

#[path = "kit/answers.rs"]
mod answers;
#[path = "kit/bare.rs"]
mod bare;

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use bare::BareLine;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pagemill::actors::result_processor::judge::json_in;
use pagemill::decide::verdict::{self, Reading};
use pagemill::domain::layout::Layout;
use pagemill::prompt::{Recipe, RecipeRequest, Validator};
use pagemill::wire::request::{self, GenerationConfig, LineParts};
use pagemill::wire::response::{self, Row};
use serde_json::{Value, json};

const KEY: &str = "Alabama:Howard College:1849:7";
const LABEL: &str = include_str!("../assets/demo/labels/howard-1.json");

fn recipe() -> Recipe {
    let layout = Layout::parse("{state}/{school}/{year}/{page}").unwrap();
    let config = json!({"temperature": 0.1, "maxOutputTokens": 16384});
    let request = RecipeRequest {
        prompt_name: "page_ocr",
        template_file: "v1.jinja",
        context_file: None,
        schema_file: Path::new("schema.json"),
        layout: &layout,
        model: "gemini-3.8-flash",
        generation_config: &config,
    };
    let prompt = include_str!("../assets/demo/prompts/v1.jinja").to_owned();
    let schema = include_str!("../assets/demo/schemas/page_ocr.v1.json").to_owned();
    Recipe::assemble(&request, prompt, None, schema).unwrap()
}

fn rendered(recipe: &Recipe, label: &Value) -> String {
    let levels = [
        ("state", "Alabama"),
        ("school", "Howard College"),
        ("year", "1849"),
        ("page", "7"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    recipe.render_prompt(KEY, &levels, label, None).unwrap()
}

fn written(generation_config: &GenerationConfig, prompt: &str) -> Vec<u8> {
    let parts = LineParts {
        key: KEY,
        file_uri: "https://generativelanguage.googleapis.com/v1beta/files/abcdefghij",
        mime: "image/jpeg",
        prompt,
        generation_config,
    };
    request::line(&parts).unwrap()
}

fn requests(criterion: &mut Criterion) {
    let recipe = recipe();
    let label: Value = serde_json::from_str(LABEL).unwrap();
    let prompt = rendered(&recipe, &label);
    let config = GenerationConfig::new(&recipe.generation_config, &recipe.response_schema).unwrap();
    let line = written(&config, &prompt);
    let value: Value = serde_json::from_slice(&line).unwrap();
    let mut group = criterion.benchmark_group("wire/request");
    group.throughput(Throughput::Bytes(line.len() as u64));
    group.bench_function("floor: serde_json of the same value", |bencher| {
        bencher.iter(|| serde_json::to_vec(black_box(&value)).unwrap());
    });
    group.bench_function("line", |bencher| {
        bencher.iter(|| written(&config, black_box(&prompt)));
    });
    group.bench_function("prompt", |bencher| {
        bencher.iter(|| rendered(&recipe, black_box(&label)));
    });
    group.finish();
}

fn rows(criterion: &mut Criterion) {
    let line = answers::line(KEY, 7);
    assert!(matches!(response::row(line.as_bytes()), Row::Answer { .. }));
    assert_eq!(BareLine::read(line.as_bytes()).key, KEY);
    let mut group = criterion.benchmark_group("wire/row");
    group.throughput(Throughput::Bytes(line.len() as u64));
    group.bench_function("floor: serde_json, typed", |bencher| {
        bencher.iter(|| BareLine::read(black_box(line.as_bytes())).text().len());
    });
    group.bench_function("row", |bencher| {
        bencher.iter(|| response::row(black_box(line.as_bytes())));
    });
    group.finish();
}

/// A line from bytes to the output, with the same public parts that the judge is made of.
fn judged(line: &[u8], validator: &Validator) -> Vec<u8> {
    let Row::Answer { key: _, body } = response::row(line) else {
        panic!("the bench's own lines are answers");
    };
    let Reading::Text(text) = verdict::read(&body) else {
        panic!("the bench's own answers have a text");
    };
    let value = json_in(text).unwrap().1.unwrap();
    validator.check(&value).unwrap();
    let mut output = serde_json::to_vec_pretty(&value).unwrap();
    output.push(b'\n');
    output
}

fn judging(criterion: &mut Criterion) {
    let line = answers::line(KEY, 7);
    let validator = Validator::new(&answers::schema()).unwrap();
    let text = answers::answer(7);
    let value: Value = serde_json::from_str(&text).unwrap();
    let bare = || BareLine::read(black_box(line.as_bytes())).parsed().1;
    assert_eq!(judged(line.as_bytes(), &validator), bare());
    let mut group = criterion.benchmark_group("wire/judge");
    group.throughput(Throughput::Bytes(line.len() as u64));
    group.bench_function("floor: serde_json, no schema", |bencher| {
        bencher.iter(bare);
    });
    group.bench_function("judge", |bencher| {
        bencher.iter(|| judged(black_box(line.as_bytes()), &validator));
    });
    group.bench_function("part: extract", |bencher| {
        bencher.iter(|| verdict::extract_json(black_box(&text)));
    });
    group.bench_function("part: parse", |bencher| {
        bencher.iter(|| serde_json::from_str::<Value>(black_box(&text)).unwrap());
    });
    group.bench_function("part: schema", |bencher| {
        bencher.iter(|| validator.check(black_box(&value)));
    });
    group.bench_function("part: pretty", |bencher| {
        bencher.iter(|| serde_json::to_vec_pretty(black_box(&value)).unwrap());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = requests, rows, judging
}
criterion_main!(benches);
