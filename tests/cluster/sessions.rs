//! What one node told of can be read at another, by whoever shows the token.

use aft::node::{NodeConfig, PeerMessage};

use super::harness::{Cluster, address, some};

/// No gossip arrives. The token is enough.
#[test]
fn a_token_shows_a_commit_that_gossip_did_not_bring() {
    let mut cluster = Cluster::new(2);
    cluster.network(|_, message| !matches!(message, PeerMessage::Commits(_)));
    let token = cluster.write(0, &[("k", "v")]).expect("a token");
    let txn = cluster.begin_after(1, vec![token]).expect("a start");
    assert_eq!(cluster.get(1, &txn, &["k"]), Ok(vec![some("v")]));
}

/// A commits T1{k}; C, of which B hears nothing, overwrites it with T2{k}, and A hears of T2 before it
/// tells of T1. Whoever shows A's token at B reads T1 or newer, and need not wait for ever.
#[test]
fn a_token_holds_when_the_commit_was_overwritten_by_a_node_that_is_cut_off() {
    let mut cluster = Cluster::new(3);
    cluster.network(move |to, message| match message {
        PeerMessage::Commits(batch) => *to != *address(1) || batch.origin.node != address(2),
        _ => true,
    });
    let token = cluster.write(0, &[("k", "one")]).expect("a token");
    cluster.write(2, &[("k", "two")]);
    cluster.settle();
    let txn = cluster.begin_after(1, vec![token]).expect("a start");
    let seen = cluster.get(1, &txn, &["k"]).expect("a value").remove(0);
    assert!(seen == some("one") || seen == some("two"), "{seen:?}");
}

/// Two nodes commit at one moment: everywhere the same one is the newer.
#[test]
fn commits_of_one_moment_are_in_one_order_everywhere() {
    let mut cluster = Cluster::new(3);
    cluster.write(0, &[("k", "a"), ("l", "a")]);
    cluster.write(1, &[("k", "b"), ("l", "b")]);
    cluster.settle();
    let seen = cluster.read(0, "k");
    for node in 0..3 {
        assert_eq!(cluster.read(node, "k"), seen, "node {node}");
        assert_eq!(cluster.read(node, "l"), seen, "node {node}");
    }
}

/// Of two commits of one moment the same one is the newer for those who read past the nodes, whichever was
/// written there last.
#[test]
fn commits_of_one_moment_are_in_that_order_under_plain_names() {
    for order in [[0, 1], [1, 0]] {
        let config = NodeConfig { plain_keys: true, ..NodeConfig::default() };
        let mut cluster = Cluster::with(2, config);
        for node in order {
            cluster.write(node, &[("k", &node.to_string())]);
        }
        cluster.settle();
        let newest = cluster.read(0, "k");
        assert_eq!(cluster.read(1, "k"), newest);
        assert_eq!(cluster.plain("k"), newest, "{order:?}");
    }
}
