//! From configured names to a bucket that can be used.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::client::{HttpConnector, HttpRequest, ReqwestConnector};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::signer::{Method, Signer};
use object_store::{ClientConfigKey, ClientOptions, Error, RetryConfig};
use tokio::time::timeout;

use super::bucket::{Bucket, Put};
use super::call::{Verdict, judge, status_in, told, within};
use super::names;
use crate::storage::StorageError;

const CONNECT_MAX: &str = "2 seconds";
/// Requests are given up by the clock in `call.rs`, long before that.
const ANSWER_MAX: &str = "1 hour";
/// How long credentials are waited for, which a machine or a service may have to be asked for.
const CREDENTIALS_MAX: Duration = Duration::from_secs(10);
const SIGNED_FOR: Duration = Duration::from_secs(60);
const REGION: &str = "us-east-1";

/// Where the store is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The bucket's name.
    pub bucket: String,
    /// What the names of all objects begin with, up to a slash; may be empty.
    pub prefix: String,
    /// The URL of a server that speaks S3's protocol, if it is not Amazon's own.
    pub endpoint: Option<String>,
    /// The region; if it is not given, as in the environment.
    pub region: Option<String>,
    /// Make the bucket if it is not there.
    pub create: bool,
    /// Who asks; if it is not given, as usual (environment, web identity, the role of the container or the
    /// machine).
    pub credentials: Option<Credentials>,
}

/// An access key.
#[derive(Clone)]
pub struct Credentials {
    /// Its public part.
    pub key_id: String,
    /// Its secret part.
    pub secret: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (secret not shown)", self.key_id)
    }
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options make no sense together.
    #[error("the S3 client refuses its options: {0}")]
    Options(String),
    /// Nothing says who asks.
    #[error(
        "no credentials for S3: {0}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the container or the machine a role"
    )]
    Credentials(String),
    /// Nobody answers, or not yet. To ask again may help.
    #[error("S3 does not answer{}: {why}", at(.endpoint))]
    Away {
        /// Where.
        endpoint: Option<String>,
        /// What happened.
        why: String,
    },
    /// Whoever asks may not.
    #[error(
        "S3 does not allow to {what}: {why}. See docs/stores.md for the rights that are needed"
    )]
    Forbidden {
        /// What was asked.
        what: String,
        /// What it said.
        why: String,
    },
    /// The bucket.
    #[error(
        "there is no bucket {bucket:?} in S3{}. Give --create, or make it with: aws s3api create-bucket --bucket {bucket}{}",
        at(.endpoint),
        endpoint_option(.endpoint)
    )]
    Missing {
        /// Its name.
        bucket: String,
        /// Where.
        endpoint: Option<String>,
    },
    /// It is elsewhere.
    #[error(
        "the bucket {bucket:?} is in another region; give --s3-region, or set AWS_REGION: {why}"
    )]
    Region {
        /// Its name.
        bucket: String,
        /// What it said.
        why: String,
    },
    /// Two sidecars could both be first.
    #[error(
        "this object store does not honour {header}, so two sidecars could decide one transaction differently. See docs/stores.md for what an object store needs"
    )]
    Unconditional {
        /// The condition.
        header: &'static str,
    },
    /// What was asked makes no sense to it.
    #[error("S3 refused to {what}: {why}")]
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

fn endpoint_option(endpoint: &Option<String>) -> String {
    endpoint.as_ref().map(|url| format!(" --endpoint-url {url}")).unwrap_or_default()
}

impl Place {
    /// The part of the bucket below the prefix, which is there and can be used; and all of the bucket.
    pub(super) async fn connect(&self, incarnation: u64) -> Result<(Bucket, Bucket), OpenError> {
        let client = self.client()?;
        let credentials = timeout(CREDENTIALS_MAX, client.credentials().get_credential()).await;
        match credentials {
            Err(_) => return Err(OpenError::Credentials("nobody gives any".into())),
            Ok(Err(error)) => return Err(OpenError::Credentials(told(&error))),
            Ok(Ok(_)) => {}
        }
        match self.look(&client).await {
            Err(OpenError::Missing { .. }) if self.create => {
                self.create(&client).await?;
                self.look(&client).await?;
            }
            looked => looked?,
        }
        let mut prefix = self.prefix.trim_matches('/').to_owned();
        if !prefix.is_empty() {
            prefix.push('/');
        }
        let whole = Bucket::new(client.clone(), String::new(), incarnation);
        let bucket = Bucket::new(client, prefix, incarnation);
        self.try_conditions(&bucket, &names::probe(incarnation)).await?;
        Ok((bucket, whole))
    }

