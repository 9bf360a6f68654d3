//! The lists of logs: those that are open, and those that are closed.
//!
//! Followers read the open ones each time, and the closed ones, of which there are more with each restart,
//! only when another was closed: a count among the open ones says so. A log is first listed as closed, then
//! counted, then taken from the open ones. So whoever reads the open ones and then the closed ones sees each
//! log; and a follower that misses one as it is moved reads the closed ones the next time. To count twice
//! only makes others look once more.

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::{self, Item};
use super::names::{CLOSED, CLOSINGS, LOGS, Name};
use super::table::{Range, Table};
use crate::storage::StorageError;

/// The log of one writer, or of one life of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Log {
    pub name: String,
    /// The writer's address, for people.
    pub node: String,
    /// Counts as long as the writer lives.
    pub beat: u64,
    /// All entries before this one are settled: they are commits, or void, or gone.
    pub low: u64,
    /// The writer was silent for too long, or has ended, and may add nothing more.
    pub is_closing: bool,
    /// And nothing will change any more; what lands behind `low` counts for nothing.
    pub is_closed: bool,
}

/// The open logs.
pub(super) struct Open {
    pub logs: Vec<Log>,
    /// Changes when a log is closed.
    pub closings: u64,
}

impl Log {
    pub fn parse(item: &Item) -> Result<Self, StorageError> {
        Ok(Self {
            name: item::text_of(item, item::SK)?.to_owned(),
            node: item::text_of(item, item::NODE)?.to_owned(),
            beat: item::number_of(item, item::BEAT)?,
            low: item::number_of(item, item::LOW)?,
            is_closing: item::has(item, item::CLOSING),
            is_closed: item::text_of(item, item::PK)? == CLOSED,
        })
    }

    pub fn to_item(&self) -> Item {
        let mut item = item::keyed(self.item_name());
        item.insert(item::NODE.into(), item::text(&self.node));
        item.insert(item::BEAT.into(), item::number(self.beat));
        item.insert(item::LOW.into(), item::number(self.low));
        if self.is_closing {
            item.insert(item::CLOSING.into(), AttributeValue::Bool(true));
        }
        item
    }

    pub fn item_name(&self) -> Name {
        let list = if self.is_closed { CLOSED } else { LOGS };
        Name { pk: list.to_owned(), sk: self.name.clone() }
    }
}

/// The open logs, by name. Those that are being closed may be among them.
pub(super) async fn open(table: &Table) -> Result<Open, StorageError> {
    let mut open = Open { logs: Vec::new(), closings: 0 };
    for item in list(table, LOGS).await? {
        if item::text_of(&item, item::SK)? == CLOSINGS {
            open.closings = item::number_of(&item, item::COUNT)?;
        } else {
            open.logs.push(Log::parse(&item)?);
        }
    }
    Ok(open)
}

/// The closed logs, by name.
pub(super) async fn closed(table: &Table) -> Result<Vec<Log>, StorageError> {
    list(table, CLOSED).await?.iter().map(Log::parse).collect()
}

async fn list(table: &Table, pk: &str) -> Result<Vec<Item>, StorageError> {
    let mut items = Vec::new();
    let mut range = Range::default();
    loop {
        let page = table.query(pk, &range).await?;
        items.extend(page.items);
        if page.next.is_none() {
            return Ok(items);
        }
        range.behind = page.next;
    }
}

/// Moves a log, of which nothing will change, to the closed ones.
pub(super) async fn close(table: &Table, log: Log) -> Result<(), StorageError> {
    let open = log.item_name();
    table.put(Log { is_closed: true, ..log }.to_item()).await?;
    table.count(Name { pk: LOGS.to_owned(), sk: CLOSINGS.to_owned() }, item::COUNT).await?;
    table.delete_all(vec![open]).await
}
