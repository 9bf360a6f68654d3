//! The Anna client over real sockets, against a store that does as it is told.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use aft::anna::client::{Acks, Client, ClientConfig, ClientError, OpenError, Silent};
use aft::anna::lattice::Lattice;
use aft::transport::{self, OutboxLimits, Sockets};
use aft::wire::anna::key_address_response::KeyAddress;
use aft::wire::anna::{
    AnnaError, KeyAddressRequest, KeyAddressResponse, KeyRequest, KeyResponse, KeyTuple,
    RequestType,
};
use bytes::Bytes;
use futures_util::future::join_all;
use prost::Message;

/// Polls a future on this thread: the client needs no executor of its own.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// What the store remembers and how it behaves; outlives its process, so to say.
#[derive(Default)]
struct State {
    values: Mutex<HashMap<String, KeyTuple>>,
    /// Takes key requests and does not answer.
    is_mute: AtomicBool,
    key_requests: AtomicU64,
}

/// A process of the store: one routing and one storage thread, as one thread of the test.
struct Store {
    state: Arc<State>,
    routing: String,
    storage: String,
    must_stop: Arc<AtomicBool>,
    wake: Arc<transport::Wake>,
    thread: Option<JoinHandle<()>>,
}

const ANY_PORT: &str = "tcp://127.0.0.1:*";

impl Store {
    fn start() -> Self {
        Self::start_at(ANY_PORT, ANY_PORT, Arc::default())
    }

    fn start_at(routing: &str, storage: &str, state: Arc<State>) -> Self {
        let mut sockets = Sockets::new(OutboxLimits::default()).unwrap();
        sockets.bind(routing, 1 << 20).unwrap();
        sockets.bind(storage, 64 << 20).unwrap();
        let endpoint = |number| sockets.inbox(number).unwrap().endpoint().unwrap();
        let (routing, storage) = (endpoint(0), endpoint(1));
        let must_stop = Arc::new(AtomicBool::new(false));
        let wake = sockets.waker();
        let thread = std::thread::spawn({
            let (state, storage, must_stop) = (state.clone(), storage.clone(), must_stop.clone());
            move || serve(&mut sockets, &state, &storage, &must_stop)
        });
        Self { state, routing, storage, must_stop, wake, thread: Some(thread) }
    }

