//! The routing tier: who has which key.

use super::*;

#[test]
fn names_the_storage_endpoint() {
    let (server, mut client) = simple();
    client.ask("id 1", &["a"]);
    let answer = client.addresses();
    assert_eq!(answer.response_id, "id 1");
    assert_eq!(answer.error(), AnnaError::NoError);
    assert_eq!(routed(&answer), [("a", server.storage())]);
}

#[test]
fn answers_the_first_unseen_key_and_drops_the_others() {
    let (server, mut client) = simple();
    client.ask("first", &["a", "b", "c"]);
    client.ask("second", &["a", "b", "c"]);
    client.ask("third", &["b", "a"]);
    assert_eq!(routed(&client.addresses()), [("a", server.storage())]);
    // That it knows "a" by now is of no use to the request.
    assert_eq!(routed(&client.addresses()), [("b", server.storage())]);
    let third = client.addresses();
    assert_eq!(routed(&third), [("b", server.storage()), ("a", server.storage())]);
    assert_eq!(third.response_id, "third");
}

#[test]
fn threads_know_different_keys() {
    let (_server, mut client) = start(Options { routing_threads: 4, ..Options::default() });
    for thread in 0..4 {
        client.ask_thread(thread, "one", &["a", "b"]);
        assert_eq!(client.addresses().addresses.len(), 1);
        client.ask_thread(thread, "other", &["b"]);
        client.addresses();
        client.ask_thread(thread, "both", &["a", "b"]);
        assert_eq!(client.addresses().addresses.len(), 2);
    }
}

#[test]
fn knows_metadata_without_having_seen_it() {
    let (server, mut client) = simple();
    let keys = ["ANNA_METADATA|stats|x", "ANNA_METADATA|access|y"];
    client.ask("metadata", &keys);
    let answer = client.addresses();
    assert_eq!(routed(&answer), keys.map(|key| (key, server.storage())));
}

#[test]
fn an_empty_key_has_no_address_and_no_keys_no_answer() {
    let (_server, mut client) = simple();
    client.ask("nothing", &[]);
    client.ask("empty", &[""]);
    let answer = client.addresses();
    assert_eq!(answer.response_id, "empty");
    assert_eq!(routed(&answer), [("", &[][..])]);
}

#[test]
fn says_that_there_are_no_servers() {
    let no_servers = Misbehaviour { no_servers: true, ..Misbehaviour::default() };
    let (server, mut client) = misbehaving(no_servers);
    client.ask("before", &["a", "b"]);
    let answer = client.addresses();
    assert_eq!(answer.error(), AnnaError::NoServers);
    assert_eq!(routed(&answer), [("a", &[][..]), ("b", &[][..])]);
    server.control().misbehave(Misbehaviour::default()).unwrap();
    client.ask("after", &["a", "b"]);
    assert_eq!(routed(&client.addresses()), [("a", server.storage())]);
}
