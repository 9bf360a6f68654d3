//! Replies between the moment they are made and the moment they leave: where they are delayed, lost,
//! doubled and put out of order.

use std::collections::BTreeMap;
use std::time::Duration;

use super::faults::Faults;

/// How long a reply that is to be overtaken waits for one that does it.
const OVERTAKEN_MAX: Duration = Duration::from_millis(20);

/// A message and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The endpoint that the request named.
    pub to: String,
    /// The encoded reply.
    pub message: Vec<u8>,
}

/// Replies that wait.
#[derive(Default)]
pub(super) struct Outgoing {
    /// By the time when they leave; those of the same time in the order in which they were made.
    waiting: BTreeMap<(Duration, u64), Reply>,
    posted: u64,
    /// Waits for the next reply, which is to leave before it.
    overtaken: Option<(Duration, Reply)>,
}

impl Outgoing {
    /// Takes a reply, and does to it what the faults say. Says how many will leave.
    pub fn post(&mut self, now: Duration, reply: Reply, faults: &mut Faults) -> usize {
        if faults.drops_reply() {
            return 0;
        }
        let copy = faults.sends_twice().then(|| reply.clone());
        let copies = 1 + usize::from(copy.is_some());
        for reply in copy.into_iter().chain([reply]) {
            let due = now + faults.delay();
            let overtaken = self.overtaken.take();
            if overtaken.is_none() && faults.reorders() {
                self.overtaken = Some((now + OVERTAKEN_MAX, reply));
                continue;
            }
            self.wait(due, reply);
            if let Some((_, late)) = overtaken {
                self.wait(due, late);
            }
        }
        copies
    }

    /// The next reply to leave, if its time has come.
    pub fn next(&mut self, now: Duration) -> Option<Reply> {
        if let Some((_, reply)) = self.overtaken.take_if(|(until, _)| *until <= now) {
            return Some(reply);
        }
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the next reply leaves.
    pub fn next_due(&self) -> Option<Duration> {
        let waiting = self.waiting.first_key_value().map(|((due, _), _)| *due);
        let overtaken = self.overtaken.as_ref().map(|(until, _)| *until);
        waiting.into_iter().chain(overtaken).min()
    }

    /// Forgets all replies.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.overtaken = None;
    }

    fn wait(&mut self, due: Duration, reply: Reply) {
        self.posted += 1;
        self.waiting.insert((due, self.posted), reply);
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::Misbehaviour;
    use super::*;

    const LATER: Duration = Duration::from_secs(60);

    /// What leaves, and when the first of it does, if ten replies are made at once.
    fn sent(misbehaviour: Misbehaviour) -> (Vec<u8>, Option<Duration>) {
        let (mut outgoing, mut faults) = (Outgoing::default(), Faults::new(misbehaviour));
        let mut expected = 0;
        for number in 0..10u8 {
            let reply = Reply { to: "somebody".into(), message: vec![number] };
            expected += outgoing.post(Duration::ZERO, reply, &mut faults);
        }
        let due = outgoing.next_due();
        let left = std::iter::from_fn(|| outgoing.next(LATER)).map(|reply| reply.message[0]);
        let left: Vec<u8> = left.collect();
        assert_eq!(left.len(), expected);
        (left, due)
    }

    #[test]
    fn replies_leave_at_once_and_in_order() {
        let (left, due) = sent(Misbehaviour::default());
        assert_eq!(left, (0..10).collect::<Vec<_>>());
        assert_eq!(due, Some(Duration::ZERO));
    }

    #[test]
    fn replies_are_lost() {
        assert!(sent(Misbehaviour { drop_replies: 1.0, ..Misbehaviour::default() }).0.is_empty());
        let (left, _) = sent(Misbehaviour { drop_replies: 0.5, ..Misbehaviour::default() });
        assert!((1..10).contains(&left.len()));
    }

    #[test]
    fn replies_are_doubled() {
        let (left, _) = sent(Misbehaviour { twice: 1.0, ..Misbehaviour::default() });
        assert_eq!(left, (0..20).map(|number| number / 2).collect::<Vec<_>>());
    }

    #[test]
    fn replies_are_late() {
        let (left, due) = sent(Misbehaviour { delay_ms: (5, 9), ..Misbehaviour::default() });
        assert_eq!(left.len(), 10);
        assert!(due >= Some(Duration::from_millis(5)) && due <= Some(Duration::from_millis(9)));
    }

    #[test]
    fn replies_are_overtaken_by_the_next() {
        let (left, _) = sent(Misbehaviour { reorder: 1.0, ..Misbehaviour::default() });
        assert_eq!(left, [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]);
    }

    #[test]
    fn a_reply_that_nothing_overtakes_leaves_all_the_same() {
        let reorder = Misbehaviour { reorder: 1.0, ..Misbehaviour::default() };
        let (mut outgoing, mut faults) = (Outgoing::default(), Faults::new(reorder));
        let reply = Reply { to: "somebody".into(), message: vec![1] };
        outgoing.post(Duration::ZERO, reply.clone(), &mut faults);
        assert_eq!(outgoing.next(Duration::ZERO), None);
        assert_eq!(outgoing.next_due(), Some(OVERTAKEN_MAX));
        assert_eq!(outgoing.next(OVERTAKEN_MAX), Some(reply));
    }
}
