//! What an error from Redis means: whether something may have been written, and whether to try again.

use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind, Value};

use super::super::StorageError;

/// Answers after which nothing was done, and will not be until somebody changes something.
const REFUSALS: &[&str] =
    &["OOM", "NOAUTH", "WRONGPASS", "NOPERM", "MISCONF", "NOREPLICAS", "CROSSSLOT", "UNWRITTEN"];
/// Answers after which nothing was done, and which end by themselves: a server that starts, a failover.
const PASSING: &[&str] = &[
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY",
    "MOVED",
    "ASK",
    "UNKILLABLE",
];

/// How an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It was not handed to the network.
    NotSent(String),
    /// It may have been done.
    Unsure(String),
    /// The server did not do it.
    Refused(String),
    /// The server did not do it, and soon may.
    Passing(String),
    /// The server does not know the script.
    NoScript,
    /// The server holds something else under a name of ours.
    WrongType(String),
    /// The server answered with some other error.
    Other(String),
}

impl Fault {
    pub fn of_server(error: &ServerError) -> Self {
        let code = error.code();
        let text = match error.details() {
            Some(details) => format!("{code} {details}"),
            None => code.to_owned(),
        };
        match code {
            "NOSCRIPT" => Self::NoScript,
            "WRONGTYPE" => Self::WrongType(text),
            _ if REFUSALS.contains(&code) => Self::Refused(text),
            _ if PASSING.contains(&code) => Self::Passing(text),
            _ if text.contains("max number of clients") => Self::Passing(text),
            _ => Self::Other(text),
        }
    }

    pub fn of_client(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => Self::NoScript,
            ErrorKind::Server(_) | ErrorKind::Extension => {
                let errors = error.clone().into_server_errors();
                let first = errors.as_ref().and_then(|errors| errors.first());
                first.map_or_else(|| Self::Other(error.to_string()), |(_, e)| Self::of_server(e))
            }
            ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => {
                Self::Refused(error.to_string())
            }
            ErrorKind::ClusterConnectionNotFound => Self::Passing(error.to_string()),
            _ => Self::Unsure(error.to_string()),
        }
    }

    /// The same of something that was sent before, without an answer: that may have been done.
    pub fn after_another_sending(self) -> Self {
        match self {
            Self::Refused(why) | Self::Passing(why) => Self::Unsure(why),
            fault => fault,
        }
    }
}

/// The error in an answer, if it is one.
pub(super) fn in_answer(answer: Value) -> Result<Value, Fault> {
    match answer {
        Value::ServerError(error) => Err(Fault::of_server(&error)),
        answer => Ok(answer),
    }
}

impl From<Fault> for StorageError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotSent(why) | Fault::Refused(why) | Fault::Passing(why) => Self::Refused(why),
            Fault::WrongType(why) => Self::Damaged(why),
            Fault::NoScript => Self::Refused("the server forgets scripts".to_owned()),
            Fault::Unsure(why) | Fault::Other(why) => Self::Unconfirmed(why),
        }
    }
}
