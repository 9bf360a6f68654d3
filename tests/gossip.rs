//! Gossip between two nodes over a network that loses messages: what one commits the other reads, and
//! knows to be complete.

use std::sync::Arc;
use std::time::Duration;

use aft::asking;
use aft::node::{
    Answer, Ask, Batch, Effect, Event, Found, Node, NodeConfig, Now, Origin, PeerMessage,
    ReadValue, Resend, Ticket,
};
use aft::storage::Storage;
use aft::storage::memory::MemoryStore;
use aft::txn::{Key, ReadAtomic, Timestamp};
use bytes::Bytes;

const INTERVAL: Duration = Duration::from_millis(100);

/// Two nodes on one store. Time passes and messages arrive when the test says so.
struct Pair {
    nodes: Vec<Node>,
    store: Arc<dyn Storage>,
    elapsed: Duration,
    /// How far each node's wall clock is ahead.
    ahead: [Duration; 2],
    tickets: u64,
    answers: Vec<(Ticket, Answer)>,
    on_the_way: Vec<(usize, PeerMessage)>,
}

fn address(number: usize) -> Arc<str> {
    format!("127.0.0.{}", number + 1).into()
}

impl Pair {
    fn new() -> Self {
        let node = |number| {
            let config = NodeConfig {
                address: address(number),
                incarnation: "1".into(),
                node_tag: number as u64,
                gossip_each: INTERVAL,
                ..NodeConfig::default()
            };
            Node::new(config, Box::new(ReadAtomic), number as u64)
        };
        let mut pair = Self {
            nodes: vec![node(0), node(1)],
            store: Arc::new(MemoryStore::new()),
            elapsed: Duration::ZERO,
            ahead: [Duration::ZERO; 2],
            tickets: 0,
            answers: Vec::new(),
            on_the_way: Vec::new(),
        };
        for number in 0..2 {
            let members = vec![address(0), address(1)];
            pair.handle(number, Event::Members(members));
        }
        pair
    }

    fn handle(&mut self, number: usize, event: Event) {
        let wall = self.elapsed + self.ahead[number];
        let wall_ns = 1_790_000_000_000_000_000 + wall.as_nanos() as u64;
        let now = Now { wall_ns, elapsed: self.elapsed };
        let mut effects = Vec::new();
        self.nodes[number].handle(now, event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Reply { ticket, answer } => self.answers.push((ticket, answer)),
                Effect::Send { to, message } => {
                    // What goes to others is lost.
                    let to = (0..2).find(|n| address(*n) == to);
                    self.on_the_way.extend(to.map(|to| (to, message)));
                }
                Effect::Store { op, ask } => {
                    let answer = asking::answer(self.store.clone(), ask);
                    let runtime = tokio::runtime::Builder::new_current_thread().build();
                    let result = runtime.expect("a runtime").block_on(answer);
                    self.handle(number, Event::Stored { op, result });
                }
                Effect::Expect(_) | Effect::Quarantined(_) | Effect::Ended { .. } => {}
            }
        }
    }

    fn ask(&mut self, number: usize, make: impl FnOnce(Ticket) -> Event) -> Answer {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.handle(number, make(ticket));
        let place = self.answers.iter().position(|(answered, _)| *answered == ticket);
        self.answers.swap_remove(place.expect("an answer")).1
    }

    fn write(&mut self, number: usize, key: &str, value: &'static str) {
        let writes = vec![(Key::parse(key).expect("a key"), Bytes::from_static(value.as_bytes()))];
        let answer = self.ask(number, |ticket| Event::Put { ticket, txn: None, writes });
        assert!(matches!(answer, Answer::Written(_)), "{answer:?}");
    }

    fn read(&mut self, number: usize, key: &str) -> Option<Bytes> {
        let keys = vec![Key::parse(key).expect("a key")];
        match self.ask(number, |ticket| Event::Get { ticket, txn: None, keys }) {
            Answer::Values(mut values) => {
                let ReadValue { value, .. } = values.remove(0);
                value
            }
            answer => panic!("{answer:?}"),
        }
    }

    /// Lets the first node make a commit that is not told before `then`, and answers what it sends in the
    /// interval that follows.
    fn sent_by_first(&mut self, then: Event) -> Vec<(Arc<str>, PeerMessage)> {
        self.write(0, "k", "v");
        self.handle(0, then);
        self.elapsed += INTERVAL;
        let wall_ns = 1_790_000_000_000_000_000 + self.elapsed.as_nanos() as u64;
        let mut effects = Vec::new();
        self.nodes[0].handle(Now { wall_ns, elapsed: self.elapsed }, Event::Tick, &mut effects);
        let sent = effects.into_iter().filter_map(|effect| match effect {
            Effect::Send { to, message } => Some((to, message)),
            _ => None,
        });
        sent.collect()
    }

    /// Lets an interval pass, and messages arrive for which `keep` says so.
    fn interval(&mut self, mut keep: impl FnMut(&PeerMessage) -> bool) {
        self.elapsed += INTERVAL;
        for number in 0..2 {
            self.handle(number, Event::Tick);
        }
        for (to, message) in std::mem::take(&mut self.on_the_way) {
            if keep(&message) {
                self.handle(to, Event::Peer(message));
            }
        }
    }

    fn heard(&self, number: usize) -> Option<(u64, u64)> {
        let heard = self.nodes[number].status().heard;
        heard.first().map(|heard| (heard.complete_to, heard.last))
    }
}

