//! The provider, played: the Files and Batch APIs on a local port, with every fault that the real
//! service was seen to have.
//!
//! **Invariant:** nothing here uses another room of pagemill. The emulator is the judge of the
//! pipeline, and a judge who shares its code would share its mistakes.
//!
//! What it holds to is what the live service does, not what is convenient: strict where a client
//! could get used to too much, lenient where real clients differ. It does no work of its own beyond
//! that: no quotas by token, no webhooks, no caching, no model but the schema-shaped answers of
//! `answers.rs`.

mod answering;
mod answers;
mod batches;
mod board;
mod control;
mod dice;
mod downloads;
mod errors;
mod faults;
mod files;
mod jobs;
mod kept;
mod ledger;
mod requests;
mod rows;
mod run;
mod server;
mod uploads;
mod world;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tempfile::TempDir;
use tokio::sync::oneshot;

pub use faults::{FaultProfile, FaultProfileError};
pub use ledger::{FileEntry, LastRequest, LedgerSnapshot};

use world::World;

/// How the provider is played.
#[derive(Debug, Clone)]
pub struct EmulatorOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// From the making of a job to its end. A third of it is spent pending.
    pub batch_latency: Duration,
    /// What goes wrong.
    pub faults: FaultProfile,
    /// Decides every throw of the dice; 0 leaves it to the profile.
    pub seed: u64,
    /// How many bytes the project may store.
    pub storage_limit_bytes: u64,
    /// How long an uploaded file lives.
    pub file_lifetime: Duration,
    /// The only API key that is accepted; without one, any key is.
    pub api_key: Option<String>,
}

impl Default for EmulatorOptions {
    fn default() -> Self {
        const STORAGE_LIMIT_BYTES: u64 = 21_474_836_480;
        const FILE_LIFETIME: Duration = Duration::from_secs(48 * 3600);
        EmulatorOptions {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            batch_latency: Duration::ZERO,
            faults: FaultProfile::none(),
            seed: 0,
            storage_limit_bytes: STORAGE_LIMIT_BYTES,
            file_lifetime: FILE_LIFETIME,
            api_key: None,
        }
    }
}

/// Why the emulator cannot be started or announced.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The address is taken or not ours.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The temporary folder, the thread or the server could not be made.
    #[error("cannot start the emulator: {0}")]
    Start(#[source] io::Error),
    /// The port file could not be written.
    #[error("cannot write the port file '{path}': {source}")]
    PortFile {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A running emulator. Dropping it stops it.
pub struct Emulator {
    world: Arc<World>,
    address: SocketAddr,
    server: ServerHandle,
    thread: Option<JoinHandle<()>>,
    /// Held here and not by the world, so that it is gone when the handle is: the server's workers
    /// may outlive the thread that started them by a moment.
    _folder: TempDir,
}

impl Emulator {
    /// Binds the address and serves on threads of its own; returns when requests are answered.
    pub async fn start(options: EmulatorOptions) -> Result<Emulator, EmulatorError> {
        let listen = options.listen;
        let bound = |source| EmulatorError::Listen { listen, source };
        let listener = TcpListener::bind(listen).map_err(bound)?;
        let address = listener.local_addr().map_err(bound)?;
        let folder = tempfile::Builder::new()
            .prefix("pagemill-emulator-")
            .tempdir();
        let folder = folder.map_err(EmulatorError::Start)?;
        let world = Arc::new(World::new(
            options,
            base_url(address),
            folder.path().to_owned(),
        ));
        let (ready, started) = oneshot::channel();
        let shared = Arc::clone(&world);
        let thread = std::thread::Builder::new()
            .name("emulator".to_owned())
            .spawn(move || serve(shared, listener, ready))
            .map_err(EmulatorError::Start)?;
        let stopped = || io::Error::other("the server's thread ended at once");
        let server = started.await.map_err(|_| EmulatorError::Start(stopped()))?;
        let server = server.map_err(EmulatorError::Start)?;
        tracing::debug!(%address, "the emulator listens");
        Ok(Emulator {
            world,
            address,
            server,
            thread: Some(thread),
            _folder: folder,
        })
    }

    /// The address for a client's base URL, without a slash at the end.
    pub fn base_url(&self) -> String {
        self.world.base_url.clone()
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What was counted so far: the same as the control endpoint sends for `files=1`.
    pub fn ledger(&self) -> LedgerSnapshot {
        self.world.snapshot(true, true)
    }

    /// Puts another fault profile in force and forgets every throw.
    pub fn set_faults(&self, profile: FaultProfile) {
        self.world.dice.replace(profile);
    }

    /// Writes the port to a file that appears only when it is whole.
    pub fn write_port_file(&self, path: &Path) -> Result<(), EmulatorError> {
        let failed = |source| EmulatorError::PortFile {
            path: path.to_owned(),
            source,
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        io::Write::write_all(&mut file, format!("{}\n", self.port()).as_bytes()).map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Stops serving and waits until every thread has ended.
    pub async fn stop(mut self) {
        let thread = self.halt();
        // A panic of the server thread was printed by that thread; stopping has nothing to add.
        let _joined = tokio::task::spawn_blocking(move || thread.map(JoinHandle::join)).await;
    }

    fn halt(&mut self) -> Option<JoinHandle<()>> {
        self.world.stopping.store(true, Ordering::Relaxed);
        // The order is given by the call itself; the future only waits for the end.
        drop(self.server.stop(false));
        self.thread.take()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _joined = self.halt().map(JoinHandle::join);
    }
}

/// Runs the server to its end, on the emulator's own thread.
fn serve(
    world: Arc<World>,
    listener: TcpListener,
    ready: oneshot::Sender<io::Result<ServerHandle>>,
) {
    actix_web::rt::System::new().block_on(async move {
        match server::serve(world, listener) {
            Ok(server) => {
                if ready.send(Ok(server.handle())).is_ok()
                    && let Err(error) = server.await
                {
                    tracing::warn!(%error, "the emulator's server ended with an error");
                }
            }
            // Nobody waits any more when this fails.
            Err(error) => drop(ready.send(Err(error))),
        }
    });
}

/// The address to tell clients; one that means "everywhere" becomes the local one.
fn base_url(address: SocketAddr) -> String {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(host, address.port()))
}
