//! From configured names to a table that can be used.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::Client;
pub use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{ProvideCredentials, Region, StalledStreamProtectionConfig};
use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TableDescription, TableStatus,
};
use tokio::time::{sleep, timeout};

use super::call::told;
use super::item::{PK, SK};
use super::original;

const CONNECT_MAX: Duration = Duration::from_secs(2);
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long a new table is waited for.
const CREATE_MAX: Duration = Duration::from_secs(60);
const CREATE_PAUSE: Duration = Duration::from_millis(200);

/// Where the store is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The table's name.
    pub table: String,
    /// The URL of a server that speaks DynamoDB's protocol, if it is not Amazon's own.
    pub endpoint: Option<String>,
    /// The region; if it is not given, as usual (environment, profile, the machine itself).
    pub region: Option<String>,
    /// Make the table if it is not there.
    pub create: bool,
    /// Who asks; if it is not given, as usual (environment, profile, the role of the machine or container).
    pub credentials: Option<Credentials>,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing says where.
    #[error("no region is configured for DynamoDB; give --dynamodb-region, or set AWS_REGION")]
    Region,
    /// Nothing says who asks.
    #[error(
        "no credentials for DynamoDB: {0}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role"
    )]
    Credentials(String),
    /// Nobody answers, or not yet. To ask again may help.
    #[error("DynamoDB does not answer{}: {why}", at(.endpoint))]
    Away {
        /// Where.
        endpoint: Option<String>,
        /// What happened.
        why: String,
    },
    /// Whoever asks may not.
    #[error(
        "DynamoDB does not allow to {what}: {why}. See docs/stores.md for the rights that are needed"
    )]
    Forbidden {
        /// What was asked.
        what: String,
        /// What it said.
        why: String,
    },
    /// The table.
    #[error(
        "there is no table {table:?} in DynamoDB{}. Give --create, or make it with: \
         aws dynamodb create-table --table-name {table} --billing-mode PAY_PER_REQUEST \
         --attribute-definitions AttributeName=pk,AttributeType=S AttributeName=sk,AttributeType=S \
         --key-schema AttributeName=pk,KeyType=HASH AttributeName=sk,KeyType=RANGE",
        at(.endpoint)
    )]
    Missing {
        /// Its name.
        table: String,
        /// Where.
        endpoint: Option<String>,
    },
    /// Another table has its name.
    #[error(
        "the table {table:?} is not one of aft: its partition key has to be the string \"pk\", its sort key the string \"sk\""
    )]
    Unsuitable {
        /// Its name.
        table: String,
    },
    /// What the original AFT left cannot be where it was said to be.
    #[error(
        "{table:?} is no table of the original AFT{}: {why}. --dynamodb-original names the one that it used, AftData by its source",
        at(.endpoint)
    )]
    Original {
        /// Its name.
        table: String,
        /// Where.
        endpoint: Option<String>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// What was asked makes no sense to it.
    #[error("DynamoDB refused to {what}: {why}")]
    Refused {
        /// What was asked.
        what: String,
        /// What it said.
        why: String,
    },
}

impl OpenError {
    /// To try again later may help.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

fn at(endpoint: &Option<String>) -> String {
    endpoint.as_ref().map(|url| format!(" at {url}")).unwrap_or_default()
}

impl Place {
    /// A client for the table, which is there and can be used.
    pub(super) async fn connect(&self) -> Result<Client, OpenError> {
        let client = self.client().await?;
        let table = match self.describe(&client, &self.table).await? {
            Some(table) => table,
            None if self.create => self.create(&client).await?,
            None => {
                return Err(OpenError::Missing {
                    table: self.table.clone(),
                    endpoint: self.endpoint.clone(),
                });
            }
        };
        if is_ours(&table) {
            self.wait_for(&client, table).await?;
            Ok(client)
        } else {
            Err(OpenError::Unsuitable { table: self.table.clone() })
        }
    }

    /// Makes sure that a table may be that of an original AFT.
    pub(super) async fn check_original(
        &self,
        client: &Client,
        table: &str,
    ) -> Result<(), OpenError> {
        let why = match self.describe(client, table).await? {
            Some(found) if original::is_its(&found) => return Ok(()),
            Some(_) => "its partition key is not the string \"DataKey\"",
            None => "it is not there",
        };
        let (table, endpoint) = (table.to_owned(), self.endpoint.clone());
        Err(OpenError::Original { table, endpoint, why })
    }

