//! Conversations with the routing tier.

use super::super::*;
use super::bench::*;
use crate::anna::client::{Acks, NoServers, Silent};

const FOUR: [&str; 4] = ["tcp://r:6450", "tcp://r:6451", "tcp://r:6452", "tcp://r:6453"];

#[test]
fn one_look_up_serves_all_who_wait_for_the_key() {
    let mut bench = Bench::new();
    bench.events([Event::Prefetch("k".into())]);
    bench.start(&[("k", get()), ("k", put(Acks::Any)), ("k", get())]);
    let lookup = bench.lookup();
    assert_eq!(lookup.message.keys, ["k"]);
    assert_eq!(lookup.message.response_address, "tcp://me:2");
    bench.events([Event::AddressAnswer(addresses(&lookup.message, &[A]))]);
    assert_eq!(bench.key_requests.len(), 3);
}

#[test]
fn each_key_is_asked_for_in_a_message_of_its_own() {
    let mut bench = Bench::new();
    bench.start(&[("a", get()), ("b", get())]);
    assert!(bench.lookups.iter().all(|lookup| lookup.message.keys.len() == 1));
    assert_eq!(bench.lookups.len(), 2);
}

#[test]
fn all_are_asked_until_it_is_known_who_answers() {
    let mut bench = Bench::with(&FOUR);
    bench.start(&[("k", get())]);
    let asked: Vec<_> = bench.lookups.iter().map(|lookup| lookup.to.clone()).collect();
    assert_eq!(asked, FOUR);
    // Only the second one exists.
    let answer = addresses(&bench.lookups[1].message, &[A]);
    bench.events([Event::AddressAnswer(answer)]);
    bench.lookups.clear();
    bench.request();
    // The first look-up after that finds out about the others once more.
    bench.start(&[("l", get())]);
    bench.lookups.clear();
    for number in 0..20 {
        bench.start(&[(format!("{number}").as_str(), get())]);
        assert_eq!(bench.lookup().to, FOUR[1]);
    }
}

#[test]
fn look_ups_are_spread_over_those_who_answer() {
    let mut bench = Bench::with(&FOUR);
    bench.start(&[("k", get())]);
    bench.route(&[A]);
    bench.start(&[("l", get())]);
    bench.route(&[A]);
    let mut asked = std::collections::BTreeMap::new();
    for number in 0..100 {
        bench.start(&[(format!("{number}").as_str(), get())]);
        *asked.entry(bench.lookup().to).or_insert(0) += 1;
    }
    assert!(asked.len() == 4 && asked.values().all(|times| *times > 10), "{asked:?}");
}

#[test]
fn a_lost_look_up_is_repeated() {
    let mut bench = Bench::new();
    bench.start(&[("k", get())]);
    let first = bench.lookup();
    bench.pass(TRY);
    let second = bench.lookup();
    assert_ne!(first.message.request_id, second.message.request_id);
    assert_eq!(bench.resets.len(), 1);
    // Who comes later is not kept waiting by a try that grows old.
    bench.pass(TRY);
    bench.start(&[("k", get())]);
    bench.lookup();
    bench.events([Event::AddressAnswer(addresses(&second.message, &[A]))]);
    assert_eq!(bench.key_requests.len(), 2);
    bench.key_requests.clear();
    // That to the first, which would have done as well, is late.
    bench.events([Event::AddressAnswer(addresses(&first.message, &[B]))]);
    assert_eq!(bench.core.counters().late, 1);
    assert!(bench.key_requests.is_empty());
}

#[test]
fn without_servers_it_is_tried_until_there_are() {
    let mut bench = Bench::new();
    bench.start(&[("k", put(Acks::Any))]);
    for _ in 0..3 {
        bench.route(&[]);
        assert!(bench.lookups.is_empty(), "not at once");
        bench.pass(PAUSE_MAX);
    }
    bench.route(&[A]);
    bench.request();
}

#[test]
fn without_servers_that_is_the_error() {
    let mut bench = Bench::new();
    bench.start(&[("k", put(Acks::Any))]);
    let mut rounds = 0;
    while bench.done.is_empty() {
        bench.route(&[]);
        let next = bench.core.next_deadline().unwrap();
        bench.pass(next - bench.now);
        rounds += 1;
    }
    assert_eq!(bench.result(), Err(ClientError::NoServers(NoServers { waited: WITHIN })));
    assert!((5..30).contains(&rounds), "{rounds}");
    // Nobody waits for the look-up any more: it ends.
    bench.pass(WITHIN);
    bench.assert_clean();
    assert!(bench.core.lookups.is_empty() && bench.core.next_deadline().is_none());
}

#[test]
fn without_servers_a_write_that_was_sent_stays_in_doubt() {
    let mut bench = Bench::new();
    bench.start(&[("k", put(Acks::Any))]);
    bench.route(&[A]);
    bench.pass(TRY);
    while bench.done.is_empty() {
        bench.route(&[]);
        let next = bench.core.next_deadline().unwrap();
        bench.pass(next - bench.now);
    }
    assert!(matches!(bench.result(), Err(ClientError::TimedOut { sent: true, .. })));
}

#[test]
fn a_silent_routing_tier_is_named() {
    let mut bench = Bench::with(&FOUR);
    bench.start(&[("k", get())]);
    bench.pass(WITHIN);
    let Err(ClientError::TimedOut { silent, sent, waited, .. }) = bench.result() else {
        panic!("no time-out");
    };
    assert_eq!((silent, sent, waited), (Silent::Routing, false, WITHIN));
}

#[test]
fn only_tcp_endpoints_are_believed() {
    let mut bench = Bench::new();
    bench.start(&[("k", get())]);
    bench.route(&["ipc:///tmp/x", "tcp://h", A, A]);
    let request = bench.request();
    assert_eq!(request.message.tuples[0].address_cache_size, 1);

    bench.start(&[("l", get())]);
    bench.route(&["ipc:///tmp/x"]);
    assert!(bench.key_requests.is_empty());
    assert_eq!(bench.core.counters().malformed, 1);
}

#[test]
fn prefetches_are_bounded_and_given_up() {
    let mut bench = Bench::new();
    bench.events((0..500).map(|number| Event::Prefetch(format!("{number}").into())));
    assert_eq!(bench.lookups.len(), 100);
    bench.pass(Duration::from_secs(60));
    assert!(bench.core.lookups.is_empty() && bench.core.next_deadline().is_none());
}

#[test]
fn remembered_addresses_are_bounded() {
    let mut bench = Bench::new();
    for number in 0..500 {
        bench.events([Event::Prefetch(format!("{number}").into())]);
        bench.route(&[A]);
    }
    assert_eq!(bench.core.counters().addresses_cached, 100);
}
