//! Puts a node's questions to a store.
//!
//! The questions are futures that the worker's own thread polls: a store that hands work to a thread
//! of its own wakes that thread directly when it is done, without a third one in between.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;

use crate::node::{Ask, Event, OpId, StoreResult};
use crate::storage::Storage;

type Question = Pin<Box<dyn Future<Output = Event> + Send>>;

/// The questions that are open.
pub(super) struct StoreDriver {
    store: Arc<dyn Storage>,
    open: FuturesUnordered<Question>,
    waker: Waker,
}

impl StoreDriver {
    /// `waker` is told when [`next`](Self::next) may have something.
    pub(super) fn new(store: Arc<dyn Storage>, waker: Waker) -> Self {
        Self { store, open: FuturesUnordered::new(), waker }
    }

    pub(super) fn ask(&self, op: OpId, ask: Ask) {
        self.open.push(Box::pin(answer(self.store.clone(), op, ask)));
    }

    /// One more answer, if there is one.
    pub(super) fn next(&mut self) -> Option<Event> {
        let mut context = Context::from_waker(&self.waker);
        match Pin::new(&mut self.open).poll_next(&mut context) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }
}

async fn answer(store: Arc<dyn Storage>, op: OpId, ask: Ask) -> Event {
    let result = match ask {
        Ask::Commit(batch) => StoreResult::Decided(store.commit(batch).await),
        Ask::SettleAborted(id) => StoreResult::Decided(store.settle_aborted(&id).await),
        Ask::Outcome(id) => StoreResult::Outcome(store.outcome(&id).await),
        Ask::Versions(wanted) => StoreResult::Versions(store.versions(&wanted).await),
        Ask::Plain(keys) => StoreResult::Plain(store.plain(&keys).await),
        Ask::Publish { key, version, value } => {
            StoreResult::Published(store.publish(&key, &version, &value).await)
        }
    };
    Event::Stored { op, result }
}
