//! The requests that the backend makes, on the one table that it uses.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, DeleteRequest, KeysAndAttributes, PutRequest, ReturnConsumedCapacity,
    ReturnValue, ReturnValuesOnConditionCheckFailure, WriteRequest,
};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::sleep;

use super::call::{Caller, Failed};
use super::item::{self, Item};
use super::names::Name;
use crate::storage::StorageError;

/// What DynamoDB takes in one request.
const WRITES_MAX: usize = 25;
const READS_MAX: usize = 100;
/// Bytes in one request, below the 16 MB that DynamoDB takes, so that none waits long for its turn.
const WRITE_BYTES_MAX: usize = 4 << 20;
/// Requests of one operation that are under way at once.
const PARALLEL_MAX: usize = 8;
/// How often in a row DynamoDB may leave all of a batch undone.
const IDLE_ROUNDS_MAX: u32 = 6;

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    client: Client,
    name: String,
    pub caller: Caller,
}

/// What became of an item that may only be created, or only be changed under a condition.
#[derive(Debug)]
pub(super) enum Put {
    Done,
    /// It was not written. What is there instead, if anything is.
    Kept(Option<Item>),
}

/// How exactly the newest state is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// All that was confirmed before. Twice the price.
    Consistent,
    /// As it was up to some seconds ago. Enough for what never changes, if it is found.
    Eventual,
}

/// Which items of a partition are read.
#[derive(Debug, Clone, Default)]
pub(super) struct Range {
    /// From this sort key.
    pub from: Option<String>,
    /// The last ones first.
    pub descending: bool,
    /// At most so many.
    pub limit: Option<usize>,
    /// Go on behind this sort key.
    pub behind: Option<String>,
}

/// Some items, and where to go on if there may be more.
#[derive(Debug)]
pub(super) struct Page<N> {
    pub items: Vec<Item>,
    pub next: Option<N>,
}

impl Table {
    pub fn new(client: Client, name: String, seed: u64) -> Self {
        Self { client, name, caller: Caller::new(seed) }
    }

    /// Writes an item, whatever is there.
    pub async fn put(&self, item: Item) -> Result<(), StorageError> {
        match self.put_item(item, None, Vec::new()).await? {
            Put::Done => Ok(()),
            Put::Kept(_) => Err(StorageError::Refused("a condition was set by nobody".into())),
        }
    }

    /// Creates an item unless there is one.
    ///
    /// If the answer to the first attempt was lost, the item that is found there may be this one.
    pub async fn put_new(&self, item: Item) -> Result<Put, StorageError> {
        self.put_item(item, Some("attribute_not_exists(pk)"), Vec::new()).await
    }

    /// Replaces an item of which `condition` holds.
    pub async fn put_if(
        &self,
        item: Item,
        condition: &str,
        values: Vec<(&str, AttributeValue)>,
    ) -> Result<Put, StorageError> {
        self.put_item(item, Some(condition), values).await
    }

    async fn put_item(
        &self,
        item: Item,
        condition: Option<&str>,
        values: Vec<(&str, AttributeValue)>,
    ) -> Result<Put, StorageError> {
        let request = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_condition_expression(condition.map(str::to_owned))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let request = values.into_iter().fold(request, |request, (name, value)| {
            request.expression_attribute_values(name, value)
        });
        let bytes = item::size_of(&item);
        let send = || request.clone().set_item(Some(item.clone())).send();
        match self.caller.call(bytes, send).await {
            Ok(done) => {
                self.caller.wrote(&done.consumed_capacity);
                Ok(Put::Done)
            }
            Err(Failed::Condition(PutItemError::ConditionalCheckFailedException(error))) => {
                Ok(Put::Kept(error.item))
            }
            Err(failed) => Err(failed.into()),
        }
    }

