//! The list of all logs, and what it says of each.

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::{self, Item};
use super::names::{LOGS, Name};
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
    /// The writer was silent for too long and may add nothing more.
    pub is_closing: bool,
    /// And nothing will change any more; what lands behind `low` counts for nothing.
    pub is_closed: bool,
}

impl Log {
    pub fn parse(item: &Item) -> Result<Self, StorageError> {
        Ok(Self {
            name: item::text_of(item, item::SK)?.to_owned(),
            node: item::text_of(item, item::NODE)?.to_owned(),
            beat: item::number_of(item, item::BEAT)?,
            low: item::number_of(item, item::LOW)?,
            is_closing: item::has(item, item::CLOSING),
            is_closed: item::has(item, item::CLOSED),
        })
    }

    pub fn to_item(&self) -> Item {
        let mut item = item::keyed(self.item_name());
        item.insert(item::NODE.into(), item::text(&self.node));
        item.insert(item::BEAT.into(), item::number(self.beat));
        item.insert(item::LOW.into(), item::number(self.low));
        for (attribute, is_set) in
            [(item::CLOSING, self.is_closing), (item::CLOSED, self.is_closed)]
        {
            if is_set {
                item.insert(attribute.into(), AttributeValue::Bool(true));
            }
        }
        item
    }

    pub fn item_name(&self) -> Name {
        Name { pk: LOGS.to_owned(), sk: self.name.clone() }
    }
}

/// All logs there are, by name.
pub(super) async fn all(table: &Table) -> Result<Vec<Log>, StorageError> {
    let mut logs = Vec::new();
    let mut range = Range::default();
    loop {
        let page = table.query(LOGS, &range).await?;
        for item in &page.items {
            logs.push(Log::parse(item)?);
        }
        if page.next.is_none() {
            return Ok(logs);
        }
        range.behind = page.next;
    }
}
