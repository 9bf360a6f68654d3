//! The loop: one thread that owns the sockets and all that is known.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam::queue::SegQueue;
use prost::Message;
use tokio::sync::oneshot;

use super::faults::Faults;
use super::nodes::Nodes;
use super::{ManagerError, Options};
use crate::node::{Found, PeerMessage};
use crate::peer::{self, BadMessage, GOSSIP_PORT, MEMBERS_PORT};
use crate::runtime::clock::Clock;
use crate::transport::{OutboxLimits, Sockets, Wake};
use crate::txn::Commit;
use crate::wire::anna::StringSet;

/// Messages taken before other sockets are looked at again.
const MESSAGES_PER_ROUND: usize = 64;
/// The longest message that is taken.
const MESSAGE_BYTES_MAX: usize = 512 << 20;
/// Found commits in one message.
const FOUND_PER_MESSAGE: usize = 512;
/// Bad messages are logged at most this often.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// What other threads ask of the loop.
pub(super) enum Command {
    /// The log was read to its end: from here on it is compared with what is told.
    Following,
    /// Commits were seen in the log.
    Logged(Vec<Arc<Commit>>),
    /// Tell how things are.
    Status(oneshot::Sender<Status>),
    /// End.
    End,
}

/// Hands commands to the loop from any thread.
#[derive(Clone)]
pub(super) struct Handle {
    commands: Arc<SegQueue<Command>>,
    wake: Arc<Wake>,
}

impl Handle {
    pub(super) fn send(&self, command: Command) {
        self.commands.push(command);
        self.wake.wake();
    }

    pub(super) fn end(&self) {
        self.send(Command::End);
    }

    /// How things are; none if the loop has ended.
    pub(super) async fn status(&self) -> Option<Status> {
        let (sender, receiver) = oneshot::channel();
        self.send(Command::Status(sender));
        receiver.await.ok()
    }
}

/// What a manager knows, for people and dashboards.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// The nodes that live.
    pub nodes: Vec<NodeStatus>,
    /// Requests for them that were answered.
    pub requests: u64,
    /// Messages of nodes about their commits, heartbeats included.
    pub gossip_messages: u64,
    /// Commits in them.
    pub gossip_commits: u64,
    /// Messages that were not understood.
    pub bad_messages: u64,
    /// Whether the store's log is compared with what is told; none without a store, false until it was
    /// read to its end once.
    pub following: Option<bool>,
    /// Commits seen in the log since.
    pub commits_logged: u64,
    /// Those that were not told yet, and still have time.
    pub commits_waiting: usize,
    /// Those that nobody told in time, and that all nodes were told of from here.
    pub commits_found: u64,
}

/// A node that lives.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// Which life of it.
    pub incarnation: String,
    /// How many commits it has told of, by its own count.
    pub commits: u64,
    /// How long ago its last word came, in milliseconds.
    pub silent_ms: u64,
}

/// See the [module's page](self).
pub(super) struct Server {
    name: String,
    sockets: Sockets,
    clock: Clock,
    nodes: Nodes,
    faults: Option<Faults>,
    /// Its counters; the rest is filled in when it is asked for.
    counts: Status,
    commands: Arc<SegQueue<Command>>,
    wake: Arc<Wake>,
    quiet_until: Duration,
    unlogged: u64,
}

impl Server {
    pub(super) fn bind(options: &Options, has_store: bool) -> Result<Self, ManagerError> {
        let Options { ip, port_offset, .. } = *options;
        let name = peer::name(ip, port_offset);
        let at = |port| peer::endpoint(&name, port)?.ok_or(ManagerError::PortOffset(port_offset));
        let mut sockets = Sockets::new(OutboxLimits::default())?;
        sockets.bind(&at(GOSSIP_PORT)?, MESSAGE_BYTES_MAX)?;
        sockets.bind_answerer(&at(MEMBERS_PORT)?)?;
        Ok(Self {
            name,
            wake: sockets.waker(),
            sockets,
            clock: Clock::start(),
            nodes: Nodes::new(options.node_timeout),
            faults: has_store.then(|| Faults::new(options.gossip_bound)),
            counts: Status { following: has_store.then_some(false), ..Status::default() },
            commands: Arc::new(SegQueue::new()),
            quiet_until: Duration::ZERO,
            unlogged: 0,
        })
    }

    pub(super) fn handle(&self) -> Handle {
        Handle { commands: self.commands.clone(), wake: self.wake.clone() }
    }

    /// Serves until it is told to end.
    pub(super) fn run(mut self) {
        let mut readable = Vec::new();
        loop {
            self.wake.may_sleep();
            if !self.serve_commands() {
                return;
            }
            let timeout = self.sleep_for();
            self.sockets.wait(timeout, &mut readable);
            self.wake.is_awake();
            if !readable.is_empty() {
                self.serve_gossip();
            }
            self.tick();
            self.answer();
        }
    }

