//! One process that puts load on a sidecar (or on the floor) and times each request.
//!
//! A time is that from handing a request to its socket until its answer was received: making the one
//! and understanding the other is the client's own business.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::{Args, ValueEnum};

use super::messages::{self, Requests, key, request_id};
use super::stats::{Measured, Times};
use super::{BenchError, system};
use crate::frontend::ipc::{CALL, Kind};
use crate::transport::{CallingClient, Client, ClientContext};
use crate::wire::TransactionStatus;

/// How long an answer may take. After that the measurement is void.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long one of several sidecars is used before the next.
const TURN: Duration = Duration::from_millis(100);
/// Reads, and writes, of a transaction that is aborted in the end.
const REQUESTS_PER_ABORTED: usize = 8;
const KEYS_PER_LOADING_COMMIT: usize = 16;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Plan {
    /// Half of the time single requests in transactions that are aborted, so that no disk is waited
    /// for, then whole transactions: start, two gets, a put, commit.
    Mix,
    /// Start, put each of some keys, commit.
    Commit,
    /// Start, two gets, a put, commit.
    Whole,
    /// Single puts, each a transaction of its own: first each key once, then any.
    Put,
    /// Writes every key once, and ends.
    Load,
}

impl Plan {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mix => "mix",
            Self::Commit => "commit",
            Self::Whole => "whole",
            Self::Put => "put",
            Self::Load => "load",
        }
    }
}

/// Put load on a sidecar; results go to standard output as JSON.
#[derive(Debug, Clone, Args)]
pub struct ClientOptions {
    /// The sidecar's directory; several are used in turns, each for a moment
    #[arg(long)]
    pub ipc_dir: Vec<PathBuf>,
    /// Distinguishes this client from others in the directory
    #[arg(long)]
    pub name: String,
    /// Use the sidecar's socket `call`, where there is one
    #[arg(long)]
    pub call: bool,
    /// What to do
    #[arg(long)]
    pub plan: Plan,
    /// Clients in this process
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// For how long
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// For how long before that, without counting
    #[arg(long, default_value_t = 0.2)]
    pub warmup_seconds: f64,
    /// How many keys a transaction of the plan "commit" writes
    #[arg(long, default_value_t = 1)]
    pub writes: usize,
    /// Size of values
    #[arg(long, default_value_t = 4096)]
    pub value_bytes: usize,
    /// How many keys there are
    #[arg(long, default_value_t = 1000)]
    pub keys: usize,
}

/// Says "ready", waits for a line, does its part, prints what it measured: one line per directory and
/// thread.
pub fn run(options: &ClientOptions) -> Result<(), BenchError> {
    let context = ClientContext::default();
    let clients: Vec<Vec<Session>> = (0..options.threads)
        .map(|thread| {
            let dirs = options.ipc_dir.iter();
            dirs.map(|dir| Session::open(&context, options, dir, thread)).collect()
        })
        .collect::<Result<_, BenchError>>()?;
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(system("read standard input"))?;
    if line.is_empty() {
        return Ok(());
    }
    let threads: Vec<_> = clients
        .into_iter()
        .map(|mut sessions| {
            let options = options.clone();
            std::thread::spawn(move || follow(&options, &mut sessions).map(|()| sessions))
        })
        .collect();
    for thread in threads {
        let panicked = |_| BenchError::Answer("a client thread panicked".to_owned());
        for session in thread.join().map_err(panicked)?? {
            let json = serde_json::to_string(&session.measured())
                .map_err(|why| system("print the results")(why.into()))?;
            writeln!(std::io::stdout(), "{json}").map_err(system("print the results"))?;
        }
    }
    Ok(())
}

/// Does what the plan says.
fn follow(options: &ClientOptions, sessions: &mut [Session]) -> Result<(), BenchError> {
    let (warmup, seconds) = (options.warmup_seconds, options.seconds);
    let done = match options.plan {
        Plan::Load => sessions.iter_mut().try_for_each(Session::load),
        Plan::Commit => repeat(sessions, warmup, false, |one| one.write().map(drop))
            .and_then(|()| repeat(sessions, seconds, true, |one| one.write().map(drop))),
        Plan::Whole => repeat(sessions, warmup, false, Session::whole)
            .and_then(|()| repeat(sessions, seconds, true, Session::whole)),
        Plan::Put => repeat(sessions, warmup, false, Session::write_alone)
            .and_then(|()| repeat(sessions, seconds, true, Session::write_alone)),
        Plan::Mix => repeat(sessions, warmup / 2.0, false, Session::aborted)
            .and_then(|()| repeat(sessions, warmup / 2.0, false, Session::whole))
            .and_then(|()| repeat(sessions, seconds / 2.0, true, Session::aborted))
            .and_then(|()| repeat(sessions, seconds / 2.0, true, Session::whole)),
    };
    done.map_err(BenchError::Answer)
}

