//! The storage tier: what is written, merged and read.

use super::*;

#[test]
fn answers_unseen_keys_alone_and_known_ones_together_in_order() {
    let (_server, mut client) = simple();
    client.put("first", ["a", "b", "c"].map(|key| lww(key, 1, "x")));
    let replies: Vec<_> = (0..3).map(|_| client.reply()).collect();
    assert!(replies.iter().all(|reply| reply.response_id == "first"));
    assert!(replies.iter().all(|reply| reply.r#type() == RequestType::Put));
    let seen: HashSet<_> = replies.iter().flat_map(keys).collect();
    assert_eq!(seen, HashSet::from(["a", "b", "c"]));

    client.get("second", &["c", "new", "a", "b"]);
    assert_eq!(keys(&client.reply()), ["c", "a", "b"]);
    let alone = client.reply();
    assert_eq!(keys(&alone), ["new"]);
    assert_eq!(alone.response_id, "second");
    client.assert_no_more_replies();
}

#[test]
fn unseen_keys_are_answered_in_any_order() {
    let (_server, mut client) = simple();
    let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    client.get("id", &asked);
    let answered: Vec<_> = asked.iter().map(|_| client.reply().tuples.remove(0).key).collect();
    assert_ne!(answered, names);
    assert_eq!(HashSet::<String>::from_iter(answered), HashSet::from_iter(names));
}

#[test]
fn a_key_twice_in_its_first_request_is_answered_twice() {
    let (_server, mut client) = simple();
    client.get("id", &["a", "a"]);
    client.reply_for("a");
    client.reply_for("a");
    client.get("id", &["a", "a"]);
    assert_eq!(keys(&client.reply()), ["a", "a"]);
}

#[test]
fn a_missing_key_has_no_lattice_type() {
    let (_server, mut client) = simple();
    for _first_then_known in 0..2 {
        let missing = client.value("a");
        assert_eq!(missing.error(), AnnaError::KeyDne);
        assert_eq!(missing.lattice_type(), LatticeType::None);
        assert!(missing.payload.is_empty());
    }
}

#[test]
fn metadata_is_served_without_a_first_touch() {
    let (_server, mut client) = simple();
    let keys_ = ["ANNA_METADATA|stats|x", "ANNA_METADATA|access|y"];
    client.put("put", keys_.map(|key| lww(key, 1, "x")));
    assert_eq!(keys(&client.reply()), keys_);
    client.get("get", &keys_);
    let read = client.reply();
    assert_eq!(keys(&read), keys_);
    assert!(read.tuples.iter().all(|tuple| lww_of(tuple) == (1, "x".to_owned())));
}

#[test]
fn a_write_is_acknowledged_with_its_type_and_read() {
    let (_server, mut client) = simple();
    let acknowledged = client.write(lww("a", 5, "five"));
    assert_eq!(acknowledged.error(), AnnaError::NoError);
    assert_eq!(acknowledged.lattice_type(), LatticeType::Lww);
    assert!(acknowledged.payload.is_empty());
    let read = client.value("a");
    assert_eq!(read.error(), AnnaError::NoError);
    assert_eq!(lww_of(&read), (5, "five".to_owned()));
}

#[test]
fn the_later_of_two_writes_with_one_timestamp_wins() {
    let (_server, mut client) = simple();
    for value in ["first", "last"] {
        client.write(lww("a", 10, value));
    }
    assert_eq!(client.write(lww("a", 9, "older")).lattice_type(), LatticeType::Lww);
    assert_eq!(lww_of(&client.value("a")), (10, "last".to_owned()));
}

#[test]
fn sets_grow_and_ordered_ones_stay_so() {
    let (_server, mut client) = simple();
    for kind in [LatticeType::Set, LatticeType::OrderedSet] {
        let key = kind.as_str_name();
        client.write(set(key, kind, &["c", "a"]));
        client.write(set(key, kind, &["b", "c"]));
        let read = client.value(key);
        assert_eq!(read.lattice_type(), kind);
        let mut values = set_of(&read);
        if kind == LatticeType::Set {
            values.sort();
        }
        assert_eq!(values, ["a", "b", "c"]);
    }
}

#[test]
fn the_lower_priority_wins() {
    let (_server, mut client) = simple();
    for (priority, value) in [(2.0, "two"), (1.0, "one"), (3.0, "three")] {
        let payload = PriorityValue { priority, value: value.into() }.encode_to_vec();
        client.write(typed("a", LatticeType::Priority, payload));
    }
    let read = PriorityValue::decode(client.value("a").payload).unwrap();
    assert_eq!((read.priority, &read.value[..]), (1.0, &b"one"[..]));
}

#[test]
fn concurrent_causal_values_are_both_read_until_a_newer_one_comes() {
    let (_server, mut client) = simple();
    let mut write = |clock: &[(&str, u32)], value: &'static str| {
        let payload = SingleKeyCausalValue {
            vector_clock: clock.iter().map(|(w, n)| ((*w).to_owned(), *n)).collect(),
            values: vec![value.into()],
        };
        client.write(typed("a", LatticeType::SingleCausal, payload.encode_to_vec()));
        SingleKeyCausalValue::decode(client.value("a").payload).unwrap().values.len()
    };
    assert_eq!(write(&[("left", 1)], "left"), 1);
    assert_eq!(write(&[("right", 1)], "right"), 2);
    assert_eq!(write(&[("left", 1), ("right", 2)], "both"), 1);
}

#[test]
fn an_empty_value_or_set_reads_as_missing() {
    let (_server, mut client) = simple();
    client.write(lww("value", 1, "x"));
    client.write(lww("value", 2, ""));
    client.write(set("set", LatticeType::Set, &[]));
    for key in ["value", "set"] {
        assert_eq!(client.value(key).error(), AnnaError::KeyDne, "{key}");
    }
    // What was written last counts all the same.
    client.write(lww("value", 1, "older"));
    assert_eq!(client.value("value").error(), AnnaError::KeyDne);
    client.write(lww("value", 3, "newer"));
    assert_eq!(lww_of(&client.value("value")), (3, "newer".to_owned()));
}

#[test]
fn an_empty_ordered_set_reads_as_one() {
    let (_server, mut client) = simple();
    client.write(set("a", LatticeType::OrderedSet, &[]));
    let read = client.value("a");
    assert_eq!((read.error(), set_of(&read).len()), (AnnaError::NoError, 0));
    assert_eq!(read.lattice_type(), LatticeType::OrderedSet);
}

#[test]
fn a_request_of_no_type_writes_keys_that_it_touches_first() {
    let (_server, mut client) = simple();
    for value in ["first", "later"] {
        let request = client.request(RequestType::RtUnspecified, "id", [lww("a", 1, value)]);
        client.send(0, request);
        assert_eq!(client.reply_for("a").error(), AnnaError::NoError);
    }
    assert_eq!(lww_of(&client.value("a")), (1, "first".to_owned()));
}

#[test]
fn a_write_without_a_type_or_of_another_is_acknowledged_and_not_stored() {
    let (_server, mut client) = simple();
    client.write(lww("a", 1, "kept"));
    let untyped = KeyTuple { lattice_type: LatticeType::None.into(), ..lww("a", 2, "lost") };
    let of_another = set("a", LatticeType::Set, &["lost"]);
    let new = KeyTuple { lattice_type: LatticeType::None.into(), ..lww("new", 1, "lost") };
    for tuple in [untyped, of_another, new] {
        let acknowledged = client.write(tuple);
        assert_eq!(acknowledged.error(), AnnaError::NoError);
        assert_eq!(acknowledged.lattice_type(), LatticeType::None);
    }
    assert_eq!(lww_of(&client.value("a")), (1, "kept".to_owned()));
    assert_eq!(client.value("new").error(), AnnaError::KeyDne);
}

#[test]
fn a_payload_that_cannot_be_read_is_acknowledged_and_lost() {
    let (_server, mut client) = simple();
    client.write(lww("a", 1, "kept"));
    for key in ["a", "new"] {
        let acknowledged = client.write(typed(key, LatticeType::Lww, vec![0xff; 3]));
        assert_eq!(acknowledged.error(), AnnaError::NoError);
        assert_eq!(acknowledged.lattice_type(), LatticeType::Lww);
    }
    assert_eq!(lww_of(&client.value("a")), (1, "kept".to_owned()));
    assert_eq!(client.value("new").error(), AnnaError::KeyDne);
}

#[test]
fn a_request_without_an_address_is_done_and_not_answered() {
    let (_server, mut client) = simple();
    let request = client.request(RequestType::Put, "silent", [lww("a", 1, "done")]);
    client.send(0, KeyRequest { response_address: String::new(), ..request });
    assert_eq!(lww_of(&client.value("a")), (1, "done".to_owned()));
    client.assert_no_more_replies();
}

#[test]
fn a_request_for_nothing_is_never_answered() {
    let (_server, mut client) = simple();
    client.get("nothing", &[]);
    client.assert_no_more_replies();
}

#[test]
fn what_is_no_request_and_an_empty_key_are_ignored() {
    let (server, mut client) = simple();
    client.get("empty", &["", "a"]);
    assert_eq!(keys(&client.reply()), ["a"]);
    let (storage, routing) = (client.storage[0].clone(), client.routing[0].clone());
    client.sockets.outbox().send(&storage, vec![0xff; 9]);
    client.sockets.outbox().send(&routing, vec![0xff; 9]);
    client.ask("still there", &["a"]);
    client.addresses();
    client.assert_no_more_replies();
    let counters = server.control().status().counters;
    assert_eq!((counters.keys_ignored, counters.unreadable), (1, 2));
}

#[test]
fn invalidates_caches_of_known_keys_only() {
    let (_server, mut client) = simple();
    let mut invalidates = |addresses| {
        let cached = KeyTuple { address_cache_size: addresses, ..tuple("a") };
        let request = client.request(RequestType::Get, "id", [cached]);
        client.send(0, request);
        client.reply_for("a").invalidate
    };
    assert!(!invalidates(2), "the first touch says nothing");
    assert!(invalidates(2));
    assert!(!invalidates(1));
    assert!(!invalidates(0));
}

#[test]
fn a_restarted_server_has_what_it_was_not_told_to_forget() {
    let place = tempfile::tempdir().unwrap();
    let options = || Options { data_dir: Some(place.path().to_owned()), ..Options::default() };
    let (server, mut client) = start(options());
    client.write(lww("forgotten", 1, "x"));
    server.control().forget();
    client.write(lww("kept", 1, "x"));
    let port_offset = PortOffset::Fixed(server.port_offset());
    server.stop();

    let server = server::start(Options { port_offset, ..options() }).unwrap();
    assert_eq!(server.control().status().keys, 1);
    // The client connects again by itself.
    assert_eq!(client.value("forgotten").error(), AnnaError::KeyDne);
    assert_eq!(client.value("kept").error(), AnnaError::NoError);
}
