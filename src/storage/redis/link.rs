//! A connection that is kept up.
//!
//! A task of its own makes the connection, and makes it again when it broke or went silent; whoever wants
//! to send something meanwhile waits. All that the store sends is safe to repeat, so what failed is sent
//! again until its time is over. Whoever asked then hears whether it may have been done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, Value};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::address::{Address, Connection, Topology};
use super::fault::{Fault, in_answer};

/// Pause before a connection is tried again, growing from the first to the second.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Pause before what failed is sent again, growing likewise.
const RESEND: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// Bytes for which an operation gets a second more.
const BYTES_PER_SECOND: usize = 8 << 20;

/// How to reach the servers.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub address: Address,
    pub topology: Topology,
    /// Reads in a cluster may go to replicas.
    pub from_replicas: bool,
    /// For an operation with all its repetitions.
    pub timeout: Duration,
}

/// See the [module's page](self).
pub(super) struct Link {
    state: watch::Receiver<State>,
    broken: mpsc::UnboundedSender<u64>,
    timeout: Duration,
    keeper: JoinHandle<()>,
}

#[derive(Clone)]
enum State {
    /// With the last failure.
    Down(Arc<str>),
    Up(Live),
}

#[derive(Clone)]
struct Live {
    connection: Connection,
    /// Tells connections of one link apart.
    number: u64,
    /// Answers that came on it: one that times out while others come is slow, not dead.
    answers: Arc<AtomicU64>,
}

/// What came back.
pub(super) struct Answers {
    /// One for each command, errors among them.
    pub values: Vec<Value>,
    /// The same was sent before, without an answer.
    pub was_sent_before: bool,
}

