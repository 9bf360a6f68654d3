//! Random weather: whatever happens to messages, each operation ends once, in time, and rightly.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::super::*;
use super::bench::*;
use crate::anna::client::Acks;
use crate::wire::anna::{AnnaError, KeyAddressRequest, KeyRequest, KeyTuple};

/// How likely it is, in percent, that something goes wrong.
#[derive(Debug, Clone)]
struct Weather {
    lost: u32,
    repeated: u32,
    wrong: u32,
    no_servers: u32,
    split: bool,
}

fn weather() -> impl Strategy<Value = Weather> {
    (0..50u32, 0..30u32, 0..30u32, 0..30u32, any::<bool>()).prop_map(
        |(lost, repeated, wrong, no_servers, split)| Weather {
            lost,
            repeated,
            wrong,
            no_servers,
            split,
        },
    )
}

/// Messages that are under way to the client, by the time at which they arrive.
struct World {
    weather: Weather,
    rng: fastrand::Rng,
    arriving: BTreeMap<(Duration, u64), Event>,
    count: u64,
    /// What is stored, by thread and key. Values differ by key.
    stored: HashMap<(String, String), ()>,
}

impl World {
    fn happens(&mut self, percent: u32) -> bool {
        self.rng.u32(..100) < percent
    }

    fn deliver(&mut self, now: Duration, event: impl Fn() -> Event) {
        let copies = if self.happens(self.weather.repeated) { 2 } else { 1 };
        for _ in 0..copies {
            if self.happens(self.weather.lost) {
                continue;
            }
            let longest = if self.happens(10) { 2_000 } else { 5 };
            let delay = Duration::from_millis(self.rng.u64(..longest));
            self.count += 1;
            self.arriving.insert((now + delay, self.count), event());
        }
    }

    fn route(&mut self, now: Duration, lookup: &KeyAddressRequest) {
        let servers: &[&str] = if self.happens(self.weather.no_servers) { &[] } else { &[A, B] };
        let answer = addresses(lookup, servers);
        self.deliver(now, || Event::AddressAnswer(answer.clone()));
    }

    fn serve(&mut self, now: Duration, at: &str, request: &KeyRequest) {
        if self.happens(self.weather.lost) {
            return;
        }
        let mut tuples = Vec::new();
        for tuple in &request.tuples {
            let key = tuple.key.as_str();
            let place = (at.to_owned(), key.to_owned());
            tuples.push(if self.happens(self.weather.wrong) {
                failed(key, AnnaError::WrongThread)
            } else if is_put(request) {
                self.stored.insert(place, ());
                stored(key)
            } else if self.stored.contains_key(&place) {
                KeyTuple { invalidate: self.happens(20), ..value(key, key) }
            } else {
                failed(key, AnnaError::KeyDne)
            });
        }
        let parts = if self.weather.split { 1 } else { tuples.len() };
        for part in tuples.chunks(parts) {
            let answer = response(request, part.to_vec());
            self.deliver(now, || Event::KeyAnswer(answer.clone()));
        }
    }
}

fn run(weather: Weather, asks: Vec<(u8, u8, u64)>, seed: u64) -> Result<(), TestCaseError> {
    let mut bench = Bench::new();
    let rng = fastrand::Rng::with_seed(seed);
    let mut world =
        World { weather, rng, arriving: BTreeMap::new(), count: 0, stored: HashMap::new() };
    let mut began = HashMap::new();
    let mut ended: HashMap<OpId, Answer> = HashMap::new();
    let begin = bench.now;
    let mut starts: Vec<_> = asks
        .iter()
        .map(|(kind, key, at)| {
            (begin + Duration::from_millis(*at), *kind, format!("key {}", key % 6))
        })
        .collect();
    starts.sort();
    starts.reverse();
    loop {
        let arrives = world.arriving.first_key_value().map(|((at, _), _)| *at);
        let starts_at = starts.last().map(|(at, ..)| *at);
        let next = [arrives, starts_at, bench.core.next_deadline()];
        let Some(next) = next.into_iter().flatten().min() else {
            break;
        };
        bench.now = bench.now.max(next);
        bench.events([Event::Tick]);
        while let Some((at, kind, key)) = starts.pop_if(|(at, ..)| *at <= bench.now) {
            let ask = match kind % 4 {
                0 => get(),
                1 => Ask::Get { whom: Whom::UntilFound },
                2 => put(Acks::Any),
                _ => put(Acks::All),
            };
            for op in bench.start(&[(key.as_str(), ask.clone())]) {
                began.insert(op, (at, key.clone(), ask.clone()));
            }
        }
        while let Some(entry) = world.arriving.first_entry().filter(|e| e.key().0 <= bench.now) {
            let event = entry.remove();
            bench.events([event]);
        }
        let now = bench.now;
        for lookup in std::mem::take(&mut bench.lookups) {
            world.route(now, &lookup.message);
        }
        for request in std::mem::take(&mut bench.key_requests) {
            prop_assert!(request.until <= now + WITHIN);
            world.serve(now, &request.to, &request.message);
        }
        for (op, result) in std::mem::take(&mut bench.done) {
            let (at, key, ask) = &began[&op];
            prop_assert!(now <= *at + WITHIN, "late: {now:?} after {at:?}");
            judge(&world, key, ask, &result)?;
            prop_assert!(ended.insert(op, result).is_none(), "ended twice");
        }
    }
    prop_assert_eq!(ended.len(), began.len());
    bench.assert_clean();
    if world.weather.lost == 0 && world.weather.wrong == 0 && world.weather.no_servers == 0 {
        prop_assert!(ended.values().all(Result::is_ok), "{:?}", ended);
    }
    Ok(())
}

/// Nothing is ever removed, so what is found now says much about what was true then.
fn judge(world: &World, key: &str, ask: &Ask, result: &Answer) -> Result<(), TestCaseError> {
    let holders =
        [A, B].iter().filter(|at| world.stored.contains_key(&((**at).to_owned(), key.to_owned())));
    let holders = holders.count();
    match (ask, result) {
        (Ask::Get { .. }, Ok(Some(Lattice::Lww { value, .. }))) => {
            prop_assert_eq!(value, key.as_bytes());
            prop_assert!(holders > 0);
        }
        (Ask::Put { acks: Acks::Any, .. }, Ok(None)) => prop_assert!(holders > 0),
        (Ask::Put { acks: Acks::All, .. }, Ok(None)) => prop_assert_eq!(holders, 2),
        (Ask::Get { .. }, Ok(None)) => {}
        (_, Err(ClientError::TimedOut { .. } | ClientError::NoServers(_))) => {}
        (_, other) => prop_assert!(false, "{other:?}"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn each_operation_ends_once_and_in_time(
        weather in weather(),
        asks in prop::collection::vec((any::<u8>(), any::<u8>(), 0..3_000u64), 1..60),
        seed in any::<u64>(),
    ) {
        run(weather, asks, seed)?;
    }
}
