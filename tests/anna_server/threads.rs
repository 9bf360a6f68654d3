//! Keys that belong to one of several threads.

use super::*;

fn two() -> (Handle, Client) {
    start(Options { threads: 2, ..Options::default() })
}

#[test]
fn a_key_of_another_thread_is_refused_alone() {
    let (_server, mut client) = two();
    let (own, other) = one_key_of_each(&mut client);
    client.get("first", &[&own]);
    client.reply();
    for _first_then_known in 0..2 {
        client.get("mixed", &[&other, &own]);
        assert_eq!(keys(&client.reply()), [&own]);
        let refused = client.reply_for(&other);
        assert_eq!(refused.error(), AnnaError::WrongThread);
        assert_eq!(refused.lattice_type(), LatticeType::None);
    }
}

#[test]
fn metadata_of_another_thread_is_refused_with_what_else_is_known() {
    let (_server, mut client) = two();
    let mut names = (0..).map(|number| format!("ANNA_METADATA|stats|{number}"));
    let other = names.find(|key| owner(&mut client, key) == 1).unwrap();
    let own = names.find(|key| owner(&mut client, key) == 0).unwrap();
    client.put("id", [lww(&other, 1, "x"), lww(&own, 1, "x")]);
    let reply = client.reply();
    assert_eq!(keys(&reply), [&other, &own]);
    let errors = [AnnaError::WrongThread, AnnaError::NoError];
    assert_eq!([reply.tuples[0].error(), reply.tuples[1].error()], errors);
    assert_eq!(reply.tuples[0].lattice_type(), LatticeType::Lww);
}

#[test]
fn keys_move_with_their_values() {
    let (server, mut client) = two();
    let (key, _) = one_key_of_each(&mut client);
    client.write(lww(&key, 1, "moved"));
    server.control().move_keys(std::slice::from_ref(&key), 1).unwrap();
    assert_eq!(client.value(&key).error(), AnnaError::WrongThread);
    assert_eq!(owner(&mut client, &key), 1);
    let request = client.request(RequestType::Get, "there", [tuple(&key)]);
    client.send(1, request);
    assert_eq!(lww_of(&client.reply_for(&key)), (1, "moved".to_owned()));

    server.control().rotate(1);
    assert_eq!(owner(&mut client, &key), 0);
    assert_eq!(lww_of(&client.value(&key)), (1, "moved".to_owned()));
    server.control().move_keys(&[key], 2).unwrap_err();
}
