use std::fs;
use std::path::PathBuf;

use pagemill::domain::failure::{ApiError, Next};
use pagemill::domain::ids::RemoteName;
use pagemill::ports::file_api::{Collected, FileApi};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::recordings::Recording;
use crate::server::{KEY, Reply, Request, Server};

const NAME: &str = "files/batch-6mq8sye2nja3jgzdul48vwpme0rqspya0ju2";
const CONTENT: &[u8] = b"{\"key\":\"p1\"}\n{\"key\":\"p2\"}\n";

struct Outcome {
    result: Result<Collected, ApiError>,
    requests: Vec<Request>,
    folder: TempDir,
}

impl Outcome {
    fn path(&self) -> PathBuf {
        self.folder.path().join("raw/b.jsonl")
    }

    fn ranges(&self) -> Vec<Option<&str>> {
        self.requests
            .iter()
            .map(|request| request.header("range"))
            .collect()
    }

    fn check_whole(&self) {
        assert_eq!(fs::read(self.path()).unwrap(), CONTENT);
        let collected = self.result.as_ref().unwrap();
        assert_eq!(collected.bytes, CONTENT.len() as u64);
        assert_eq!(
            collected.sha256.as_str(),
            hex::encode(Sha256::digest(CONTENT))
        );
        assert_eq!(
            fs::read_dir(self.folder.path().join("raw"))
                .unwrap()
                .count(),
            1
        );
    }

    fn check_failed(&self, next: Next) {
        assert_eq!(self.result.as_ref().unwrap_err().next, next);
        let left = fs::read_dir(self.folder.path().join("raw"))
            .unwrap()
            .count();
        assert_eq!(left, 0, "nothing is left behind");
    }
}

async fn run(script: Vec<Reply>) -> Outcome {
    let server = Server::new(script);
    let folder = tempfile::tempdir().unwrap();
    let destination = folder.path().join("raw/b.jsonl");
    let result = server
        .client()
        .download(&RemoteName::from(NAME), destination)
        .await;
    Outcome {
        result,
        requests: server.requests(),
        folder,
    }
}

fn whole() -> Reply {
    Reply::new(200, CONTENT)
}

fn rest(from: usize) -> Reply {
    let range = format!("bytes {from}-{}/{}", CONTENT.len() - 1, CONTENT.len());
    Reply::new(206, &CONTENT[from..]).header("Content-Range", range)
}

#[tokio::test]
async fn results_are_downloaded_as_recorded() {
    let recording = Recording::load("24-files-download-results");
    let outcome = run(vec![recording.reply()]).await;
    recording.check(&outcome.requests[0]);
    assert_eq!(outcome.requests[0].query, "alt=media");
    assert_eq!(outcome.requests[0].header("x-goog-api-key"), Some(KEY));
    let bytes = outcome.result.as_ref().unwrap().bytes;
    assert_eq!(fs::read(outcome.path()).unwrap().len() as u64, bytes);
}

#[tokio::test]
async fn f26_a_cut_download_goes_on_where_it_stopped() {
    let outcome = run(vec![
        whole().header("ETag", "\"v1\"").cut_after(10),
        Reply::silence(),
        Reply::new(503, "busy"),
        rest(10).cut_after(5),
        rest(15),
    ])
    .await;
    outcome.check_whole();
    let from_ten = Some("bytes=10-");
    assert_eq!(
        outcome.ranges(),
        [None, from_ten, from_ten, from_ten, Some("bytes=15-")]
    );
    assert_eq!(outcome.requests[4].header("if-range"), Some("\"v1\""));
}

#[tokio::test]
async fn a_server_without_ranges_starts_over() {
    let outcome = run(vec![whole().cut_after(10), whole()]).await;
    outcome.check_whole();
    // A range that was not asked for is thrown away.
    let outcome = run(vec![whole().cut_after(10), rest(3), whole()]).await;
    outcome.check_whole();
    assert_eq!(outcome.ranges(), [None, Some("bytes=10-"), None]);
    let outcome = run(vec![whole().cut_after(10), Reply::new(416, ""), whole()]).await;
    outcome.check_whole();
}

