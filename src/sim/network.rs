//! The network between the nodes: it delays, loses, repeats and reorders messages, and cuts nodes off
//! from each other for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use super::world::{Happening, World};
use super::{Flaw, site};
use crate::node::{Address, Event, PeerMessage};

/// The longest time for which a cut stays.
const CUT_MS_MAX: u64 = 8_000;

/// Who is cut off from whom.
#[derive(Default)]
pub(super) struct Network {
    cut: BTreeSet<(usize, usize)>,
    /// Hand-overs that were seen, for a flaw that breaks all but the first to a node.
    merged: BTreeSet<(usize, crate::txn::AttemptId)>,
}

impl World<'_> {
    /// A message sets out.
    pub(super) fn send(&mut self, from: usize, to: &Address, message: PeerMessage) {
        let Some(to) = self.sites.iter().position(|site| site.address == *to) else {
            return;
        };
        self.report.messages += 1;
        let Some(mut message) = self.spoil_grace(from, to, message) else { return };
        self.spoil(to, &mut message);
        if to != from {
            let is_cut = self.network.cut.contains(&(from.min(to), from.max(to)));
            if is_cut || self.rng.f64() < self.weather.lose_message {
                return self.lose(to, message);
            }
            if self.rng.f64() < self.weather.repeat_message {
                self.deliver(to, message.clone());
            }
        }
        self.deliver(to, message);
    }

    pub(super) fn deliver(&mut self, to: usize, message: PeerMessage) {
        let longest_us = if self.rng.f64() < self.weather.delay_message {
            if self.rng.u32(0..8) == 0 { 6_000_000 } else { 300_000 }
        } else {
            2_000
        };
        let delay = Duration::from_micros(self.rng.u64(50..longest_us));
        let event = Event::Peer(message);
        self.after(delay, Happening::Arrive { site: to, life: None, event });
    }

    /// What is lost may, with a flaw, look as if it had arrived.
    fn lose(&mut self, to: usize, message: PeerMessage) {
        if self.options.flaw == Some(Flaw::Deaf)
            && let PeerMessage::Commits(mut batch) = message
        {
            batch.commits.clear();
            self.deliver(to, PeerMessage::Commits(batch));
        }
    }

    fn spoil(&mut self, to: usize, message: &mut PeerMessage) {
        let PeerMessage::HandedOver(handed) = message else {
            return;
        };
        let spoils = match self.options.flaw {
            Some(Flaw::Amnesic) => true,
            // The first hand-over makes the attempt known there, those after it are merges.
            Some(Flaw::Credulous) => !self.network.merged.insert((to, handed.attempt.clone())),
            _ => false,
        };
        if self.options.flaw == Some(Flaw::Shallow)
            && let Ok(view) = &mut handed.view
        {
            view.writes.iter_mut().for_each(|(_, holder)| holder.depth = 0);
        }
        if spoils && let Ok(view) = &mut handed.view {
            view.reads.clear();
            view.missing.clear();
        }
    }

    /// Cuts some nodes off from others, and mends what was cut.
    pub(super) fn change_network(&mut self) {
        self.network.cut.clear();
        if self.rng.f64() < self.weather.partition {
            let sides: Vec<bool> = self.sites.iter().map(|_| self.rng.bool()).collect();
            let single_link = self.rng.bool();
            for a in 0..sides.len() {
                for b in a + 1..sides.len() {
                    let apart = if single_link { self.rng.bool() } else { sides[a] != sides[b] };
                    if apart {
                        self.network.cut.insert((a, b));
                    }
                }
            }
        }
        let delay = Duration::from_millis(self.rng.u64(100..CUT_MS_MAX));
        self.after(delay, Happening::ChangeNetwork);
    }
}

/// The name of a node.
pub(super) fn address(number: usize) -> Address {
    debug_assert!(number < site::SITES_MAX);
    format!("10.0.0.{}", number + 1).into()
}
