//! Nodes that die, and answers that are lost, in the middle of a transaction over several nodes.

use std::time::Duration;

use aft::node::{NodeConfig, PeerMessage, Refusal};

use super::harness::{Cluster, address, decided, some};

/// A wrote and handed on to B, both of which the test then kills as it likes.
fn handed_on() -> (Cluster, aft::txn::AttemptId) {
    let mut cluster = Cluster::new(3);
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "a"));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.put(1, &txn, "l", "b"));
    (cluster, txn)
}

fn seen(cluster: &mut Cluster) -> (Option<String>, Option<String>) {
    cluster.settle();
    (cluster.read(2, "k"), cluster.read(2, "l"))
}

#[test]
fn the_upstream_dies_before_the_continue() {
    let mut cluster = Cluster::new(2);
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "a"));
    cluster.kill(0);
    assert!(cluster.go_on(1, &txn, 0).is_err());
    cluster.restart(0);
    assert!(cluster.go_on(1, &txn, 0).is_err());
    assert_eq!(cluster.commit(1, &txn), Some(false));
}

/// What it wrote cannot be read, and no older value is read in its place.
#[test]
fn the_upstream_dies_between_the_continue_and_the_read() {
    for comes_back in [false, true] {
        let (mut cluster, txn) = handed_on();
        cluster.kill(0);
        if comes_back {
            cluster.restart(0);
        }
        assert!(cluster.get(1, &txn, &["k"]).is_err());
        assert_eq!(cluster.commit(1, &txn), Some(false));
    }
}

#[test]
fn the_upstream_dies_with_its_writes_before_it_is_asked_for_them() {
    for comes_back in [false, true] {
        let (mut cluster, txn) = handed_on();
        cluster.kill(0);
        if comes_back {
            cluster.restart(0);
        }
        assert_eq!(cluster.commit(1, &txn), Some(false));
        assert_eq!(seen(&mut cluster), (None, None));
    }
}

/// Nothing is lost with a node that wrote nothing.
#[test]
fn the_upstream_dies_without_writes() {
    let mut cluster = Cluster::new(3);
    let txn = cluster.begin(0);
    assert_eq!(cluster.get(0, &txn, &["k"]), Ok(vec![None]));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.put(1, &txn, "l", "b"));
    cluster.kill(0);
    assert_eq!(cluster.commit(1, &txn), Some(true));
    assert_eq!(seen(&mut cluster), (None, some("b")));
}

/// It has handed its writes out, and the record is not sent.
#[test]
fn the_upstream_dies_after_it_was_asked_for_its_writes() {
    let (mut cluster, txn) = handed_on();
    cluster.holds_store = true;
    let commit = cluster.send_request(1, Cluster::commit_event(&txn, &[]));
    cluster.kill(0);
    cluster.holds_store = false;
    cluster.release();
    assert_eq!(decided(&cluster.answer(commit)), Some(true));
    assert_eq!(seen(&mut cluster), (some("a"), some("b")));
}

/// Its answer to the question for its writes is lost until it is asked again.
#[test]
fn the_answer_with_the_writes_is_lost() {
    let (mut cluster, txn) = handed_on();
    let mut lost = 0;
    cluster.network(move |_, message| {
        lost += u32::from(matches!(message, PeerMessage::Collected(_)));
        lost > 3 || !matches!(message, PeerMessage::Collected(_))
    });
    assert_eq!(cluster.commit(1, &txn), Some(true));
    assert_eq!(seen(&mut cluster), (some("a"), some("b")));
}

#[test]
fn the_coordinator_dies_before_the_record() {
    let (mut cluster, txn) = handed_on();
    cluster.holds_store = true;
    cluster.send_request(1, Cluster::commit_event(&txn, &[]));
    cluster.take_held();
    cluster.kill(1);
    cluster.holds_store = false;
    assert_ne!(cluster.commit(0, &txn), Some(true));
    cluster.restart(1);
    assert_eq!(cluster.commit(1, &txn), Some(false));
    assert_eq!(seen(&mut cluster), (None, None));
}

/// The record is there, and nobody was told. All who ask are told of it.
#[test]
fn the_coordinator_dies_after_the_record() {
    let (mut cluster, txn) = handed_on();
    cluster.holds_store = true;
    cluster.send_request(1, Cluster::commit_event(&txn, &[]));
    cluster.kill(1);
    cluster.holds_store = false;
    cluster.release();
    cluster.restart(1);
    for node in [2, 1, 0] {
        assert_eq!(cluster.commit(node, &txn), Some(true), "node {node}");
    }
    assert_eq!(seen(&mut cluster), (some("a"), some("b")));
}