/// Does something again and again, in turns where there are several sessions. All clients change to
/// the next at the same moments, those of the wall clock, so that each sidecar has the machine for
/// itself in its turn, and what else disturbs the machine disturbs all of them alike. The last call
/// with `counts` says how many transactions there were, and in how much time.
fn repeat(
    sessions: &mut [Session],
    seconds: f64,
    counts: bool,
    once: fn(&mut Session) -> Result<(), Trouble>,
) -> Result<(), String> {
    for session in &mut *sessions {
        session.counts = counts;
        session.measured.transactions = 0;
        session.measured.seconds = 0.0;
    }
    let total = Duration::from_secs_f64(seconds * sessions.len() as f64);
    let began = Instant::now();
    while began.elapsed() < total {
        let Some(session) = sessions.get_mut(turn(sessions.len())) else {
            break;
        };
        let began = Instant::now();
        match once(session) {
            Ok(()) => session.measured.transactions += 1,
            Err(Trouble::Refused) => session.measured.failed += 1,
            Err(Trouble::Void(why)) => return Err(why),
        }
        session.measured.seconds += began.elapsed().as_secs_f64();
    }
    Ok(())
}

/// Whose turn it is.
fn turn(of: usize) -> usize {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let turns = now.unwrap_or_default().as_millis() / TURN.as_millis();
    (turns % of.max(1) as u128) as usize
}

/// One client.
pub(super) struct Session {
    client: Way,
    requests: Requests,
    options: ClientOptions,
    random: u64,
    /// The key that it writes next in its turn, of those that it shares with the other threads.
    next_key: usize,
    measured: Measured,
    times: BTreeMap<&'static str, Times>,
    /// False while warming up.
    counts: bool,
}

/// How a sidecar is asked.
enum Way {
    /// A socket for each kind of request, and one for answers.
    Addressed(Client),
    /// One connection for all.
    Call(CallingClient),
}

impl Way {
    fn call(&mut self, kind: Kind, request: Vec<u8>) -> Option<Bytes> {
        match self {
            Self::Addressed(client) => client.call(kind as usize, request),
            Self::Call(client) => client.call(kind.code(), &request),
        }
    }
}

/// A refusal ends the transaction and is counted; anything worse ends the measurement.
enum Trouble {
    Refused,
    Void(String),
}

