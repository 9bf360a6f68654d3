//! Objects in the bucket: read, created, replaced, deleted and listed by name. All names here are without
//! the prefix that the operator chose.

use bytes::Bytes;
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};

use super::call::{Answer, Caller, Price, within};
use crate::storage::StorageError;

/// Names in one listing, and deletions in one request.
const NAMES_MAX: usize = 1000;

/// A bucket, or the part of it below a prefix.
#[derive(Debug)]
pub(super) struct Bucket {
    store: AmazonS3,
    /// Empty, or something that ends with a slash.
    prefix: String,
    pub caller: Caller,
}

/// An object as it was read.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub bytes: Bytes,
    /// Names this state of it.
    pub tag: UpdateVersion,
}

/// Whether something was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Put {
    Done,
    /// The condition does not hold, or did not at some moment.
    Kept,
}

/// One object in a listing.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub name: String,
    pub bytes: u64,
    /// When it was written last, in nanoseconds since the Unix epoch by the store's clock.
    pub written_ns: u64,
}

/// A part of a listing.
pub(super) struct Names {
    pub names: Vec<Listed>,
    /// There is nothing behind it.
    pub end: bool,
}

impl Bucket {
    pub fn new(store: AmazonS3, prefix: String, seed: u64) -> Self {
        Self { store, prefix, caller: Caller::new(seed) }
    }

    fn path(&self, name: &str) -> Result<Path, StorageError> {
        Path::parse(format!("{}{name}", self.prefix)).map_err(|error| {
            StorageError::Unsuitable(format!("no object can be named so: {error}"))
        })
    }

    pub async fn get(&self, name: &str) -> Result<Option<Object>, StorageError> {
        let path = self.path(name)?;
        let send = || async {
            let found = within(0, self.store.get_opts(&path, GetOptions::default())).await?;
            let version = found.meta.version.clone();
            let tag = UpdateVersion { e_tag: found.meta.e_tag.clone(), version };
            let bytes = within(found.meta.size, found.bytes()).await?;
            Ok(Object { bytes, tag })
        };
        match self.caller.call(Price::Get, send).await? {
            Answer::Done(object) => Ok(Some(object)),
            Answer::Missing | Answer::Kept => Ok(None),
        }
    }

    /// Creates an object unless there is one. If the answer to the first attempt was lost, what is found
    /// there may be this one.
    pub async fn put_new(&self, name: &str, bytes: Bytes) -> Result<Put, StorageError> {
        self.put_by(name, bytes, PutMode::Create).await
    }

    /// Replaces an object that still is as it was read.
    pub async fn put_if(
        &self,
        name: &str,
        bytes: Bytes,
        tag: UpdateVersion,
    ) -> Result<Put, StorageError> {
        self.put_by(name, bytes, PutMode::Update(tag)).await
    }

    /// Writes an object, whatever is there.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StorageError> {
        match self.put_by(name, bytes, PutMode::Overwrite).await? {
            Put::Done => Ok(()),
            Put::Kept => Err(StorageError::Unconfirmed(format!("{name} is being written"))),
        }
    }

    async fn put_by(&self, name: &str, bytes: Bytes, mode: PutMode) -> Result<Put, StorageError> {
        let path = self.path(name)?;
        let send = || {
            let options = PutOptions::from(mode.clone());
            let payload = PutPayload::from(bytes.clone());
            within(bytes.len() as u64, self.store.put_opts(&path, payload, options))
        };
        match self.caller.call(Price::Put, send).await? {
            Answer::Done(_) => Ok(Put::Done),
            Answer::Missing | Answer::Kept => Ok(Put::Kept),
        }
    }

    /// Deletes objects. What is not there is no error.
    pub async fn delete_all(&self, names: &[String]) -> Result<(), StorageError> {
        let paths = names.iter().map(|name| self.path(name)).collect::<Result<Vec<_>, _>>()?;
        if let [path] = &paths[..] {
            let send = || within(0, self.store.delete(path));
            return self.caller.call(Price::Delete, send).await.map(drop);
        }
        for part in paths.chunks(NAMES_MAX) {
            let send = || {
                let part: Vec<_> = part.iter().cloned().map(Ok).collect();
                let deleted = self.store.delete_stream(Box::pin(futures_util::stream::iter(part)));
                within(0, futures_util::TryStreamExt::try_collect::<Vec<_>>(deleted))
            };
            self.caller.call(Price::Delete, send).await?;
        }
        Ok(())
    }

    /// At most a thousand names that begin with `start`, in order, behind `behind`.
    pub async fn list(&self, start: &str, behind: Option<&str>) -> Result<Names, StorageError> {
        let start = format!("{}{start}", self.prefix);
        let offset = behind.map(|name| format!("{}{name}", self.prefix));
        let send = || {
            let options = PaginatedListOptions {
                offset: offset.clone(),
                max_keys: Some(NAMES_MAX),
                ..PaginatedListOptions::default()
            };
            within(0, self.store.list_paginated(Some(&start), options))
        };
        let Answer::Done(page) = self.caller.call(Price::List, send).await? else {
            return Ok(Names { names: Vec::new(), end: true });
        };
        let listed = page.result.objects.into_iter().filter_map(|object| {
            let name = object.location.as_ref().strip_prefix(&self.prefix)?.to_owned();
            let written = object.last_modified.timestamp_nanos_opt().unwrap_or_default();
            let written_ns = u64::try_from(written).unwrap_or_default();
            Some(Listed { name, bytes: object.size, written_ns })
        });
        Ok(Names { names: listed.collect(), end: page.page_token.is_none() })
    }

    /// All names that begin with `start`.
    pub async fn list_all(&self, start: &str) -> Result<Vec<Listed>, StorageError> {
        let mut all: Vec<Listed> = Vec::new();
        loop {
            let page = self.list(start, all.last().map(|last| &last.name[..])).await?;
            all.extend(page.names);
            if page.end {
                return Ok(all);
            }
        }
    }
}
