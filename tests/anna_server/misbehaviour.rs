//! What it does wrong when it is told to.

use super::*;

#[test]
fn lost_requests_are_not_done_and_lost_replies_are() {
    let (server, mut client) = simple();
    let control = server.control();
    let behave = |misbehaviour| control.misbehave(misbehaviour).unwrap();
    let put = |client: &mut Client, key: &str, counted: &dyn Fn(&Control) -> u64| {
        client.put("lost", [lww(key, 1, "x")]);
        wait_until(|| counted(control) == 1);
    };
    behave(Misbehaviour { drop_requests: 1.0, ..Misbehaviour::default() });
    put(&mut client, "a", &|control| control.status().counters.requests_dropped);
    behave(Misbehaviour { drop_replies: 1.0, ..Misbehaviour::default() });
    put(&mut client, "b", &|control| control.status().counters.replies_dropped);
    behave(Misbehaviour::default());
    assert_eq!(client.value("a").error(), AnnaError::KeyDne);
    assert_eq!(client.value("b").error(), AnnaError::NoError);
}

#[test]
fn a_silent_server_goes_on_without_what_it_was_asked() {
    let (server, mut client) =
        misbehaving(Misbehaviour { silent: true, ..Misbehaviour::default() });
    client.get("lost", &["a"]);
    client.ask("lost", &["a"]);
    wait_until(|| server.control().status().counters.requests_dropped == 2);
    server.control().misbehave(Misbehaviour::default()).unwrap();
    client.get("answered", &["a"]);
    assert_eq!(client.reply().response_id, "answered");
    client.ask("answered", &["a"]);
    assert_eq!(client.addresses().response_id, "answered");
}

#[test]
fn answers_twice() {
    let (_server, mut client) = misbehaving(Misbehaviour { twice: 1.0, ..Misbehaviour::default() });
    client.get("id", &["a"]);
    assert_eq!(client.reply(), client.reply());
}

#[test]
fn answers_out_of_order() {
    let (_server, mut client) =
        misbehaving(Misbehaviour { reorder: 1.0, ..Misbehaviour::default() });
    // Both in one connection, and the first waits for the second: at most 20 milliseconds, so
    // there are some tries.
    let overtaken = (0..100).any(|_| {
        client.get("first", &["a"]);
        client.get("second", &["a"]);
        let order = [client.reply().response_id, client.reply().response_id];
        order == ["second", "first"]
    });
    assert!(overtaken);
}

#[test]
fn answers_late() {
    let late = Misbehaviour { delay_ms: (300, 400), ..Misbehaviour::default() };
    let (_server, mut client) = misbehaving(late);
    client.get("id", &["a"]);
    assert_eq!(client.reply_within(Duration::from_millis(100)), None);
    assert_eq!(client.reply().response_id, "id");
}

#[test]
fn refuses_keys_that_it_owns() {
    let (_server, mut client) =
        misbehaving(Misbehaviour { wrong_thread: 0.5, ..Misbehaviour::default() });
    let refused =
        |client: &mut Client| client.write(lww("a", 1, "x")).error() == AnnaError::WrongThread;
    let outcomes: HashSet<bool> = (0..40).map(|_| refused(&mut client)).collect();
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn forgets_everything() {
    let (server, mut client) = simple();
    client.write(lww("a", 1, "x"));
    client.ask("id", &["a"]);
    client.addresses();
    assert_eq!(server.control().status().keys, 1);
    server.control().forget();
    assert_eq!(server.control().status().keys, 0);
    assert_eq!(client.value("a").error(), AnnaError::KeyDne);
    // Its type is forgotten too, and that it was seen.
    client.write(set("a", LatticeType::Set, &["x"]));
    assert_eq!(set_of(&client.value("a")), ["x"]);
    client.ask("id", &["a", "b"]);
    assert_eq!(client.addresses().addresses.len(), 1);
}