    /// Counts up an attribute of an item; more than once if an answer is lost.
    pub async fn count(&self, name: Name, attribute: &str) -> Result<(), StorageError> {
        let request = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(item::keyed(name)))
            .update_expression(format!("ADD {attribute} :one"))
            .expression_attribute_values(":one", item::number(1))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let done = self.caller.call(0, || request.clone().send()).await?;
        self.caller.wrote(&done.consumed_capacity);
        Ok(())
    }

    /// Writes all of these items, whatever is there. All of them are different.
    pub async fn put_all(&self, items: Vec<Item>) -> Result<(), StorageError> {
        let write = |item: Item| {
            let bytes = item::size_of(&item);
            let put = PutRequest::builder().set_item(Some(item)).build();
            put.map(|put| (WriteRequest::builder().put_request(put).build(), bytes))
        };
        self.write_all(items.into_iter().map(write).collect::<Result<_, _>>().map_err(built)?).await
    }

    /// Deletes all of these items. What is not there is no error.
    pub async fn delete_all(&self, names: Vec<Name>) -> Result<(), StorageError> {
        let write = |name: Name| {
            let delete = DeleteRequest::builder().set_key(Some(item::keyed(name))).build();
            delete.map(|delete| (WriteRequest::builder().delete_request(delete).build(), 64))
        };
        self.write_all(names.into_iter().map(write).collect::<Result<_, _>>().map_err(built)?).await
    }

    async fn write_all(&self, writes: Vec<(WriteRequest, usize)>) -> Result<(), StorageError> {
        stream::iter(batches(writes).into_iter().map(|(batch, bytes)| self.write(batch, bytes)))
            .buffer_unordered(PARALLEL_MAX)
            .try_collect()
            .await
    }

    /// Writes a batch until nothing of it is left undone.
    async fn write(&self, batch: Vec<WriteRequest>, bytes: usize) -> Result<(), StorageError> {
        let mut left = batch;
        let mut idle_rounds = 0;
        loop {
            let request = self
                .client
                .batch_write_item()
                .request_items(&self.name, left.clone())
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let done = self.caller.call(bytes, || request.clone().send()).await?;
            self.caller.wrote(done.consumed_capacity.iter().flatten());
            let undone = done.unprocessed_items.and_then(|mut items| items.remove(&self.name));
            let undone = undone.unwrap_or_default();
            if undone.is_empty() {
                return Ok(());
            }
            idle_rounds = if undone.len() < left.len() { 0 } else { idle_rounds + 1 };
            left = undone;
            self.was_left_undone(idle_rounds).await?;
        }
    }

    /// Deletes one item and answers what it was.
    pub async fn take(&self, name: Name) -> Result<Option<Item>, StorageError> {
        let request = self
            .client
            .delete_item()
            .table_name(&self.name)
            .set_key(Some(item::keyed(name)))
            .return_values(ReturnValue::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let done = self.caller.call(1 << 20, || request.clone().send()).await?;
        self.caller.wrote(&done.consumed_capacity);
        Ok(done.attributes)
    }

    pub async fn get(&self, name: Name) -> Result<Option<Item>, StorageError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(item::keyed(name)))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let done = self.caller.call(0, || request.clone().send()).await?;
        self.caller.read(&done.consumed_capacity);
        Ok(done.item)
    }

    /// Reads items, in any order; those that are not there are missing. A name may stand there twice.
    /// Of `only_names` nothing but the key is read, at the same price.
    pub async fn get_all(
        &self,
        mut names: Vec<Name>,
        reading: Reading,
        only_names: bool,
    ) -> Result<Vec<Item>, StorageError> {
        names.sort_by(|a, b| (&a.pk, &a.sk).cmp(&(&b.pk, &b.sk)));
        names.dedup();
        let batches: Vec<_> = names.chunks(READS_MAX).map(<[Name]>::to_vec).collect();
        let found: Vec<Vec<Item>> =
            stream::iter(batches.into_iter().map(|batch| self.read(batch, reading, only_names)))
                .buffer_unordered(PARALLEL_MAX)
                .try_collect()
                .await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn read(
        &self,
        names: Vec<Name>,
        reading: Reading,
        only_names: bool,
    ) -> Result<Vec<Item>, StorageError> {
        let mut found = Vec::with_capacity(names.len());
        let mut left: Vec<Item> = names.into_iter().map(item::keyed).collect();
        let mut idle_rounds = 0;
        loop {
            let count = left.len();
            let keys = KeysAndAttributes::builder()
                .set_keys(Some(left))
                .consistent_read(reading == Reading::Consistent)
                .set_projection_expression(only_names.then(|| "pk, sk".to_owned()))
                .build()
                .map_err(built)?;
            let request = self
                .client
                .batch_get_item()
                .request_items(&self.name, keys)
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            // An answer has 16 MB at most.
            let done = self.caller.call(16 << 20, || request.clone().send()).await?;
            self.caller.read(done.consumed_capacity.iter().flatten());
            found.extend(
                done.responses.and_then(|mut of| of.remove(&self.name)).unwrap_or_default(),
            );
            let undone = done.unprocessed_keys.and_then(|mut of| of.remove(&self.name));
            left = undone.map(|undone| undone.keys).unwrap_or_default();
            if left.is_empty() {
                return Ok(found);
            }
            // An answer that was full is not a sign of trouble.
            if left.len() < count {
                idle_rounds = 0;
                continue;
            }
            idle_rounds += 1;
            self.was_left_undone(idle_rounds).await?;
        }
    }

    /// DynamoDB did only a part of what it was asked for: it is busy.
    async fn was_left_undone(&self, idle_rounds: u32) -> Result<(), StorageError> {
        self.caller.throttled();
        if idle_rounds > IDLE_ROUNDS_MAX {
            let why = "throttled: DynamoDB leaves batches undone again and again";
            return Err(StorageError::Unconfirmed(why.into()));
        }
        sleep(self.caller.pause(idle_rounds)).await;
        Ok(())
    }

    /// Reads a part of a partition, with all that was confirmed before.
    pub async fn query(&self, pk: &str, range: &Range) -> Result<Page<String>, StorageError> {
        let condition = match range.from {
            Some(_) => "pk = :pk AND sk >= :from",
            None => "pk = :pk",
        };
        let start = range.behind.clone().map(|sk| item::keyed(Name { pk: pk.to_owned(), sk }));
        let mut request = self
            .client
            .query()
            .table_name(&self.name)
            .key_condition_expression(condition)
            .expression_attribute_values(":pk", item::text(pk))
            .scan_index_forward(!range.descending)
            .consistent_read(true)
            .set_limit(range.limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)))
            .set_exclusive_start_key(start)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        if let Some(from) = &range.from {
            request = request.expression_attribute_values(":from", item::text(from));
        }
        let done = self.caller.call(1 << 20, || request.clone().send()).await?;
        self.caller.read(&done.consumed_capacity);
        let next =
            done.last_evaluated_key.map(|key| item::text_of(&key, item::SK).map(str::to_owned));
        Ok(Page { items: done.items.unwrap_or_default(), next: next.transpose()? })
    }

    /// Reads a part of the whole table, of which `segment` is one of `of` parts.
    pub async fn scan(
        &self,
        (segment, of): (u32, u32),
        limit: Option<usize>,
        behind: Option<Name>,
    ) -> Result<Page<Name>, StorageError> {
        let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let request = self
            .client
            .scan()
            .table_name(&self.name)
            .segment(count(segment))
            .total_segments(count(of.max(1)))
            .set_limit(limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)))
            .set_exclusive_start_key(behind.map(item::keyed))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let done = self.caller.call(1 << 20, || request.clone().send()).await?;
        self.caller.read(&done.consumed_capacity);
        let next = done.last_evaluated_key.map(|key| item::name_of(&key));
        Ok(Page { items: done.items.unwrap_or_default(), next: next.transpose()? })
    }
}

/// Divides writes into what fits into one request each.
fn batches(writes: Vec<(WriteRequest, usize)>) -> Vec<(Vec<WriteRequest>, usize)> {
    let mut batches: Vec<(Vec<WriteRequest>, usize)> = Vec::new();
    for (write, bytes) in writes {
        match batches.last_mut() {
            Some((batch, sum)) if batch.len() < WRITES_MAX && *sum + bytes <= WRITE_BYTES_MAX => {
                batch.push(write);
                *sum += bytes;
            }
            _ => batches.push((vec![write], bytes)),
        }
    }
    batches
}

fn built(error: impl std::fmt::Display) -> StorageError {
    StorageError::Refused(format!("a request could not be put together: {error}"))
}
