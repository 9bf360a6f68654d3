use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::super::{CALLS, CallingClient, OutboxLimits, ReplyTo, Sockets};
use super::*;

const SOON: Duration = Duration::from_secs(10);
const MAX: usize = 1 << 20;
const GET: u8 = 2;

fn bound(place: &tempfile::TempDir, limits: OutboxLimits) -> (Sockets, PathBuf) {
    let path = place.path().join("call");
    let mut sockets = Sockets::new(limits).unwrap();
    sockets.bind_callers(&path, MAX).unwrap();
    (sockets, path)
}

/// Waits for what comes next.
fn next(sockets: &mut Sockets) -> Called {
    let mut readable = Vec::new();
    loop {
        if let Some(called) = sockets.call() {
            return called;
        }
        sockets.wait(Some(SOON), &mut readable);
        assert_eq!(readable, [CALLS]);
    }
}

fn next_call(sockets: &mut Sockets) -> Call {
    match next(sockets) {
        Called::Request(call) => call,
        Called::Bad(why) => panic!("{why}"),
    }
}

/// Lets the sockets look once at what the kernel has.
fn look(sockets: &mut Sockets) {
    sockets.wait(Some(Duration::ZERO), &mut Vec::new());
    while sockets.call().is_some() {}
}

fn client(path: &Path) -> CallingClient {
    CallingClient::open(path, SOON).unwrap()
}

#[test]
fn each_client_gets_its_own_answer() {
    let place = tempfile::tempdir().unwrap();
    let (mut sockets, path) = bound(&place, OutboxLimits::default());
    let server = std::thread::spawn(move || {
        for _ in 0..200 {
            let Call { caller, kind, request } = next_call(&mut sockets);
            let answer = [&[kind][..], b"/", &request].concat();
            sockets.reply(&ReplyTo::Caller(caller), answer);
        }
    });
    let mut clients: Vec<_> = (0..4).map(|_| client(&path)).collect();
    for number in 0..200u8 {
        let answer = clients[usize::from(number) % 4].call(GET, &[number; 9]).unwrap();
        assert_eq!(answer, [&[GET][..], b"/", &[number; 9]].concat());
    }
    server.join().unwrap();
}

#[test]
fn answers_may_come_in_another_order_than_requests() {
    let place = tempfile::tempdir().unwrap();
    let (mut sockets, path) = bound(&place, OutboxLimits::default());
    let mut client = client(&path);
    let asking = std::thread::spawn(move || {
        let numbers: Vec<_> = (0..1000).map(|_| client.send(GET, b"k").unwrap()).collect();
        (client, numbers)
    });
    let mut callers: Vec<_> = (0..1000).map(|_| next_call(&mut sockets).caller).collect();
    let (mut client, numbers) = asking.join().unwrap();
    callers.reverse();
    for (caller, asked) in callers.iter().zip(numbers.iter().rev()) {
        sockets.reply(&ReplyTo::Caller(*caller), b"v".to_vec());
        assert_eq!(client.receive().unwrap(), (*asked, "v".into()));
    }
}

#[test]
fn large_requests_and_answers_arrive_in_whole_and_do_not_make_others_wait() {
    let place = tempfile::tempdir().unwrap();
    let (mut sockets, path) = bound(&place, OutboxLimits::default());
    let body: Vec<u8> = (0..MAX).map(|n| (n % 251) as u8).collect();
    let (mut large, mut small) = (client(&path), client(&path));
    let sent = std::thread::spawn({
        let body = body.clone();
        move || {
            let answer = large.call(GET, &body).unwrap();
            assert_eq!(answer.len(), 8 * MAX);
            assert!(answer.chunks(MAX).all(|part| part == body));
        }
    });
    let Call { caller, request, .. } = next_call(&mut sockets);
    assert_eq!(request, body);
    sockets.reply(&ReplyTo::Caller(caller), body.repeat(8));
    small.send(GET, b"k").unwrap();
    let asked = next_call(&mut sockets).caller;
    sockets.reply(&ReplyTo::Caller(asked), b"v".to_vec());
    assert_eq!(small.receive().unwrap().1, "v");
    while !sent.is_finished() {
        sockets.wait(Some(Duration::from_millis(10)), &mut Vec::new());
        assert!(sockets.call().is_none());
    }
    sent.join().unwrap();
    assert_eq!((sockets.queued_bytes(), sockets.drops()), (0, Drops::default()));
}

#[test]
fn what_is_no_request_ends_its_connection_only() {
    let place = tempfile::tempdir().unwrap();
    let (mut sockets, path) = bound(&place, OutboxLimits::default());
    let mut good = client(&path);
    for bad in
        [&[0, 0, 0, 4, 1, 1, 1, 1][..], &[0, 0x10, 0, 6], &[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f]]
    {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(bad).unwrap();
        assert!(matches!(next(&mut sockets), Called::Bad(_)), "{bad:?}");
        // Nothing, or that not all was read.
        assert!(!matches!(stream.read(&mut [0; 9]), Ok(1..)));
    }
    std::thread::scope(|scope| {
        scope.spawn(|| good.send(GET, &vec![7; MAX]).unwrap());
        assert_eq!(next_call(&mut sockets).request.len(), MAX);
    });
}

