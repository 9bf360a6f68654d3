//! What collecting costs: two sidecars in turns, of which one keeps everything.

use serde::Serialize;

use super::Soak;
use crate::bench::BenchError;
use crate::bench::client::Plan;
use crate::bench::ipc;
use crate::bench::sidecar::{Language, Load, load};
use crate::bench::stats::{Compared, Round};
use crate::bench::table::{Table, micros, times};

/// Before each turn is counted: garbage and merges that the other one's turn has left are done by then.
const WARMUP_SECONDS: f64 = 2.0;
/// Ten times as often as by default.
const SWEEP_SECONDS: &str = "60";

/// Throughput of both.
#[derive(Debug, Serialize)]
pub struct Collecting {
    transactions_per_s: Compared,
    cpu_us_per_request: Compared,
    commit_p99_us: Compared,
}

impl Collecting {
    pub(super) fn measure(soak: &Soak<'_>) -> Result<Self, BenchError> {
        let keeps = soak.sidecar_with("keeps", [("--collect-garbage", "false")])?;
        let collects = soak.sidecar_with("collects", [("--sweep-each", SWEEP_SECONDS)])?;
        soak.fill(&keeps)?;
        soak.fill(&collects)?;
        let seconds = soak.options.compare_seconds;
        let work = soak.work(Plan::Whole, soak.options.clients, seconds);
        let work = Load { warmup_seconds: WARMUP_SECONDS.min(seconds), ..work };
        let (mut kept, mut collected) = (Vec::new(), Vec::new());
        let progress = ipc::bar(soak.options.compare_rounds);
        progress.set_message("with and without collecting");
        for round in 0..soak.options.compare_rounds {
            let mut turns = [(&keeps, &mut kept), (&collects, &mut collected)];
            // Neither always has the better half of what disturbs the machine.
            if round % 2 == 1 {
                turns.reverse();
            }
            for (server, rounds) in turns {
                rounds.extend(load(&soak.family, &[server], Language::Rust, 1, &work)?);
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        let compared =
            |figure: &dyn Fn(&Round) -> Option<f64>| Compared::in_turns(&kept, &collected, figure);
        Ok(Self {
            transactions_per_s: compared(&|round| Some(round.transactions_per_s)),
            cpu_us_per_request: compared(&|round| Some(round.cpu_us_per_request)),
            commit_p99_us: compared(&|round| Some(round.times.get("commit")?.p99_us)),
        })
    }

    pub(super) fn render(&self) -> String {
        let mut table = Table::new(&["in turns", "keeps everything", "collects", "ratio"]);
        let rate = |rate: f64| format!("{rate:.0}/s");
        for (name, figure, unit) in [
            ("transactions", &self.transactions_per_s, &rate as &dyn Fn(f64) -> String),
            ("CPU per request", &self.cpu_us_per_request, &micros),
            ("commit p99", &self.commit_p99_us, &micros),
        ] {
            let Compared { floor, sidecar, ratio } = *figure;
            table.row(vec![name.to_owned(), unit(floor), unit(sidecar), times(ratio)]);
        }
        table.render()
    }
}
