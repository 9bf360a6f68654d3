//! A manager over real sockets: whom it lists, and which commits it finds.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use aft::manager::{Manager, Options};
use aft::runtime::clock::Clock;
use aft::storage::memory::MemoryStore;
use aft::storage::{CommitBatch, Storage};
use aft::transport::{Asker, OutboxLimits, Sockets};
use aft::txn::{AttemptId, Commit, Key, Timestamp, Version, WrittenKey};
use aft::wire::anna::StringSet;
use aft::wire::{TransactionList, TransactionRecord, TransactionStatus};
use prost::Message;

const SOON: Duration = Duration::from_secs(10);
const BOUND: Duration = Duration::from_millis(200);

/// An address on this machine that no other test has: each runs in a process of its own.
fn ip(last: u8) -> IpAddr {
    let id = std::process::id();
    Ipv4Addr::new(127, (id % 250 + 1) as u8, (id / 250 % 250) as u8, last).into()
}

/// A manager, and somebody who speaks to it as nodes do.
struct Cluster {
    manager: Manager,
    asker: Asker,
    sockets: Sockets,
    clock: Clock,
}

impl Cluster {
    fn new(node_timeout: Duration, store: Option<Arc<MemoryStore>>) -> Self {
        let options = Options { ip: ip(9), port_offset: 0, node_timeout, gossip_bound: BOUND };
        let store = store.map(|store| store as Arc<dyn Storage>);
        let manager = Manager::start(&options, store).expect("a manager");
        let asker = Asker::new(&format!("tcp://{}:7007", ip(9)), SOON);
        let sockets = Sockets::new(OutboxLimits::default()).expect("sockets");
        Self { manager, asker, sockets, clock: Clock::start() }
    }

    fn tell(&mut self, list: &TransactionList) {
        self.send(list.encode_to_vec());
    }

    fn send(&mut self, message: Vec<u8>) {
        let endpoint = format!("tcp://{}:7777", ip(9));
        self.sockets.outbox().send(&endpoint, message);
        self.sockets.outbox().tick(self.clock.elapsed());
    }

    fn listed(&mut self) -> Vec<String> {
        let answer = self.asker.ask().expect("an answer");
        StringSet::decode(answer).expect("a StringSet").keys
    }

    /// Does something until the list is as wanted.
    fn until_listed(&mut self, wanted: &[String], mut meanwhile: impl FnMut(&mut Self)) {
        let began = self.clock.elapsed();
        while self.listed() != wanted {
            meanwhile(self);
            assert!(self.clock.elapsed() < began + SOON, "{:?}", self.listed());
        }
    }
}

fn word(node: &str, records: Vec<TransactionRecord>) -> TransactionList {
    let last = records.len() as u64;
    let incarnation = "x".to_owned();
    TransactionList {
        records,
        origin: node.to_owned(),
        incarnation,
        first: 1,
        last,
        ..Default::default()
    }
}

/// A commit of now, as stored and as told.
fn commit(clock: &Clock, name: &str) -> (CommitBatch, TransactionRecord) {
    let timestamp = clock.now().wall_ns;
    let writer = AttemptId::parse(name).expect("an id");
    let version = Version { timestamp: Timestamp(timestamp), writer };
    let key = WrittenKey { key: Key::parse("k").expect("a key"), fresh: false };
    let commit = Commit::new(version, vec![key], "10.0.0.7".into());
    let record = TransactionRecord {
        id: name.to_owned(),
        timestamp: timestamp.cast_signed(),
        status: TransactionStatus::Committed.into(),
        replica_id: "10.0.0.7".to_owned(),
        write_set: vec!["k".to_owned()],
        ..Default::default()
    };
    (CommitBatch { commit: Arc::new(commit), values: vec!["v".into()], sole: true }, record)
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_listed_while_they_speak() {
    let mut cluster = Cluster::new(Duration::from_millis(300), None);
    assert!(cluster.listed().is_empty());
    let (one, two) = (ip(1).to_string(), format!("{}:10", ip(2)));
    cluster.until_listed(&[one.clone(), two.clone()], |cluster| {
        cluster.tell(&word(&one, Vec::new()));
        cluster.tell(&word(&two, Vec::new()));
        // None of these names a node that lives.
        cluster.send(vec![0xff; 100]);
        cluster.tell(&word("somebody", Vec::new()));
        cluster.tell(&word("", Vec::new()));
        cluster.tell(&TransactionList { resend: true, ..word(&ip(3).to_string(), Vec::new()) });
        cluster.tell(&TransactionList { found: true, ..word(&ip(4).to_string(), Vec::new()) });
    });
    cluster.until_listed(std::slice::from_ref(&two), |cluster| {
        cluster.tell(&word(&two, Vec::new()));
    });
    cluster.until_listed(&[], |_| {});
    let status = cluster.manager.status().await.expect("it lives");
    assert!(status.bad_messages >= 2);
    assert_eq!(status.following, None);
    cluster.manager.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_told_is_told_to_all_who_live() {
    let store = Arc::new(MemoryStore::new());
    let mut cluster = Cluster::new(Duration::from_secs(60), Some(store.clone()));
    let (before, _) = commit(&cluster.clock, "before.1");
    let mut node = Sockets::new(OutboxLimits::default()).expect("sockets");
    node.bind(&format!("tcp://{}:7777", ip(1)), 1 << 20).expect("a node's socket");
    let name = ip(1).to_string();
    cluster.until_listed(std::slice::from_ref(&name), |cluster| {
        cluster.tell(&word(&name, Vec::new()));
    });
    while cluster.manager.status().await.expect("it lives").following != Some(true) {
        tokio::task::yield_now().await;
    }
    let (told, record) = commit(&cluster.clock, "told.1");
    let (original, anonymous) = commit(&cluster.clock, "original.1");
    let (untold, _) = commit(&cluster.clock, "untold.1");
    cluster.tell(&word(&name, vec![record]));
    cluster.tell(&TransactionList { records: vec![anonymous], ..Default::default() });
    for batch in [told, original, untold] {
        store.commit_now(batch).expect("it is stored");
    }
    let found = node.inbox(0).and_then(|inbox| inbox.receive_within(SOON)).expect("a message");
    let found = TransactionList::decode(found).expect("a list");
    let ids: Vec<_> = found.records.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["untold.1"]);
    assert_eq!((found.found, found.origin), (true, ip(9).to_string()));
    assert_eq!((found.first, found.last), (0, 0));
    let status = cluster.manager.status().await.expect("it lives");
    assert_eq!((status.commits_logged, status.commits_found), (3, 1));
    cluster.manager.end();

    // To one that starts now all of that is old.
    store.commit_now(before).expect("it is stored");
    let cluster = Cluster::new(SOON, Some(store));
    while cluster.manager.status().await.expect("it lives").following != Some(true) {
        tokio::task::yield_now().await;
    }
    let status = cluster.manager.status().await.expect("it lives");
    assert_eq!((status.commits_logged, status.commits_waiting), (0, 0));
    cluster.manager.end();
}
