//! The key goes out in one header and comes back in nothing.

use pagemill::ports::batch_api::BatchApi;
use pagemill::ports::file_api::FileApi;

use crate::server::{KEY, Reply, Server};

#[tokio::test]
async fn p13_what_is_said_of_a_job_or_file_does_not_repeat_the_key() {
    let job = format!(
        r#"{{"name":"batches/a","metadata":{{"displayName":"{KEY}","state":"BATCH_STATE_FAILED"}},"error":{{"code":7,"message":"API key {KEY} expired"}}}}"#
    );
    let list = format!(r#"{{"operations":[{job}],"nextPageToken":"t"}}"#);
    let file =
        format!(r#"{{"name":"files/a","displayName":"x {KEY}","uri":"https://h/?key={KEY}"}}"#);
    let files = format!(r#"{{"files":[{file}]}}"#);
    let script = [job, list, file, files].map(|body| Reply::new(200, body));
    let server = Server::new(script.to_vec());
    let client = server.client();
    let batch = client.batch(&"batches/a".into()).await.unwrap();
    let batches = client.list(None).await.unwrap();
    let file = client.file(&"files/a".into()).await.unwrap();
    let files = client.list_files(None).await.unwrap();
    let said = format!("{batch:?} {batches:?} {file:?} {files:?}");
    assert!(!said.contains(KEY), "{said}");
    assert_eq!(said.matches("[removed]").count(), 8, "{said}");
}