#[test]
fn nodes_that_do_nothing_hear_of_each_other() {
    let mut pair = Pair::new();
    assert!(pair.nodes.iter().all(|node| node.next_deadline().is_some()));
    for _ in 0..10 {
        pair.interval(|_| true);
    }
    assert_eq!([pair.heard(0), pair.heard(1)], [Some((0, 0)); 2]);
}

#[test]
fn a_commit_is_read_on_the_other_node_after_an_interval() {
    let mut pair = Pair::new();
    pair.write(0, "k", "v");
    assert_eq!(pair.read(1, "k"), None);
    pair.interval(|_| true);
    assert_eq!(pair.read(1, "k"), Some(Bytes::from_static(b"v")));
    assert_eq!(pair.heard(1), Some((1, 1)));
}

#[test]
fn what_was_lost_is_noticed_and_told_again() {
    let mut pair = Pair::new();
    pair.interval(|_| true);
    pair.write(0, "a", "1");
    pair.interval(|_| true);
    pair.write(0, "b", "2");
    pair.interval(|_| false);
    pair.write(0, "c", "3");
    pair.interval(|_| true);
    assert_eq!(pair.heard(1), Some((1, 3)), "the second is missing");
    assert_eq!(pair.read(1, "c"), Some(Bytes::from_static(b"3")), "later ones are read already");
    assert_eq!(pair.read(1, "b"), None);
    for _ in 0..4 {
        pair.interval(|_| true);
    }
    assert_eq!(pair.read(1, "b"), Some(Bytes::from_static(b"2")));
    assert_eq!(pair.heard(1), Some((3, 3)));
}

#[test]
fn the_last_of_all_is_noticed_by_the_heartbeat() {
    let mut pair = Pair::new();
    pair.write(0, "a", "1");
    pair.interval(|_| true);
    pair.write(0, "a", "2");
    pair.interval(|_| false);
    for _ in 0..20 {
        pair.interval(|_| true);
    }
    assert_eq!(pair.read(1, "a"), Some(Bytes::from_static(b"2")));
}

#[test]
fn overwritten_commits_are_not_told_and_not_missed() {
    let mut pair = Pair::new();
    for value in ["1", "2", "3"] {
        pair.write(0, "k", value);
    }
    let mut told = 0;
    pair.interval(|message| {
        if let PeerMessage::Commits(batch) = message {
            told += batch.commits.len();
        }
        true
    });
    assert_eq!(told, 1);
    assert_eq!(pair.heard(1), Some((3, 3)));
    assert_eq!(pair.read(1, "k"), Some(Bytes::from_static(b"3")));
}

#[test]
fn duplicates_and_old_messages_change_nothing() {
    let mut pair = Pair::new();
    pair.write(0, "k", "1");
    let mut kept = Vec::new();
    pair.interval(|message| {
        kept.push(message.clone());
        true
    });
    pair.write(0, "k", "2");
    pair.interval(|_| true);
    for message in kept {
        pair.handle(1, Event::Peer(message));
    }
    assert_eq!(pair.read(1, "k"), Some(Bytes::from_static(b"2")));
    assert_eq!(pair.heard(1), Some((2, 2)));
}

