//! What is forgotten, when, and what is not.

use std::time::Duration;

use aft::node::{Answer, NodeConfig, PeerMessage};
use aft::txn::BaseId;

use super::harness::{Cluster, address, decided, some};

/// Long enough for a grace period and what follows, if everybody answers.
const SOON: Duration = Duration::from_secs(8);

fn collecting() -> NodeConfig {
    NodeConfig { collects: true, ..NodeConfig::default() }
}

fn cluster(nodes: usize) -> Cluster {
    Cluster::with(nodes, collecting())
}

/// Nothing is left but what is newest, in the store and in every node.
fn assert_clean(cluster: &Cluster, nodes: &[usize]) {
    let usage = cluster.usage();
    assert_eq!((usage.superseded, usage.versions), (0, usage.keys), "{usage:?}");
    assert!(usage.log_entries <= usage.keys, "{usage:?}");
    for node in nodes {
        let status = cluster.status(*node);
        assert_eq!(status.versions, status.keys, "node {node}: {status:?}");
    }
}

#[test]
fn what_is_superseded_goes_and_what_is_newest_stays() {
    let mut cluster = cluster(3);
    for round in 0..5 {
        for node in 0..3 {
            let value = format!("{round} {node}");
            cluster.write(node, &[("k", &value), ("l", &value)]);
        }
    }
    cluster.write(1, &[("l", "last")]);
    cluster.pass_following(SOON);
    cluster.pass_following(SOON);
    assert_clean(&cluster, &[0, 1, 2]);
    for node in 0..3 {
        assert_eq!(cluster.read(node, "l"), some("last"));
        assert!(cluster.read(node, "k").is_some());
    }
    cluster.restart(2);
    assert_eq!(cluster.read(2, "l"), some("last"));
}

#[test]
fn what_a_transaction_on_another_node_may_need_stays_until_it_is_over() {
    let mut cluster = cluster(2);
    cluster.write(0, &[("k", "one"), ("m", "one")]);
    cluster.settle();
    let txn = cluster.begin(1);
    assert_eq!(cluster.get(1, &txn, &["m"]), Ok(vec![some("one")]));
    // `k` must not be read newer, as `m` was read older.
    cluster.write(0, &[("k", "two"), ("m", "two")]);
    cluster.pass_following(SOON);
    assert_eq!(cluster.get(1, &txn, &["k"]), Ok(vec![some("one")]));
    assert_eq!(cluster.commit(1, &txn), Some(true));
    cluster.pass_following(SOON);
    cluster.pass_following(SOON);
    assert_clean(&cluster, &[0, 1]);
}

/// The node where it goes on has heard of all and runs nothing old; the one where it began holds it.
#[test]
fn what_a_transaction_may_need_stays_when_it_has_gone_on_to_another_node() {
    let mut cluster = cluster(3);
    cluster.write(0, &[("k", "one"), ("m", "one")]);
    cluster.settle();
    let txn = cluster.begin(1);
    assert_eq!(cluster.get(1, &txn, &["m"]), Ok(vec![some("one")]));
    cluster.write(0, &[("k", "two"), ("m", "two")]);
    cluster.pass_following(Duration::from_secs(1));
    assert_eq!(cluster.go_on(2, &txn, 1), Ok(()));
    cluster.pass_following(SOON);
    assert_eq!(cluster.get(2, &txn, &["k"]), Ok(vec![some("one")]));
    assert_eq!(cluster.commit(2, &txn), Some(true));
    cluster.pass_following(SOON);
    cluster.pass_following(SOON);
    assert_clean(&cluster, &[0, 1, 2]);
}

#[test]
fn a_dead_node_is_waited_for_no_longer_than_a_minute() {
    let mut cluster = cluster(3);
    cluster.settle();
    cluster.kill(2);
    cluster.write(0, &[("k", "one")]);
    cluster.write(0, &[("k", "two")]);
    cluster.pass_following(SOON);
    assert_eq!(cluster.usage().superseded, 1, "it may have been cut off only");
    cluster.pass_following(Duration::from_secs(70));
    assert_clean(&cluster, &[0, 1]);
    // It comes back and reads what there is.
    cluster.restart(2);
    assert_eq!(cluster.read(2, "k"), some("two"));
}

