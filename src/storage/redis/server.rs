//! The servers as the store sees them: one, or a cluster, behind the same few questions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, FromRedisValue, Pipeline, Value};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::address::{Connection, Topology};
use super::fault::{Fault, in_answer};
use super::link::{Answers, Link, Way};
use super::scripts::{Script, Scripts};

/// What is larger goes over a connection of its own, so that small things need not wait behind it.
const BULK_BYTES: usize = 1 << 20;
/// Connections for commits that wait for replicas: such a wait stops all that is sent behind it.
const WAITING_LINKS: usize = 8;

/// How many replicas have to have a write before it counts, and how long that is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replicas {
    pub count: usize,
    pub within: Duration,
}

/// See the [module's page](self).
pub(super) struct Server {
    pub topology: Topology,
    timeout: Duration,
    replicas: Option<Replicas>,
    scripts: Scripts,
    writes: Vec<Link>,
    next: AtomicUsize,
    bulk: Link,
    reads: Link,
    /// Of a cluster, and if it is wanted.
    replica_reads: Option<Link>,
}

impl Server {
    /// Large requests are sent from the runtime `background`, or else from the present one.
    pub async fn open(
        way: Way,
        replicas: Option<Replicas>,
        background: Option<Handle>,
    ) -> Result<Self, Fault> {
        let main = Way { from_replicas: false, ..way.clone() };
        let link = || Link::open(main.clone());
        let writes = match (replicas, way.topology) {
            (Some(_), Topology::One) => WAITING_LINKS,
            _ => 1,
        };
        let reads = link();
        let scripts = load(&reads).await?;
        Ok(Self {
            topology: way.topology,
            timeout: way.timeout,
            replicas,
            scripts,
            writes: (0..writes).map(|_| link()).collect(),
            next: AtomicUsize::new(0),
            bulk: Link::open_in(&background.unwrap_or_else(Handle::current), main),
            reads,
            replica_reads: way.from_replicas.then(|| Link::open(way)),
        })
    }

    pub fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// Asks something that changes nothing, or nothing that an acknowledgement rests on.
    pub async fn ask(&self, cmd: &Cmd) -> Result<Value, Fault> {
        self.reads.ask(cmd).await
    }

    /// Asks all at once.
    pub async fn ask_each(&self, cmds: &[Cmd]) -> Result<Vec<Value>, Fault> {
        try_join_all(cmds.iter().map(|cmd| self.ask(cmd))).await
    }

    /// The strings under these names: from replicas where that is wanted, and from masters what is not
    /// (yet) there.
    pub async fn strings(&self, names: &[String]) -> Result<Vec<Option<Bytes>>, Fault> {
        let mut cmd = redis::cmd("MGET");
        cmd.arg(names);
        let Some(replicas) = &self.replica_reads else {
            return strings(self.ask(&cmd).await?, names.len());
        };
        let mut found = match replicas.ask(&cmd).await {
            Ok(answer) => strings(answer, names.len())?,
            // A replica that is away is no reason to fail.
            Err(_) => vec![None; names.len()],
        };
        let missing: Vec<_> = (0..names.len()).filter(|&i| found[i].is_none()).collect();
        if !missing.is_empty() {
            let mut cmd = redis::cmd("MGET");
            cmd.arg(missing.iter().map(|&i| &names[i]).collect::<Vec<_>>());
            let more = strings(self.ask(&cmd).await?, missing.len())?;
            for (i, value) in missing.into_iter().zip(more) {
                found[i] = value;
            }
        }
        Ok(found)
    }

    /// Calls a script that writes nothing, or nothing that an acknowledgement rests on.
    pub async fn run(&self, script: &Script, call: Cmd) -> Result<Value, Fault> {
        match self.ask(&call).await {
            Err(Fault::NoScript) => self.ask(&script.spelt_out(&call)).await,
            answer => answer,
        }
    }

    /// Writes, and waits for replicas if that is wanted.
    pub async fn write(&self, cmd: Cmd, bytes: usize) -> Result<Value, Fault> {
        let link = self.link_for(bytes);
        let Some(replicas) = self.replicas else { return link.ask(&cmd).await };
        let mut pipeline = Pipeline::new();
        pipeline.add_command(cmd).add_command(replicas.wait());
        let Answers { values, was_sent_before } = link.ask_all(&pipeline).await?;
        let mut values = values.into_iter();
        match in_answer(values.next().unwrap_or_default()) {
            Err(fault) if was_sent_before => Err(fault.after_another_sending()),
            Err(fault) => Err(fault),
            Ok(answer) => replicas.check(values.next()).map(|()| answer),
        }
    }

    /// Calls a script that writes, and waits for replicas if that is wanted.
    pub async fn write_by(&self, script: &Script, call: Cmd) -> Result<Value, Fault> {
        match self.write(call.clone(), 0).await {
            Err(Fault::NoScript) => self.write(script.spelt_out(&call), 0).await,
            answer => answer,
        }
    }

