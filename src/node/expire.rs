//! What happens because time has passed.

use super::attempts::{Phase, Wants};
use super::effect::{Answer, Effect, End};
use super::event::Ticket;
use super::{Node, Refusal, Timer, Turn};
use crate::txn::AttemptId;

impl Node {
    /// Does everything that is due.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) {
        while let Some(timer) = self.timers.pop_due(turn.now.elapsed) {
            match timer {
                Timer::Attempt(id) => self.look_after(turn, &id),
                Timer::Waiter(id, ticket) => self.stop_waiting(turn, &id, ticket),
                Timer::Quarantine => self.review_quarantine(turn),
                Timer::Gossip => self.gossip(turn),
                Timer::Collect => self.look_for_garbage(turn),
                Timer::CollectPart => self.collect_more(turn),
                Timer::Heartbeat => self.heartbeat(turn),
                Timer::CallAgain(number) => self.call_again(turn, number),
                Timer::CallDeadline(number) => self.call_unanswered(turn, number),
                Timer::Deadline(op) => self.give_up(turn, op),
                Timer::Again(op) => {
                    if let Some(entry) = self.ops.get(op) {
                        let ask = entry.ask.clone();
                        turn.effects.push(Effect::Store { op, ask });
                    }
                }
            }
        }
    }

    /// Aborts an attempt that its client left, or that has run for too long.
    fn look_after(&mut self, turn: &mut Turn<'_>, id: &AttemptId) {
        let (idle_max, lifetime_max) = (self.config.idle_max, self.config.lifetime_max);
        let Some(attempt) = self.attempts.get_mut(id) else {
            return;
        };
        let is_handed_out = matches!(attempt.phase, Phase::HandedOut { .. });
        let (Phase::Running { timer } | Phase::HandedOut { timer, .. }) = &mut attempt.phase else {
            return;
        };
        let life_end = attempt.begun + lifetime_max;
        // What has gone on elsewhere may take its time there.
        let is_waiting = !is_handed_out && !attempt.travel.ahead.is_empty();
        let idle_end = if is_waiting { life_end } else { attempt.touched + idle_max };
        let now = turn.now.elapsed;
        if now < idle_end.min(life_end) {
            *timer = self.timers.set(idle_end.min(life_end), Timer::Attempt(id.clone()));
            return;
        }
        let why =
            if now < life_end { Refusal::Idle(idle_max) } else { Refusal::Lifetime(lifetime_max) };
        if is_handed_out {
            // Whoever asks is told by the store.
            self.forget_attempt(id);
            self.ended.note_aborted(id.clone(), why, true);
            turn.effects.push(Effect::Ended { attempt: id.clone(), end: End::Elsewhere });
            return;
        }
        self.end_aborted(turn, id, why);
    }

    /// Tells a request that waits for an outcome that it is not known yet. The commit goes on.
    fn stop_waiting(&mut self, turn: &mut Turn<'_>, id: &AttemptId, ticket: Ticket) {
        let Some(attempt) = self.attempts.get_mut(id) else {
            return;
        };
        let Some(waiters) = attempt.phase.waiters() else { return };
        let Some(place) = waiters.iter().position(|waiter| waiter.ticket == ticket) else {
            return;
        };
        let why = Refusal::Undecided;
        let answer = match waiters.swap_remove(place).wants {
            Wants::Outcome(asked) => Answer::Undecided { id: asked.to_string(), why },
            Wants::Start(_) => Answer::Undecided { id: String::new(), why },
            Wants::Put(_) => Answer::Refused(why),
        };
        turn.reply(ticket, answer);
    }
}
