//! Messages about a transaction that runs on several nodes, to bytes and back.
//!
//! They keep the original's shape: a handover is asked for with a string, a buffered value with an
//! `AftQuery`, everything about the commit with an `AftCommitRequest`. What the original's messages
//! cannot say stands in fields of our own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::codec::{BadMessage, decode_as};
use crate::node::{
    Address, Collect, Collected, Forward, Forwarded, HandOver, HandedOver, Holder, Origin, Over,
    PeerMessage, Queried, Query, Token, View, Visit,
};
use crate::storage::{commit_of, record_of};
use crate::txn::{AttemptId, Commit, ForeignPin, Key, Pinned};
use crate::wire::{
    self, AftCommitRequest, AftCommitResponse, AftQuery, AftResponse, CommitStep, CommitToken,
    HeldWrite, ReadVersion, TransactionRecord, TransactionStatus,
};

fn nonsense(what: impl std::fmt::Display) -> BadMessage {
    BadMessage::Nonsense(what.to_string())
}

fn attempt(text: &str) -> Result<AttemptId, BadMessage> {
    AttemptId::parse(text).map_err(|error| nonsense(format!("the id {text:?}: {error}")))
}

fn key(text: &str) -> Result<Key, BadMessage> {
    Key::parse(text).map_err(|error| nonsense(format!("the key {text:?}: {error}")))
}

/// Where an answer is wanted. Only TCP: whoever can reach this socket must not make us speak to others.
fn reply_to(text: &str) -> Result<Address, BadMessage> {
    if text.starts_with("tcp://") {
        Ok(text.into())
    } else {
        Err(nonsense(format!("the reply address {text:?}")))
    }
}

fn wire_visit(visit: &Visit) -> wire::Visit {
    wire::Visit {
        node: visit.origin.node.to_string(),
        incarnation: visit.origin.incarnation.to_string(),
        steps: visit.steps,
        puts: visit.puts,
    }
}

fn visit(visit: &wire::Visit) -> Visit {
    let origin =
        Origin { node: visit.node.as_str().into(), incarnation: visit.incarnation.as_str().into() };
    Visit { origin, steps: visit.steps, puts: visit.puts }
}

/// `<id>~<reply address>`, as the original has it, then who asks: `~<incarnation>~<node>~<number>`.
pub(super) fn encode_hand_over(asked: &HandOver, reply_to: &str) -> Vec<u8> {
    let mut text = format!("{}~{reply_to}", asked.attempt);
    if let Some(asker) = &asked.asker {
        text.push_str(&format!("~{}~{}~{}", asker.incarnation, asker.node, asked.number));
    }
    text.into_bytes()
}

pub(super) fn decode_hand_over(message: &Bytes) -> Result<PeerMessage, BadMessage> {
    let text = std::str::from_utf8(message).map_err(|_| nonsense("bytes that are no text"))?;
    let mut parts = text.split('~');
    let attempt = attempt(parts.next().unwrap_or_default())?;
    let reply_to = reply_to(parts.next().unwrap_or_default())?;
    let (mut asker, mut number) = (None, 0);
    if let (Some(incarnation), Some(node), Some(count)) = (parts.next(), parts.next(), parts.next())
    {
        asker = Some(Origin { node: node.into(), incarnation: incarnation.into() });
        number = count.parse().map_err(|_| nonsense(format!("the number {count:?}")))?;
    }
    Ok(PeerMessage::HandOver(HandOver { reply_to, asker, number, attempt }))
}

pub(super) fn encode_handed_over(answer: &HandedOver) -> Vec<u8> {
    let mut record = TransactionRecord {
        id: answer.attempt.to_string(),
        replica_id: answer.from.node.to_string(),
        incarnation: answer.from.incarnation.to_string(),
        number: answer.number,
        ..TransactionRecord::default()
    };
    match &answer.view {
        Ok(view) => write_view(view, &mut record),
        Err(why) => record.error.clone_from(why),
    }
    record.encode_to_vec()
}