impl Session {
    pub(super) fn open(
        context: &ClientContext,
        options: &ClientOptions,
        dir: &Path,
        thread: usize,
    ) -> Result<Self, BenchError> {
        let (client, answer_endpoint) = if options.call && dir.join(CALL).exists() {
            (Way::Call(CallingClient::open(&dir.join(CALL), ANSWER_MAX)?), String::new())
        } else {
            let endpoint = |name: &str| format!("ipc://{}", dir.join(name).display());
            let targets = Kind::ALL.map(|kind| endpoint(kind.name()));
            let answers = endpoint(&format!("b-{}-{thread}", options.name));
            let client = Client::open(context, &targets, &answers, ANSWER_MAX)?;
            let answer_endpoint = client.answer_endpoint().to_owned();
            (Way::Addressed(client), answer_endpoint)
        };
        let value = vec![7; options.value_bytes].into();
        let requests = Requests { answer_endpoint, value };
        let seed = u64::from(std::process::id()) << 16 | thread as u64;
        Ok(Self {
            client,
            requests,
            options: options.clone(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            next_key: thread,
            measured: Measured::default(),
            times: BTreeMap::new(),
            counts: false,
        })
    }

    fn measured(self) -> Measured {
        let times = self.times.into_iter();
        let times = times.map(|(operation, times)| (operation.to_owned(), times.counts()));
        Measured { times: times.collect(), ..self.measured }
    }

    fn aborted(&mut self) -> Result<(), Trouble> {
        let txn = self.start("start")?;
        for _ in 0..REQUESTS_PER_ABORTED {
            self.get("get", &txn)?;
        }
        for _ in 0..REQUESTS_PER_ABORTED {
            let key = self.random_key();
            self.put("put", &txn, [key].into_iter())?;
        }
        let answer = self.call("abort", Kind::Abort, self.requests.abort(&txn))?;
        messages::ended(answer, TransactionStatus::Aborted).map_err(|_| Trouble::Refused)
    }

    fn whole(&mut self) -> Result<(), Trouble> {
        let began = Instant::now();
        let txn = self.start("start in txn")?;
        self.get("get in txn", &txn)?;
        self.get("get in txn", &txn)?;
        let key = self.random_key();
        self.put("put in txn", &txn, [key].into_iter())?;
        self.commit(&txn)?;
        self.record("transaction", began.elapsed());
        Ok(())
    }

    /// Answers how long the commit took.
    fn write(&mut self) -> Result<Duration, Trouble> {
        let txn = self.start("start")?;
        for _ in 0..self.options.writes {
            let key = self.random_key();
            self.put("put", &txn, [key].into_iter())?;
        }
        let began = Instant::now();
        self.commit(&txn)?;
        Ok(began.elapsed())
    }

    fn write_alone(&mut self) -> Result<(), Trouble> {
        let key =
            if self.next_key < self.options.keys { key(self.next_key) } else { self.random_key() };
        self.next_key += self.options.threads;
        let id = self.next_id();
        let answer = self.call("put", Kind::Put, self.requests.put_alone(key, id.clone()))?;
        messages::served(answer, &id, None).map_err(|_| Trouble::Refused)
    }

    /// Lets transactions write until the time is over, and tells how long each commit took that was
    /// not refused.
    pub(super) fn write_for(
        &mut self,
        time: Duration,
        mut took: impl FnMut(Duration),
    ) -> Result<(), BenchError> {
        let began = Instant::now();
        while began.elapsed() < time {
            match self.write() {
                Ok(time) => took(time),
                Err(Trouble::Refused) => {}
                Err(Trouble::Void(why)) => return Err(BenchError::Answer(why)),
            }
        }
        Ok(())
    }

    fn load(&mut self) -> Result<(), String> {
        let keys: Vec<String> = (0..self.options.keys).map(key).collect();
        for some in keys.chunks(KEYS_PER_LOADING_COMMIT) {
            let one = |session: &mut Self| {
                let txn = session.start("start")?;
                session.put("put", &txn, some.iter().cloned())?;
                session.commit(&txn)
            };
            one(self).map_err(|trouble| match trouble {
                Trouble::Refused => "the sidecar refused to be filled with keys".to_owned(),
                Trouble::Void(why) => why,
            })?;
        }
        Ok(())
    }

    fn start(&mut self, operation: &'static str) -> Result<String, Trouble> {
        let answer = self.call(operation, Kind::Start, self.requests.start())?;
        messages::started(answer).map_err(|_| Trouble::Refused)
    }

    fn get(&mut self, operation: &'static str, txn: &str) -> Result<(), Trouble> {
        let (key, id) = (self.random_key(), self.next_id());
        let request = self.requests.get(txn, key, id.clone());
        let answer = self.call(operation, Kind::Get, request)?;
        let value_bytes = Some(self.options.value_bytes);
        messages::served(answer, &id, value_bytes).map_err(|_| Trouble::Refused)
    }

    fn put(
        &mut self,
        operation: &'static str,
        txn: &str,
        keys: impl Iterator<Item = String>,
    ) -> Result<(), Trouble> {
        let id = self.next_id();
        let request = self.requests.put(txn, keys, id.clone());
        let answer = self.call(operation, Kind::Put, request)?;
        messages::served(answer, &id, None).map_err(|_| Trouble::Refused)
    }

    fn commit(&mut self, txn: &str) -> Result<(), Trouble> {
        let answer = self.call("commit", Kind::Commit, self.requests.commit(txn))?;
        messages::ended(answer, TransactionStatus::Committed).map_err(|_| Trouble::Refused)
    }

    fn call(
        &mut self,
        operation: &'static str,
        kind: Kind,
        request: Vec<u8>,
    ) -> Result<Bytes, Trouble> {
        self.measured.requests += 1;
        let began = Instant::now();
        let answer = self.client.call(kind, request);
        let took = began.elapsed();
        let answer = answer.ok_or_else(|| {
            let seconds = ANSWER_MAX.as_secs();
            Trouble::Void(format!("no answer to a {} within {seconds} s", kind.name()))
        })?;
        self.record(operation, took);
        Ok(answer)
    }

    fn record(&mut self, operation: &'static str, took: Duration) {
        if self.counts {
            let times = self.times.entry(operation).or_insert_with(Times::new);
            times.record(took);
        }
    }

    fn next_id(&self) -> String {
        request_id(self.measured.requests)
    }

    /// Any key, by xorshift.
    fn random_key(&mut self) -> String {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        key((self.random % self.options.keys.max(1) as u64) as usize)
    }
}