/// What is sent.
enum Request<'a> {
    One(&'a Cmd),
    Several(&'a Pipeline),
}

impl Link {
    /// In the present runtime.
    pub fn open(way: Way) -> Self {
        Self::open_in(&Handle::current(), way)
    }

    /// The connection goes on in this runtime, wherever it is used.
    pub fn open_in(runtime: &Handle, way: Way) -> Self {
        let (sender, state) = watch::channel(State::Down("not connected yet".into()));
        let (broken, reports) = mpsc::unbounded_channel();
        let timeout = way.timeout;
        let keeper = runtime.spawn(keep(way, sender, reports));
        Self { state, broken, timeout, keeper }
    }

    /// Sends a command and waits for its answer.
    pub async fn ask(&self, cmd: &Cmd) -> Result<Value, Fault> {
        let mut answers = self.send(Request::One(cmd), bytes_of(cmd)).await?;
        answers.values.pop().ok_or_else(|| Fault::Other("no answer came".to_owned()))
    }

    /// Sends commands one behind the other on one connection and waits for all answers.
    pub async fn ask_all(&self, pipeline: &Pipeline) -> Result<Answers, Fault> {
        let bytes = pipeline.cmd_iter().map(bytes_of).sum();
        self.send(Request::Several(pipeline), bytes).await
    }

    /// Gives the connection itself to `use_it`, for what is asked of certain servers.
    pub async fn connection(&self) -> Result<Connection, Fault> {
        let mut why = None;
        match timeout(self.timeout, self.up(&mut why)).await {
            Ok(live) => Ok(live?.connection),
            Err(_) => Err(Fault::NotSent(self.away(why))),
        }
    }

    async fn send(&self, request: Request<'_>, bytes: usize) -> Result<Answers, Fault> {
        let more = Duration::from_secs((bytes / BYTES_PER_SECOND) as u64);
        let mut attempt = Attempt::default();
        let waited =
            timeout(self.timeout + more, self.send_until_done(&request, &mut attempt)).await;
        if let Ok(answer) = waited {
            return answer;
        }
        if let Some((number, seen)) = attempt.open
            && self.answers_of(number).is_some_and(|answers| answers == seen)
        {
            let _ = self.broken.send(number);
        }
        let after = self.timeout + more;
        Err(match attempt {
            Attempt { open: None, was_sent: false, why } => match why {
                Some(Fault::Passing(why)) => Fault::Passing(why),
                why => Fault::NotSent(self.away(why)),
            },
            Attempt { why: Some(Fault::Passing(why)), was_sent: false, .. } => Fault::Passing(why),
            _ => Fault::Unsure(format!("no answer within {after:?}")),
        })
    }

    async fn send_until_done(
        &self,
        request: &Request<'_>,
        attempt: &mut Attempt,
    ) -> Result<Answers, Fault> {
        let mut pause = RESEND.0;
        loop {
            let Live { mut connection, number, answers } = self.up(&mut attempt.why).await?;
            attempt.open = Some((number, answers.load(Ordering::Relaxed)));
            let was_sent = std::mem::replace(&mut attempt.was_sent, true);
            let (fault, is_in_part_done) = match connection.request(request).await {
                Ok(values) => {
                    answers.fetch_add(1, Ordering::Relaxed);
                    match values.iter().find_map(passing) {
                        Some(fault) => (fault, !values.iter().all(is_error)),
                        None => return Ok(Answers { values, was_sent_before: was_sent }),
                    }
                }
                Err(fault) => (fault, false),
            };
            attempt.open = None;
            match &fault {
                Fault::Unsure(_) => {
                    let _ = self.broken.send(number);
                }
                Fault::Passing(why) => {
                    // Another server may be the master by now.
                    if why.starts_with("READONLY") {
                        let _ = self.broken.send(number);
                    }
                    attempt.was_sent = was_sent || is_in_part_done;
                }
                Fault::Refused(why) if was_sent => return Err(Fault::Unsure(why.clone())),
                _ => return Err(fault),
            }
            attempt.why = Some(fault);
            sleep(pause).await;
            pause = (pause * 2).min(RESEND.1);
        }
    }

    async fn up(&self, why: &mut Option<Fault>) -> Result<Live, Fault> {
        let mut state = self.state.clone();
        if let State::Up(live) = &*state.borrow_and_update() {
            return Ok(live.clone());
        }
        let found = state.wait_for(|state| matches!(state, State::Up(_))).await;
        match found.as_deref() {
            Ok(State::Up(live)) => Ok(live.clone()),
            Ok(State::Down(_)) | Err(_) => {
                let _ = why.take();
                Err(Fault::NotSent("the store was closed".to_owned()))
            }
        }
    }

    fn away(&self, why: Option<Fault>) -> String {
        match (&*self.state.borrow(), why) {
            (State::Down(why), _) => format!("cannot connect: {why}"),
            (State::Up(_), why) => format!("no answer in time ({why:?})"),
        }
    }

    /// How many answers came on the connection, if it is the present one.
    fn answers_of(&self, number: u64) -> Option<u64> {
        match &*self.state.borrow() {
            State::Up(live) if live.number == number => Some(live.answers.load(Ordering::Relaxed)),
            _ => None,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// How far the sending of something got.
#[derive(Default)]
struct Attempt {
    /// An answer is waited for on this connection, on which so many others had come before.
    open: Option<(u64, u64)>,
    /// It may have been done.
    was_sent: bool,
    /// Why it had to be sent again.
    why: Option<Fault>,
}

impl Connection {
    async fn request(&mut self, request: &Request<'_>) -> Result<Vec<Value>, Fault> {
        let answer = match (self, request) {
            (Self::One(c), Request::One(cmd)) => c.req_packed_command(cmd).await,
            (Self::Cluster(c), Request::One(cmd)) => c.req_packed_command(cmd).await,
            (Self::One(c), Request::Several(pipeline)) => {
                let answers = c.req_packed_commands(pipeline, 0, pipeline.len()).await;
                return answers.map_err(|error| Fault::of_client(&error));
            }
            (Self::Cluster(c), Request::Several(pipeline)) => {
                let answers = c.req_packed_commands(pipeline, 0, pipeline.len()).await;
                return answers.map_err(|error| Fault::of_client(&error));
            }
        };
        let answer = answer.map_err(|error| Fault::of_client(&error))?;
        in_answer(answer).map(|answer| vec![answer])
    }
}

/// Makes the connection whenever there is none.
async fn keep(way: Way, state: watch::Sender<State>, mut broken: mpsc::UnboundedReceiver<u64>) {
    let mut number = 0;
    loop {
        number += 1;
        let live =
            Live { connection: connect(&way, &state).await, number, answers: Arc::default() };
        state.send_replace(State::Up(live));
        loop {
            match broken.recv().await {
                Some(reported) if reported == number => break,
                Some(_earlier) => {}
                None => return,
            }
        }
        tracing::debug!("connecting to Redis at {} again", way.address);
        state.send_replace(State::Down("the connection broke".into()));
    }
}

async fn connect(way: &Way, state: &watch::Sender<State>) -> Connection {
    let mut pause = RECONNECT.0;
    loop {
        let connecting = way.address.connect(way.topology, way.from_replicas, way.timeout);
        // The client of clusters may wait for ever.
        let why = match timeout(way.timeout, connecting).await {
            Ok(Ok(connection)) => return connection,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no connection within {:?}", way.timeout),
        };
        state.send_replace(State::Down(why.into()));
        sleep(pause).await;
        pause = (pause * 2).min(RECONNECT.1);
    }
}

fn is_error(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(_))
}

/// Why the command of this answer has to be sent again, if it has to.
fn passing(answer: &Value) -> Option<Fault> {
    let Value::ServerError(error) = answer else { return None };
    Some(Fault::of_server(error)).filter(|fault| matches!(fault, Fault::Passing(_)))
}

fn bytes_of(cmd: &Cmd) -> usize {
    cmd.args_iter()
        .map(|arg| if let redis::Arg::Simple(bytes) = arg { bytes.len() } else { 0 })
        .sum()
}