    async fn client(&self) -> Result<Client, OpenError> {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_MAX).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(url) = &self.endpoint {
            loader = loader.endpoint_url(url);
        }
        if let Some(credentials) = &self.credentials {
            loader = loader.credentials_provider(credentials.clone());
        }
        let config = loader.load().await;
        if let Some(provider) = config.credentials_provider() {
            let found = provider.provide_credentials().await;
            found.map_err(|error| OpenError::Credentials(told(&error)))?;
        }
        match (config.region(), &self.endpoint) {
            (Some(_), _) => Ok(Client::new(&config)),
            // A server of one's own does not care.
            (None, Some(_)) => {
                let config = config.into_builder().region(Region::from_static("us-east-1"));
                Ok(Client::new(&config.build()))
            }
            (None, None) => Err(OpenError::Region),
        }
    }

    async fn describe(
        &self,
        client: &Client,
        table: &str,
    ) -> Result<Option<TableDescription>, OpenError> {
        let request = client.describe_table().table_name(table).send();
        let what = format!("describe the table {table:?}");
        match self.answered(request.await_within().await)? {
            Ok(done) => Ok(done.table),
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(self.why(what, &error)),
        }
    }

    async fn create(&self, client: &Client) -> Result<TableDescription, OpenError> {
        tracing::warn!("creating the table {:?} in DynamoDB", self.table);
        let what = format!("create the table {:?}", self.table);
        let refused =
            |error: BuildError| OpenError::Refused { what: what.clone(), why: error.to_string() };
        let mut request =
            client.create_table().table_name(&self.table).billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in [(PK, KeyType::Hash), (SK, KeyType::Range)] {
            let attribute = AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S);
            let element = KeySchemaElement::builder().attribute_name(name).key_type(kind);
            request = request
                .attribute_definitions(attribute.build().map_err(refused)?)
                .key_schema(element.build().map_err(refused)?);
        }
        let created = match self.answered(request.send().await_within().await)? {
            Ok(done) => done.table_description,
            // Another sidecar was first.
            Err(error) if error.code() == Some("ResourceInUseException") => {
                self.describe(client, &self.table).await?
            }
            Err(error) => return Err(self.why(what, &error)),
        };
        created.ok_or_else(|| self.away("it does not tell of the new table"))
    }

    async fn wait_for(
        &self,
        client: &Client,
        mut table: TableDescription,
    ) -> Result<(), OpenError> {
        let all = async {
            while matches!(table.table_status, Some(TableStatus::Creating)) {
                sleep(CREATE_PAUSE).await;
                if let Some(now) = self.describe(client, &self.table).await? {
                    table = now;
                }
            }
            Ok(())
        };
        timeout(CREATE_MAX, all)
            .await
            .unwrap_or_else(|_| Err(self.away("the table is still being created")))
    }

    fn away(&self, why: impl Into<String>) -> OpenError {
        OpenError::Away { endpoint: self.endpoint.clone(), why: why.into() }
    }

    fn answered<T, E>(
        &self,
        answer: Option<Result<T, SdkError<E>>>,
    ) -> Result<Result<T, E>, OpenError>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        match answer {
            None => Err(self.away(format!("no answer within {ANSWER_MAX:?}"))),
            Some(Ok(done)) => Ok(Ok(done)),
            Some(Err(SdkError::ServiceError(answer))) => Ok(Err(answer.into_err())),
            Some(Err(error)) => Err(self.away(told(&error))),
        }
    }

    fn why<E: ProvideErrorMetadata>(&self, what: String, error: &E) -> OpenError {
        let code = error.code().unwrap_or("no code");
        let why = format!("{code}: {}", error.message().unwrap_or("no message"));
        match code {
            "AccessDeniedException"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignature"
            | "ExpiredTokenException" => OpenError::Forbidden { what, why },
            "InternalServerError" | "ServiceUnavailable" | "ThrottlingException" | "no code" => {
                self.away(why)
            }
            _ => OpenError::Refused { what, why },
        }
    }
}

fn is_ours(table: &TableDescription) -> bool {
    let is_string = |name: &str| {
        table.attribute_definitions().iter().any(|attribute| {
            attribute.attribute_name() == name
                && *attribute.attribute_type() == ScalarAttributeType::S
        })
    };
    let schema: Vec<_> =
        table.key_schema().iter().map(|key| (key.attribute_name(), key.key_type())).collect();
    schema == [(PK, &KeyType::Hash), (SK, &KeyType::Range)] && is_string(PK) && is_string(SK)
}

/// Waits for an answer, but not for ever.
trait AwaitWithin: Future + Sized {
    async fn await_within(self) -> Option<Self::Output> {
        timeout(ANSWER_MAX, self).await.ok()
    }
}

impl<F: Future> AwaitWithin for F {}