    /// Sends `first` to a single server and a script right behind it, whose answer is answered. The script has
    /// to see for itself whether the first was done.
    pub async fn write_with(
        &self,
        first: Cmd,
        script: &Script,
        call: Cmd,
        bytes: usize,
    ) -> Result<Value, Fault> {
        let mut pipeline = Pipeline::with_capacity(3);
        pipeline.add_command(first).add_command(call);
        if let Some(replicas) = self.replicas {
            pipeline.add_command(replicas.wait());
        }
        let Answers { values, was_sent_before } = self.link_for(bytes).ask_all(&pipeline).await?;
        let mut values = values.into_iter();
        let mut next = || in_answer(values.next().unwrap_or_default());
        let written = next();
        let fault = match next() {
            Ok(answer) => {
                if let Some(replicas) = self.replicas {
                    replicas.check(values.next())?;
                }
                return Ok(answer);
            }
            Err(fault) => fault,
        };
        let fault = match (fault, written) {
            (Fault::NoScript, Ok(_)) => {
                let call = pipeline.cmd_iter().nth(1).cloned().unwrap_or_default();
                return self.write(script.spelt_out(&call), 0).await;
            }
            // Nothing was decided, whatever the reason.
            (Fault::Refused(_), Err(Fault::Other(why))) => Fault::Refused(why),
            (_, Err(first)) => first,
            (fault, Ok(_)) => fault,
        };
        Err(if was_sent_before { fault.after_another_sending() } else { fault })
    }

    /// Makes sure that what was written before, by anybody, is where this waits for it to be: a write of
    /// nothing to the same server, and a wait.
    pub async fn settle_on_replicas(&self, name: &str) -> Result<(), Fault> {
        if self.replicas.is_none() {
            return Ok(());
        }
        let mut cmd = redis::cmd("SET");
        cmd.arg(name).arg("");
        self.write(cmd, 0).await.map(|_| ())
    }

    pub fn waits(&self) -> bool {
        self.replicas.is_some()
    }

    fn link_for(&self, bytes: usize) -> &Link {
        if bytes > BULK_BYTES {
            return &self.bulk;
        }
        let number = match self.writes.len() {
            1 => 0,
            count => self.next.fetch_add(1, Ordering::Relaxed) % count,
        };
        self.writes.get(number).unwrap_or(&self.bulk)
    }

    /// Asks each master, and answers what each said under its address.
    pub async fn ask_masters(&self, cmd: &Cmd) -> Result<Vec<(String, Value)>, Fault> {
        if self.topology == Topology::One {
            return Ok(vec![(String::new(), self.ask(cmd).await?)]);
        }
        let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        match self.route(cmd, all).await? {
            Value::Map(answers) => {
                let named = answers.into_iter().map(|(name, answer)| {
                    Ok((String::from_redis_value(name).unwrap_or_default(), in_answer(answer)?))
                });
                named.collect()
            }
            other => Err(Fault::Other(format!("the masters answered {other:?}"))),
        }
    }

    /// Asks one master, named by its address.
    pub async fn ask_master(&self, address: &str, cmd: &Cmd) -> Result<Value, Fault> {
        if self.topology == Topology::One {
            return self.ask(cmd).await;
        }
        let named = address.rsplit_once(':').and_then(|(host, port)| {
            Some(SingleNodeRoutingInfo::ByAddress {
                host: host.to_owned(),
                port: port.parse().ok()?,
            })
        });
        let Some(node) = named else {
            return Err(Fault::Other(format!("{address:?} is no address of a server")));
        };
        self.route(cmd, RoutingInfo::SingleNode(node)).await
    }

    async fn route(&self, cmd: &Cmd, to: RoutingInfo) -> Result<Value, Fault> {
        let Connection::Cluster(mut connection) = self.reads.connection().await? else {
            return self.ask(cmd).await;
        };
        match timeout(self.timeout, connection.route_command(cmd.clone(), to)).await {
            Ok(answer) => in_answer(answer.map_err(|error| Fault::of_client(&error))?),
            Err(_) => Err(Fault::Unsure(format!("no answer within {:?}", self.timeout))),
        }
    }
}

impl Replicas {
    fn wait(self) -> Cmd {
        let mut cmd = redis::cmd("WAIT");
        cmd.arg(self.count).arg(self.within.as_millis() as u64);
        cmd
    }

    fn check(self, waited: Option<Value>) -> Result<(), Fault> {
        let reached = usize::from_redis_value(in_answer(waited.unwrap_or_default())?).unwrap_or(0);
        if reached >= self.count {
            return Ok(());
        }
        let Self { count, within } = self;
        Err(Fault::Unsure(format!("{reached} of {count} replicas have it within {within:?}")))
    }
}

/// Tells the servers all scripts.
async fn load(link: &Link) -> Result<Scripts, Fault> {
    let mut hashes = Vec::new();
    for text in Scripts::texts() {
        let answer = link.ask(&Script::load(&text)).await?;
        hashes.push(String::from_redis_value(answer).map_err(|e| Fault::Other(e.to_string()))?);
    }
    Scripts::new(hashes).ok_or_else(|| Fault::Other("a script is missing".to_owned()))
}

/// An answer as that many strings, any of which may be missing.
pub(super) fn strings(answer: Value, count: usize) -> Result<Vec<Option<Bytes>>, Fault> {
    let wrong = |what: &Value| Fault::Other(format!("{count} strings were asked for: {what:?}"));
    let Value::Array(answers) = answer else { return Err(wrong(&answer)) };
    if answers.len() != count {
        return Err(Fault::Other(format!("{} of {count} strings came", answers.len())));
    }
    answers.into_iter().map(string).collect()
}

/// An answer as a string, if there is one.
pub(super) fn string(answer: Value) -> Result<Option<Bytes>, Fault> {
    match in_answer(answer)? {
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        Value::Nil | Value::Boolean(false) => Ok(None),
        other => Err(Fault::Other(format!("a string was asked for: {other:?}"))),
    }
}
