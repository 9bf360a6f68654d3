//! Transactions whose functions run on several nodes, one after the other and side by side.

use std::time::Duration;

use aft::node::{Answer, Event, NodeConfig, PeerMessage, Refusal};

use super::harness::{Cluster, address, decided, some};

/// A key that was missing at A must stay missing at B, or what was written with it must not be read.
#[test]
fn what_was_missing_travels() {
    let mut cluster = Cluster::new(2);
    let txn = cluster.begin(0);
    assert_eq!(cluster.get(0, &txn, &["k"]), Ok(vec![None]));
    cluster.write(1, &[("k", "5"), ("l", "5")]);
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    // The writer of l knew of no older version, so l reads as missing, too.
    assert_eq!(cluster.get(1, &txn, &["l"]), Ok(vec![None]));
}

/// A client polls for two keys, one after the other, while they are written together. It ends.
#[test]
fn polling_for_two_keys_ends() {
    let mut cluster = Cluster::new(2);
    let txn = cluster.begin(0);
    assert_eq!(cluster.get(0, &txn, &["k"]), Ok(vec![None]));
    assert_eq!(cluster.get(0, &txn, &["l"]), Ok(vec![None]));
    cluster.write(1, &[("k", "5"), ("l", "5")]);
    cluster.settle();
    assert_eq!(cluster.get(0, &txn, &["k", "l"]), Ok(vec![some("5"), some("5")]));
}

/// Two requests ask for k at once. One is told that it is missing; the other, asked before, is not done
/// when T{k,l} commits. It was asked in the time in which k was missing, and asks for no second look.
#[test]
fn what_one_request_was_told_binds_another_that_was_asked_before() {
    let mut cluster = Cluster::with(2, NodeConfig { plain_keys: true, ..NodeConfig::default() });
    let txn = cluster.begin(0);
    cluster.holds_store = true;
    let first = cluster.send_get(0, &txn, &["k"]);
    let second = cluster.send_get(0, &txn, &["k"]);
    cluster.holds_store = false;
    let mut held = cluster.take_held();
    let last = held.pop().into_iter().collect();
    cluster.put_back(last);
    cluster.release();
    assert_eq!(cluster.values(second), Ok(vec![None]));
    cluster.write(1, &[("k", "5"), ("l", "5")]);
    cluster.pass(Duration::from_millis(500));
    cluster.put_back(held);
    cluster.release();
    assert_eq!(cluster.values(first), Ok(vec![None]));
    assert_eq!(cluster.get(0, &txn, &["l"]), Ok(vec![None]));
    assert_eq!(cluster.get(0, &txn, &["k", "l"]), Ok(vec![some("5"), some("5")]));
}

/// B has committed the transaction without the branch on C, which hears of the commit before it hears of the
/// end. C must not read there what B wrote: it has not merged that. It is over.
#[test]
fn a_branch_that_was_left_out_does_not_read_the_commit() {
    let mut cluster = Cluster::new(3);
    cluster.network(|_, message| !matches!(message, PeerMessage::Over(_)));
    let txn = cluster.begin(0);
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.go_on(2, &txn, 0).is_ok());
    assert!(cluster.put(1, &txn, "k", "b"));
    assert_eq!(cluster.commit(1, &txn), Some(true));
    cluster.settle();
    assert_eq!(cluster.get(2, &txn, &["k"]), Err(Refusal::AlreadyCommitted));
    assert_eq!(cluster.commit(2, &txn), Some(true));
}

/// A reads m of T2{k,m}; B has never heard of T2, but reads k of it.
#[test]
fn what_was_read_binds_where_nobody_heard_of_it() {
    let mut cluster = Cluster::new(2);
    cluster.network(|_, message| !matches!(message, aft::node::PeerMessage::Commits(_)));
    cluster.write(1, &[("k", "1")]);
    cluster.pass(Duration::from_millis(1));
    cluster.write(0, &[("k", "2"), ("m", "2")]);
    let txn = cluster.begin(0);
    assert_eq!(cluster.get(0, &txn, &["m"]), Ok(vec![some("2")]));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert_eq!(cluster.get(1, &txn, &["k"]), Ok(vec![some("2")]));
}

