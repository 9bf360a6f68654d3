//! Reading the commit log.
//!
//! An entry gets its number inside the script that decides the commit, so the entries of a partition
//! appear in the order of their numbers and none can appear behind a position that was handed out. The
//! numbers are counted apart from the entries, so that deleting these does not make one come twice.
//!
//! After a failover that lost writes the count goes on from what the replica knew: numbers that a follower
//! has passed are given again. A position therefore names the histories of the servers (`master_replid`,
//! which a promoted or restarted server changes), and one of another history is read from the beginning.
//! The history is asked for before the log: asked for afterwards, a failover in between would be missed.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::try_join_all;
use redis::{FromRedisValue, Value};
use xxhash_rust::xxh3::xxh3_64;

use super::super::{LogPage, LogPosition, LogScope, StorageError, codec};
use super::check::Info;
use super::fault::Fault;
use super::names::{Names, Partition};
use super::outcomes::{self, Writer};
use super::server::{Server, string};

/// Entries of one page, over all partitions.
const ENTRIES_MAX: usize = 1024;
/// Bytes of records after which a partition's part of a page ends.
const BYTES_MAX: usize = 1 << 20;

/// What was handed out.
struct Position {
    history: u64,
    /// The last number, of each partition.
    numbers: Vec<u64>,
}

impl Position {
    fn start(history: u64, partitions: usize) -> Self {
        Self { history, numbers: vec![0; partitions] }
    }

    fn decode(position: &LogPosition) -> Option<Self> {
        let mut bytes = position.0.clone();
        let history = bytes.try_get_u64().ok()?;
        let numbers = std::iter::from_fn(|| bytes.try_get_u64().ok()).collect();
        Some(Self { history, numbers })
    }

    fn encode(&self) -> LogPosition {
        let mut bytes = BytesMut::new();
        bytes.put_u64(self.history);
        self.numbers.iter().for_each(|number| bytes.put_u64(*number));
        LogPosition(bytes.freeze())
    }
}

/// The part of a page that comes from one partition.
struct Part {
    last: u64,
    more: bool,
    outcomes: Vec<Bytes>,
}

/// The page behind `position`.
pub(super) async fn page(
    server: &Server,
    names: &Names,
    writer: Writer,
    position: &LogPosition,
    scope: LogScope,
) -> Result<LogPage, StorageError> {
    let history = history(server).await?;
    let partitions = names.partitions();
    let start = Position::start(history, partitions.len());
    let from = if position.0.is_empty() {
        start
    } else {
        let fits = |from: &Position| from.numbers.len() == partitions.len();
        let from = Position::decode(position).filter(fits).ok_or_else(|| {
            let why = "the log position is not one of this store; read the log from its beginning";
            StorageError::Refused(why.into())
        })?;
        if from.history == history {
            from
        } else {
            tracing::info!("Redis was restarted or failed over; its commit log is read again");
            start
        }
    };
    // No outcome begins with nothing.
    let left_out = match scope {
        LogScope::All => &[][..],
        LogScope::Others => &writer.0[..],
    };
    let each = (ENTRIES_MAX / partitions.len()).max(16);
    let parts = partitions.iter().zip(&from.numbers);
    let parts = parts.map(|(partition, behind)| part(server, partition, *behind, each, left_out));
    let parts = try_join_all(parts).await?;
    let next = Position { history, numbers: parts.iter().map(|part| part.last).collect() };
    let end = !parts.iter().any(|part| part.more);
    let stored = parts.into_iter().flat_map(|part| part.outcomes);
    let commits = stored.map(|stored| codec::decode_commit(outcomes::record(stored)?));
    Ok(LogPage { commits: commits.collect::<Result<_, _>>()?, next: next.encode(), end })
}

async fn part(
    server: &Server,
    partition: &Partition,
    behind: u64,
    entries_max: usize,
    left_out: &[u8],
) -> Result<Part, Fault> {
    let script = &server.scripts().page;
    let mut call = script.call(&[&partition.outcomes, &partition.log]);
    call.arg(behind).arg(entries_max).arg(BYTES_MAX).arg(left_out);
    let answer = server.run(script, call).await?;
    let wrong = || Fault::Other("the log was answered as something else".to_owned());
    let Value::Array(answer) = answer else { return Err(wrong()) };
    let mut answer = answer.into_iter();
    let mut number =
        || answer.next().and_then(|value| u64::from_redis_value(value).ok()).ok_or_else(wrong);
    let (last, more) = (number()?, number()? == 1);
    let outcomes = answer.filter_map(|value| string(value).transpose());
    Ok(Part { last, more, outcomes: outcomes.collect::<Result<_, _>>()? })
}

/// A number that changes when the servers' history does. Where they do not tell, it never changes.
async fn history(server: &Server) -> Result<u64, Fault> {
    let mut question = Info::question();
    question.arg("replication");
    let answers = match server.ask_masters(&question).await {
        Err(Fault::Refused(_) | Fault::Other(_)) => return Ok(0),
        answers => answers?,
    };
    let mut ids: Vec<_> = answers
        .into_iter()
        .map(|(_, answer)| Info::of(answer).get("master_replid").unwrap_or_default().to_owned())
        .collect();
    ids.sort();
    Ok(xxh3_64(ids.join(" ").as_bytes()))
}