/// It lives, but what it answers is lost, for ever.
#[test]
fn a_node_that_never_answers_does_not_keep_garbage_for_ever() {
    let config = NodeConfig { lifetime_max: Duration::from_secs(20), ..collecting() };
    let mut cluster = Cluster::with(3, config);
    cluster.network(
        |_, message| !matches!(message, PeerMessage::Graced(answer) if answer.node == address(2)),
    );
    // So many that each node has a share in deleting them. The silent one is answered, and does so.
    for number in 0..12 {
        let name = format!("k{number}");
        cluster.write(0, &[(&name, "one")]);
        cluster.write(0, &[(&name, "two")]);
    }
    cluster.pass_following(Duration::from_secs(30));
    assert!(cluster.usage().superseded > 0);
    cluster.pass_following(Duration::from_secs(90));
    assert_clean(&cluster, &[0, 1]);
}

#[test]
fn forgotten_keys_are_found_again_everywhere() {
    let mut cluster = Cluster::with(2, NodeConfig { index_keys_max: 3, ..collecting() });
    let names: Vec<_> = (0..30).map(|number| format!("k{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let beside = format!("beside-{name}");
        cluster.write(number % 2, &[(name, name), (&beside, name)]);
    }
    cluster.pass_following(SOON);
    for node in 0..2 {
        assert!(cluster.status(node).keys <= 6, "{:?}", cluster.status(node));
        for name in &names {
            let txn = cluster.begin(node);
            let beside = format!("beside-{name}");
            let seen = cluster.get(node, &txn, &[name, &beside, "nothing"]);
            assert_eq!(seen, Ok(vec![some(name), some(name), None]));
        }
    }
    cluster.write(0, &[("k7", "new")]);
    cluster.pass_following(Duration::from_secs(2));
    assert_eq!(cluster.read(1, "k7"), some("new"));
}

/// Its answer was lost, and when the client asks again all that it wrote is superseded and gone.
#[test]
fn a_collected_commit_is_still_known_to_have_committed() {
    let mut cluster = cluster(2);
    let id = BaseId::parse("order-17").expect("an id");
    let Answer::Started(txn) = cluster.retry(0, &id) else { panic!("it is new") };
    assert!(cluster.put(0, &txn, "k", "one"));
    assert_eq!(cluster.commit(0, &txn), Some(true));
    cluster.settle();
    cluster.write(1, &[("k", "two")]);
    cluster.pass_following(SOON);
    cluster.pass_following(SOON);
    assert_clean(&cluster, &[0, 1]);
    cluster.restart(0);
    let asked = cluster.send_request(0, |ticket| aft::node::Event::Start {
        ticket,
        id: Some(id),
        after: Vec::new(),
    });
    cluster.pass_following(Duration::from_secs(3));
    assert_eq!(decided(&cluster.answer(asked)), Some(true));
    assert_eq!(cluster.read(0, "k"), some("two"));
}

/// Whoever asks after that is told that nobody knows any more, and not that it was aborted.
#[test]
fn an_outcome_is_forgotten_after_its_time_and_nothing_wrong_is_said() {
    let config = NodeConfig {
        lifetime_max: Duration::from_secs(2),
        clock_bound: Duration::from_secs(2),
        retry_window: Duration::from_secs(20),
        sweep_each: Duration::from_secs(1),
        ended_max: 2,
        ..collecting()
    };
    let mut cluster = Cluster::with(1, config);
    let txn = cluster.begin(0);
    assert!(cluster.put(0, &txn, "k", "one"));
    assert_eq!(cluster.commit(0, &txn), Some(true));
    for value in ["two", "three", "four"] {
        cluster.write(0, &[("k", value)]);
    }
    cluster.pass_following(SOON);
    assert_eq!(cluster.commit(0, &txn), Some(true), "within the window it is known");
    cluster.write(0, &[("other", "1")]);
    cluster.write(0, &[("other", "2")]);
    cluster.write(0, &[("other", "3")]);
    cluster.pass_following(Duration::from_secs(60));
    assert_eq!(cluster.usage().remains, 0, "{:?}", cluster.usage());
    assert_eq!(cluster.commit(0, &txn), None, "nobody knows");
}
