use pagemill::ports::result_sink::{RawText, ResultSink};

use crate::world::{LINE_BYTES_MAX, World};

async fn read(world: &World, content: &[u8]) -> Vec<Vec<RawText>> {
    let path = world.put("raw.jsonl", content);
    let mut reader = world.files.open_raw(&path).await.unwrap();
    let mut runs = Vec::new();
    while let Some(run) = reader.next_lines().await.unwrap() {
        runs.push(run);
    }
    assert_eq!(reader.next_lines().await.unwrap(), None);
    let lines = runs.iter().flatten();
    for line in lines {
        let again = world.files.raw_line(&path, line.offset, line.bytes).await;
        match &line.text {
            Some(text) => assert_eq!(again.unwrap(), *text),
            None => assert!(again.is_err()),
        }
    }
    runs
}

#[tokio::test]
async fn f24_every_kind_of_line_is_handed_out() {
    let world = World::new();
    let long = LINE_BYTES_MAX as usize;
    let mut content = b"first\r\n\n\r\n\xff\xfe\n".to_vec();
    content.extend(vec![b'x'; 50 * 1024 * 1024]);
    content.push(b'\n');
    content.extend(vec![b'y'; long]);
    content.extend(b"\r\n");
    content.extend(vec![b'z'; long + 1]);
    content.extend(b"\nlast");
    let runs = read(&world, &content).await;
    let lines: Vec<&RawText> = runs.iter().flatten().collect();
    let shown: Vec<(u64, Option<&[u8]>)> = lines
        .iter()
        .map(|line| {
            (
                line.bytes,
                line.text.as_deref().map(|text| &text[..text.len().min(5)]),
            )
        })
        .collect();
    let max = LINE_BYTES_MAX;
    let expected: [(u64, Option<&[u8]>); 8] = [
        (5, Some(b"first")),
        (0, Some(b"")),
        (0, Some(b"")),
        (2, Some(b"\xff\xfe")),
        (50 * 1024 * 1024, None),
        (max, Some(b"yyyyy")),
        (max + 1, None),
        (4, Some(b"last")),
    ];
    assert_eq!(shown, expected);
    for line in &lines {
        let (from, to) = (line.offset as usize, (line.offset + line.bytes) as usize);
        assert!(
            line.text
                .as_ref()
                .is_none_or(|text| content[from..to] == **text)
        );
    }
}

#[tokio::test]
async fn f26_runs_are_bounded_in_lines_and_bytes() {
    let world = World::new();
    let many = read(&world, &b"line\n".repeat(1_100)).await;
    let sizes: Vec<usize> = many.iter().map(Vec::len).collect();
    assert_eq!(sizes, [512, 512, 76]);
    let wide = [vec![b'w'; 1024 * 1024 - 1], b"\n".to_vec()]
        .concat()
        .repeat(9);
    let sizes: Vec<usize> = read(&world, &wide).await.iter().map(Vec::len).collect();
    assert_eq!(sizes, [5, 4]);
    assert!(read(&world, b"").await.is_empty());
    assert_eq!(read(&world, b"\n").await.concat().len(), 1);
}

#[tokio::test]
async fn a_line_that_is_not_there_is_an_error() {
    let world = World::new();
    let path = world.put("raw.jsonl", b"one\n");
    assert!(world.files.raw_line(&path, 2, 9).await.is_err());
    assert!(world.files.raw_line(&path, 900, 1).await.is_err());
    let missing = world.path("none.jsonl");
    assert!(
        world
            .files
            .raw_line(&missing, 0, 1)
            .await
            .unwrap_err()
            .missing
    );
    assert!(world.files.open_raw(&missing).await.err().unwrap().missing);
}
