//! A few nodes on one store, driven by hand: messages arrive at once unless the test says otherwise, the
//! store does at once what it is asked unless it is held, and time passes when somebody waits.

use std::sync::Arc;
use std::time::Duration;

use aft::asking;
use aft::node::{
    Address, Answer, Ask, Effect, Event, Node, NodeConfig, Now, OpId, PeerMessage, Refusal, Status,
    Ticket, Token,
};
use aft::storage::memory::MemoryStore;
use aft::storage::{LogPosition, Storage, Usage};
use aft::txn::{AttemptId, BaseId, Key, ReadAtomic};
use bytes::Bytes;
use futures_util::FutureExt;

/// Whether a message arrives.
type Passes = Box<dyn FnMut(&str, &PeerMessage) -> bool>;

/// Who asked the store, in which of its lives, and what.
type Held = (usize, u64, OpId, Ask);

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(15);

pub struct Cluster {
    nodes: Vec<Option<Node>>,
    store: Arc<MemoryStore>,
    elapsed: Duration,
    tickets: u64,
    lives: u64,
    answers: Vec<(Ticket, Answer)>,
    passes: Passes,
    /// Each message comes twice.
    pub doubles: bool,
    /// What is asked of the store waits for [`Cluster::release`].
    pub holds_store: bool,
    held: Vec<Held>,
    life_of: Vec<u64>,
    /// How far each has followed the store's log.
    read_to: Vec<LogPosition>,
    /// How the nodes are set up, beside their names.
    config: NodeConfig,
}

pub fn address(number: usize) -> Address {
    format!("10.0.0.{}", number + 1).into()
}

pub fn key(name: &str) -> Key {
    Key::parse(name).expect("a key")
}

impl Cluster {
    pub fn new(nodes: usize) -> Self {
        Self::with(nodes, NodeConfig::default())
    }

    pub fn with(nodes: usize, config: NodeConfig) -> Self {
        let mut cluster = Self {
            nodes: (0..nodes).map(|_| None).collect(),
            store: Arc::new(MemoryStore::new()),
            elapsed: Duration::ZERO,
            tickets: 0,
            lives: 0,
            answers: Vec::new(),
            passes: Box::new(|_, _| true),
            doubles: false,
            holds_store: false,
            held: Vec::new(),
            life_of: vec![0; nodes],
            read_to: vec![LogPosition::default(); nodes],
            config,
        };
        (0..nodes).for_each(|number| cluster.restart(number));
        // Whatever begins now began after the nodes, also by clocks that are a little off.
        cluster.pass(Duration::from_secs(2));
        cluster
    }

    /// From here on messages to a node arrive only if `passes` says so.
    pub fn network(&mut self, passes: impl FnMut(&str, &PeerMessage) -> bool + 'static) {
        self.passes = Box::new(passes);
    }

    pub fn kill(&mut self, number: usize) {
        self.nodes[number] = None;
    }

    pub fn restart(&mut self, number: usize) {
        self.elapsed += Duration::from_millis(1);
        self.lives += 1;
        self.life_of[number] = self.lives;
        let config = NodeConfig {
            address: address(number),
            incarnation: self.lives.to_string().into(),
            node_tag: number as u64,
            has_peers: true,
            ..self.config.clone()
        };
        let mut node = Node::new(config, Box::new(ReadAtomic), self.lives);
        let page = self.store.commits_since_now(&LogPosition::default()).expect("a log");
        self.read_to[number] = page.next;
        for commit in &page.commits {
            node.load(self.now(), commit);
        }
        self.nodes[number] = Some(node);
        let members = (0..self.nodes.len()).map(address).collect();
        self.handle(number, Event::Members(members));
    }

    fn now(&self) -> Now {
        let wall_ns = 1_790_000_000_000_000_000 + self.elapsed.as_nanos() as u64;
        Now { wall_ns, elapsed: self.elapsed }
    }