fn write_view(view: &View, record: &mut TransactionRecord) {
    let mut commits: Vec<&Arc<Commit>> = Vec::new();
    for (key, pinned) in &view.reads {
        let mut read = ReadVersion { key: key.to_string(), ..ReadVersion::default() };
        match pinned {
            Pinned::Committed(commit) => {
                let place = commits.iter().position(|known| known.version == commit.version);
                let place = place.unwrap_or_else(|| {
                    commits.push(commit);
                    commits.len() - 1
                });
                read.commit = u32::try_from(place + 1).unwrap_or(u32::MAX);
                let version = &commit.version;
                let name = format!("data/{key}/{}/{}", version.timestamp.0, version.writer);
                record.read_set.insert(key.to_string(), name);
            }
            Pinned::Foreign(pin) => {
                read.foreign_timestamp = pin.timestamp;
                read.foreign_hash = pin.hash;
            }
        }
        record.reads.push(read);
    }
    record.commits = commits.into_iter().map(|commit| record_of(commit)).collect();
    record.missing = view.missing.iter().map(Key::to_string).collect();
    record.visited = view.visited.iter().map(wire_visit).collect();
    for (key, holder) in &view.writes {
        record.write_set.push(key.to_string());
        let place = view.visited.iter().position(|visit| visit.origin == holder.origin);
        record.held.push(HeldWrite {
            key: key.to_string(),
            visit: place.and_then(|place| u32::try_from(place).ok()).unwrap_or(u32::MAX),
            depth: holder.depth,
        });
    }
    record.depth = view.depth;
    record.first_say = view.first_say;
    record.age_us = u64::try_from(view.age.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
}

pub(super) fn decode_handed_over(message: Bytes) -> Result<PeerMessage, BadMessage> {
    let record: TransactionRecord = decode_as("TransactionRecord", message)?;
    let from = Origin {
        node: record.replica_id.as_str().into(),
        incarnation: record.incarnation.as_str().into(),
    };
    let (attempt, number) = (attempt(&record.id)?, record.number);
    let view = if record.error.is_empty() { Ok(read_view(&record)?) } else { Err(record.error) };
    Ok(PeerMessage::HandedOver(HandedOver { from, number, attempt, view }))
}

fn read_view(record: &TransactionRecord) -> Result<View, BadMessage> {
    let commits = record.commits.iter().map(commit_of).collect::<Result<Vec<_>, _>>();
    let commits = commits.map_err(|error| BadMessage::BadCommit(error.to_string()))?;
    let mut reads = Vec::with_capacity(record.reads.len());
    for read in &record.reads {
        let pinned = match usize::try_from(read.commit).unwrap_or(usize::MAX).checked_sub(1) {
            Some(place) => Pinned::Committed(
                commits.get(place).cloned().ok_or_else(|| nonsense("a read of no commit"))?,
            ),
            None => Pinned::Foreign(ForeignPin {
                timestamp: read.foreign_timestamp,
                hash: read.foreign_hash,
            }),
        };
        reads.push((key(&read.key)?, pinned));
    }
    let visited: Vec<_> = record.visited.iter().map(visit).collect();
    let mut writes = Vec::with_capacity(record.held.len());
    for held in &record.held {
        let place = usize::try_from(held.visit).unwrap_or(usize::MAX);
        let holder = visited.get(place).ok_or_else(|| nonsense("a write on no node"))?;
        let holder = Holder { depth: held.depth, origin: holder.origin.clone() };
        writes.push((key(&held.key)?, holder));
    }
    let missing = record.missing.iter().map(|text| key(text)).collect::<Result<_, _>>()?;
    let age = Duration::from_micros(record.age_us);
    let (depth, first_say) = (record.depth, record.first_say);
    Ok(View { reads, missing, writes, visited, depth, first_say, age })
}

pub(super) fn encode_query(asked: &Query, reply_to: &str) -> Vec<u8> {
    AftQuery {
        key: asked.key.to_string(),
        tid: asked.attempt.to_string(),
        response_address: reply_to.to_owned(),
        number: asked.number,
        incarnation: asked.incarnation.to_string(),
        puts: asked.puts,
    }
    .encode_to_vec()
}

pub(super) fn decode_query(message: Bytes) -> Result<PeerMessage, BadMessage> {
    let query: AftQuery = decode_as("AftQuery", message)?;
    Ok(PeerMessage::Query(Query {
        reply_to: reply_to(&query.response_address)?,
        number: query.number,
        incarnation: query.incarnation.into(),
        puts: query.puts,
        attempt: attempt(&query.tid)?,
        key: key(&query.key)?,
    }))
}

pub(super) fn encode_queried(answer: &Queried) -> Vec<u8> {
    AftResponse {
        key: answer.key.to_string(),
        found: answer.value.is_some(),
        pointer: answer.pointer.as_deref().unwrap_or_default().to_owned(),
        data: answer.value.clone().unwrap_or_default(),
        number: answer.number,
        tid: answer.attempt.to_string(),
    }
    .encode_to_vec()
}

pub(super) fn decode_queried(message: Bytes) -> Result<PeerMessage, BadMessage> {
    let answer: AftResponse = decode_as("AftResponse", message)?;
    let pointer = Some(answer.pointer).filter(|pointer| !pointer.is_empty()).map(Address::from);
    Ok(PeerMessage::Queried(Queried {
        number: answer.number,
        key: key(&answer.key)?,
        attempt: attempt(&answer.tid)?,
        value: answer.found.then_some(answer.data),
        pointer,
    }))
}

pub(super) fn encode_collect(asked: &Collect, reply_to: &str) -> Vec<u8> {
    let record = TransactionRecord {
        id: asked.attempt.to_string(),
        write_set: asked.keys.iter().map(Key::to_string).collect(),
        ..TransactionRecord::default()
    };
    AftCommitRequest {
        record: Some(record),
        response_address: reply_to.to_owned(),
        step: CommitStep::Collect.into(),
        number: asked.number,
        node: asked.coordinator.node.to_string(),
        incarnation: asked.coordinator.incarnation.to_string(),
        visit: Some(wire_visit(&asked.visit)),
        named: asked.is_named,
        ..AftCommitRequest::default()
    }
    .encode_to_vec()
}

pub(super) fn encode_over(told: &Over) -> Vec<u8> {
    let record = match &told.end {
        Some(Some(commit)) => record_of(commit),
        Some(None) => ended_record(&told.attempt, TransactionStatus::Committed),
        None => ended_record(&told.attempt, TransactionStatus::Aborted),
    };
    AftCommitRequest {
        record: Some(record),
        step: CommitStep::Over.into(),
        node: told.from.to_string(),
        ..AftCommitRequest::default()
    }
    .encode_to_vec()
}

fn ended_record(attempt: &AttemptId, status: TransactionStatus) -> TransactionRecord {
    let (id, status) = (attempt.to_string(), status.into());
    TransactionRecord { id, status, ..TransactionRecord::default() }
}

pub(super) fn encode_forward(asked: &Forward, reply_to: &str) -> Vec<u8> {
    let record =
        TransactionRecord { id: asked.attempt.to_string(), ..TransactionRecord::default() };
    AftCommitRequest {
        record: Some(record),
        response_address: reply_to.to_owned(),
        step: CommitStep::Forward.into(),
        number: asked.number,
        hops: asked.hops,
        addresses: asked.addresses.iter().map(ToString::to_string).collect(),
        ..AftCommitRequest::default()
    }
    .encode_to_vec()
}

/// Decodes what is asked or told about a commit.
pub(super) fn decode_commit_request(message: Bytes) -> Result<PeerMessage, BadMessage> {
    let request: AftCommitRequest = decode_as("AftCommitRequest", message)?;
    let step = request.step();
    let record = request.record.unwrap_or_default();
    let attempt = attempt(&record.id)?;
    Ok(match step {
        CommitStep::Persist => {
            let reply_to = request.response_address;
            return Err(BadMessage::PersistPart { reply_to });
        }
        CommitStep::Collect => PeerMessage::Collect(Collect {
            reply_to: reply_to(&request.response_address)?,
            coordinator: Origin {
                node: request.node.into(),
                incarnation: request.incarnation.into(),
            },
            number: request.number,
            attempt,
            visit: visit(&request.visit.unwrap_or_default()),
            is_named: request.named,
            keys: record.write_set.iter().map(|text| key(text)).collect::<Result<_, _>>()?,
        }),
        CommitStep::Over => {
            let end = match record.status() {
                TransactionStatus::Committed if record.write_set.is_empty() => Some(None),
                TransactionStatus::Committed => {
                    let commit = commit_of(&record);
                    Some(Some(commit.map_err(|e| BadMessage::BadCommit(e.to_string()))?))
                }
                TransactionStatus::Aborted => None,
                TransactionStatus::Running => return Err(nonsense("an end that is none")),
            };
            PeerMessage::Over(Over { from: request.node.into(), attempt, end })
        }
        CommitStep::Forward => PeerMessage::Forward(Forward {
            reply_to: reply_to(&request.response_address)?,
            number: request.number,
            attempt,
            addresses: request.addresses.into_iter().map(Address::from).collect(),
            hops: request.hops,
        }),
    })
}

pub(super) fn encode_collected(answer: &Collected) -> Vec<u8> {
    let (values, error) = match &answer.values {
        Ok(values) => (values.clone(), String::new()),
        Err(why) => (Vec::new(), why.clone()),
    };
    let step = CommitStep::Collect.into();
    AftCommitResponse { number: answer.number, step, error, values, ..Default::default() }
        .encode_to_vec()
}

pub(super) fn encode_forwarded(answer: &Forwarded) -> Vec<u8> {
    let status = match answer.committed {
        Some(true) => TransactionStatus::Committed,
        Some(false) => TransactionStatus::Aborted,
        None => TransactionStatus::Running,
    };
    let (error, step) = (answer.why.clone().unwrap_or_default(), CommitStep::Forward.into());
    let (number, status) = (answer.number, status.into());
    let token = answer.token.as_ref().map(write_token);
    AftCommitResponse { number, step, error, status, token, ..Default::default() }.encode_to_vec()
}

fn write_token(token: &Token) -> CommitToken {
    let mut message = CommitToken { id: token.attempt.to_string(), ..CommitToken::default() };
    if let Some((origin, number)) = &token.place {
        message.node = origin.node.to_string();
        message.incarnation = origin.incarnation.to_string();
        message.number = *number;
    }
    message
}

fn read_token(message: &CommitToken) -> Result<Token, BadMessage> {
    let attempt = attempt(&message.id)?;
    let place = (!message.node.is_empty()).then(|| {
        let (node, incarnation) =
            (message.node.as_str().into(), message.incarnation.as_str().into());
        (Origin { node, incarnation }, message.number)
    });
    Ok(Token { attempt, place })
}

/// Decodes the answer to what was asked about a commit.
pub(super) fn decode_commit_response(message: Bytes) -> Result<PeerMessage, BadMessage> {
    let answer: AftCommitResponse = decode_as("AftCommitResponse", message)?;
    let number = answer.number;
    let committed = match answer.status() {
        TransactionStatus::Committed => Some(true),
        TransactionStatus::Aborted => Some(false),
        TransactionStatus::Running => None,
    };
    let why = Some(answer.error.clone()).filter(|why| !why.is_empty());
    match answer.step() {
        CommitStep::Collect => {
            let values = why.map_or(Ok(answer.values), Err);
            Ok(PeerMessage::Collected(Collected { number, values }))
        }
        CommitStep::Forward => {
            let token = answer.token.map(|token| read_token(&token)).transpose()?;
            Ok(PeerMessage::Forwarded(Forwarded { number, committed, why, token }))
        }
        CommitStep::Persist | CommitStep::Over => Err(nonsense("an answer to no question")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::{Timestamp, Version, WrittenKey};
    use proptest::prelude::*;

    fn origin(node: &str) -> Origin {
        Origin { node: node.into(), incarnation: format!("life-of-{node}").as_str().into() }
    }

    fn commit(timestamp: u64) -> Arc<Commit> {
        let writer = AttemptId::parse("w.1").unwrap();
        let version = Version { timestamp: Timestamp(timestamp), writer };
        let keys = ["a", "b"].map(|k| WrittenKey { key: key(k).unwrap(), fresh: false });
        Arc::new(Commit::new(version, keys.into(), "10.0.0.7".into()))
    }

    fn view() -> View {
        let foreign = ForeignPin { timestamp: 7, hash: u64::MAX };
        let (first, second) = (origin("10.0.0.7:1"), origin("10.0.0.8"));
        View {
            reads: vec![
                (key("a").unwrap(), Pinned::Committed(commit(1))),
                (key("b").unwrap(), Pinned::Committed(commit(1))),
                (key("c/~").unwrap(), Pinned::Foreign(foreign)),
            ],
            missing: vec![key("m").unwrap()],
            writes: vec![(key("w").unwrap(), Holder { depth: 3, origin: second.clone() })],
            visited: vec![
                Visit { origin: first, steps: 4, puts: 0 },
                Visit { origin: second, steps: 9, puts: 2 },
            ],
            depth: 5,
            first_say: true,
            age: Duration::from_micros(77),
        }
    }

    #[test]
    fn handovers_come_back() {
        let attempt = AttemptId::parse("t.1").unwrap();
        for asker in [None, Some(origin("10.0.0.7:100"))] {
            let number = if asker.is_some() { 9 } else { 0 };
            let reply_to: Address = "tcp://10.0.0.7:9100".into();
            let asked = HandOver { reply_to, asker, number, attempt: attempt.clone() };
            let bytes = encode_hand_over(&asked, &asked.reply_to).into();
            assert_eq!(decode_hand_over(&bytes), Ok(PeerMessage::HandOver(asked)));
        }
        for view in [Ok(view()), Err("no".to_owned())] {
            let (from, attempt) = (origin("10.0.0.8"), attempt.clone());
            let answer = HandedOver { from, number: 7, attempt, view };
            let bytes = encode_handed_over(&answer);
            assert_eq!(decode_handed_over(bytes.into()), Ok(PeerMessage::HandedOver(answer)));
        }
    }

    #[test]
    fn queries_come_back() {
        let (attempt, key) = (AttemptId::parse("t.1").unwrap(), key("k").unwrap());
        let asked = Query {
            reply_to: "tcp://10.0.0.7:9200".into(),
            number: 5,
            incarnation: "x".into(),
            puts: 3,
            attempt: attempt.clone(),
            key: key.clone(),
        };
        let bytes = encode_query(&asked, &asked.reply_to);
        assert_eq!(decode_query(bytes.into()), Ok(PeerMessage::Query(asked)));
        for (value, pointer) in
            [(Some(Bytes::new()), None), (None, Some("10.0.0.9".into())), (None, None)]
        {
            let (attempt, key) = (attempt.clone(), key.clone());
            let answer = Queried { number: 5, key, attempt, value, pointer };
            let bytes = encode_queried(&answer);
            assert_eq!(decode_queried(bytes.into()), Ok(PeerMessage::Queried(answer)));
        }
    }

    #[test]
    fn messages_about_a_commit_come_back() {
        let attempt = commit(1).version.writer.clone();
        let reply_to: Address = "tcp://10.0.0.7:9001".into();
        let collect = Collect {
            reply_to: reply_to.clone(),
            coordinator: origin("10.0.0.7"),
            number: 5,
            attempt: attempt.clone(),
            visit: Visit { origin: origin("10.0.0.8"), steps: 2, puts: 1 },
            keys: vec![key("k").unwrap()],
            is_named: true,
        };
        let bytes = encode_collect(&collect, &reply_to);
        assert_eq!(decode_commit_request(bytes.into()), Ok(PeerMessage::Collect(collect)));
        for end in [None, Some(None), Some(Some(commit(1)))] {
            let over = Over { from: "10.0.0.7".into(), attempt: attempt.clone(), end };
            let bytes = encode_over(&over);
            assert_eq!(decode_commit_request(bytes.into()), Ok(PeerMessage::Over(over)));
        }
        let addresses = vec!["10.0.0.9".into()];
        let forward =
            Forward { reply_to: reply_to.clone(), number: 5, attempt, addresses, hops: 3 };
        let bytes = encode_forward(&forward, &reply_to);
        assert_eq!(decode_commit_request(bytes.into()), Ok(PeerMessage::Forward(forward)));
        for values in [Ok(vec![Bytes::new(), Bytes::from_static(b"v")]), Err("no".to_owned())] {
            let answer = Collected { number: 5, values };
            let bytes = encode_collected(&answer);
            assert_eq!(decode_commit_response(bytes.into()), Ok(PeerMessage::Collected(answer)));
        }
        for (committed, why) in
            [(Some(true), None), (Some(false), Some("no".to_owned())), (None, None)]
        {
            let attempt = commit(1).version.writer.clone();
            let place = Some((origin("10.0.0.8"), 4));
            let token = committed.filter(|c| *c).map(|_| Token { attempt, place });
            let answer = Forwarded { number: 5, committed, why, token };
            let bytes = encode_forwarded(&answer);
            assert_eq!(decode_commit_response(bytes.into()), Ok(PeerMessage::Forwarded(answer)));
        }
    }

    #[test]
    fn answers_go_to_tcp_only() {
        for to in ["", "ipc:///requests/get", "inproc://x"] {
            let text = format!("t~{to}");
            assert!(decode_hand_over(&text.into()).is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            let _ = decode_hand_over(&bytes);
            let _ = decode_handed_over(bytes.clone());
            let _ = decode_query(bytes.clone());
            let _ = decode_queried(bytes.clone());
            let _ = decode_commit_request(bytes.clone());
            let _ = decode_commit_response(bytes);
        }
    }
}
