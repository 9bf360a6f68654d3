//! A TCP proxy that misbehaves as told: between a store's client and its server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What happens to what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It passes.
    Pass,
    /// It passes, in each direction after a pause.
    Slow,
    /// Requests pass, answers vanish.
    LoseAnswers,
    /// All connections are cut, and new ones at once.
    Cut,
}

/// How long what passes slowly takes.
const SLOW: Duration = Duration::from_millis(20);

/// A proxy that ends with this.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    lost: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Begins to pass what comes to a port of its own on to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mode, follow) = watch::channel(Mode::Pass);
        let lost = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(serve(listener, target, follow, lost.clone()));
        Self { address, mode, lost, task }
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Bytes of answers that have vanished.
    pub fn bytes_lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    mode: watch::Receiver<Mode>,
    lost: Arc<AtomicU64>,
) {
    // Ends with this task, and its connections with it.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *mode.borrow() != Mode::Cut {
            connections.spawn(pass(client, target, mode.clone(), lost.clone()));
        }
    }
}

async fn pass(
    client: TcpStream,
    target: SocketAddr,
    mut mode: watch::Receiver<Mode>,
    lost: Arc<AtomicU64>,
) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let answers = mode.clone();
    tokio::select! {
        () = copy(from_client, to_server, &answers, |_| true) => {}
        () = copy(from_server, to_client, &answers, |bytes| {
            let passes = *answers.borrow() != Mode::LoseAnswers;
            lost.fetch_add(if passes { 0 } else { bytes }, Ordering::Relaxed);
            passes
        }) => {}
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mode: &watch::Receiver<Mode>,
    passes: impl Fn(u64) -> bool,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        if *mode.borrow() == Mode::Slow {
            tokio::time::sleep(SLOW).await;
        }
        if passes(bytes as u64) && to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}