    fn handle(&mut self, number: usize, event: Event) {
        let now = self.now();
        let Some(node) = &mut self.nodes[number] else { return };
        let mut effects = Vec::new();
        node.handle(now, event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Reply { ticket, answer } => self.answers.push((ticket, answer)),
                Effect::Send { to, message } => self.send(&to, message),
                Effect::Store { op, ask } => {
                    self.held.push((number, self.life_of[number], op, ask));
                    if !self.holds_store {
                        self.release();
                    }
                }
                Effect::Expect(_) | Effect::Quarantined(_) | Effect::Ended { .. } => {}
            }
        }
    }

    fn send(&mut self, to: &str, message: PeerMessage) {
        if !(self.passes)(to, &message) {
            return;
        }
        let number = (0..self.nodes.len()).find(|n| *address(*n) == *to).expect("a node");
        if self.doubles {
            self.handle(number, Event::Peer(message.clone()));
        }
        self.handle(number, Event::Peer(message));
    }

    /// The store does what it was asked, and tells those who live.
    pub fn release(&mut self) {
        for (number, life, op, ask) in std::mem::take(&mut self.held) {
            let store: Arc<dyn Storage> = self.store.clone();
            let result = asking::answer(store, ask).now_or_never().expect("memory is at once");
            if self.life_of[number] == life {
                self.handle(number, Event::Stored { op, result });
            }
        }
    }

    /// What the store was asked and has not done: it is lost, unless it is put back.
    pub fn take_held(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.held)
    }

    pub fn put_back(&mut self, held: Vec<Held>) {
        self.held.extend(held);
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.elapsed + time;
        loop {
            let due = |number: usize| Some((self.nodes[number].as_ref()?.next_deadline()?, number));
            let next = (0..self.nodes.len()).filter_map(due).min();
            match next.filter(|(at, _)| *at <= end) {
                Some((at, number)) => {
                    self.elapsed = self.elapsed.max(at);
                    self.handle(number, Event::Tick);
                }
                None => break,
            }
        }
        self.elapsed = end;
    }

    /// Time passes, and all nodes look through the store's log each second.
    pub fn pass_following(&mut self, time: Duration) {
        let all: Vec<_> = (0..self.nodes.len()).collect();
        self.pass_following_at(time, &all);
    }

    /// The same, but only these nodes do.
    pub fn pass_following_at(&mut self, time: Duration, nodes: &[usize]) {
        let end = self.elapsed + time;
        while self.elapsed < end {
            self.pass(Duration::from_secs(1));
            for number in nodes.iter().copied() {
                let page = self.store.commits_since_now(&self.read_to[number]).expect("a log");
                self.read_to[number] = page.next;
                let events =
                    [Event::LogIsBeingRead, Event::Learned(page.commits), Event::LogWasRead];
                events.into_iter().for_each(|event| self.handle(number, event));
            }
        }
    }

    /// Somebody writes a key in the store under its plain name.
    pub fn write_past(&self, name: &str, timestamp: u64, value: &str) {
        let value = Bytes::copy_from_slice(value.as_bytes());
        self.store.plant_foreign(&key(name), timestamp, value);
    }

    /// What stands under a plain name.
    pub fn plain(&self, name: &str) -> Option<String> {
        let found = self.store.plain_now(&[key(name)]).remove(0)?;
        Some(String::from_utf8(found.value.to_vec()).expect("text"))
    }

    /// What the store holds.
    pub fn usage(&self) -> Usage {
        self.store.usage_now()
    }

    /// What a node that lives holds.
    pub fn status(&self, number: usize) -> Status {
        self.nodes[number].as_ref().expect("a node that lives").status()
    }

    /// Sends a request without waiting for its answer.
    pub fn send_request(&mut self, number: usize, make: impl FnOnce(Ticket) -> Event) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.handle(number, make(ticket));
        ticket
    }

    pub fn answer(&mut self, ticket: Ticket) -> Answer {
        let end = self.elapsed + PATIENCE;
        loop {
            if let Some(place) = self.answers.iter().position(|(of, _)| *of == ticket) {
                return self.answers.swap_remove(place).1;
            }
            assert!(self.elapsed < end, "{ticket:?} was not answered");
            self.pass(Duration::from_millis(10));
        }
    }

    fn ask(&mut self, number: usize, make: impl FnOnce(Ticket) -> Event) -> Answer {
        let ticket = self.send_request(number, make);
        self.answer(ticket)
    }

    pub fn begin(&mut self, number: usize) -> AttemptId {
        self.begin_after(number, Vec::new()).expect("a start")
    }

    pub fn begin_after(&mut self, number: usize, after: Vec<Token>) -> Option<AttemptId> {
        match self.ask(number, |ticket| Event::Start { ticket, id: None, after }) {
            Answer::Started(id) => Some(id),
            _ => None,
        }
    }

    /// Begins an attempt at an id that the client brought.
    pub fn retry(&mut self, number: usize, id: &BaseId) -> Answer {
        let id = Some(id.clone());
        self.ask(number, |ticket| Event::Start { ticket, id, after: Vec::new() })
    }

    pub fn get(
        &mut self,
        number: usize,
        txn: &AttemptId,
        keys: &[&str],
    ) -> Result<Vec<Option<String>>, Refusal> {
        let ticket = self.send_get(number, txn, keys);
        self.values(ticket)
    }

    /// Sends a get without waiting for what it reads.
    pub fn send_get(&mut self, number: usize, txn: &AttemptId, keys: &[&str]) -> Ticket {
        let (txn, keys) = (Some(txn.clone()), keys.iter().map(|name| key(name)).collect());
        self.send_request(number, |ticket| Event::Get { ticket, txn, keys })
    }

    /// What a get has read.
    pub fn values(&mut self, ticket: Ticket) -> Result<Vec<Option<String>>, Refusal> {
        match self.answer(ticket) {
            Answer::Values(values) => {
                let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("text");
                Ok(values.into_iter().map(|read| read.value.map(text)).collect())
            }
            Answer::Refused(why) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    pub fn put(&mut self, number: usize, txn: &AttemptId, name: &str, value: &str) -> bool {
        let writes = vec![(key(name), Bytes::copy_from_slice(value.as_bytes()))];
        let txn = Some(txn.clone());
        let answer = self.ask(number, |ticket| Event::Put { ticket, txn, writes });
        matches!(answer, Answer::Written(results) if results.iter().all(Result::is_ok))
    }

    pub fn go_on(&mut self, number: usize, txn: &AttemptId, from: usize) -> Result<(), Refusal> {
        let (txn, upstream) = (txn.clone(), address(from));
        match self.ask(number, |ticket| Event::Continue { ticket, txn, upstream }) {
            Answer::Continued => Ok(()),
            Answer::Refused(why) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    pub fn commit_event(txn: &AttemptId, named: &[usize]) -> impl FnOnce(Ticket) -> Event {
        let (txn, addresses) = (txn.clone(), named.iter().map(|n| address(*n)).collect());
        |ticket| Event::Commit { ticket, txn, addresses }
    }

    pub fn commit_naming(&mut self, number: usize, txn: &AttemptId, named: &[usize]) -> Answer {
        self.ask(number, Self::commit_event(txn, named))
    }

    /// Whether the commit took effect; none if that is not known.
    pub fn commit(&mut self, number: usize, txn: &AttemptId) -> Option<bool> {
        decided(&self.commit_naming(number, txn, &[]))
    }

    pub fn abort(&mut self, number: usize, txn: &AttemptId) -> Option<bool> {
        let txn = txn.clone();
        decided(&self.ask(number, |ticket| Event::Abort { ticket, txn }))
    }

    /// Commits one write.
    pub fn write(&mut self, number: usize, pairs: &[(&str, &str)]) -> Option<Token> {
        let txn = self.begin(number);
        for (name, value) in pairs {
            assert!(self.put(number, &txn, name, value));
        }
        match self.commit_naming(number, &txn, &[]) {
            Answer::Decided { committed: true, token, .. } => token,
            other => panic!("{other:?}"),
        }
    }

    /// Reads in a transaction of its own.
    pub fn read(&mut self, number: usize, name: &str) -> Option<String> {
        let txn = self.begin(number);
        let mut values = self.get(number, &txn, &[name]).expect("a value");
        values.remove(0)
    }

    /// Long enough for gossip, and for what was left to be given up.
    pub fn settle(&mut self) {
        self.pass(Duration::from_secs(3));
    }
}

pub fn decided(answer: &Answer) -> Option<bool> {
    match answer {
        Answer::Decided { committed, .. } => Some(*committed),
        Answer::Undecided { .. } => None,
        other => panic!("{other:?}"),
    }
}

pub fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}
