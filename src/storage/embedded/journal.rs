//! Reads fjall's journal before fjall does, to tell a batch that a crash cut short from damage.
//!
//! fjall takes whatever it cannot read for a torn end, and cuts the journal there: one changed bit in
//! the middle, and all commits behind it are gone without a word. What is torn can be told from what
//! is damaged, because the writer syncs each batch before it begins the next: only the very last one
//! can be incomplete, and only if it was not acknowledged.
//!
//! A journal is a file `<number>.jnl`. Numbers follow each other; the greatest is written to, the
//! others wait until their content is in data files. A file holds batches, then zeros that were
//! allocated in advance. All numbers are little endian:
//!
//! ```text
//! batch  = start item* end
//! start  = 1 count:u32 engine_sequence:u64
//! item   = 2 kind:u8 compression:u8 keyspace:u64 key_len:u16 value_len:u32 stored_len:u32 key value
//! end    = 3 xxh3 of the items:u64 "FJL" 3
//! ```
//!
//! The first item of each batch is ours, a [`Header`]: it numbers the batches.
//!
//! When the store is closed, all that its journal holds is written to data files, and the journal is
//! emptied (fjall would read it and find everything there already). An empty journal has no last batch;
//! that the data files tell of the one that was acknowledged is looked at once fjall has opened them.

use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use super::OpenError;
use super::directory::{self, at};

const TRAILER: &[u8; 4] = b"FJL\x03";
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
/// As much as is read at once, as journals mostly end with much more of them.
const ZEROS: [u8; 1 << 14] = [0; 1 << 14];
/// How far the engine's own counter may run ahead between a batch's header and its start.
const ENGINE_SEQUENCE_SLACK: u64 = 1 << 16;

/// What each batch says about itself, and the engine then keeps as the store's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    /// The batch's number. The first is 1.
    pub batch: u64,
    /// The number of the log entry that will be written next.
    pub next_entry: u64,
    /// The engine's sequence number, at least, of the batch.
    pub engine_sequence: u64,
}

impl Header {
    pub const BYTES: usize = 24;

    /// The key of the header. It holds the store's id, which no value handed to the store knows, so
    /// that no value can be mistaken for a batch.
    pub fn key(store: Uuid) -> [u8; 21] {
        let mut key = *b"batch................";
        key[5..].copy_from_slice(store.as_bytes());
        key
    }

    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields = [self.batch, self.next_entry, self.engine_sequence];
        for (field, bytes) in fields.into_iter().zip(bytes.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let field = |n: usize| bytes.get(n * 8..)?.first_chunk().copied().map(u64::from_be_bytes);
        (bytes.len() == Self::BYTES).then_some(Self {
            batch: field(0)?,
            next_entry: field(1)?,
            engine_sequence: field(2)?,
        })
    }
}

/// Refuses journals that are damaged, and cuts off a batch that a crash left incomplete.
pub(super) fn check(db: &Path, store: Uuid, acknowledged: u64) -> Result<(), OpenError> {
    let journals = list(db)?;
    let mut last = None;
    for (n, journal) in journals.iter().enumerate() {
        let broken_at = match scan(journal, store, &mut last)? {
            Scan::Whole => continue,
            Scan::Broken(offset) => offset,
        };
        let mut behind = headers_behind(journal, broken_at, store)?;
        for later in &journals[n + 1..] {
            behind.extend(headers_behind(later, 0, store)?);
        }
        return cut(journal, broken_at, last, &behind, acknowledged);
    }
    match last {
        Some(last) if last.batch < acknowledged => damaged(
            journals.last().map_or(db, |path| path),
            format!("it ends with batch {}, but batch {acknowledged} was acknowledged", last.batch),
        ),
        _ => Ok(()),
    }
}

