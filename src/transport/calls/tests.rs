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
            let answer = [&[kind][..], b"/", &request.unwrap()].concat();
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
    assert_eq!(request.unwrap(), body);
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
        [&[0, 0, 0, 4, 1, 1, 1, 1][..], &[0, 0x40, 0, 6], &[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f]]
    {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(bad).unwrap();
        assert!(matches!(next(&mut sockets), Called::Bad(_)), "{bad:?}");
        // Nothing, or that not all was read.
        assert!(!matches!(stream.read(&mut [0; 9]), Ok(1..)));
    }
    std::thread::scope(|scope| {
        scope.spawn(|| good.send(GET, &vec![7; MAX]).unwrap());
        assert_eq!(next_call(&mut sockets).request.unwrap().len(), MAX);
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
    let (mut sent, before) = (0, sockets.queued_bytes());
    while sockets.queued_bytes() == before {
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
    assert_eq!(next_call(&mut sockets).request.unwrap(), "more");
    let _client = taken.join().unwrap();
    assert_eq!((sockets.queued_bytes(), sockets.drops()), (0, Drops::default()));
}

#[test]
fn a_client_that_takes_nothing_is_given_up_in_time() {
    let place = tempfile::tempdir().unwrap();
    let limits = OutboxLimits::default();
    let stalled_max = limits.stalled_max;
    let (mut sockets, path) = bound(&place, limits);
    // Whenever that was; nobody looked at the clock meanwhile.
    sockets.tick(10 * stalled_max);
    let (mut client, _, _) = stall(&mut sockets, &path);
    sockets.tick(10 * stalled_max + stalled_max / 2);
    assert_eq!(sockets.next_tick(), Some(11 * stalled_max));
    assert_eq!(sockets.callers(), 1);
    sockets.tick(11 * stalled_max);
    assert_eq!((sockets.callers(), sockets.queued_bytes()), (0, 0));
    assert_eq!(sockets.drops().stalled, 1);
    assert!(sockets.next_tick().is_none());
    while client.receive().is_some() {}
}

#[test]
fn while_this_process_stands_still_nobody_is_given_up() {
    let place = tempfile::tempdir().unwrap();
    let limits = OutboxLimits::default();
    let stalled_max = limits.stalled_max;
    let (mut sockets, path) = bound(&place, limits);
    let (_client, _, _) = stall(&mut sockets, &path);
    sockets.tick(3 * stalled_max);
    assert_eq!((sockets.callers(), sockets.next_tick()), (1, Some(4 * stalled_max)));
}

#[test]
fn half_a_request_is_waited_for_as_long() {
    let place = tempfile::tempdir().unwrap();
    let limits = OutboxLimits::default();
    let stalled_max = limits.stalled_max;
    let (mut sockets, path) = bound(&place, limits);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(&[0, 0, 1, 0, 1, 1]).unwrap();
    while sockets.next_tick().is_none() {
        look(&mut sockets);
    }
    sockets.tick(stalled_max / 2);
    stream.write_all(&[1]).unwrap();
    while sockets.next_tick() == Some(stalled_max) {
        look(&mut sockets);
    }
    sockets.tick(stalled_max);
    assert_eq!(sockets.callers(), 1, "something came meanwhile");
    sockets.tick(stalled_max * 3 / 2);
    assert_eq!(sockets.callers(), 0);
}

#[test]
fn who_does_nothing_for_longest_makes_room() {
    let place = tempfile::tempdir().unwrap();
    let limits = OutboxLimits { bytes_max: 3_000_000, ..OutboxLimits::default() };
    let (mut sockets, path) = bound(&place, limits);
    let mut stalled: Vec<_> = (1..=3)
        .map(|number| {
            sockets.tick(Duration::from_millis(number));
            let (client, caller, _) = stall(&mut sockets, &path);
            sockets.reply(&ReplyTo::Caller(caller), vec![7; 900_000]);
            client
        })
        .collect();
    assert_eq!((sockets.callers(), sockets.drops().full), (3, 0));
    sockets.tick(Duration::from_millis(4));
    let (mut reading, caller, sent) = stall(&mut sockets, &path);
    for _ in 0..8 {
        sockets.reply(&ReplyTo::Caller(caller), vec![8; 200_000]);
    }
    assert_eq!(sockets.callers(), 2, "two of those that read nothing have made room");
    assert!(sockets.queued_bytes() <= 3_000_000);
    let taken = std::thread::spawn(move || (0..sent + 8).all(|_| reading.receive().is_some()));
    while !taken.is_finished() {
        sockets.wait(Some(Duration::from_millis(10)), &mut Vec::new());
        assert!(sockets.call().is_none());
    }
    assert!(taken.join().unwrap());
    let gone: Vec<_> = stalled
        .iter_mut()
        .map(|client| {
            while let Some((_, answer)) = client.receive() {
                if answer.len() == 900_000 {
                    return false;
                }
            }
            true
        })
        .take(2)
        .collect();
    assert_eq!(gone, [true, true]);
}

#[test]
fn all_have_their_turns() {
    let place = tempfile::tempdir().unwrap();
    let (mut sockets, path) = bound(&place, OutboxLimits::default());
    let mut many = UnixStream::connect(&path).unwrap();
    let requests = request(1, GET, b"k").unwrap().repeat(4_000);
    many.write_all(&requests).unwrap();
    next_call(&mut sockets);
    let mut one = client(&path);
    one.send(GET, b"one").unwrap();
    let before = std::iter::from_fn(|| Some(next_call(&mut sockets).request.unwrap()))
        .take_while(|request| request != "one");
    assert!(before.count() <= 3);
}

#[test]
fn what_was_asked_for_is_taken_although_nobody_waits_for_the_answer() {
    let place = tempfile::tempdir().unwrap();
    let (mut sockets, path) = bound(&place, OutboxLimits::default());
    let mut hasty = client(&path);
    for request in [b"1", b"2", b"3"] {
        hasty.send(GET, request).unwrap();
    }
    drop(hasty);
    for number in ["1", "2", "3"] {
        let call = next_call(&mut sockets);
        assert_eq!(call.request.unwrap(), number);
        sockets.reply(&ReplyTo::Caller(call.caller), b"v".to_vec());
    }
    while sockets.callers() > 0 {
        look(&mut sockets);
    }
    assert_eq!(sockets.drops().unreachable, 3);
}

#[test]
fn what_is_too_large_is_answered_and_not_kept() {
    let place = tempfile::tempdir().unwrap();
    let (mut sockets, path) = bound(&place, OutboxLimits::default());
    let mut client = client(&path);
    let sending = std::thread::spawn(move || {
        client.send(GET, &vec![7; 3 * MAX]).unwrap();
        client.send(GET, b"next").unwrap();
        client
    });
    let call = next_call(&mut sockets);
    assert_eq!(call.request, Err(TooLarge { bytes: 3 * MAX }));
    sockets.reply(&ReplyTo::Caller(call.caller), b"too large".to_vec());
    assert_eq!(next_call(&mut sockets).request.unwrap(), "next");
    assert_eq!(sending.join().unwrap().receive().unwrap().1, "too large");
}

#[test]
fn a_file_left_by_a_process_that_died_is_no_obstacle() {
    let place = tempfile::tempdir().unwrap();
    let (first, path) = bound(&place, OutboxLimits::default());
    drop(first);
    assert!(path.exists());
    let (mut sockets, _) = bound(&place, OutboxLimits::default());
    client(&path).send(GET, b"k").unwrap();
    assert_eq!(next_call(&mut sockets).request.unwrap(), "k");
    let nowhere = place.path().join("no").join("call");
    let error = sockets.bind_callers(&nowhere, MAX).unwrap_err();
    assert!(error.to_string().contains("no/call"), "{error}");
}
