//! Where the inputs begin: what the provider was seen to say, and small things made by hand.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

const GOOD_LINE: &str = r#"{"key":"a","response":{"candidates":[{"content":{"parts":[{"text":"he"},{"text":"no","thought":true},{"text":"llo"}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7,"totalTokenCount":"9"},"modelVersion":"m"}}"#;

/// The first inputs of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "result_file" => result_files(),
        "result_line" => lines().into_iter().map(Vec::from).collect(),
        "operation" => operations(),
        "error" => errors(),
        "retry_hint" => texts(&[
            "36.96s",
            "5",
            "500ms",
            "2m",
            "1h",
            "-1",
            "1e9",
            "9223372036854775807",
            "9223372036854775807s",
            "99999999999999999999999999999999h",
            "0.0000000001s",
            "NaN",
            "9223372036854775807\n999999999",
            "-5\n-5",
            "18446744073709551615.9999999999m",
            "",
            "Sun, 22 Nov 2026 10:00:30 GMT",
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "{}",
            "null",
        ]),
        "record_key" => texts(&[
            "Alabama:Howard College:1849:14",
            "a%3Ab:50%25:x:04",
            "..:..:..:1",
            "../../x",
            "/etc/passwd",
            "a:b%2Fc:d:1",
            "a/../c/5",
            "a|b:c|%|7",
            "a|\u{7f}|x\ny|0",
            "7",
            "a:b:%00:1",
            "a%:b:c:1",
            "Élève 学校/b/c/000000000000000000000000000001",
            "a:b:c:4294967296",
            "a:b:c:%2E%2E",
            "a\\..\\b|c|d|1",
            "%2e%2e:%2E%2E:.:1",
            "a::c:1",
        ]),
        "layout" => texts(&[
            "{state}/{school}/{year}/{page}",
            "{page}",
            "/{a}/{b}/",
            "{a}/{a}",
            "{../x}/{page}",
            "{key}/{page}",
            "{}/{page}",
            "{a}{b}/{page}",
            "a/{page}",
            "",
            "{a}//{page}",
            "{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}/{j}/{k}/{l}/{m}/{n}/{o}/{p}/{q}",
        ]),
        "config" => configs(),
        "image" => images(),
        other => panic!("no target is called {other}"),
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn lines() -> Vec<&'static str> {
    vec![
        GOOD_LINE,
        r#"{"key":"b","error":{"code":13,"message":"m"}}"#,
        r#"{"metadata":{"key":"p1"},"response":{}}"#,
        r#"{"key":"a","metadata":{"key":"b"},"response":{}}"#,
        r#"{"key":"a","key":"b","response":{}}"#,
        r#"{"key":"\u0061","response":{"candidates":[{"content":{"parts":[{"text":"```json\n{\"text\":\"x\"}\n```"}]}}]}}"#,
        r#"{"key":"../../x","response":{"promptFeedback":{"blockReason":"SAFETY"}}}"#,
        r#"{"key":"","status":{"code":"8"},"response":null}"#,
        r#"{"key":5,"response":[[[[[[1]]]]]]}"#,
        "\u{feff}{\"key\":\"b\",\"response\":{\"candidates\":[{\"finish_reason\":5}]}}\r",
        r#"{"key":"a","response":{"candidates":[{"content":{"parts":[{"text":"\ud800"}]}}]}}"#,
        r#"{"key":"a","metadata":{"key":"b","key":"c"},"response":{}}"#,
        r#"{"key":"a","metadata":{"key":"\ud800"},"response":{}}"#,
        r#"{"key":"b","metadata":{"x":"\ud960a"},"response":{}}"#,
        "[1]",
        "{",
        "",
    ]
}

fn result_files() -> Vec<Vec<u8>> {
    let whole = lines().join("\n");
    let crossed = whole.replace('\n', "\r\n");
    let doubled = format!("{whole}\n{whole}\n");
    let long = format!("{}\n{}\n", "x".repeat(400), lines()[1]);
    let odd = b"\xff\xfe\n\n\r\n\r\r\n{\"key\":\"a\",\"error\":{}}\n\0\n".to_vec();
    let mut files = texts(&[&whole, &crossed, &doubled, &long]);
    files.push(odd);
    files
}

/// The bodies of the recorded answers, by what the recordings are called.
fn recorded(is_wanted: impl Fn(&str) -> bool) -> Vec<(u16, Vec<u8>)> {
    let folder = root().join("tests/fixtures/wire");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the recordings")
        .map(|entry| entry.expect("a recording").path())
        .filter(|path| is_wanted(&path.to_string_lossy()))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = fs::read(path).expect("a recording");
            let recording: Value = serde_json::from_slice(&text).expect("a recording is JSON");
            let answer = &recording["response"];
            let status = answer["status"].as_u64().expect("an answer has a status");
            let body = match &answer["body"] {
                Value::String(text) => text.clone().into_bytes(),
                Value::Null => Vec::new(),
                other => other.to_string().into_bytes(),
            };
            (status as u16, body)
        })
        .collect()
}

