//! What is held of a running server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::ServerError;
use super::disk::DiskError;
use super::faults::{Misbehaviour, MisbehaviourError};
use super::machine::{Server, Socket};
use super::placement::NoSuchThread;
use super::serve::Loop;
use super::status::Status;
use crate::transport::{Sockets, Wake};

/// Looks at a server and tells it what to do, from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    server: Arc<Mutex<Server>>,
}

impl Control {
    /// Behaves like this from now on.
    pub fn misbehave(&self, misbehaviour: Misbehaviour) -> Result<(), MisbehaviourError> {
        misbehaviour.check()?;
        self.server.lock().misbehave(misbehaviour);
        Ok(())
    }

    /// Forgets all values and which keys it has seen, as Anna's memory tier at a restart. Replies that
    /// have not left never do.
    pub fn forget(&self) {
        self.server.lock().forget();
    }

    /// Gives some keys, with their values, to the storage thread with this number.
    pub fn move_keys(&self, keys: &[String], to: usize) -> Result<(), NoSuchThread> {
        self.server.lock().move_keys(keys, to)
    }

    /// Gives the keys of each storage thread, with their values, to that which is so many after it.
    pub fn rotate(&self, by: usize) {
        self.server.lock().rotate(by);
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        self.server.lock().status()
    }
}

/// A running server. Dropping it stops it.
pub struct Handle {
    control: Control,
    port_offset: u16,
    routing: Vec<String>,
    storage: Vec<String>,
    stop: Arc<AtomicBool>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
    ended: oneshot::Receiver<Result<(), DiskError>>,
}

impl Handle {
    /// Runs a server in a new thread.
    pub(super) fn run(
        server: Server,
        sockets: Sockets,
        kinds: Vec<Socket>,
        port_offset: u16,
    ) -> std::io::Result<Self> {
        let Status { routing, storage, .. } = server.status();
        let server = Arc::new(Mutex::new(server));
        let (stop, wake) = (Arc::new(AtomicBool::new(false)), sockets.waker());
        let (end, ended) = oneshot::channel();
        let serve = Loop { server: server.clone(), sockets, kinds, stop: stop.clone() };
        let body = move || {
            // Nobody may be waiting for the end.
            let _ = end.send(serve.run());
        };
        let thread = std::thread::Builder::new().name("anna-server".into()).spawn(body)?;
        let control = Control { server };
        Ok(Self { control, port_offset, routing, storage, stop, wake, thread: Some(thread), ended })
    }

    /// Looks at it and tells it what to do.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// How far its ports are from Anna's own.
    pub fn port_offset(&self) -> u16 {
        self.port_offset
    }

    /// Endpoints of the routing threads.
    pub fn routing(&self) -> &[String] {
        &self.routing
    }

    /// Endpoints of the storage threads.
    pub fn storage(&self) -> &[String] {
        &self.storage
    }

    /// Waits for an end that nobody asked for.
    pub async fn ended(&mut self) -> Result<(), ServerError> {
        match (&mut self.ended).await {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(ServerError::Panicked),
        }
    }

    /// Ends it when it has sent the replies that are due.
    pub fn stop(self) {}
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake.wake();
        if let Some(thread) = self.thread.take() {
            // A panic has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}