/// A writes, B reads it, A reads what B wrote: one transaction there and back.
#[test]
fn there_and_back() {
    let mut cluster = Cluster::new(2);
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "a"));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert_eq!(cluster.get(1, &txn, &["k"]), Ok(vec![some("a")]));
    assert!(cluster.put(1, &txn, "k", "b"));
    assert!(cluster.put(1, &txn, "l", "b"));
    assert!(cluster.go_on(0, &txn, 1).is_ok());
    assert_eq!(cluster.get(0, &txn, &["k", "l"]), Ok(vec![some("b"), some("b")]));
    assert_eq!(cluster.commit(0, &txn), Some(true));
    cluster.settle();
    assert_eq!(cluster.read(1, "k"), some("b"));
}

/// Branches on B and C write one key. Where they are merged the value of the node with the greater name
/// counts, at reads and in the commit; neither sees the other's before.
#[test]
fn of_two_branches_that_write_one_key_the_rule_picks_one() {
    let mut cluster = Cluster::new(4);
    let txn = cluster.begin(0);
    for branch in [1, 2] {
        assert!(cluster.go_on(branch, &txn, 0).is_ok());
        assert!(cluster.put(branch, &txn, "k", &branch.to_string()));
    }
    assert_eq!(cluster.get(1, &txn, &["k"]), Ok(vec![some("1")]));
    for branch in [2, 1] {
        assert!(cluster.go_on(3, &txn, branch).is_ok());
    }
    assert_eq!(cluster.get(3, &txn, &["k"]), Ok(vec![some("2")]));
    assert_eq!(cluster.commit(3, &txn), Some(true));
    cluster.settle();
    assert_eq!(cluster.read(0, "k"), some("2"));
}

/// A to C to B, and A to D: all but A write one key. B has come the longest way, so its value counts.
#[test]
fn of_two_branches_that_write_one_key_the_deeper_counts() {
    let mut cluster = Cluster::new(5);
    let txn = cluster.begin(0);
    for (node, from) in [(2, 0), (1, 2), (3, 0)] {
        assert!(cluster.go_on(node, &txn, from).is_ok());
        assert!(cluster.put(node, &txn, "k", &node.to_string()));
    }
    for branch in [1, 3] {
        assert!(cluster.go_on(4, &txn, branch).is_ok());
    }
    assert_eq!(cluster.get(4, &txn, &["k"]), Ok(vec![some("1")]));
    assert_eq!(cluster.commit(4, &txn), Some(true));
    cluster.settle();
    assert_eq!(cluster.read(0, "k"), some("1"));
}

/// A value that was written past the nodes has no version. It is read again as it was, or not at all.
#[test]
fn a_foreign_value_that_was_read_elsewhere_is_the_same_or_none() {
    for changes in [false, true] {
        let config = NodeConfig { plain_keys: true, ..NodeConfig::default() };
        let mut cluster = Cluster::with(2, config);
        cluster.write_past("k", 5, "foreign");
        let txn = cluster.begin(0);
        assert_eq!(cluster.get(0, &txn, &["k"]), Ok(vec![some("foreign")]));
        if changes {
            cluster.write_past("k", 6, "changed");
        }
        assert!(cluster.go_on(1, &txn, 0).is_ok());
        let seen = cluster.get(1, &txn, &["k"]);
        match changes {
            false => assert_eq!(seen, Ok(vec![some("foreign")])),
            true => assert!(matches!(seen, Err(Refusal::ForeignChanged(_))), "{seen:?}"),
        }
    }
}

/// Two branches read two versions of one key: they cannot be merged.
#[test]
fn branches_that_do_not_fit_together_are_not_merged() {
    let mut cluster = Cluster::new(3);
    cluster.write(0, &[("k", "1"), ("l", "1")]);
    cluster.settle();
    let txn = cluster.begin(0);
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.go_on(2, &txn, 0).is_ok());
    assert_eq!(cluster.get(1, &txn, &["k"]), Ok(vec![some("1")]));
    cluster.write(0, &[("k", "2"), ("l", "2")]);
    cluster.settle();
    assert_eq!(cluster.get(2, &txn, &["l"]), Ok(vec![some("2")]));
    assert!(matches!(cluster.go_on(2, &txn, 1), Err(Refusal::Fractured(_))));
    assert_eq!(cluster.commit(2, &txn), Some(false));
}

/// A is written to after B went on from there. The commit at B must not leave that out silently.
#[test]
fn a_write_behind_the_transaction_is_not_lost_silently() {
    let mut cluster = Cluster::new(2);
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "early"));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.put(0, &txn, "k", "late"));
    assert_eq!(cluster.commit(1, &txn), Some(false));
    cluster.settle();
    assert_eq!(cluster.read(0, "k"), None);
}