fn operations() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = recorded(|name| !name.contains("error"))
        .into_iter()
        .map(|(_status, body)| body)
        .collect();
    bodies.extend(lines().into_iter().map(Vec::from));
    bodies.extend(texts(&[
        r#"{"name":"b","done":true,"response":{"inlined_responses":[{"key":"a","metadata":{"key":"b"},"response":{}}]}}"#,
        r#"{"metadata":{"name":"batches/a","state":"JOB_STATE_RUNNING","batchStats":{"requestCount":"5"}}}"#,
        r#"{"name":"b","dest":{"fileName":"https://h/v1/files/batch-x:download?alt=media"}}"#,
    ]));
    bodies
}

fn errors() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (status, body) in recorded(|name| name.contains("error") || name.contains("-4")) {
        for call in [0_u8, 2, 3] {
            let mut input = vec![call];
            input.extend((status - 100).to_be_bytes());
            input.extend(b"30\nSun, 22 Nov 2026 10:00:00 GMT\n");
            input.extend(&body);
            inputs.push(input);
        }
    }
    let quoted = br#"{"error":{"code":400,"message":"API key not valid: AIzaSyA-fake https://h/?key=AIzaSyB"}}"#;
    inputs.push([&[0, 1, 44, b'\n', b'\n'], quoted.as_slice()].concat());
    let joined = br#"{"error":{"message":"key:AIzaSyA-fake,see:https://h/?x=1&key=AIzaSyB"}}"#;
    inputs.push([&[0, 1, 44, b'\n', b'\n'], joined.as_slice()].concat());
    inputs
}

fn configs() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for name in [
        "default.yaml",
        "example.yaml",
        "starter/pagemill.yaml",
        "prices.yaml",
    ] {
        let text = fs::read(root().join("config").join(name)).expect("a configuration");
        inputs.push([b"\0", text.as_slice()].concat());
    }
    let places = [
        "\0a: &a [1,1,1,1]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nfilters: {where: *c}\n",
        "\0base: &b {label_source_dir: x}\npaths:\n  <<: *b\n  layout: '{page}'\n",
        "\0paths: {output_dir: planted-key-7f3a9c1e55d2, layout: '{state}/{page}'}\n",
        "\0planted-key-7f3a9c1e55d2: 1\nmodel: {name: planted-key-7f3a9c1e55d2 x}\n",
        "\0files: {storage_budget_bytes: 99999999999TiB}\nbatch: {poll_interval_seconds: 1e400}\n",
        "\0filters: {target_years: {start: 2, end: 1}, where: {nope: [1]}}\n",
        "\0paths: [unclosed\n",
        "\x01GEMINI_API_KEY=other\nPAGEMILL__MODEL__NAME='x\nA=${B}${A}\n",
        "\x01export A=1\nB=\"$A\"\n= \n",
        "\x02PAGEMILL__PATHS__LAYOUT={state}/{page}",
        "\x02PAGEMILL__FILTERS__WHERE__STATE=[a, b]",
        "\x02GOOGLE_GEMINI_BASE_URL=https://user:planted-key-7f3a9c1e55d2@h/?key=x",
        "\x02PAGEMILL____=1",
    ];
    inputs.extend(texts(&places));
    inputs
}

fn images() -> Vec<Vec<u8>> {
    let boxed = |kind: &[u8; 4], content: &[u8]| {
        let mut bytes = (content.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend(kind);
        bytes.extend(content);
        bytes
    };
    let jpeg = b"\xff\xd8\xff\xe0\x00\x04JF\xff\xc0\x00\x0b\x08\x00\x07\x00\x05\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00abc\xff\x00def\xff\xd9".to_vec();
    let png = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x00\x05\x00\x00\x00\x07\x08\x00\x00\x00\x00CRC!\x00\x00\x00\x03IDATabcCRC!\x00\x00\x00\x00IENDCRC!".to_vec();
    let webp = b"RIFF\x20\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x06\x00\x00VP8 \x02\x00\x00\x00ab".to_vec();
    let lossless = b"RIFF\x14\x00\x00\x00WEBPVP8L\x08\x00\x00\x00\x2f\x04\xc0\x01\x00abc".to_vec();
    let lossy =
        b"RIFF\x16\x00\x00\x00WEBPVP8 \x0a\x00\x00\x00\x10\x02\x00\x9d\x01\x2a\x05\x00\x07\x00"
            .to_vec();
    let size = boxed(b"ispe", b"\0\0\0\0\0\0\0\x05\0\0\0\x07");
    let properties = boxed(b"iprp", &boxed(b"ipco", &size));
    let meta = boxed(b"meta", &[b"\0\0\0\0".as_slice(), &properties].concat());
    let heif = |brands: &[u8]| {
        let mut bytes = boxed(b"ftyp", brands);
        bytes.extend(&meta);
        bytes.extend(boxed(b"mdat", b"pixels"));
        bytes
    };
    let mut images = vec![
        jpeg,
        png,
        webp,
        lossless,
        lossy,
        heif(b"heic\0\0\0\0mif1heic"),
        heif(b"mif1\0\0\0\0mif1heic"),
        heif(b"avif\0\0\0\0mif1avif"),
    ];
    images.extend(texts(&["GIF89a\x05\0\x07\0", "%PDF-1.7", "BM", "II*\0"]));
    images
}

fn root() -> &'static Path {
    Path::new(ROOT)
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