#[test]
fn a_commit_from_the_future_waits_and_does_not_drag_the_clock_along() {
    let mut pair = Pair::new();
    pair.ahead[0] = Duration::from_secs(3600);
    pair.write(0, "k", "early");
    pair.interval(|_| true);
    assert_eq!(pair.read(1, "k"), None);
    assert_eq!(pair.nodes[1].status().quarantined, 1);
    pair.write(1, "k", "now");
    assert_eq!(pair.read(1, "k"), Some(Bytes::from_static(b"now")));
    pair.elapsed += Duration::from_secs(3600);
    pair.interval(|_| true);
    assert_eq!(pair.read(1, "k"), Some(Bytes::from_static(b"early")), "its time has come");
    assert_eq!(pair.nodes[1].status().quarantined, 0);
}

fn commits_of(message: &PeerMessage) -> (u64, u64, usize) {
    match message {
        PeerMessage::Commits(batch) => (batch.first, batch.last, batch.commits.len()),
        message => panic!("{message:?}"),
    }
}

#[test]
fn a_listener_is_told_all_and_is_no_member() {
    let mut pair = Pair::new();
    pair.write(0, "k", "overwritten");
    let manager: Arc<str> = "10.0.0.9".into();
    let sent = pair.sent_by_first(Event::Listeners(vec![manager.clone()]));
    let to = |name: &str| -> Vec<_> {
        let sent = sent.iter().filter(|(to, _)| **to == *name);
        sent.map(|(_, message)| commits_of(message)).collect()
    };
    assert_eq!(to(&manager), [(1, 2, 2)], "all commits");
    assert_eq!(to(&address(1)), [(1, 2, 1)], "nodes need the newest only");
    assert_eq!(pair.nodes[0].status().members, [address(1).to_string()]);
}

#[test]
fn a_listener_hears_each_second_whatever_the_interval() {
    let config = NodeConfig { gossip_each: Duration::from_secs(60), ..NodeConfig::default() };
    let mut node = Node::new(config, Box::new(ReadAtomic), 1);
    let (mut words, mut effects) = (0, Vec::new());
    let at = |elapsed| Now { wall_ns: 1_790_000_000_000_000_000, elapsed };
    node.handle(at(Duration::ZERO), Event::Listeners(vec!["10.0.0.9".into()]), &mut effects);
    for _ in 0..10 {
        let due = node.next_deadline().expect("it goes on");
        node.handle(at(due), Event::Tick, &mut effects);
        words += effects.drain(..).filter(|one| matches!(one, Effect::Send { .. })).count();
        assert!(due <= Duration::from_secs(10));
    }
    assert_eq!(words, 11, "the first one at once");
}

#[test]
fn numbers_stay_right_when_nobody_listened_for_a_while() {
    let mut pair = Pair::new();
    pair.write(0, "a", "untold");
    pair.handle(0, Event::Members(Vec::new()));
    pair.write(0, "b", "to nobody");
    let sent = pair.sent_by_first(Event::Members(vec![address(1)]));
    let told: Vec<_> = sent.iter().map(|(_, message)| commits_of(message)).collect();
    assert!(told.iter().all(|(first, last, count)| *first == 4 && *last == 3 && *count == 0));
    for (_, message) in sent {
        pair.handle(1, Event::Peer(message));
    }
    pair.write(0, "c", "told");
    for _ in 0..20 {
        pair.interval(|_| true);
    }
    assert_eq!(pair.read(1, "c"), Some(Bytes::from_static(b"told")));
    assert_eq!(pair.heard(1), Some((4, 4)));
}

#[test]
fn what_a_manager_found_is_read() {
    let mut pair = Pair::new();
    pair.write(0, "k", "v");
    let mut commits = Vec::new();
    pair.interval(|message| {
        if let PeerMessage::Commits(batch) = message {
            commits.extend(batch.commits.iter().cloned());
        }
        false
    });
    assert_eq!(pair.read(1, "k"), None);
    let found = Found { manager: "10.0.0.9".into(), commits };
    pair.handle(1, Event::Peer(PeerMessage::Found(found)));
    assert_eq!(pair.read(1, "k"), Some(Bytes::from_static(b"v")));
    assert_eq!(pair.nodes[1].status().gossip.commits_found, 1);
    assert_eq!(pair.heard(1), None, "its origin has told nothing");
}

/// What the second node says in some life of it.
fn word(incarnation: &str, first: u64, last: u64) -> Event {
    let origin = Origin { node: address(1), incarnation: incarnation.into() };
    let readable_to = Timestamp(u64::MAX);
    let batch = Batch { origin, first, last, in_log_to: 0, readable_to, commits: Vec::new() };
    Event::Peer(PeerMessage::Commits(batch))
}

