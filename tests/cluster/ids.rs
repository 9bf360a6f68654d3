//! One id has one outcome, wherever it is tried and asked for.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use aft::node::{Answer, Ask, Event, PeerMessage};
use aft::txn::{AttemptId, BaseId};

use super::harness::{Cluster, address, decided, some};

fn begun(answer: Answer) -> AttemptId {
    match answer {
        Answer::Started(id) => id,
        other => panic!("{other:?}"),
    }
}

fn id() -> BaseId {
    BaseId::parse("order-17").expect("an id")
}

/// A's record is under way when the client retries at B. Only one of the two takes effect, and both are
/// told so.
#[test]
fn an_id_tried_at_two_nodes_takes_effect_once() {
    let mut cluster = Cluster::new(2);
    let first = begun(cluster.retry(0, &id()));
    assert!(cluster.put(0, &first, "k", "first"));
    cluster.holds_store = true;
    let waiting = cluster.send_request(0, Cluster::commit_event(&first, &[]));
    cluster.holds_store = false;
    let held = cluster.take_held();
    let second = begun(cluster.retry(1, &id()));
    assert!(cluster.put(1, &second, "k", "second"));
    assert_eq!(cluster.commit(1, &second), Some(true));
    cluster.put_back(held);
    cluster.release();
    assert_eq!(decided(&cluster.answer(waiting)), Some(true), "the id took effect");
    cluster.settle();
    for node in 0..2 {
        assert_eq!(cluster.read(node, "k"), some("second"));
    }
}

/// A function reads 100 and writes 90, and is tried again at another node: that begins with an empty
/// buffer, and the writes of the first are nobody's.
#[test]
fn a_retry_does_not_resume() {
    let mut cluster = Cluster::new(2);
    cluster.write(0, &[("a", "100")]);
    cluster.settle();
    let first = begun(cluster.retry(0, &id()));
    assert!(cluster.put(0, &first, "a", "90"));
    let second = begun(cluster.retry(1, &id()));
    assert_eq!(cluster.get(1, &second, &["a"]), Ok(vec![some("100")]));
    assert!(cluster.put(1, &second, "a", "90"));
    assert_eq!(cluster.commit(1, &second), Some(true));
    assert_eq!(cluster.commit(0, &first), Some(true), "its id took effect");
    cluster.settle();
    assert_eq!(cluster.read(0, "a"), some("90"));
}

/// B is asked about an id whose record A has sent and the store has not taken: B's ABORTED is final, or
/// A's record was first.
#[test]
fn aborted_is_never_said_of_what_commits() {
    for record_is_first in [true, false] {
        let mut cluster = Cluster::new(2);
        let txn = cluster.begin(0);
        assert!(cluster.put(0, &txn, "k", "v"));
        cluster.holds_store = true;
        let waiting = cluster.send_request(0, Cluster::commit_event(&txn, &[]));
        if record_is_first {
            cluster.release();
        }
        let held = cluster.take_held();
        cluster.holds_store = false;
        let told = cluster.commit(1, &txn);
        cluster.put_back(held);
        cluster.release();
        assert_eq!(told, Some(record_is_first));
        assert_eq!(decided(&cluster.answer(waiting)), told);
        cluster.settle();
        let seen = cluster.read(1, "k");
        assert_eq!(seen, if record_is_first { some("v") } else { None });
    }
}

/// An abort that comes after the record was sent changes nothing.
#[test]
fn an_abort_after_the_record_was_sent_gets_the_outcome() {
    let mut cluster = Cluster::new(2);
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "v"));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    cluster.holds_store = true;
    let commit = cluster.send_request(1, Cluster::commit_event(&txn, &[]));
    let asked = txn.clone();
    let abort = cluster.send_request(1, |ticket| Event::Abort { ticket, txn: asked });
    cluster.holds_store = false;
    cluster.release();
    assert_eq!(decided(&cluster.answer(commit)), Some(true));
    assert_eq!(decided(&cluster.answer(abort)), Some(true));
}

/// A has handed its values out to B, which commits, and is told to abort. It does not do so on its own.
#[test]
fn an_abort_where_the_values_were_handed_out_agrees_with_the_commit() {
    for record_is_first in [true, false] {
        let mut cluster = Cluster::new(2);
        let txn = cluster.begin(0);
        assert!(cluster.put(0, &txn, "k", "v"));
        assert!(cluster.go_on(1, &txn, 0).is_ok());
        cluster.holds_store = true;
        let commit = cluster.send_request(1, Cluster::commit_event(&txn, &[]));
        let record = cluster.take_held();
        let asked = txn.clone();
        let abort = cluster.send_request(0, |ticket| Event::Abort { ticket, txn: asked });
        let settling = cluster.take_held();
        cluster.holds_store = false;
        let (first, then) = if record_is_first { (record, settling) } else { (settling, record) };
        for held in [first, then] {
            cluster.put_back(held);
            cluster.release();
        }
        assert_eq!(decided(&cluster.answer(commit)), Some(record_is_first));
        assert_eq!(decided(&cluster.answer(abort)), Some(record_is_first));
        cluster.settle();
        assert_eq!(cluster.read(0, "k").is_some(), record_is_first);
    }
}