/// A node where the transaction ran comes back without memory of it, and is asked to commit, with the rest
/// named: what it held is gone, so the whole is.
#[test]
fn a_node_that_lost_its_part_does_not_commit_the_rest() {
    let (mut cluster, txn) = handed_on();
    cluster.kill(1);
    cluster.restart(1);
    let answer = cluster.commit_naming(1, &txn, &[0]);
    assert_eq!(decided(&answer), Some(false));
    assert_eq!(seen(&mut cluster), (None, None));
}

/// What was committed is told to nobody, and is found all the same once somebody asks.
#[test]
fn a_commit_that_is_told_to_nobody_is_no_obstacle() {
    let (mut cluster, txn) = handed_on();
    cluster
        .network(|_, message| !matches!(message, PeerMessage::Over(_) | PeerMessage::Commits(_)));
    assert_eq!(cluster.commit(1, &txn), Some(true));
    assert_eq!(cluster.commit(0, &txn), Some(true));
    assert_eq!(cluster.commit(2, &txn), Some(true));
    assert_eq!(cluster.read(2, "k"), some("a"));
}

/// The way on is cut. The client hears within its time that nothing is decided, or the end of it.
#[test]
fn a_commit_that_cannot_be_forwarded_is_answered() {
    let (mut cluster, txn) = handed_on();
    cluster.network(|to, _| *to != *address(1));
    let told = cluster.commit(0, &txn);
    assert_ne!(told, Some(true));
    cluster.network(|_, _| true);
    let later = cluster.commit(1, &txn);
    assert!(told.is_none() || later == told, "{told:?}, then {later:?}");
}

/// B wrote and restarted; then the transaction goes on there from C, and neither C nor A has heard that it
/// was there: it came by D. Nobody could tell what is lost, so B takes nothing that is older than itself.
#[test]
fn a_node_does_not_go_on_with_what_is_older_than_itself() {
    let mut cluster = Cluster::new(4);
    let txn = cluster.begin(0);
    assert!(cluster.go_on(3, &txn, 0).is_ok());
    assert!(cluster.go_on(1, &txn, 3).is_ok());
    assert!(cluster.put(1, &txn, "k", "lost"));
    cluster.kill(1);
    cluster.restart(1);
    assert!(cluster.go_on(2, &txn, 0).is_ok());
    assert!(cluster.put(2, &txn, "l", "c"));
    assert!(matches!(cluster.go_on(1, &txn, 2), Err(Refusal::Restarted(_))));
    assert_eq!(cluster.commit(1, &txn), Some(false));
    cluster.settle();
    assert_eq!((cluster.read(0, "k"), cluster.read(0, "l")), (None, None));
    let later = cluster.begin(0);
    assert!(cluster.go_on(1, &later, 0).is_ok());
    assert!(cluster.put(1, &later, "k", "kept"));
    assert_eq!(cluster.commit(1, &later), Some(true));
}

/// B gave its part up, nobody heard of that, and B has forgotten it. It does not begin it anew.
#[test]
fn a_node_does_not_go_on_with_what_it_may_have_forgotten() {
    let mut cluster = Cluster::with(3, NodeConfig { ended_max: 1, ..NodeConfig::default() });
    cluster.network(|_, message| !matches!(message, PeerMessage::Over(_)));
    let txn = cluster.begin(0);
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.put(1, &txn, "k", "given up"));
    let idle = NodeConfig::default().idle_max;
    cluster.pass(idle + Duration::from_secs(1));
    assert!(!cluster.put(1, &txn, "k", "late"));
    for _ in 0..2 {
        let other = cluster.begin(0);
        assert!(cluster.go_on(1, &other, 0).is_ok());
        assert_eq!(cluster.abort(1, &other), Some(false));
    }
    assert!(cluster.go_on(2, &txn, 0).is_ok());
    assert!(cluster.put(2, &txn, "l", "c"));
    assert!(cluster.go_on(1, &txn, 2).is_err());
    assert_ne!(cluster.commit(1, &txn), Some(true));
    cluster.settle();
    assert_eq!((cluster.read(0, "k"), cluster.read(0, "l")), (None, None));
}
