//! What an atomic read costs: looking a key up in the index and choosing the version, as the index,
//! the number of versions, the co-written sets and the transaction's reads grow. Times should stay flat
//! along the first two, and grow by no more than the co-written set along the others.

#![allow(missing_docs)] // The macros of criterion make functions without any.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aft::txn::{
    AttemptId, Choice, Commit, Consistency, IdSource, Key, ReadAtomic, ReadSet, Timestamp, Version,
    VersionIndex, WrittenKey,
};
use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main,
};
use foldhash::fast::FixedState;

/// Cases with more commits take too long to prepare, and too much memory.
const COMMITS_MAX: usize = 1_000_000;
/// Enough different keys that the caches of the processor are no help with a large index.
const KEYS_READ: usize = 1 << 16;

/// One index to read from.
struct World {
    index: VersionIndex,
    keys: Vec<Key>,
    cowritten: usize,
}

impl World {
    /// Keys are written in groups of `cowritten`, each group `versions` times.
    fn new(keys: usize, versions: usize, cowritten: usize) -> Self {
        let keys: Vec<Key> = (0..keys).map(key).collect();
        let mut index = VersionIndex::new(&FixedState::with_seed(1));
        let mut ids = IdSource::new(1);
        for version in 1..=versions {
            for group in keys.chunks(cowritten) {
                index.install(&commit(ids.base(version as u64), version as u64 * 4096, group));
            }
        }
        Self { index, keys, cowritten }
    }

    /// Keys to read, far apart from one another.
    fn keys_read(&self) -> Vec<Key> {
        let step = 7_919 * self.cowritten;
        let places = (0..KEYS_READ).map(|n| n * step % self.keys.len());
        places.filter_map(|place| self.keys.get(place).cloned()).collect()
    }

    /// The reads of a transaction that has read the newest version of some keys.
    fn reads(&self, count: usize) -> ReadSet {
        let mut reads = ReadSet::new(&FixedState::with_seed(1));
        for key in self.keys.iter().step_by(self.cowritten).take(count) {
            if let Some(newest) = self.index.known(key).versions.last() {
                reads.pin_committed(key.clone(), newest.clone());
            }
        }
        reads
    }
}

fn key(number: usize) -> Key {
    Key::parse(&format!("user/{number:08}")).unwrap_or_else(|why| panic!("{why}"))
}

fn commit(writer: AttemptId, timestamp: u64, keys: &[Key]) -> Arc<Commit> {
    let timestamp = Timestamp(timestamp);
    let written = |key: &Key| WrittenKey { key: key.clone(), fresh: false };
    let keys = keys.iter().map(written).collect();
    Arc::new(Commit::new(Version { timestamp, writer }, keys, "bench".into()))
}

fn read(criterion: &mut Criterion) {
    let mut group = begin(criterion, "read");
    for keys in [1_000, 100_000, 1_000_000] {
        for versions in [1, 10, 100] {
            for cowritten in [1, 16] {
                if keys * versions / cowritten <= COMMITS_MAX {
                    read_world(&mut group, keys, versions, cowritten);
                }
            }
        }
    }
}

fn read_world(
    group: &mut BenchmarkGroup<'_, WallTime>,
    keys: usize,
    versions: usize,
    cowritten: usize,
) {
    let world = World::new(keys, versions, cowritten);
    let keys_read = world.keys_read();
    for read_before in [0, 16] {
        let reads = world.reads(read_before);
        let name =
            format!("keys={keys} versions={versions} cowritten={cowritten} read={read_before}");
        let mut next = keys_read.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| next.next().map(|key| choose(&world.index, key, &reads)));
        });
    }
}

fn choose(index: &VersionIndex, key: &Key, reads: &ReadSet) -> Choice {
    black_box(ReadAtomic.choose(key, index.known(key), reads))
}

/// A new commit into an index that has `versions` of each of its keys already.
fn install(criterion: &mut Criterion) {
    let mut group = begin(criterion, "install");
    for keys in [1_000, 100_000] {
        for versions in [1, 100] {
            for cowritten in [1, 16] {
                if keys * versions / cowritten <= COMMITS_MAX {
                    install_world(&mut group, keys, versions, cowritten);
                }
            }
        }
    }
}

fn install_world(
    group: &mut BenchmarkGroup<'_, WallTime>,
    keys: usize,
    versions: usize,
    cowritten: usize,
) {
    let mut world = World::new(keys, versions, cowritten);
    let mut ids = IdSource::new(2);
    let groups: Vec<Vec<Key>> = world.keys.chunks(cowritten).map(<[Key]>::to_vec).collect();
    let mut next = groups.iter().cycle();
    let mut timestamp = 1 << 40;
    let mut make = || {
        timestamp += 4_096;
        commit(ids.base(timestamp), timestamp, next.next().map_or(&[], |keys| keys))
    };
    let name = format!("keys={keys} versions={versions} cowritten={cowritten}");
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.iter_batched(
            &mut make,
            |commit| world.index.install(&commit),
            BatchSize::SmallInput,
        );
    });
}

/// Many cases, each short.
fn begin<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    group
}

criterion_group!(benches, read, install);
criterion_main!(benches);
