//! Conversations with storage threads.

use prost::Message;

use super::super::*;
use super::bench::*;
use crate::anna::client::{Acks, Silent};
use crate::wire::anna::{AnnaError, KeyRequest, KeyResponse, KeyTuple, LatticeType};

fn ask_one(replicas: &[&str], ask: Ask) -> Bench {
    let mut bench = Bench::new();
    bench.start(&[("k", ask)]);
    bench.route(replicas);
    bench
}

#[test]
fn a_value_is_read_and_its_address_remembered() {
    let mut bench = ask_one(&[A], get());
    let request = bench.request();
    assert_eq!((request.to.as_str(), keys(&request)), (A, vec!["k"]));
    assert_eq!(request.message.response_address, "tcp://me:1");
    bench.answer(&request, vec![value("k", "v")]);
    assert_eq!(bench.result(), Ok(Some(lww("v"))));

    bench.start(&[("k", get())]);
    assert!(bench.lookups.is_empty());
    let request = bench.request();
    assert_eq!(request.message.tuples[0].address_cache_size, 1);
    bench.answer(&request, vec![failed("k", AnnaError::KeyDne)]);
    assert_eq!(bench.result(), Ok(None));
    bench.assert_clean();
}

#[test]
fn empty_values_are_none() {
    for empty in [value("k", ""), KeyTuple { payload: Bytes::new(), ..value("k", "") }] {
        let mut bench = ask_one(&[A], get());
        let request = bench.request();
        bench.answer(&request, vec![empty]);
        assert_eq!(bench.result(), Ok(None));
    }
}

#[test]
fn what_is_ready_together_travels_together_and_may_be_answered_apart() {
    let mut bench = Bench::new();
    for key in ["a", "b", "c"] {
        bench.events([Event::Prefetch(key.into())]);
        bench.route(&[A]);
    }
    bench.start(&[("a", get()), ("b", get()), ("c", put(Acks::Any)), ("a", get())]);
    let mut sent = std::mem::take(&mut bench.key_requests);
    assert_eq!(
        sent.iter().map(|r| keys(r)).collect::<Vec<_>>(),
        [vec!["a", "b"], vec!["a"], vec!["c"]]
    );
    assert!(is_put(&sent[2].message) && !is_put(&sent[0].message));
    let third = sent.pop().unwrap();
    bench.answer(&third, vec![stored("c")]);
    bench.answer(&sent[0], vec![value("b", "2")]);
    bench.answer(&sent[1], vec![value("a", "1")]);
    bench.answer(&sent[0], vec![value("a", "1")]);
    let order: Vec<OpId> = bench.done.iter().map(|(op, _)| *op).collect();
    assert_eq!(order, [3, 2, 4, 1]);
    assert!(bench.done.iter().all(|(_, result)| result.is_ok()));
    bench.assert_clean();
}

#[test]
fn a_wrong_thread_leads_to_a_look_up_at_once() {
    let mut bench = ask_one(&[A], put(Acks::Any));
    let request = bench.request();
    bench.answer(&request, vec![failed("k", AnnaError::WrongThread)]);
    bench.route(&[B]);
    let request = bench.request();
    assert_eq!(request.to, B);
    bench.answer(&request, vec![stored("k")]);
    assert_eq!(bench.result(), Ok(None));
    assert_eq!(bench.core.counters().wrong_threads, 1);
}

#[test]
fn going_in_circles_slows_down() {
    let mut bench = ask_one(&[A], get());
    while bench.done.is_empty() {
        for request in std::mem::take(&mut bench.key_requests) {
            bench.answer(&request, vec![failed("k", AnnaError::WrongThread)]);
        }
        bench.route(&[A]);
        if bench.key_requests.is_empty() {
            let next = bench.core.next_deadline().unwrap();
            bench.pass(next - bench.now);
        }
    }
    assert!(matches!(bench.result(), Err(ClientError::TimedOut { sent: true, .. })));
    let detours = bench.core.counters().wrong_threads;
    assert!((8..30).contains(&detours), "{detours} detours");
}