    fn stop(&mut self) {
        self.must_stop.store(true, Ordering::SeqCst);
        transport::Wake::wake(&self.wake);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Starts it again where it was, with nothing in its memory.
    fn restart(&mut self) {
        self.stop();
        self.state.values.lock().unwrap().clear();
        *self = Self::start_at(&self.routing, &self.storage, self.state.clone());
    }

    fn client(&self) -> Client {
        self.client_with(|_| {})
    }

    fn client_with(&self, adjust: impl FnOnce(&mut ClientConfig)) -> Client {
        let mut config =
            ClientConfig { routing: vec![self.routing.clone()], ..ClientConfig::default() };
        adjust(&mut config);
        Client::open(config).unwrap()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(sockets: &mut Sockets, state: &State, storage: &str, must_stop: &AtomicBool) {
    let mut readable = Vec::new();
    let waker = sockets.waker();
    loop {
        waker.may_sleep();
        if must_stop.load(Ordering::SeqCst) {
            return;
        }
        sockets.wait(None, &mut readable);
        sockets.outbox().tick(Duration::ZERO);
        for number in &readable {
            while let Some(message) = sockets.inbox(*number).unwrap().receive() {
                let answer = match number {
                    0 => Some(route(message, storage)),
                    _ => state.answer(message),
                };
                if let Some((address, answer)) = answer {
                    sockets.outbox().send(&address, answer);
                }
            }
        }
    }
}

fn route(message: Bytes, storage: &str) -> (String, Vec<u8>) {
    let request = KeyAddressRequest::decode(message).unwrap();
    let ips = vec![storage.to_owned()];
    let addresses = request.keys.into_iter().map(|key| KeyAddress { key, ips: ips.clone() });
    let answer = KeyAddressResponse {
        addresses: addresses.collect(),
        response_id: request.request_id,
        ..KeyAddressResponse::default()
    };
    (request.response_address, answer.encode_to_vec())
}

impl State {
    fn answer(&self, message: Bytes) -> Option<(String, Vec<u8>)> {
        self.key_requests.fetch_add(1, Ordering::SeqCst);
        if self.is_mute.load(Ordering::SeqCst) {
            return None;
        }
        let request = KeyRequest::decode(message).unwrap();
        let is_put = request.r#type == i32::from(RequestType::Put);
        let mut values = self.values.lock().unwrap();
        let answer = |tuple: KeyTuple| {
            if is_put {
                values.insert(tuple.key.clone(), tuple.clone());
                return KeyTuple { payload: Bytes::new(), ..tuple };
            }
            let error = AnnaError::KeyDne.into();
            let missing = KeyTuple { key: tuple.key.clone(), error, ..KeyTuple::default() };
            values.get(&tuple.key).cloned().unwrap_or(missing)
        };
        let answer = KeyResponse {
            tuples: request.tuples.into_iter().map(answer).collect(),
            response_id: request.request_id,
            ..KeyResponse::default()
        };
        Some((request.response_address, answer.encode_to_vec()))
    }
}

fn lww(text: &str) -> Lattice {
    Lattice::Lww { timestamp: 1, value: Bytes::copy_from_slice(text.as_bytes()) }
}

#[test]
fn values_go_there_and_back() {
    let store = Store::start();
    let client = store.client();
    wait_for(async {
        assert_eq!(client.get("a").await, Ok(None));
        assert_eq!(client.get_from_all("a").await, Ok(None));
        client.put("a", lww("1"), Acks::Any).await.unwrap();
        assert_eq!(client.get("a").await, Ok(Some(lww("1"))));
        let set = Lattice::Set(vec!["x".into(), "y".into()]);
        client.put("s", set.clone(), Acks::All).await.unwrap();
        assert_eq!(client.get("s").await, Ok(Some(set)));
        let large = Lattice::Lww { timestamp: 1, value: vec![7; 5 << 20].into() };
        client.put("large", large.clone(), Acks::Any).await.unwrap();
        assert_eq!(client.get_from_all("large").await, Ok(Some(large)));
    });
    let counters = client.counters();
    assert_eq!((counters.requests, counters.retries, counters.operations_open), (8, 0, 0));
    assert_eq!((counters.lookups, counters.addresses_cached), (3, 3));
}

#[test]
fn many_operations_share_messages() {
    let store = Store::start();
    let client = store.client();
    const EACH: usize = 500;
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let client = client.clone();
            std::thread::spawn(move || {
                let key = |number| format!("{thread} {number}");
                let put =
                    async |number| client.put(&key(number), lww(&key(number)), Acks::Any).await;
                let get = async |number| client.get(&key(number)).await;
                for result in wait_for(join_all((0..EACH).map(put))) {
                    result.unwrap();
                }
                for (number, result) in
                    wait_for(join_all((0..EACH).map(get))).into_iter().enumerate()
                {
                    assert_eq!(result, Ok(Some(lww(&key(number)))));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let counters = client.counters();
    assert_eq!(counters.tuples, 4 * 2 * EACH as u64);
    assert!(counters.requests < counters.tuples / 2, "{counters:?}");
    assert_eq!((counters.retries, counters.late), (0, 0), "{counters:?}");
}

#[test]
fn looked_up_ahead_of_use() {
    let store = Store::start();
    let client = store.client();
    client.prefetch("a");
    client.prefetch("");
    assert_eq!(wait_for(client.get("a")), Ok(None));
    assert_eq!(client.counters().lookups, 1);
}

#[test]
fn touched_ahead_of_use() {
    let store = Store::start();
    let client = store.client();
    client.touch("a");
    client.touch("");
    while client.counters().operations_open > 0 || client.counters().tuples == 0 {
        std::thread::yield_now();
    }
    wait_for(client.put("a", lww("1"), Acks::Any)).unwrap();
    let counters = client.counters();
    assert_eq!((counters.lookups, counters.tuples), (1, 2), "{counters:?}");
}

#[test]
fn an_operation_outlasts_a_restart() {
    let mut store = Store::start();
    let client = store.client_with(|config| config.within = Duration::from_secs(60));
    wait_for(client.put("a", lww("1"), Acks::Any)).unwrap();
    store.stop();
    let waiting = std::thread::spawn({
        let client = client.clone();
        move || wait_for(client.put("a", lww("2"), Acks::Any))
    });
    // At least one try has come to nothing.
    while client.counters().timeouts == 0 {
        std::thread::yield_now();
    }
    store.restart();
    waiting.join().unwrap().unwrap();
    assert_eq!(wait_for(client.get("a")), Ok(Some(lww("2"))));
}

#[test]
fn what_a_dead_server_did_not_get_its_successor_does_not_get_either() {
    let mut store = Store::start();
    let client = store.client_with(|config| {
        config.within = Duration::from_millis(300);
        config.try_within = Duration::from_millis(100);
    });
    let keys: Vec<String> = (0..100).map(|number| format!("{number}")).collect();
    // Their addresses are known.
    wait_for(join_all(keys.iter().map(|key| client.get(key))));
    wait_for(client.put("a", lww("1"), Acks::Any)).unwrap();
    store.stop();
    let put = |key: &String| {
        let (client, key) = (client.clone(), key.clone());
        async move { client.put(&key, lww("late"), Acks::Any).await }
    };
    let lost = wait_for(client.put("a", lww("late"), Acks::Any));
    assert!(matches!(lost, Err(ClientError::TimedOut { .. })), "{lost:?}");
    // By now the broken connection has been noticed, and nothing leaves any more.
    for result in wait_for(join_all(keys.iter().map(put))) {
        assert!(matches!(result, Err(ClientError::TimedOut { sent: false, .. })), "{result:?}");
    }
    store.restart();
    // Connections are served in order, so whatever had waited would come before this.
    while wait_for(client.put("b", lww("2"), Acks::Any)).is_err() {}
    let values = store.state.values.lock().unwrap();
    let late: Vec<_> = values.keys().filter(|key| *key != "b").collect();
    assert!(late.is_empty(), "{late:?}");
}

#[test]
fn a_mute_server_is_named_and_found_again() {
    let store = Store::start();
    let client = store.client_with(|config| {
        config.within = Duration::from_millis(300);
        config.try_within = Duration::from_millis(100);
    });
    wait_for(client.put("a", lww("1"), Acks::Any)).unwrap();
    store.state.is_mute.store(true, Ordering::SeqCst);
    let result = wait_for(client.put("a", lww("2"), Acks::Any));
    let Err(ClientError::TimedOut { sent: true, silent: Silent::Storage(endpoint), .. }) = &result
    else {
        panic!("{result:?}");
    };
    assert_eq!(*endpoint, store.storage);
    let text = result.unwrap_err().to_string();
    assert!(text.contains("may have taken effect"), "{text}");
    assert!(client.counters().resets > 0);
    store.state.is_mute.store(false, Ordering::SeqCst);
    while wait_for(client.put("a", lww("2"), Acks::Any)).is_err() {}
}

#[test]
fn without_a_store_it_is_the_routing_tier_that_is_silent() {
    let mut store = Store::start();
    store.stop();
    let client = store.client_with(|config| config.within = Duration::from_millis(200));
    let result = wait_for(client.get("a"));
    assert!(
        matches!(result, Err(ClientError::TimedOut { sent: false, silent: Silent::Routing, .. })),
        "{result:?}"
    );
}

#[test]
fn limits_are_told_at_once() {
    let store = Store::start();
    store.state.is_mute.store(true, Ordering::SeqCst);
    let client = store.client_with(|config| {
        config.requests_max = 3;
        config.bytes_max = 100_000;
    });
    let mut open: Vec<_> = (0..3).map(|_| Box::pin(client.get("k"))).collect();
    let mut context = Context::from_waker(Waker::noop());
    for future in &mut open {
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(wait_for(client.get("k")), Err(ClientError::Overloaded));
    // To drop a future is to give its operation up.
    open.clear();
    let value = Lattice::Lww { timestamp: 1, value: vec![0; 60_000].into() };
    let mut put = Box::pin(client.put("k", value.clone(), Acks::Any));
    while let Poll::Ready(result) = put.as_mut().poll(&mut context) {
        assert_eq!(result, Err(ClientError::Overloaded));
        put = Box::pin(client.put("k", value.clone(), Acks::Any));
    }
    let other = wait_for(client.put("l", value, Acks::Any));
    assert_eq!(other, Err(ClientError::Overloaded), "together they are too large");
    let large = Lattice::Lww { timestamp: 1, value: vec![0; 200_000].into() };
    let result = wait_for(client.put("m", large, Acks::Any));
    assert!(matches!(result, Err(ClientError::TooLarge { .. })));
    assert!(matches!(wait_for(client.get("")), Err(ClientError::BadKey(_))));
    assert!(matches!(wait_for(client.get(&"k".repeat(40_000))), Err(ClientError::BadKey(_))));
}

#[test]
fn nonsense_is_refused_before_anything_starts() {
    let open = |adjust: fn(&mut ClientConfig)| {
        let mut config = ClientConfig::default();
        adjust(&mut config);
        Client::open(config).map(drop)
    };
    assert!(matches!(open(|c| c.routing.clear()), Err(OpenError::NoRouting)));
    assert!(matches!(open(|c| c.routing = vec!["ipc:///x".into()]), Err(OpenError::BadRouting(_))));
    assert!(matches!(open(|c| c.ip = "0.0.0.0".parse().unwrap()), Err(OpenError::Unspecified(_))));
    // An address for documentation, which no machine has.
    assert!(matches!(open(|c| c.ip = "192.0.2.1".parse().unwrap()), Err(OpenError::Sockets(_))));
}

#[test]
fn the_last_handle_ends_the_thread() {
    let is_running = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
        };
        tasks.map(name).any(|name| name.trim() == "anna-client")
    };
    let client = Client::open(ClientConfig::default()).unwrap();
    let other = client.clone();
    drop(client);
    while !is_running() {
        std::thread::yield_now();
    }
    drop(other);
    while is_running() {
        std::thread::yield_now();
    }
}