    /// Answers whether to go on.
    fn serve_commands(&mut self) -> bool {
        while let Some(command) = self.commands.pop() {
            match command {
                Command::Following => self.counts.following = Some(true),
                Command::Logged(commits) => {
                    self.counts.commits_logged += commits.len() as u64;
                    let now = self.clock.now();
                    if let Some(faults) = &mut self.faults {
                        faults.logged(now.elapsed, now.wall_ns, commits);
                    }
                }
                Command::Status(asker) => {
                    let _ = asker.send(self.status());
                }
                Command::End => return false,
            }
        }
        true
    }

    fn serve_gossip(&mut self) {
        for _ in 0..MESSAGES_PER_ROUND {
            let Some(message) = self.sockets.inbox(0).and_then(|inbox| inbox.receive()) else {
                return;
            };
            if let Err(why) = self.heard(message) {
                self.counts.bad_messages += 1;
                self.log_bad(&why);
            }
        }
    }

    fn heard(&mut self, message: Bytes) -> Result<(), BadMessage> {
        let now = self.clock.elapsed();
        let commits = match peer::decode_list(message.clone()) {
            Ok(PeerMessage::Commits(batch)) => {
                let nobody = |error: peer::BadAddress| BadMessage::Nonsense(error.to_string());
                self.nodes.heard(now, &batch).map_err(nobody)?;
                batch.commits
            }
            // The original's: somebody lives, but nobody knows who.
            Err(BadMessage::Anonymous) => peer::decode_anonymous(message)?,
            // Questions and what was found are for nodes.
            Ok(_) => return Ok(()),
            Err(why) => return Err(why),
        };
        self.counts.gossip_messages += 1;
        self.counts.gossip_commits += commits.len() as u64;
        if let Some(faults) = &mut self.faults {
            faults.told(now, &commits);
        }
        Ok(())
    }

    /// Tells whoever asks which nodes live.
    fn answer(&mut self) {
        let nodes = &self.nodes;
        let done = self.sockets.answer(|| {
            let keys = nodes.live().keys().map(|name| name.to_string()).collect();
            StringSet { keys }.encode_to_vec()
        });
        self.counts.requests += done.answered as u64;
        self.counts.bad_messages += done.dropped as u64;
    }

    fn tick(&mut self) {
        let now = self.clock.elapsed();
        self.sockets.outbox().tick(now);
        self.nodes.expire(now);
        let overdue = self.faults.as_mut().map(|faults| faults.overdue(now)).unwrap_or_default();
        for commits in overdue.chunks(FOUND_PER_MESSAGE) {
            self.tell(commits);
        }
    }

    /// Tells all nodes of commits of which nobody else did.
    fn tell(&mut self, commits: &[Arc<Commit>]) {
        self.counts.commits_found += commits.len() as u64;
        let mut origins: Vec<_> = commits.iter().map(|commit| &*commit.replica).collect();
        origins.sort_unstable();
        origins.dedup();
        tracing::warn!(
            commits = commits.len(),
            nodes = self.nodes.live().len(),
            ?origins,
            "found commits that were not told in time; telling all nodes"
        );
        let found = Found { manager: self.name.as_str().into(), commits: commits.to_vec() };
        let message = peer::encode_found(&found);
        for node in self.nodes.live().keys() {
            if let Ok(Some(endpoint)) = peer::endpoint(node, GOSSIP_PORT) {
                self.sockets.outbox().send(&endpoint, message.clone());
            }
        }
    }

    fn sleep_for(&mut self) -> Option<Duration> {
        let overdue = self.faults.as_ref().and_then(Faults::next_at);
        let deadlines = [self.nodes.next_at(), overdue, self.sockets.outbox().next_tick()];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_sub(self.clock.elapsed()))
    }

    fn status(&self) -> Status {
        let now = self.clock.elapsed();
        let nodes = self.nodes.live().iter().map(|(name, life)| NodeStatus {
            node: name.to_string(),
            incarnation: life.incarnation.to_string(),
            commits: life.told,
            silent_ms: u64::try_from(now.saturating_sub(life.at).as_millis()).unwrap_or(u64::MAX),
        });
        let nodes = nodes.collect();
        let commits_waiting = self.faults.as_ref().map_or(0, Faults::waiting);
        Status { nodes, commits_waiting, ..self.counts.clone() }
    }

    /// One line per second at most: whoever sends rubbish must not fill the disk with it.
    fn log_bad(&mut self, why: &BadMessage) {
        let now = self.clock.elapsed();
        if now < self.quiet_until {
            self.unlogged += 1;
            return;
        }
        let not_logged = std::mem::take(&mut self.unlogged);
        tracing::warn!(not_logged, "bad message: {why}");
        self.quiet_until = now + LOG_PAUSE;
    }
}