#[test]
fn the_dead_are_asked_nothing_and_forgotten() {
    let mut pair = Pair::new();
    pair.handle(0, word("x", 1, 1));
    pair.handle(0, word("x", 3, 3));
    let asks = |pair: &mut Pair, intervals: u32| {
        let mut asks = 0;
        for _ in 0..intervals {
            pair.interval(|message| {
                asks += u32::from(matches!(message, PeerMessage::Resend(_)));
                // The other one is dead.
                false
            });
        }
        asks
    };
    assert!(asks(&mut pair, 100) > 50, "it may come back");
    asks(&mut pair, 500);
    assert_eq!(asks(&mut pair, 100), 0, "it was silent for a minute");
    assert_eq!(pair.heard(0), Some((1, 3)), "it is a member, so it is remembered");
    pair.handle(0, word("y", 1, 2));
    pair.interval(|_| false);
    assert_eq!(pair.heard(0), Some((2, 2)), "another life took its place");
    pair.handle(0, Event::Members(vec![address(7)]));
    asks(&mut pair, 601);
    assert_eq!(pair.heard(0), None, "it is no member any more");
}

#[test]
fn whoever_asks_for_all_gets_one_bounded_answer() {
    let mut pair = Pair::new();
    for _ in 0..600 {
        pair.write(0, "k", "v");
    }
    let resend = Resend { asker: address(1), incarnation: "1".into(), first: 1, last: u64::MAX };
    pair.on_the_way.clear();
    pair.handle(0, Event::Peer(PeerMessage::Resend(resend)));
    let sent: Vec<_> = pair.on_the_way.iter().map(|(_, message)| commits_of(message)).collect();
    assert_eq!(sent, [(1, 512, 512)]);
}

/// What a node sweeps whose clock is an hour ahead, when the other one has said up to when it reads.
fn swept_before(said: Option<Timestamp>) -> Timestamp {
    let hour = Duration::from_secs(3600);
    let config = NodeConfig {
        address: address(0),
        collects: true,
        has_peers: true,
        sweep_each: Duration::from_secs(1),
        ..NodeConfig::default()
    };
    let mut node = Node::new(config, Box::new(ReadAtomic), 1);
    let (mut elapsed, mut effects) = (Duration::ZERO, Vec::new());
    let wall = |elapsed: Duration| 1_790_000_000_000_000_000 + (hour + elapsed).as_nanos() as u64;
    let mut events = vec![Event::Members(vec![address(1)])];
    if let Some(readable_to) = said {
        let origin = Origin { node: address(1), incarnation: "1".into() };
        let batch =
            Batch { origin, first: 1, last: 0, in_log_to: 0, readable_to, commits: Vec::new() };
        events.push(Event::Peer(PeerMessage::Commits(batch)));
    }
    for event in events {
        node.handle(Now { wall_ns: wall(elapsed), elapsed }, event, &mut effects);
    }
    loop {
        let swept = effects.drain(..).find_map(|effect| match effect {
            Effect::Store { ask: Ask::Sweep(sweep), .. } => Some(sweep.superseded_before),
            _ => None,
        });
        if let Some(before) = swept {
            return before;
        }
        elapsed = node.next_deadline().expect("it will sweep");
        node.handle(Now { wall_ns: wall(elapsed), elapsed }, Event::Tick, &mut effects);
    }
}

#[test]
fn a_clock_far_ahead_sweeps_nothing_that_others_keep_aside() {
    let real = Timestamp(1_790_000_000_000_000_000);
    assert_eq!(swept_before(Some(real)), real, "later ones may be kept aside there");
    assert_eq!(swept_before(None), Timestamp(0), "nobody knows");
    let own = swept_before(Some(Timestamp(u64::MAX)));
    assert!(real < own && own < Timestamp(u64::MAX), "what may still be read stays: {own:?}");
}

#[test]
fn a_node_says_what_it_cannot_read_yet() {
    let mut pair = Pair::new();
    pair.ahead = [Duration::from_secs(3600), Duration::ZERO];
    pair.write(0, "k", "early");
    let written = pair.sent_by_first(Event::Tick);
    let timestamp = written.iter().find_map(|(_, message)| match message {
        PeerMessage::Commits(batch) => batch.commits.first().map(|c| c.version.timestamp),
        _ => None,
    });
    let timestamp = timestamp.expect("a commit was told");
    let mut words = 0;
    for _ in 0..10 {
        pair.interval(|message| {
            if let PeerMessage::Commits(batch) = message
                && *batch.origin.node == *address(1)
            {
                assert!(batch.readable_to < timestamp, "{batch:?}");
                words += 1;
            }
            true
        });
    }
    assert!(words > 0);
}