#[test]
fn who_goes_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let (mut sockets, path) = bound(&place, OutboxLimits::default());
    let mut gone = client(&path);
    gone.send(GET, b"k").unwrap();
    let caller = next_call(&mut sockets).caller;
    drop(gone);
    let mut in_the_middle = UnixStream::connect(&path).unwrap();
    in_the_middle.write_all(&[0, 0, 1, 0, 1, 1]).unwrap();
    drop(in_the_middle);
    while sockets.callers() > 0 {
        look(&mut sockets);
    }
    sockets.reply(&ReplyTo::Caller(caller), b"late".to_vec());
    assert_eq!(sockets.drops(), Drops { unreachable: 1, ..Drops::default() });
    let mut impossible = client(&path);
    impossible.send(99, b"").unwrap();
    let caller = next_call(&mut sockets).caller;
    sockets.hang_up(caller);
    assert!(impossible.receive().is_none());
    assert_eq!(sockets.callers(), 0);
}

/// A client that asks and takes nothing, until some of an answer waits here.
fn stall(sockets: &mut Sockets, path: &Path) -> (CallingClient, Caller, usize) {
    let mut client = client(path);
    client.send(GET, b"k").unwrap();
    let caller = next_call(sockets).caller;
    let mut sent = 0;
    while sockets.queued_bytes() == 0 {
        sockets.reply(&ReplyTo::Caller(caller), vec![7; 10_000]);
        sent += 1;
    }
    (client, caller, sent)
}

#[test]
fn a_slow_client_gets_all_its_answers_and_is_asked_for_nothing_more_meanwhile() {
    let place = tempfile::tempdir().unwrap();
    let patient = Duration::from_secs(1_000_000);
    let limits = OutboxLimits { stalled_max: patient, ..OutboxLimits::default() };
    let (mut sockets, path) = bound(&place, limits);
    let (mut client, caller, mut sent) = stall(&mut sockets, &path);
    for _ in 0..100 {
        sockets.reply(&ReplyTo::Caller(caller), vec![7; 10_000]);
        sent += 1;
    }
    client.send(GET, b"more").unwrap();
    for _ in 0..10 {
        sockets.wait(Some(Duration::from_millis(1)), &mut Vec::new());
        assert!(sockets.call().is_none(), "it has enough to take");
    }
    let taken = std::thread::spawn(move || {
        for _ in 0..sent {
            assert_eq!(client.receive().unwrap().1, vec![7; 10_000]);
        }
        client
    });
    assert_eq!(next_call(&mut sockets).request, "more");
    let _client = taken.join().unwrap();
    assert_eq!((sockets.queued_bytes(), sockets.drops()), (0, Drops::default()));
}

#[test]
fn a_client_that_takes_nothing_costs_a_bounded_time_and_room() {
    let place = tempfile::tempdir().unwrap();
    let limits = OutboxLimits { bytes_per_peer_max: 50_000, ..OutboxLimits::default() };
    let stalled_max = limits.stalled_max;
    let (mut sockets, path) = bound(&place, limits);
    let (mut client, _, _) = stall(&mut sockets, &path);
    sockets.tick(stalled_max / 2);
    assert_eq!(sockets.next_tick(), Some(stalled_max));
    assert_eq!(sockets.callers(), 1);
    sockets.tick(stalled_max);
    assert_eq!((sockets.callers(), sockets.queued_bytes()), (0, 0));
    assert_eq!(sockets.drops().stalled, 1);
    assert!(sockets.next_tick().is_none());
    while client.receive().is_some() {}

    let (_greedy, caller, _) = stall(&mut sockets, &path);
    for _ in 0..10 {
        sockets.reply(&ReplyTo::Caller(caller), vec![7; 10_000]);
        assert!(sockets.queued_bytes() <= 50_100);
    }
    assert_eq!(
        (sockets.callers(), sockets.queued_bytes()),
        (0, 0),
        "told by the end of its connection"
    );
    assert!(sockets.drops().full > 0);
}

#[test]
fn a_file_left_by_a_process_that_died_is_no_obstacle() {
    let place = tempfile::tempdir().unwrap();
    let (first, path) = bound(&place, OutboxLimits::default());
    drop(first);
    assert!(path.exists());
    let (mut sockets, _) = bound(&place, OutboxLimits::default());
    client(&path).send(GET, b"k").unwrap();
    assert_eq!(next_call(&mut sockets).request, "k");
    let nowhere = place.path().join("no").join("call");
    let error = sockets.bind_callers(&nowhere, MAX).unwrap_err();
    assert!(error.to_string().contains("no/call"), "{error}");
}