/// All live nodes say the same of a transaction that is over.
#[test]
fn every_node_tells_the_same_outcome() {
    for commits in [true, false] {
        let mut cluster = Cluster::new(3);
        let txn = cluster.begin(0);
        assert!(cluster.put(0, &txn, "k", "v"));
        assert!(cluster.go_on(1, &txn, 0).is_ok());
        let told = if commits { cluster.commit(1, &txn) } else { cluster.abort(2, &txn) };
        assert_eq!(told, Some(commits));
        for node in 0..3 {
            assert_eq!(cluster.commit(node, &txn), Some(commits), "node {node}");
        }
        cluster.kill(0);
        cluster.restart(0);
        assert_eq!(cluster.commit(0, &txn), Some(commits), "after a restart");
    }
}

/// Whether a commit at this node is the first proposal for its id.
fn has_first_say(cluster: &mut Cluster, node: usize, txn: &AttemptId) -> bool {
    cluster.holds_store = true;
    cluster.send_request(node, Cluster::commit_event(txn, &[]));
    cluster.pass(Duration::from_secs(1));
    let held = cluster.take_held();
    let sole = held.iter().find_map(|(_, _, _, ask)| match ask {
        Ask::Commit(batch) => Some(batch.sole),
        _ => None,
    });
    sole.expect("a commit")
}

/// A transaction that A began and two nodes went on with.
fn forked(cluster: &mut Cluster) -> AttemptId {
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "v"));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.go_on(2, &txn, 0).is_ok());
    txn
}

/// Who made the id need not ask before it commits. That goes along with the transaction, to one node,
/// whether questions and answers come once or twice; otherwise two could decide.
#[test]
fn one_node_at_most_has_the_first_say() {
    for doubles in [false, true] {
        for node in 1..3 {
            let mut cluster = Cluster::new(3);
            cluster.doubles = doubles;
            let txn = forked(&mut cluster);
            assert_eq!(has_first_say(&mut cluster, node, &txn), node == 1, "node {node}");
        }
    }
    let mut cluster = Cluster::new(2);
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "v"));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.go_on(0, &txn, 1).is_ok());
    assert!(has_first_say(&mut cluster, 0, &txn), "it came back");
}

/// An answer that is lost takes it along only if the question is not asked again.
#[test]
fn the_first_say_is_not_given_twice() {
    for lost in [1, usize::MAX] {
        let mut cluster = Cluster::new(3);
        let txn = cluster.begin(0);
        assert!(cluster.put(0, &txn, "k", "v"));
        let mut left = lost;
        cluster.network(move |to, message| {
            let is_lost = matches!(message, PeerMessage::HandedOver(_)) && *to == *address(1);
            let passes = !is_lost || left == 0;
            left -= usize::from(!passes);
            passes
        });
        assert_eq!(cluster.go_on(1, &txn, 0).is_ok(), lost == 1);
        let next = if lost == 1 { 1 } else { 2 };
        assert!(next == 1 || cluster.go_on(2, &txn, 0).is_ok());
        assert_eq!(has_first_say(&mut cluster, next, &txn), lost == 1);
    }
}

/// What a second node costs a chain of two functions: a question for the view, a question for the values,
/// and nothing more of the store.
#[test]
fn a_second_node_costs_two_questions() {
    let mut cluster = Cluster::new(2);
    cluster.write(0, &[("a", "1"), ("b", "1")]);
    cluster.settle();
    let questions = Rc::new(RefCell::new(Vec::new()));
    let seen = questions.clone();
    cluster.network(move |_, message| {
        match message {
            PeerMessage::HandOver(_) => seen.borrow_mut().push("view"),
            PeerMessage::Collect(_) => seen.borrow_mut().push("values"),
            PeerMessage::HandedOver(_) | PeerMessage::Collected(_) | PeerMessage::Over(_) => {}
            // Gossip, which nobody waits for.
            PeerMessage::Commits(_) | PeerMessage::Grace(_) | PeerMessage::Graced(_) => {}
            other => seen.borrow_mut().push(if matches!(other, PeerMessage::Query(_)) {
                "value"
            } else {
                "?"
            }),
        }
        true
    });
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "v"));
    assert_eq!(cluster.get(0, &txn, &["a", "b"]), Ok(vec![some("1"), some("1")]));
    assert!(cluster.go_on(1, &txn, 0).is_ok());
    assert!(cluster.put(1, &txn, "l", "v"));
    assert_eq!(cluster.get(1, &txn, &["a", "b"]), Ok(vec![some("1"), some("1")]));
    assert!(has_first_say(&mut cluster, 1, &txn), "the store is asked as on one node");
    assert_eq!(*questions.borrow(), ["view", "values"]);
}
