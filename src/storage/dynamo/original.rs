//! What the original AFT left in its table: items with the partition key `DataKey`, a string, and the bytes
//! in `Value`.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeValue, KeyType, ReturnConsumedCapacity, ScalarAttributeType, TableDescription,
};
use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::sync::OnceCell;

use super::call::Caller;
use super::item;
use crate::storage::original::{Newest, RECORDS};
use crate::storage::{PlainValue, StorageError};
use crate::txn::Key;

const NAME: &str = "DataKey";
const VALUE: &str = "Value";

/// The table, and the newest version of each key in it, read when first needed.
#[derive(Debug)]
pub(super) struct Original {
    client: Client,
    table: String,
    newest: OnceCell<Newest>,
}

impl Original {
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table, newest: OnceCell::new() }
    }

    /// The values of keys, in that order.
    pub async fn values(
        &self,
        caller: &Caller,
        keys: &[Key],
    ) -> Result<Vec<Option<PlainValue>>, StorageError> {
        let newest = self.newest.get_or_try_init(|| self.read_records(caller)).await?;
        let found = keys.iter().map(async |key| {
            let Some(name) = newest.name_of(key) else { return Ok(None) };
            let stored = self.read(caller, name).await?;
            Ok::<_, StorageError>(stored.and_then(|stored| newest.value(key, stored)))
        });
        try_join_all(found).await
    }

    async fn read(&self, caller: &Caller, name: String) -> Result<Option<Bytes>, StorageError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(NAME, item::text(name))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let done = caller.call(1 << 20, || request.clone().send()).await?;
        caller.read(&done.consumed_capacity);
        Ok(done.item.and_then(value_of))
    }

    /// Reads the whole table, as its records can be found in no other way.
    async fn read_records(&self, caller: &Caller) -> Result<Newest, StorageError> {
        let mut newest = Newest::default();
        let mut behind = None;
        loop {
            let request = self
                .client
                .scan()
                .table_name(&self.table)
                .filter_expression(format!("begins_with({NAME}, :records)"))
                .expression_attribute_values(":records", item::text(RECORDS))
                .set_exclusive_start_key(behind)
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let done = caller.call(1 << 20, || request.clone().send()).await?;
            caller.read(&done.consumed_capacity);
            let records = done.items.unwrap_or_default().into_iter().filter_map(value_of);
            records.for_each(|stored| newest.note(&stored));
            behind = done.last_evaluated_key;
            if behind.is_none() {
                tracing::info!(keys = newest.len(), "found what the original AFT left");
                return Ok(newest);
            }
        }
    }
}

fn value_of(mut item: HashMap<String, AttributeValue>) -> Option<Bytes> {
    match item.remove(VALUE) {
        Some(AttributeValue::B(blob)) => Some(blob.into_inner().into()),
        _ => None,
    }
}

/// Whether a table can be the original's.
pub(super) fn is_its(table: &TableDescription) -> bool {
    let mut schema = table.key_schema().iter().map(|key| (key.attribute_name(), key.key_type()));
    let is_string = table.attribute_definitions().iter().any(|attribute| {
        attribute.attribute_name() == NAME && *attribute.attribute_type() == ScalarAttributeType::S
    });
    schema.next() == Some((NAME, &KeyType::Hash)) && schema.next().is_none() && is_string
}