    fn client(&self) -> Result<AmazonS3, OpenError> {
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&self.bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        let waits = [
            (ClientConfigKey::ConnectTimeout, CONNECT_MAX),
            (ClientConfigKey::Timeout, ANSWER_MAX),
        ];
        for (key, value) in waits {
            builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        if let Some(url) = &self.endpoint {
            builder = builder.with_endpoint(url);
            if url.starts_with("http://") {
                builder = builder.with_allow_http(true);
            }
        }
        if let Some(credentials) = &self.credentials {
            builder = builder
                .with_access_key_id(&credentials.key_id)
                .with_secret_access_key(&credentials.secret);
        }
        builder.build().map_err(|error| OpenError::Options(told(&error)))
    }

    /// Whether the bucket is there, and its names can be listed.
    async fn look(&self, client: &AmazonS3) -> Result<(), OpenError> {
        let options = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        match within(0, client.list_paginated(Some("probe/"), options)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.why("list the bucket", &error)),
        }
    }

    /// Makes the bucket. The client can only sign a request for that.
    async fn create(&self, client: &AmazonS3) -> Result<(), OpenError> {
        tracing::warn!("creating the bucket {:?} in S3", self.bucket);
        let what = format!("create the bucket {:?}", self.bucket);
        let refused = |why: String| OpenError::Refused { what: what.clone(), why };
        let url = client.signed_url(Method::PUT, &Path::default(), SIGNED_FOR).await;
        let url = url.map_err(|error| refused(told(&error)))?;
        let body = self.constraint();
        let bytes = body.len() as u64;
        let mut request = HttpRequest::new(body.into());
        // It has to be said also if there are none.
        request.headers_mut().insert("content-length", bytes.into());
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = url.as_str().parse().map_err(|_| refused(url.to_string()))?;
        let options = ClientOptions::new().with_allow_http(url.scheme() == "http");
        let http = ReqwestConnector::default().connect(&options);
        let http = http.map_err(|error| refused(told(&error)))?;
        let answer = http.execute(request).await.map_err(|error| self.away(error.to_string()))?;
        let status = answer.status();
        let text = answer.into_body().bytes().await.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // Another sidecar may have been first.
        if status.is_success() || text.contains("BucketAlreadyOwnedByYou") {
            return Ok(());
        }
        let why = format!("{status}: {text}");
        match status.as_u16() {
            401 | 403 => Err(OpenError::Forbidden { what, why }),
            _ => Err(OpenError::Refused { what, why }),
        }
    }

    /// Where Amazon is to make the bucket, if not where it does by default.
    fn constraint(&self) -> Vec<u8> {
        let from_env =
            || std::env::var("AWS_REGION").or_else(|_| std::env::var("AWS_DEFAULT_REGION"));
        let region = self.region.clone().or_else(|| from_env().ok());
        match region {
            Some(region) if region != REGION && self.endpoint.is_none() => format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            )
            .into_bytes(),
            _ => Vec::new(),
        }
    }

    /// A store that ignores conditions would lose what was promised, so it is tried out.
    async fn try_conditions(&self, bucket: &Bucket, name: &str) -> Result<(), OpenError> {
        let failed = |error: StorageError| match error {
            StorageError::Refused(why) => {
                let what = "write an object, or read or delete it".to_owned();
                OpenError::Forbidden { what, why }
            }
            error => self.away(error.to_string()),
        };
        let put = |bytes: &'static str| bucket.put_new(name, bytes.into());
        // If an answer was lost, this one finds its own.
        let _ = put("first").await.map_err(failed)?;
        if put("second").await.map_err(failed)? == Put::Done {
            return Err(OpenError::Unconditional { header: "If-None-Match" });
        }
        let found = bucket.get(name).await.map_err(failed)?;
        let tag = found.ok_or_else(|| self.away("an object that was written is not there"))?.tag;
        let _ = bucket.put_if(name, "third".into(), tag.clone()).await.map_err(failed)?;
        if bucket.put_if(name, "fourth".into(), tag).await.map_err(failed)? == Put::Done {
            return Err(OpenError::Unconditional { header: "If-Match" });
        }
        bucket.delete_all(&[name.to_owned()]).await.map_err(failed)
    }

    fn away(&self, why: impl Into<String>) -> OpenError {
        OpenError::Away { endpoint: self.endpoint.clone(), why: why.into() }
    }

    fn why(&self, what: &str, error: &Error) -> OpenError {
        let (what, why) = (what.to_owned(), told(error));
        if why.contains("NoSuchBucket") {
            let (bucket, endpoint) = (self.bucket.clone(), self.endpoint.clone());
            return OpenError::Missing { bucket, endpoint };
        }
        if ["PermanentRedirect", "AuthorizationHeaderMalformed", "LOCATION"]
            .iter()
            .any(|sign| why.contains(sign))
        {
            return OpenError::Region { bucket: self.bucket.clone(), why };
        }
        match (status_in(&why), judge(error)) {
            (Some(401 | 403), _) => OpenError::Forbidden { what, why },
            (_, Verdict::NotTaken(why) | Verdict::Unknown(why)) => self.away(why),
            _ => OpenError::Refused { what, why },
        }
    }
}
