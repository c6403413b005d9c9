//! The emulator in a process of its own, so that its processor time is not counted.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long the emulator may take to say where it listens.
const START_MAX: Duration = Duration::from_secs(30);

/// A running emulator; it ends when this is dropped.
pub struct Provider {
    child: Child,
    port: String,
    _folder: TempDir,
}

impl Provider {
    /// Starts one that takes no time to answer.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port_file = folder.path().join("port");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pagemill"));
        command.args([
            "emulator",
            "--listen",
            "127.0.0.1:0",
            "--batch-latency-ms",
            "0",
        ]);
        command.arg("--port-file").arg(&port_file);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut provider = Provider {
            child: command.spawn().unwrap(),
            port: String::new(),
            _folder: folder,
        };
        let since = Instant::now();
        while provider.port.is_empty() {
            assert!(since.elapsed() < START_MAX, "the emulator does not start");
            std::thread::sleep(Duration::from_millis(5));
            let said = std::fs::read_to_string(&port_file).unwrap_or_default();
            provider.port = said.trim().to_owned();
        }
        provider
    }

    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