/// The same, but B goes on from A once more: then it has the write, and commits it.
#[test]
fn a_write_behind_the_transaction_counts_when_it_is_merged() {
    let mut cluster = Cluster::new(2);
    let txn = cluster.begin(0);
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.put(0, &txn, "k", "late"));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert_eq!(cluster.get(1, &txn, &["k"]), Ok(vec![some("late")]));
    assert_eq!(cluster.commit(1, &txn), Some(true));
}

/// A handed the transaction on and is asked to commit it: B decides, which has all of it.
#[test]
fn a_commit_asked_for_where_it_went_on_from_is_the_whole() {
    let mut cluster = Cluster::new(3);
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "a"));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.go_on(2, &txn, 1).is_ok());
    assert!(cluster.put(2, &txn, "l", "c"));
    assert_eq!(cluster.commit(0, &txn), Some(true));
    cluster.settle();
    assert_eq!((cluster.read(1, "k"), cluster.read(1, "l")), (some("a"), some("c")));
}

/// Ends that were not merged are named, and are part of the commit.
#[test]
fn branches_that_are_named_are_merged() {
    let mut cluster = Cluster::new(3);
    let txn = cluster.begin(0);
    for branch in [1, 2] {
        assert!(cluster.go_on(branch, &txn, 0).is_ok());
        assert!(cluster.put(branch, &txn, &format!("k{branch}"), "v"));
    }
    assert_eq!(decided(&cluster.commit_naming(1, &txn, &[2])), Some(true));
    cluster.settle();
    assert_eq!((cluster.read(0, "k1"), cluster.read(0, "k2")), (some("v"), some("v")));
}

/// B came from A, and then A merged C. A commit at B that names A takes C's branch, too.
#[test]
fn a_named_node_brings_what_was_merged_there_since() {
    let mut cluster = Cluster::new(3);
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "a"));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.go_on(2, &txn, 0).is_ok());
    assert!(cluster.put(2, &txn, "k", "c"));
    assert!(cluster.go_on(0, &txn, 2).is_ok());
    assert_eq!(decided(&cluster.commit_naming(1, &txn, &[0])), Some(true));
    cluster.settle();
    assert_eq!(cluster.read(1, "k"), some("c"));
}

/// A holder's later write is of a branch that the reader has not merged.
#[test]
fn a_reader_sees_no_write_of_a_branch_that_it_has_not_merged() {
    let mut cluster = Cluster::new(2);
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "early"));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.put(0, &txn, "k", "late"));
    assert_ne!(cluster.get(1, &txn, &["k"]), Ok(vec![some("late")]));
}

/// Every message comes twice.
#[test]
fn messages_that_come_twice_change_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.doubles = true;
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "a"));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.put(1, &txn, "l", "b"));
    assert!(cluster.go_on(2, &txn, 1).is_ok());
    assert_eq!(cluster.get(2, &txn, &["k", "l"]), Ok(vec![some("a"), some("b")]));
    let answer = cluster.commit_naming(0, &txn, &[]);
    assert!(matches!(answer, Answer::Decided { committed: true, .. }), "{answer:?}");
    cluster.settle();
    assert_eq!(cluster.read(0, "l"), some("b"));
}

/// A asks C for its view, and then for the commit before C has answered. What C wrote is not gathered any
/// more, so it must not take the place of what A and B wrote: the transaction is aborted, not torn.
#[test]
fn a_view_that_comes_while_values_are_gathered_does_not_tear_the_commit() {
    let mut cluster = Cluster::new(3);
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "0"));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.put(1, &txn, "l", "1"));
    assert!(cluster.go_on(2, &txn, 1).is_ok());
    assert!(cluster.put(2, &txn, "k", "2"));
    assert!(cluster.go_on(0, &txn, 1).is_ok());
    let (mut views_lost, mut values_lost) = (1, 3);
    cluster.network(move |_, message| {
        let left = match message {
            PeerMessage::HandOver(_) => &mut views_lost,
            PeerMessage::Collect(_) => &mut values_lost,
            _ => return true,
        };
        let is_lost = *left > 0;
        *left -= u32::from(is_lost);
        !is_lost
    });
    let (of, upstream) = (txn.clone(), address(2));
    let going_on = cluster.send_request(0, |ticket| Event::Continue { ticket, txn: of, upstream });
    assert_eq!(cluster.commit(0, &txn), Some(false));
    assert!(matches!(cluster.answer(going_on), Answer::Refused(_)));
    cluster.settle();
    for node in 0..3 {
        assert_eq!((cluster.read(node, "k"), cluster.read(node, "l")), (None, None));
    }
}
