//! Several kinds of work in turns so short that what else disturbs the machine disturbs all of them
//! alike.

use std::time::Duration;

use super::BenchError;
use super::stats::Times;

const TURN: Duration = Duration::from_millis(50);

/// Lets each of so many kinds of work be done for about so many seconds, and answers their times.
pub(super) fn in_turns(
    kinds: usize,
    seconds: f64,
    mut work: impl FnMut(usize, Duration, &mut Times) -> Result<(), BenchError>,
) -> Result<Vec<Times>, BenchError> {
    let mut times: Vec<Times> = (0..kinds).map(|_| Times::new()).collect();
    let turns = (seconds / TURN.as_secs_f64()).ceil() as u64;
    for turn in 0..=turns {
        for (kind, times) in times.iter_mut().enumerate() {
            match turn {
                // Warms up.
                0 => work(kind, TURN, &mut Times::new())?,
                _ => work(kind, TURN, times)?,
            }
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_the_same_turns_and_the_first_does_not_count() {
        let mut turns = [0; 3];
        let times = in_turns(3, 0.1, |kind, time, times| {
            turns[kind] += 1;
            times.record(time);
            Ok(())
        });
        assert_eq!(turns, [3; 3]);
        let counted = times.unwrap().iter().map(|times| times.counts()[0].1).collect::<Vec<_>>();
        assert_eq!(counted, [2; 3]);
    }
}
