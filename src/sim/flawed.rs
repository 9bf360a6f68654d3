//! What is broken on purpose about who is waited for before garbage is deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Flaw;
use super::world::{Happening, World};
use crate::node::{Answer, Batch, Effect, Graced, Origin, PeerMessage};
use crate::txn::{AttemptId, Timestamp};

/// How often a node that died is heard of.
const HAUNTS_EACH: Duration = Duration::from_secs(1);

/// Which attempts run where, and which of them were on more than one node.
#[derive(Default)]
pub(super) struct Travels {
    running: BTreeSet<(usize, AttemptId)>,
    travelled: BTreeSet<AttemptId>,
}

impl World<'_> {
    /// Notes what an effect of a node says about where attempts run, if a flaw wants to know.
    pub(super) fn note_travels(&mut self, site: usize, effect: &Effect) {
        if self.options.flaw != Some(Flaw::Oblivious) {
            return;
        }
        let travels = &mut self.travels;
        match effect {
            Effect::Reply { answer: Answer::Started(id), .. } => {
                travels.running.insert((site, id.clone()));
            }
            Effect::Ended { attempt, .. } => {
                travels.running.remove(&(site, attempt.clone()));
            }
            Effect::Send { to, message: PeerMessage::HandedOver(handed) }
                if handed.view.is_ok() =>
            {
                travels.travelled.insert(handed.attempt.clone());
                if let Some(to) = self.sites.iter().position(|site| site.address == *to) {
                    travels.running.insert((to, handed.attempt.clone()));
                }
            }
            _ => {}
        }
    }

    /// Something runs there, and all of it was on other nodes, too.
    fn runs_travellers_only(&self, site: usize) -> bool {
        let mut running = self.travels.running.iter().filter(|(at, _)| *at == site).peekable();
        running.peek().is_some() && running.all(|(_, id)| self.travels.travelled.contains(id))
    }

    /// A message about what may be forgotten, as a flaw has it; none if it was answered, or is lost.
    pub(super) fn spoil_grace(
        &mut self,
        from: usize,
        to: usize,
        message: PeerMessage,
    ) -> Option<PeerMessage> {
        let answers = match self.options.flaw {
            Some(Flaw::Hasty) => true,
            Some(Flaw::Oblivious) => self.runs_travellers_only(to),
            _ => false,
        };
        match &message {
            PeerMessage::Grace(ask) if answers => {
                let answer = Graced {
                    node: self.sites[to].address.clone(),
                    incarnation: ask.asker.incarnation.clone(),
                    number: ask.number,
                    readable_to: Timestamp(u64::MAX),
                };
                self.deliver(from, PeerMessage::Graced(answer));
                None
            }
            PeerMessage::Graced(_) if self.options.flaw == Some(Flaw::Hoarding) => None,
            _ => Some(message),
        }
    }

    /// Tells all nodes that one of them is there which is not.
    pub(super) fn haunt(&mut self, dead: usize) {
        let incarnation = self.life(dead).to_string().into();
        let origin = Origin { node: self.address(dead), incarnation };
        let readable_to = Timestamp(u64::MAX);
        let commits = Vec::new();
        let nothing = Batch { origin, first: 1, last: 0, in_log_to: 0, readable_to, commits };
        for site in (0..self.sites.len()).filter(|site| *site != dead) {
            self.deliver(site, PeerMessage::Commits(nothing.clone()));
        }
        self.after(HAUNTS_EACH, Happening::Haunt { site: dead });
    }
}