/// Decides about the bytes from `offset` on, which are not whole batches. `behind` are the batches
/// whose beginnings are found in and behind them.
fn cut(
    journal: &Path,
    offset: u64,
    last: Option<Header>,
    behind: &[u64],
    acknowledged: u64,
) -> Result<(), OpenError> {
    let torn = last.map(|last| last.batch + 1).or(behind.first().copied());
    if behind.len() > 1 || behind.iter().any(|&batch| Some(batch) != torn) {
        let what = format!("the batch at byte {offset} cannot be read, and others follow it");
        return damaged(journal, what);
    }
    match torn {
        Some(torn) if torn <= acknowledged => damaged(
            journal,
            format!("batch {torn}, at byte {offset}, was acknowledged and cannot be read"),
        ),
        // Before the first batch that a journal tells about, only the engine knows what was last.
        None => Ok(()),
        Some(torn) => {
            let path = journal.display();
            tracing::info!(%path, offset, torn, "cutting off a batch that was never acknowledged");
            cut_at(journal, offset)
        }
    }
}

fn cut_at(journal: &Path, offset: u64) -> Result<(), OpenError> {
    let cut = || {
        let file = File::options().write(true).open(journal)?;
        file.set_len(offset)?;
        file.sync_all()
    };
    cut().map_err(at(journal))
}

/// Empties the journal of a closed engine, when data files have all that it holds.
pub(super) fn clear(db: &Path) -> Result<(), OpenError> {
    // fjall has removed the others, unless it still wants them.
    let [journal] = &list(db)?[..] else {
        return Ok(());
    };
    // Were an older journal there again after a power failure, it would seem to be the last.
    directory::sync(db)?;
    cut_at(journal, 0)
}

/// The journals, oldest first.
fn list(db: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(db).map_err(at(db))? {
        let name = entry.map_err(at(db))?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_suffix(".jnl")) else {
            continue;
        };
        match number.parse::<u64>() {
            Ok(number) => numbers.push(number),
            Err(_) => return damaged(&db.join(name), "this is not the name of a journal".into()),
        }
    }
    numbers.sort_unstable();
    let path = |number: u64| db.join(format!("{number}.jnl"));
    if numbers.is_empty() {
        return damaged(db, "its journal is missing".into());
    }
    for pair in numbers.windows(2) {
        if pair[1] != pair[0] + 1 {
            return damaged(&path(pair[0] + 1), "this journal is missing".into());
        }
    }
    Ok(numbers.into_iter().map(path).collect())
}

enum Scan {
    Whole,
    /// Not readable as batches from this byte on.
    Broken(u64),
}

/// Reads a journal's batches. `last` is the last batch before, and becomes the last that was read.
fn scan(path: &Path, store: Uuid, last: &mut Option<Header>) -> Result<Scan, OpenError> {
    let file = File::open(path).map_err(at(path))?;
    let mut reader = Reader {
        left: file.metadata().map_err(at(path))?.len(),
        file: BufReader::with_capacity(1 << 16, file),
        offset: 0,
        key: Header::key(store),
    };
    loop {
        let begin = reader.offset;
        match reader.batch() {
            Ok(Some((header, engine_sequence))) if last.is_none_or(|last| header.follows(last)) => {
                *last = Some(Header { engine_sequence, ..header });
            }
            Ok(None) => return Ok(Scan::Whole),
            Ok(Some(_)) => return Ok(Scan::Broken(begin)),
            Err(Unreadable::Broken) => {
                let zeros = reader.only_zeros_from(begin).map_err(at(path))?;
                return Ok(if zeros { Scan::Whole } else { Scan::Broken(begin) });
            }
            Err(Unreadable::Io(error)) => return Err(at(path)(error)),
        }
    }
}

impl Header {
    /// No checksum covers the sequence number of `last`; this tells if it was changed.
    fn follows(&self, last: Self) -> bool {
        self.batch == last.batch + 1 && self.engine_sequence > last.engine_sequence
    }
}

enum Unreadable {
    Broken,
    Io(io::Error),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::Broken,
            _ => Self::Io(error),
        }
    }
}

struct Reader {
    file: BufReader<File>,
    offset: u64,
    /// Bytes behind `offset`.
    left: u64,
    key: [u8; 21],
}

