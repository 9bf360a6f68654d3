//! DynamoDB: `BatchWriteItem` and `BatchGetItem` (of one item: `PutItem`, `GetItem`) of the SDK's client.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, KeysAndAttributes,
    PutRequest, ScalarAttributeType, TableStatus, WriteRequest,
};
use bytes::Bytes;

use super::StorageBenchOptions;
use super::ground::{Direct, Ground};
use crate::bench::children::{Family, Process};
use crate::bench::place::not_done;
use crate::bench::sidecar::{Kept, READY_MAX};
use crate::bench::{BenchError, system};
use crate::storage::dynamo::{DynamoOptions, DynamoStore, LEASE, Place};

const NAME: &str = "name";
const VALUE: &str = "value";
/// What DynamoDB writes at once, at most; it reads more.
const AT_ONCE: usize = 25;
/// A server for tests does not care.
const REGION: &str = "us-east-1";
const PAUSE: Duration = Duration::from_millis(50);

struct Plain {
    client: Client,
    table: String,
}

type Item = HashMap<String, AttributeValue>;

/// A server that was named, or one of our own.
pub(super) async fn open(
    family: &Family,
    options: &StorageBenchOptions,
    run: &str,
) -> Result<Ground, BenchError> {
    let (url, server) = match &options.dynamodb_endpoint {
        Some(url) => (url.clone(), None),
        None => start(family).map(|(url, server)| (url, Some(server)))?,
    };
    // Whoever names a server has credentials for it.
    let credentials = server.as_ref().map(|_| Credentials::new("test", "test", None, None, "own"));
    let region = std::env::var("AWS_REGION").unwrap_or_else(|_| REGION.to_owned());
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(&url)
        .region(Region::new(region.clone()));
    if let Some(credentials) = &credentials {
        loader = loader.credentials_provider(credentials.clone());
    }
    let direct = Plain {
        client: Client::new(&loader.load().await),
        table: format!("aft-bench-{run}-direct"),
    };
    direct.make_table().await?;
    let store = DynamoStore::open(DynamoOptions {
        place: Place {
            table: format!("aft-bench-{run}-store"),
            endpoint: Some(url.clone()),
            region: Some(region.clone()),
            create: true,
            credentials,
        },
        node: "bench".to_owned(),
        incarnation: 1,
        lease: LEASE,
        original: None,
    });
    Ok(Ground {
        write: "BatchWriteItem",
        direct: Arc::new(direct),
        store: Arc::new(store.await.map_err(not_done)?),
        kept: Kept::DynamoDb {
            endpoint: url,
            region,
            table: format!("aft-bench-{run}-sidecar"),
            is_own: server.is_some(),
        },
        _server: server,
    })
}

fn start(family: &Family) -> Result<(String, Process), BenchError> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
    let address = free.map_err(system("find a free port"))?;
    let mut command = Command::new("ministack");
    command
        .env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", address.port().to_string())
        .env("SERVICES", "dynamodb")
        .env("LOG_LEVEL", "WARNING");
    let server = family.spawn("ministack", &mut command)?;
    let began = Instant::now();
    while TcpStream::connect_timeout(&address, PAUSE).is_err() {
        if began.elapsed() > READY_MAX {
            return Err(server.failed("does not answer"));
        }
        std::thread::sleep(PAUSE);
    }
    Ok((format!("http://{address}"), server))
}

impl Plain {
    async fn make_table(&self) -> Result<(), BenchError> {
        let key = AttributeDefinition::builder()
            .attribute_name(NAME)
            .attribute_type(ScalarAttributeType::S);
        let schema = KeySchemaElement::builder().attribute_name(NAME).key_type(KeyType::Hash);
        self.client
            .create_table()
            .table_name(&self.table)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(key.build().map_err(not_done)?)
            .key_schema(schema.build().map_err(not_done)?)
            .send()
            .await
            .map_err(not_done)?;
        loop {
            let described = self.client.describe_table().table_name(&self.table).send();
            let table = described.await.map_err(not_done)?.table;
            if table.is_none_or(|table| table.table_status != Some(TableStatus::Creating)) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn write_some(&self, values: &[(String, Bytes)]) -> Result<(), BenchError> {
        let item = |(name, value): &(String, Bytes)| {
            let value = AttributeValue::B(Blob::new(value.to_vec()));
            Item::from([
                (NAME.to_owned(), AttributeValue::S(name.clone())),
                (VALUE.to_owned(), value),
            ])
        };
        if let [one] = values {
            let put = self.client.put_item().table_name(&self.table).set_item(Some(item(one)));
            return put.send().await.map(drop).map_err(not_done);
        }
        let writes = values.iter().map(|one| {
            let put = PutRequest::builder().set_item(Some(item(one))).build();
            put.map(|put| WriteRequest::builder().put_request(put).build())
        });
        let mut left: Vec<_> = writes.collect::<Result<_, _>>().map_err(not_done)?;
        while !left.is_empty() {
            let write = self.client.batch_write_item().request_items(&self.table, left);
            let undone = write.send().await.map_err(not_done)?.unprocessed_items;
            left = undone.and_then(|mut of| of.remove(&self.table)).unwrap_or_default();
        }
        Ok(())
    }

    async fn read_some(&self, names: &[String]) -> Result<HashMap<String, Bytes>, BenchError> {
        let key = |name: &String| Item::from([(NAME.to_owned(), AttributeValue::S(name.clone()))]);
        let mut found = Vec::new();
        if let [one] = names {
            let get = self.client.get_item().table_name(&self.table).set_key(Some(key(one)));
            found.extend(get.send().await.map_err(not_done)?.item);
        } else {
            let mut left: Vec<_> = names.iter().map(key).collect();
            while !left.is_empty() {
                let keys = KeysAndAttributes::builder().set_keys(Some(left));
                let keys = keys.build().map_err(not_done)?;
                let get = self.client.batch_get_item().request_items(&self.table, keys);
                let got = get.send().await.map_err(not_done)?;
                let of_table = got.responses.and_then(|mut of| of.remove(&self.table));
                found.extend(of_table.unwrap_or_default());
                let undone = got.unprocessed_keys.and_then(|mut of| of.remove(&self.table));
                left = undone.map(|undone| undone.keys).unwrap_or_default();
            }
        }
        let named = found.into_iter().filter_map(|mut item| {
            match (item.remove(NAME)?, item.remove(VALUE)?) {
                (AttributeValue::S(name), AttributeValue::B(value)) => {
                    Some((name, value.into_inner().into()))
                }
                _ => None,
            }
        });
        Ok(named.collect())
    }
}

#[async_trait]
impl Direct for Plain {
    async fn write(&self, values: &[(String, Bytes)]) -> Result<(), BenchError> {
        for some in values.chunks(AT_ONCE) {
            self.write_some(some).await?;
        }
        Ok(())
    }

    async fn read(&self, names: &[String]) -> Result<Vec<Bytes>, BenchError> {
        let mut found = Vec::with_capacity(names.len());
        for some in names.chunks(AT_ONCE) {
            let values = self.read_some(some).await?;
            for name in some {
                let value = values.get(name).cloned();
                found.push(value.ok_or_else(|| BenchError::Answer(format!("{name} is missing")))?);
            }
        }
        Ok(found)
    }
}