#[test]
fn invalidate_drops_the_addresses_but_not_the_value() {
    let mut bench = ask_one(&[A], get());
    let request = bench.request();
    bench.answer(&request, vec![KeyTuple { invalidate: true, ..value("k", "v") }]);
    assert_eq!(bench.result(), Ok(Some(lww("v"))));
    bench.start(&[("k", get())]);
    bench.lookup();
}

#[test]
fn a_lost_request_is_repeated_elsewhere() {
    let mut bench = ask_one(&[A, B], put(Acks::Any));
    let first = bench.request();
    bench.pass(TRY);
    bench.route(&[A, B]);
    let second = bench.request();
    assert_ne!(first.to, second.to);
    assert_ne!(first.message.request_id, second.message.request_id);
    assert_eq!(bench.resets, [first.to.as_str()]);
    bench.answer(&second, vec![stored("k")]);
    assert_eq!(bench.result(), Ok(None));
    bench.assert_clean();
}

#[test]
fn repetitions_travel_alone() {
    let mut bench = Bench::new();
    bench.start(&[("a", get()), ("b", get())]);
    bench.route(&[A]);
    bench.key_requests.clear();
    bench.pass(TRY);
    bench.route(&[A]);
    assert_eq!(bench.key_requests.len(), 2);
}

#[test]
fn a_late_answer_to_an_earlier_try_counts() {
    let mut bench = ask_one(&[A], get());
    let first = bench.request();
    bench.pass(TRY);
    assert_eq!(bench.lookups.len(), 1, "it is looked up again");
    bench.answer(&first, vec![value("k", "v")]);
    assert_eq!(bench.result(), Ok(Some(lww("v"))));
    bench.route(&[A]);
    assert!(bench.key_requests.is_empty());
    bench.assert_clean();
}

#[test]
fn a_wrong_thread_of_an_earlier_try_does_not_disturb_this_one() {
    let mut bench = ask_one(&[A], get());
    let first = bench.request();
    bench.pass(TRY);
    bench.route(&[B]);
    let second = bench.request();
    bench.answer(&first, vec![failed("k", AnnaError::WrongThread)]);
    assert!(bench.lookups.is_empty());
    bench.answer(&second, vec![value("k", "v")]);
    assert_eq!(bench.result(), Ok(Some(lww("v"))));
}

#[test]
fn repeated_unknown_and_damaged_answers_are_counted_and_nothing_else() {
    let mut bench = ask_one(&[A], get());
    let request = bench.request();
    let stranger = KeyRequest { request_id: "x:1".into(), ..request.message.clone() };
    bench.events([
        Event::KeyAnswer(response(&stranger, vec![value("k", "w")])),
        Event::KeyAnswer(response(&request.message, vec![value("other", "w")])),
        Event::KeyAnswer(Bytes::from_static(b"\xff\xff\xff")),
        Event::AddressAnswer(Bytes::from_static(b"\xff\xff\xff")),
    ]);
    assert!(bench.done.is_empty());
    bench.answer(&request, vec![value("k", "v"), value("k", "w")]);
    bench.answer(&request, vec![value("k", "w")]);
    assert_eq!(bench.result(), Ok(Some(lww("v"))));
    let counters = bench.core.counters();
    assert_eq!((counters.late, counters.malformed), (4, 2));
}

#[test]
fn any_needs_one_replica_and_all_needs_each() {
    let mut bench = ask_one(&[A, B], put(Acks::Any));
    let request = bench.request();
    bench.answer(&request, vec![stored("k")]);
    assert_eq!(bench.result(), Ok(None));

    let mut bench = ask_one(&[A, B], put(Acks::All));
    let (a, b) = (bench.key_requests.remove(0), bench.key_requests.remove(0));
    assert_eq!((a.to.as_str(), b.to.as_str()), (A, B));
    bench.answer(&a, vec![stored("k")]);
    bench.answer(&a, vec![stored("k")]);
    assert!(bench.done.is_empty());
    bench.answer(&b, vec![stored("k")]);
    assert_eq!(bench.result(), Ok(None));
    bench.assert_clean();
}