impl Reader {
    /// The next batch and its sequence number; `None` at the end of the file.
    fn batch(&mut self) -> Result<Option<(Header, u64)>, Unreadable> {
        if self.left == 0 {
            return Ok(None);
        }
        let [START] = self.take()? else {
            return Err(Unreadable::Broken);
        };
        let count = u32::from_le_bytes(self.take()?);
        let engine_sequence = u64::from_le_bytes(self.take()?);
        let mut hash = Xxh3::new();
        let mut header = None;
        for n in 0..count {
            let found = self.item(&mut hash)?;
            if n == 0 {
                header = found;
            }
        }
        let [END] = self.take()? else {
            return Err(Unreadable::Broken);
        };
        let checksum = u64::from_le_bytes(self.take()?);
        let trailer = self.take()?;
        let header = header.ok_or(Unreadable::Broken)?;
        let expected =
            header.engine_sequence..header.engine_sequence.saturating_add(ENGINE_SEQUENCE_SLACK);
        let is_whole =
            checksum == hash.digest() && trailer == *TRAILER && expected.contains(&engine_sequence);
        if is_whole { Ok(Some((header, engine_sequence))) } else { Err(Unreadable::Broken) }
    }

    /// Reads an item into the checksum; answers the header if it is one.
    fn item(&mut self, hash: &mut Xxh3) -> Result<Option<Header>, Unreadable> {
        let fields: [u8; 21] = self.take()?;
        let [ITEM, ..] = fields else {
            return Err(Unreadable::Broken);
        };
        hash.update(&fields);
        let key_bytes = u64::from(u16::from_le_bytes([fields[11], fields[12]]));
        let stored = [fields[17], fields[18], fields[19], fields[20]];
        let bytes = key_bytes + u64::from(u32::from_le_bytes(stored));
        if bytes > self.left {
            return Err(Unreadable::Broken);
        }
        if bytes == (self.key.len() + Header::BYTES) as u64 {
            let content: [u8; 21 + Header::BYTES] = self.take()?;
            hash.update(&content);
            let (key, value) = content.split_at(self.key.len());
            let header = Header::decode(value).filter(|_| key == self.key);
            return Ok(header);
        }
        self.skip(bytes, |part| hash.update(part))?;
        Ok(None)
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.advance(N as u64);
        Ok(bytes)
    }

    fn skip(&mut self, mut bytes: u64, mut show: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = ZEROS;
        while bytes > 0 {
            let part = bytes.min(buffer.len() as u64);
            let part = &mut buffer[..part as usize];
            self.file.read_exact(part)?;
            show(part);
            bytes -= part.len() as u64;
            self.advance(part.len() as u64);
        }
        Ok(())
    }

    fn advance(&mut self, bytes: u64) {
        self.offset += bytes;
        self.left = self.left.saturating_sub(bytes);
    }

    fn only_zeros_from(&mut self, offset: u64) -> io::Result<bool> {
        let end = self.offset + self.left;
        self.file.seek(SeekFrom::Start(offset))?;
        let mut zeros = true;
        self.skip(end - offset, |part| zeros &= *part == ZEROS[..part.len()])?;
        Ok(zeros)
    }
}

/// The numbers of the batches that begin at or behind `offset`.
fn headers_behind(path: &Path, offset: u64, store: Uuid) -> Result<Vec<u64>, OpenError> {
    const CHUNK_BYTES: usize = 1 << 20;
    let key = Header::key(store);
    let needed = key.len() + Header::BYTES;
    let search = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let (mut batches, mut window) = (Vec::new(), Vec::new());
        loop {
            let read = (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut window)?;
            batches.extend(window.windows(needed).filter_map(|candidate| {
                let value = candidate.strip_prefix(&key)?;
                Header::decode(value).map(|header| header.batch)
            }));
            if read == 0 {
                return Ok(batches);
            }
            // What begins in the last bytes is complete only in the next round.
            window.drain(..window.len().saturating_sub(needed - 1));
        }
    };
    search().map_err(at(path))
}

fn damaged<T>(path: &Path, what: String) -> Result<T, OpenError> {
    Err(OpenError::Damaged { path: path.to_owned(), what })
}
