//! The processes that a bench starts: the played provider, and one process for each measured run. Each
//! ends with the bench, however that ends: it is killed when it is dropped, and it ends by itself when
//! the pipe to its standard input closes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, ChildStdin, Command};

use super::knobs::Point;
use super::measured::Measured;
use super::point::PointOrder;

/// The pause between two looks whether the played provider is ready, and for how long it is looked.
const LOOK: Duration = Duration::from_millis(10);
const READY_MAX: Duration = Duration::from_secs(30);
/// How long the played provider has to end by itself.
const END_MAX: Duration = Duration::from_secs(5);
/// What is told of the words that a failed process left.
const WORDS_MAX: usize = 2_000;

/// Why a run could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum ChildFault {
    #[error("cannot start a process of this program ('{}'): {source}", .program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("cannot use '{}': {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the played provider did not start: {0}")]
    NoProvider(String),
    #[error("the measured run ended without figures ({status}): {words}")]
    NoFigures { status: String, words: String },
    #[error(
        "the measured run took longer than {} min and was ended: measure fewer pages, or with a lower \
         latency or error rate", .0.as_secs() / 60
    )]
    TooLong(Duration),
    #[error("the figures of the measured run cannot be read: {0}")]
    Garbled(#[from] serde_json::Error),
}

fn file_fault(path: &Path) -> impl FnOnce(io::Error) -> ChildFault {
    let path = path.to_owned();
    move |source| ChildFault::File { path, source }
}

/// Starts this program once more. Its words go into a file.
fn start(
    arguments: &[&str],
    folder: &Path,
    words: &Path,
) -> Result<(Child, ChildStdin), ChildFault> {
    let program = std::env::current_exe().map_err(|source| ChildFault::Start {
        program: PathBuf::from("pagemill"),
        source,
    })?;
    let out = File::create(words).map_err(file_fault(words))?;
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .env("TMPDIR", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(out)
        // A signal from the terminal is for the bench alone, which then ends its children.
        .process_group(0)
        .kill_on_drop(true);
    let failed = |source| ChildFault::Start {
        program: program.clone(),
        source,
    };
    let mut child = command.spawn().map_err(failed)?;
    let stdin = child.stdin.take();
    let stdin = stdin.ok_or_else(|| failed(io::Error::other("it has no standard input")))?;
    Ok((child, stdin))
}

/// The last of what a process said.
fn last_words(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let skipped = text.chars().count().saturating_sub(WORDS_MAX);
    let words: String = text.chars().skip(skipped).collect();
    match words.trim() {
        "" => "it said nothing".to_owned(),
        words => words.to_owned(),
    }
}

/// The played provider, as a process.
pub struct Provider {
    child: Child,
    stdin: ChildStdin,
    pub base_url: String,
}

impl Provider {
    /// Starts it in a folder that is there for it alone; returns when it answers.
    pub async fn start(point: &Point, folder: &Path) -> Result<Self, ChildFault> {
        let port_file = folder.join("port");
        let words = folder.join("provider.log");
        let latency = point.latency_ms.to_string();
        let port = port_file.to_string_lossy().into_owned();
        let mut arguments = vec!["emulator", "--while-stdin-open", "--listen", "127.0.0.1:0"];
        arguments.extend(["--port-file", &port, "--batch-latency-ms", &latency]);
        let faults = folder.join("faults.yaml");
        let faults_text = faults.to_string_lossy().into_owned();
        if point.error_permille > 0 {
            fs::write(&faults, fault_profile(point.error_permille)).map_err(file_fault(&faults))?;
            arguments.extend(["--faults", &faults_text]);
        }
        let (mut child, stdin) = start(&arguments, folder, &words)?;
        let deadline = tokio::time::Instant::now() + READY_MAX;
        loop {
            if let Ok(port) = fs::read_to_string(&port_file) {
                let base_url = format!("http://127.0.0.1:{}", port.trim());
                return Ok(Provider {
                    child,
                    stdin,
                    base_url,
                });
            }
            let has_ended = child.try_wait().map_err(file_fault(&words))?.is_some();
            if has_ended || tokio::time::Instant::now() >= deadline {
                return Err(ChildFault::NoProvider(last_words(&words)));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Lets it end by itself; kills it when it does not.
    pub async fn stop(self) {
        let Provider {
            mut child, stdin, ..
        } = self;
        drop(stdin);
        if tokio::time::timeout(END_MAX, child.wait()).await.is_err() {
            // It is gone at the latest when it is dropped.
            let _killed = child.kill().await;
        }
    }
}

/// Faults that a run lives with: refused uploads, looks and downloads, and bad answers, each as often.
/// None of them makes a run wait for minutes, as a lost answer to a create does.
fn fault_profile(permille: u64) -> String {
    let rate = permille as f64 / 1_000.0;
    FAULTS
        .iter()
        .map(|fault| format!("{fault}: {rate}\n"))
        .collect()
}

/// What fails where the error rate is not 0.
pub const FAULTS: [&str; 4] = [
    "upload_start_503",
    "poll_503",
    "download_503",
    "row_invalid_json",
];

/// The longest that one run against the played provider may take.
pub const RUN_MAX: Duration = Duration::from_secs(3_600);

/// Measures one run in a process of its own, which ends when it takes longer than `most`.
pub async fn measure(
    order: &PointOrder,
    folder: &Path,
    most: Option<Duration>,
) -> Result<Measured, ChildFault> {
    let order_file = folder.join("point.json");
    let figures = folder.join("figures.json");
    let words = folder.join("point.log");
    let text = serde_json::to_vec_pretty(order)?;
    fs::write(&order_file, text).map_err(file_fault(&order_file))?;
    let (order_text, figures_text) = (order_file.to_string_lossy(), figures.to_string_lossy());
    let arguments = [
        "bench",
        "--point",
        &*order_text,
        "--figures",
        &*figures_text,
    ];
    let (mut child, stdin) = start(&arguments, folder, &words)?;
    let ended = match most {
        None => child.wait().await,
        Some(most) => match tokio::time::timeout(most, child.wait()).await {
            Ok(ended) => ended,
            // It is killed when it is dropped.
            Err(_elapsed) => return Err(ChildFault::TooLong(most)),
        },
    };
    let status = ended.map_err(file_fault(&words))?;
    drop(stdin);
    match fs::read(&figures) {
        Ok(text) if status.success() => Ok(serde_json::from_slice(&text)?),
        _ => Err(ChildFault::NoFigures {
            status: status.to_string(),
            words: last_words(&words),
        }),
    }
}

/// Returns when the pipe to the standard input of this process is closed from the other side.
pub async fn stdin_closed() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // A thread of its own: a read that never returns would keep the runtime from ending.
    let reading = std::thread::Builder::new()
        .name("standard input".to_owned())
        .spawn(move || {
            // Whether it ends with an error or at its end, nobody is there any more.
            let _end = io::copy(&mut io::stdin().lock(), &mut io::sink());
            let _gone = sender.send(());
        });
    match reading {
        Ok(_thread) => drop(receiver.await),
        Err(error) => {
            tracing::error!(%error, "the standard input cannot be watched");
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::FaultProfile;

    #[test]
    fn the_faults_of_an_error_rate_are_faults_of_the_played_provider() {
        FaultProfile::from_yaml(&fault_profile(50)).unwrap();
        assert!(fault_profile(50).contains("poll_503: 0.05\n"));
    }
}
