//! Puts a node's questions to a store.
//!
//! The questions are futures that the worker's own thread polls: a store that hands work to a thread
//! of its own wakes that thread directly when it is done, without a third one in between.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;

use crate::asking;
use crate::node::{Ask, Event, OpId};
use crate::storage::Storage;
use crate::txn::BaseId;

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
        let answer = asking::answer(self.store.clone(), ask);
        self.open.push(Box::pin(async move { Event::Stored { op, result: answer.await } }));
    }

    pub(super) fn expect(&self, id: &BaseId) {
        self.store.expect(id);
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
