//! One commit: the versions, then the script that decides.
//!
//! On one server both are sent together, so this is one round trip. They are no transaction of Redis: `MULTI`,
//! `EXEC` and the answers to both would take the server longer than they are worth, as all that it would give is
//! had without:
//!
//! - The server does what comes on one connection in order, and each of the two as a whole. So the
//!   versions are there, and in the server's file and its replicas, before anything names them.
//! - If the versions were turned down (a full memory) the script must not go on, although it might no
//!   longer be turned down itself: it looks whether the last version is there, which `MSET` wrote with all
//!   others or not at all.
//! - If only the script was turned down, nothing names the versions: they are deleted again. If this
//!   process dies before that, a sweep does it.

use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::{Cmd, Value};

use super::super::codec;
use super::address::Topology;
use super::fault::Fault;
use super::{RedisStore, garbage};
use crate::txn::Commit;

impl RedisStore {
    /// Writes versions and decides their id. Answers what the script does: nothing, if the commit is the
    /// outcome, or the outcome that was there.
    pub(super) async fn decide(&self, commit: &Commit, values: &[Bytes]) -> Result<Value, Fault> {
        if self.server.topology == Topology::One && !values.is_empty() {
            return self.decide_at_once(commit, values).await;
        }
        self.write_each(commit, values).await?;
        let call = self.decision(commit, None);
        self.server.write_by(&self.server.scripts().commit, call).await
    }

    async fn decide_at_once(&self, commit: &Commit, values: &[Bytes]) -> Result<Value, Fault> {
        let bytes: usize = values.iter().map(Bytes::len).sum();
        let mut write = Cmd::with_capacity(1 + 2 * values.len(), bytes + bytes / 4);
        write.arg("MSET");
        self.each_version(commit, values, |name, stored| {
            write.arg(name).arg(stored);
        });
        let last = commit.keys.last().map(|w| self.names.version(&w.key, &commit.version));
        let call = self.decision(commit, last.as_deref());
        let script = &self.server.scripts().commit;
        let answer = self.server.write_with(write, script, call, bytes).await;
        if let Err(Fault::Refused(_)) = answer {
            self.delete_versions_of(commit).await;
        }
        answer
    }

    /// The versions lie in slots of their own.
    async fn write_each(&self, commit: &Commit, values: &[Bytes]) -> Result<(), Fault> {
        let mut writes = Vec::with_capacity(values.len());
        self.each_version(commit, values, |name, stored| {
            let mut cmd = redis::cmd("SET");
            cmd.arg(name).arg(stored);
            writes.push(self.server.write(cmd, stored.len()));
        });
        try_join_all(writes).await.map(|_| ())
    }

    fn each_version(&self, commit: &Commit, values: &[Bytes], mut with: impl FnMut(&str, &[u8])) {
        let mut names = self.names.versions_of(&commit.version);
        let mut encoder = codec::VersionEncoder::new(&commit.version);
        for (written, value) in commit.keys.iter().zip(values) {
            with(names.of(&written.key), encoder.encode(&written.key, value));
        }
    }

    /// The call of the script. `last` is the version that has to be there.
    fn decision(&self, commit: &Commit, last: Option<&str>) -> Cmd {
        let id = commit.version.writer.base();
        let partition = self.names.of_id(&id);
        let of_id = [&partition.outcomes[..], &partition.log[..], &partition.sequence[..]];
        let touched: Vec<_> = of_id.into_iter().chain(last).collect();
        let mut call = self.server.scripts().commit.call(&touched);
        let record = self.writer.sign(&codec::encode_commit(commit));
        call.arg(id.as_str()).arg(record);
        call
    }

    /// Deletes the versions of a commit that did not come to be. A failure leaves them to a sweep.
    pub(super) async fn delete_versions_of(&self, commit: &Commit) {
        let written = commit.keys.iter();
        let names = written.map(|w| self.names.version(&w.key, &commit.version)).collect();
        if let Err(why) = garbage::delete(&self.server, names).await {
            tracing::debug!("versions of {} stay until a sweep: {why:?}", commit.version.writer);
        }
    }
}