#[test]
fn of_all_replicas_only_the_silent_ones_are_asked_again() {
    let mut bench = ask_one(&[A, B], put(Acks::All));
    let (a, b) = (bench.key_requests.remove(0), bench.key_requests.remove(0));
    bench.answer(&a, vec![stored("k")]);
    bench.pass(TRY);
    bench.route(&[A, B]);
    let again = bench.request();
    assert_eq!(again.to, B);
    // The answer to the first try is as good.
    bench.answer(&b, vec![stored("k")]);
    assert_eq!(bench.result(), Ok(None));
    bench.assert_clean();
}

#[test]
fn a_replica_that_is_no_longer_named_need_not_acknowledge() {
    let mut bench = ask_one(&[A, B], put(Acks::All));
    let a = bench.key_requests.remove(0);
    bench.answer(&a, vec![stored("k")]);
    bench.pass(TRY);
    bench.route(&[A]);
    assert_eq!(bench.result(), Ok(None));
    bench.assert_clean();
}

#[test]
fn get_from_all_believes_none_only_from_all() {
    let mut bench = ask_one(&[A, B], Ask::Get { whom: Whom::UntilFound });
    let first = bench.request();
    bench.answer(&first, vec![failed("k", AnnaError::KeyDne)]);
    let second = bench.request();
    assert_ne!(first.to, second.to);
    bench.answer(&second, vec![value("k", "v")]);
    assert_eq!(bench.result(), Ok(Some(lww("v"))));

    bench.start(&[("k", Ask::Get { whom: Whom::UntilFound })]);
    for _ in 0..2 {
        let request = bench.request();
        bench.answer(&request, vec![failed("k", AnnaError::KeyDne)]);
    }
    assert_eq!(bench.result(), Ok(None));
    bench.assert_clean();
}

#[test]
fn get_merged_takes_the_newest_of_all_replicas() {
    let ask = Ask::Get { whom: Whom::All };
    let mut bench = ask_one(&[A, B], ask.clone());
    let (a, b) = (bench.key_requests.remove(0), bench.key_requests.remove(0));
    assert_ne!(a.to, b.to);
    let newer = Lattice::Lww { timestamp: 1 << 40, value: Bytes::from_static(b"newer") };
    let tuple = KeyTuple { payload: newer.to_payload(), ..value("k", "") };
    bench.answer(&a, vec![tuple]);
    bench.answer(&b, vec![value("k", "older")]);
    assert_eq!(bench.result(), Ok(Some(newer)));

    bench.start(&[("k", ask.clone())]);
    let (a, b) = (bench.key_requests.remove(0), bench.key_requests.remove(0));
    bench.answer(&a, vec![failed("k", AnnaError::KeyDne)]);
    bench.answer(&b, vec![value("k", "v")]);
    assert_eq!(bench.result(), Ok(Some(lww("v"))));
    bench.assert_clean();
}

#[test]
fn a_value_of_another_type_is_not_stored() {
    let kind = LatticeType::Lww;
    for refusal in [failed("k", AnnaError::NoError), failed("k", AnnaError::Lattice)] {
        let mut bench = ask_one(&[A, B], put(Acks::All));
        let request = bench.key_requests.remove(0);
        bench.answer(&request, vec![refusal]);
        assert_eq!(bench.result(), Err(ClientError::NotStored { key: "k".into(), kind }));
        bench.assert_clean();
    }
}

#[test]
fn what_cannot_be_read_is_damaged() {
    let garbage = KeyTuple { payload: Bytes::from_static(b"\xff"), ..value("k", "") };
    let unknown = KeyTuple { lattice_type: 99, ..value("k", "v") };
    for answer in [garbage, unknown, failed("k", AnnaError::Lattice)] {
        let mut bench = ask_one(&[A], get());
        let request = bench.request();
        bench.answer(&request, vec![answer]);
        assert!(matches!(bench.result(), Err(ClientError::Damaged(_))));
    }
}

