//! Nodes that know too little: what others wrote has not reached them, or they have forgotten it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use aft::node::{NodeConfig, PeerMessage, Refusal};

use super::harness::{Cluster, address, key, some};

const SOON: Duration = Duration::from_secs(8);

fn collecting() -> NodeConfig {
    NodeConfig { collects: true, ..NodeConfig::default() }
}

/// B hears nothing of C, and C supersedes what B reads. It stays until B has found that in the log.
#[test]
fn what_is_all_that_a_node_knows_is_not_deleted() {
    let mut cluster = Cluster::with(3, collecting());
    cluster.write(0, &[("k", "one")]);
    cluster.settle();
    cluster
        .network(|to, message| !(*to == *address(1) && matches!(message, PeerMessage::Commits(_))));
    cluster.write(2, &[("k", "two")]);
    cluster.pass_following_at(SOON, &[0, 2]);
    assert_eq!(cluster.usage().superseded, 1);
    for value in ["one", "two"] {
        let txn = cluster.begin(1);
        assert_eq!(cluster.get(1, &txn, &["k"]), Ok(vec![some(value)]));
        assert_eq!(cluster.commit(1, &txn), Some(true));
        cluster.pass_following(SOON);
    }
    assert_eq!(cluster.usage().superseded, 0);
}

/// A transaction begins at A, which knows T2{k,m}, and reads m at B, which does not: m of T1. At C, which
/// knows T2 again, it needs k of T1. B holds that until the transaction is over.
#[test]
fn what_was_read_where_nobody_heard_of_the_newer_can_be_read_on() {
    let mut cluster = Cluster::with(3, collecting());
    cluster.write(0, &[("k", "one"), ("m", "one")]);
    cluster.settle();
    cluster
        .network(|to, message| !(*to == *address(1) && matches!(message, PeerMessage::Commits(_))));
    cluster.write(0, &[("k", "two"), ("m", "two")]);
    cluster.pass_following_at(Duration::from_secs(2), &[0, 2]);
    let txn = cluster.begin(0);
    assert_eq!(cluster.go_on(1, &txn, 0), Ok(()));
    assert_eq!(cluster.get(1, &txn, &["m"]), Ok(vec![some("one")]));
    assert_eq!(cluster.go_on(2, &txn, 1), Ok(()));
    cluster.pass_following(SOON);
    assert_eq!(cluster.get(2, &txn, &["k"]), Ok(vec![some("one")]));
    assert_eq!(cluster.commit(2, &txn), Some(true));
    cluster.pass_following(SOON);
    cluster.pass_following(SOON);
    assert_eq!(cluster.usage().superseded, 0);
}

/// The first version of k never reached B. The second, which B knows, must not be read next to what the
/// transaction found missing. That is no reason to say that k does not exist.
#[test]
fn a_key_whose_older_version_did_not_arrive_is_not_missing() {
    let mut cluster = Cluster::new(2);
    cluster.network(|_, message| !matches!(message, PeerMessage::Commits(_)));
    cluster.write(0, &[("k", "one")]);
    let txn = cluster.begin(0);
    assert_eq!(cluster.get(0, &txn, &["l"]), Ok(vec![None]));
    let token = cluster.write(0, &[("k", "two"), ("l", "two")]).expect("a token");
    cluster.begin_after(1, vec![token]).expect("B knows the second");
    assert_eq!(cluster.go_on(1, &txn, 0), Ok(()));
    assert!(matches!(cluster.get(1, &txn, &["k"]), Err(Refusal::NoFit(_))));
}

/// B knows k at 9 and forgets it, as it forgets what is not read. Then word comes of k at 3.
#[test]
fn late_word_of_an_old_version_does_not_hide_a_newer_one_that_was_forgotten() {
    let config = NodeConfig { index_keys_max: 1, ..collecting() };
    let mut cluster = Cluster::with(2, config);
    let comes = Rc::new(Cell::new(false));
    let arrives = comes.clone();
    cluster.network(move |to, message| match message {
        // The first commit of A.
        PeerMessage::Commits(batch) if *to == *address(1) => arrives.get() || batch.first > 1,
        PeerMessage::Resend(_) => arrives.get(),
        _ => true,
    });
    cluster.write(0, &[("k", "3")]);
    cluster.settle();
    cluster.write(0, &[("k", "9")]);
    for name in ["x", "y", "z"] {
        cluster.write(0, &[(name, "1")]);
        cluster.settle();
    }
    assert!(cluster.status(1).garbage.evicted > 0, "{:?}", cluster.status(1));
    comes.set(true);
    cluster.settle();
    assert_eq!(cluster.read(1, "k"), some("9"));
}

/// B was cut off for so long that nobody waited for it. What it knows is gone; it says so, and the next try
/// reads what there is.
#[test]
fn a_node_that_was_not_waited_for_finds_the_newest_when_what_it_knew_is_gone() {
    let config = NodeConfig { cache_bytes_max: 1, ..collecting() };
    let mut cluster = Cluster::with(2, config);
    cluster.write(0, &[("k", "one"), ("l", "one")]);
    cluster.settle();
    cluster.network(|_, _| false);
    cluster.write(0, &[("k", "two"), ("l", "two")]);
    cluster.pass_following_at(Duration::from_secs(150), &[0]);
    assert_eq!(cluster.usage().superseded, 0);
    let txn = cluster.begin(1);
    assert_eq!(cluster.get(1, &txn, &["k"]), Err(Refusal::Collected(key("k"))));
    assert_eq!(cluster.read(1, "k"), some("two"));
}
