//! Messages between nodes to bytes and back: what is told about commits.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::address;
use crate::node::{Batch, Found, Grace, Graced, Origin, PeerMessage, Resend};
use crate::storage::{commit_of, record_of};
use crate::txn::{Commit, Timestamp};
use crate::wire::{TransactionList, TransactionRecord};

/// The most commits in one message.
const COMMITS_MAX: usize = 100_000;

/// Why a message of another node is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// It cannot be decoded.
    #[error("the message is not a valid {0}: {1}")]
    Undecodable(&'static str, String),
    /// It holds something that cannot be.
    #[error("the message holds {0}")]
    Nonsense(String),
    /// One of its commits is none.
    #[error("a commit in the message cannot be used: {0}")]
    BadCommit(String),
    /// It holds too much.
    #[error("the message holds {0} commits, at most {COMMITS_MAX} are taken")]
    TooMany(usize),
    /// It does not say who sent it, as those of the original AFT.
    #[error("the message does not name its sender")]
    Anonymous,
    /// It is for nodes that persist their own part of a transaction, as those of the original AFT.
    #[error(
        "this node does not persist a part of a transaction; it hands its values out to the node that commits"
    )]
    PersistPart {
        /// Who wants to know.
        reply_to: String,
    },
}

/// Decodes a protobuf message that is called `name`.
pub(super) fn decode_as<M: Message + Default>(
    name: &'static str,
    message: Bytes,
) -> Result<M, BadMessage> {
    M::decode(message).map_err(|error| BadMessage::Undecodable(name, error.to_string()))
}

pub(crate) fn encode_commits(batch: &Batch) -> Vec<u8> {
    TransactionList {
        records: batch.commits.iter().map(|commit| record_of(commit)).collect(),
        origin: batch.origin.node.to_string(),
        incarnation: batch.origin.incarnation.to_string(),
        first: batch.first,
        last: batch.last,
        in_log_to: batch.in_log_to,
        readable_to: batch.readable_to.0,
        ..TransactionList::default()
    }
    .encode_to_vec()
}

pub(super) fn encode_resend(resend: &Resend) -> Vec<u8> {
    TransactionList {
        origin: resend.asker.to_string(),
        incarnation: resend.incarnation.to_string(),
        first: resend.first,
        last: resend.last,
        resend: true,
        ..TransactionList::default()
    }
    .encode_to_vec()
}

pub(super) fn encode_grace(ask: &Grace) -> Vec<u8> {
    TransactionList {
        origin: ask.asker.node.to_string(),
        incarnation: ask.asker.incarnation.to_string(),
        grace: ask.number,
        ..TransactionList::default()
    }
    .encode_to_vec()
}

pub(super) fn encode_graced(answer: &Graced) -> Vec<u8> {
    TransactionList {
        origin: answer.node.to_string(),
        incarnation: answer.incarnation.to_string(),
        graced: answer.number,
        readable_to: answer.readable_to.0,
        ..TransactionList::default()
    }
    .encode_to_vec()
}

pub(crate) fn encode_found(found: &Found) -> Vec<u8> {
    TransactionList {
        records: found.commits.iter().map(|commit| record_of(commit)).collect(),
        origin: found.manager.to_string(),
        found: true,
        ..TransactionList::default()
    }
    .encode_to_vec()
}

pub(crate) fn decode_list(message: Bytes) -> Result<PeerMessage, BadMessage> {
    let list: TransactionList = decode_as("TransactionList", message)?;
    if list.origin.is_empty() {
        return Err(BadMessage::Anonymous);
    }
    let (node, incarnation): (Arc<str>, Arc<str>) = (list.origin.into(), list.incarnation.into());
    let (first, last) = (list.first, list.last);
    if list.resend {
        return Ok(PeerMessage::Resend(Resend { asker: node, incarnation, first, last }));
    }
    if list.grace > 0 {
        let asker = Origin { node, incarnation };
        return Ok(PeerMessage::Grace(Grace { asker, number: list.grace }));
    }
    if list.graced > 0 {
        let (number, readable_to) = (list.graced, Timestamp(list.readable_to));
        return Ok(PeerMessage::Graced(Graced { node, incarnation, number, readable_to }));
    }
    let commits = decode_records(&list.records)?;
    if list.found {
        let nobody = |error: address::BadAddress| BadMessage::Nonsense(error.to_string());
        address::check(&node).map_err(nobody)?;
        return Ok(PeerMessage::Found(Found { manager: node, commits }));
    }
    let origin = Origin { node, incarnation };
    let (in_log_to, readable_to) = (list.in_log_to, Timestamp(list.readable_to));
    Ok(PeerMessage::Commits(Batch { origin, first, last, in_log_to, readable_to, commits }))
}

/// The commits in a list that does not name its sender, as those of the original AFT.
pub(crate) fn decode_anonymous(message: Bytes) -> Result<Vec<Arc<Commit>>, BadMessage> {
    let list: TransactionList = decode_as("TransactionList", message)?;
    decode_records(&list.records)
}

fn decode_records(records: &[TransactionRecord]) -> Result<Vec<Arc<Commit>>, BadMessage> {
    if records.len() > COMMITS_MAX {
        return Err(BadMessage::TooMany(records.len()));
    }
    let commits = records.iter().map(commit_of).collect::<Result<_, _>>();
    commits.map_err(|error| BadMessage::BadCommit(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::{AttemptId, Commit, Key, Version, WrittenKey};
    use proptest::prelude::*;

    #[test]
    fn messages_come_back() {
        let version = Version { timestamp: Timestamp(7), writer: AttemptId::parse("t.1").unwrap() };
        let key = WrittenKey { key: Key::parse("a/b").unwrap(), fresh: true };
        let commits = vec![Arc::new(Commit::new(version, vec![key], "10.0.0.7".into()))];
        let origin = Origin { node: "10.0.0.7:1".into(), incarnation: "x".into() };
        let resend =
            Resend { asker: "10.0.0.8".into(), incarnation: "x".into(), first: 3, last: 9 };
        let found = Found { manager: "10.0.0.9".into(), commits: commits.clone() };
        let ask = Grace { asker: origin.clone(), number: 4 };
        let answer = Graced {
            node: "10.0.0.8".into(),
            incarnation: "x".into(),
            number: 4,
            readable_to: Timestamp(u64::MAX),
        };
        assert_eq!(decode_list(encode_grace(&ask).into()), Ok(PeerMessage::Grace(ask)));
        assert_eq!(decode_list(encode_graced(&answer).into()), Ok(PeerMessage::Graced(answer)));
        let readable_to = Timestamp(11);
        let batch = Batch { origin, first: 3, last: 9, in_log_to: 2, readable_to, commits };
        assert_eq!(decode_list(encode_found(&found).into()), Ok(PeerMessage::Found(found.clone())));
        let nobody = Found { manager: "somebody".into(), ..found };
        assert!(decode_list(encode_found(&nobody).into()).is_err(), "that is no name of a node");
        assert_eq!(decode_list(encode_commits(&batch).into()), Ok(PeerMessage::Commits(batch)));
        assert_eq!(decode_list(encode_resend(&resend).into()), Ok(PeerMessage::Resend(resend)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes: Vec<u8>) {
            let _ = decode_list(bytes.into());
        }
    }
}