#[test]
fn other_types_come_as_they_are() {
    let mut bench = ask_one(&[A], get());
    let request = bench.request();
    let kind = LatticeType::Priority;
    let tuple = KeyTuple { lattice_type: kind.into(), ..value("k", "v") };
    let payload = tuple.payload.clone();
    bench.answer(&request, vec![tuple]);
    assert_eq!(bench.result(), Ok(Some(Lattice::Opaque { kind, payload })));
}

#[test]
fn a_refused_request_is_repeated() {
    let mut bench = ask_one(&[A], put(Acks::Any));
    let request = bench.request();
    bench.answer(&request, Vec::new());
    assert!(bench.lookups.is_empty() && bench.done.is_empty(), "this means nothing");
    let response_id = request.message.request_id.clone();
    let error = AnnaError::NoServers.into();
    let refusal = KeyResponse { response_id, error, ..KeyResponse::default() };
    bench.events([Event::KeyAnswer(refusal.encode_to_vec().into())]);
    bench.route(&[A]);
    let request = bench.request();
    bench.answer(&request, vec![stored("k")]);
    assert_eq!(bench.result(), Ok(None));
    bench.assert_clean();
}

#[test]
fn a_time_out_tells_whether_anything_was_sent() {
    for is_connected in [true, false] {
        let mut bench = Bench::new();
        bench.connected = is_connected;
        bench.start(&[("k", put(Acks::Any))]);
        while bench.done.is_empty() {
            bench.route(&[A]);
            let next = bench.core.next_deadline().unwrap();
            bench.pass(next - bench.now);
        }
        let late = bench.key_requests.iter().filter(|sent| sent.until > bench.now);
        assert_eq!(late.count(), 0, "something may still be sent");
        assert_eq!(
            bench.result(),
            Err(ClientError::TimedOut {
                key: "k".into(),
                waited: WITHIN,
                sent: is_connected,
                silent: Silent::Storage(A.into()),
            })
        );
        bench.assert_clean();
    }
}

#[test]
fn tries_take_longer_each_time() {
    let mut bench = ask_one(&[A], get());
    let mut sent_at = vec![bench.now];
    while bench.done.is_empty() {
        bench.key_requests.clear();
        let next = bench.core.next_deadline().unwrap();
        bench.pass(next - bench.now);
        bench.route(&[A]);
        if !bench.key_requests.is_empty() {
            sent_at.push(bench.now);
        }
    }
    let gaps: Vec<_> = sent_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps[0], TRY);
    assert!(gaps.is_sorted() && (2..=4).contains(&gaps.len()), "{gaps:?}");
    assert_eq!(bench.done[0].0, 1);
    assert!(bench.now - sent_at[0] == WITHIN);
}

#[test]
fn a_cancelled_operation_leaves_nothing() {
    let mut bench = ask_one(&[A], get());
    bench.start(&[("k", get())]);
    bench.events([Event::Cancel(1), Event::Cancel(2)]);
    bench.assert_clean();
    assert!(bench.core.next_deadline().is_none());
    let request = bench.key_requests.remove(0);
    bench.answer(&request, vec![value("k", "v")]);
    assert!(bench.done.is_empty());
}

#[test]
fn only_a_silent_connection_is_given_up() {
    let mut bench = Bench::new();
    bench.start(&[("a", get()), ("b", get())]);
    bench.route(&[A]);
    let sent = std::mem::take(&mut bench.key_requests);
    let of_b = sent.iter().find(|request| keys(request).contains(&"b")).unwrap();
    bench.pass(TRY / 2);
    bench.answer(of_b, vec![value("b", "v")]);
    bench.pass(TRY);
    assert!(bench.core.counters().timeouts > 0);
    assert!(bench.resets.is_empty());
}