#[tokio::test]
async fn the_other_documented_address_is_tried() {
    let outcome = run(vec![Reply::new(404, ""), whole()]).await;
    outcome.check_whole();
    assert_eq!(outcome.requests[0].path, format!("/v1/{NAME}:download"));
    assert_eq!(
        outcome.requests[1].path,
        format!("/download/v1/{NAME}:download")
    );
    run(vec![Reply::new(404, ""), Reply::new(404, "")])
        .await
        .check_failed(Next::Missing);
    run(vec![Reply::new(403, "")])
        .await
        .check_failed(Next::Missing);
}

#[tokio::test]
async fn f26_resumes_are_bounded_and_nothing_partial_is_left() {
    let outcome = run((0..9).map(|_| whole().cut_after(3)).collect()).await;
    outcome.check_failed(Next::Transient);
    assert_eq!(outcome.requests.len(), 6);
    let outcome = run(vec![Reply::new(429, "")]).await;
    assert!(matches!(
        outcome.result.unwrap_err().next,
        Next::Throttled { .. }
    ));
    assert_eq!(outcome.requests.len(), 1);
}

#[tokio::test]
async fn redirects_are_followed_without_spreading_the_key() {
    let store = Server::new(vec![whole()]);
    let away = Reply::new(302, "").header("Location", format!("{}/bucket/x?sig=1", store.base));
    let home = Reply::new(307, "").header("Location", "/v1/elsewhere");
    let outcome = run(vec![home, away]).await;
    outcome.check_whole();
    assert_eq!(outcome.requests[1].header("x-goog-api-key"), Some(KEY));
    assert_eq!(store.requests()[0].header("x-goog-api-key"), None);
    let round = |_| Reply::new(302, "").header("Location", "{BASE}/again");
    run((0..9).map(round).collect())
        .await
        .check_failed(Next::Garbled);
}

#[tokio::test]
async fn p13_a_link_in_the_place_of_a_result_file_is_replaced_and_never_followed() {
    for script in [vec![whole()], vec![Reply::new(500, ""); 9]] {
        let is_answered = script.len() == 1;
        let server = Server::new(script);
        let folder = tempfile::tempdir().unwrap();
        let theirs = folder.path().join("theirs");
        fs::write(&theirs, "theirs").unwrap();
        let destination = folder.path().join("raw/b.jsonl");
        fs::create_dir(folder.path().join("raw")).unwrap();
        for link in [&destination, &folder.path().join("raw/b.jsonl.part")] {
            std::os::unix::fs::symlink(&theirs, link).unwrap();
        }
        let name = RemoteName::from(NAME);
        let result = server.client().download(&name, destination.clone()).await;
        assert_eq!(result.is_ok(), is_answered);
        assert_eq!(fs::read(&theirs).unwrap(), b"theirs");
        assert!(!folder.path().join("raw/b.jsonl.part").is_symlink());
        if is_answered {
            assert!(!destination.is_symlink());
            assert_eq!(fs::read(&destination).unwrap(), CONTENT);
        }
    }
}

#[tokio::test]
async fn p13_a_name_from_the_provider_is_no_path() {
    for name in [
        "files/../../x",
        "../files/x",
        "/files/x",
        "files/a/b",
        "files/..",
        "files/",
        "files/a\0b",
        "files/a?alt=media",
        "files/a%2Fb",
        "x",
    ] {
        let server = Server::new(vec![whole()]);
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("raw/b.jsonl");
        let name = RemoteName::from(name);
        let result = server.client().download(&name, destination).await;
        assert_eq!(result.unwrap_err().next, Next::Refused, "{name}");
        assert!(server.requests().is_empty(), "{name}");
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}

#[tokio::test]
async fn a_disk_that_refuses_is_our_own_fault() {
    let server = Server::new(vec![whole()]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), b"").unwrap();
    let destination = folder.path().join("file/b.jsonl");
    let error = server
        .client()
        .download(&RemoteName::from(NAME), destination)
        .await
        .unwrap_err();
    assert_eq!(error.next, Next::Local);
    assert!(error.message.contains("file/b.jsonl"), "{}", error.message);
    assert!(server.requests().is_empty());
}
