//! How an inspection looks on a terminal.

use clap::ValueEnum;

use super::{Inspection, Logged};
use crate::node::Status;
use crate::runtime::config::StorageKind;
use crate::storage::Usage;

const LABEL_WIDTH: usize = 38;
const FIGURE_WIDTH: usize = 16;

/// One figure a line, with what belongs to another figure indented below it.
pub(super) fn render(found: &Inspection) -> String {
    let mut lines = Vec::new();
    let kind = name(found.storage);
    match (&found.usage, &found.uncounted) {
        (Some(usage), _) => {
            lines.push(format!("Store: {kind}, counted in {}", seconds(found.seconds)));
            of_store(&mut lines, usage);
        }
        (None, why) => {
            let why = why.as_deref().unwrap_or("nothing was counted");
            lines.push(format!("Store: {kind}. Not counted: {why}"));
        }
    }
    if let Some(log) = &found.log {
        of_log(&mut lines, log);
    }
    if let Some(node) = &found.node {
        lines.push(String::new());
        lines.push(title(found.sidecar.as_ref()));
        of_node(&mut lines, node);
        lines.push(String::new());
        lines.push("Since it was started".to_owned());
        since_start(&mut lines, node);
    }
    lines.push(String::new());
    lines.join("\n")
}

fn title(sidecar: Option<&serde_json::Value>) -> String {
    let said = |name: &str| sidecar.and_then(|about| about.get(name));
    let text = |name| said(name).and_then(serde_json::Value::as_str).unwrap_or("?");
    let collects = match said("collects_garbage").and_then(serde_json::Value::as_bool) {
        Some(true) => "collects garbage",
        Some(false) => "keeps everything",
        None => "does not say whether it collects garbage",
    };
    format!("Node {}, version {}, {collects}", text("address"), text("version"))
}

fn of_store(lines: &mut Vec<String>, usage: &Usage) {
    lines.extend([
        count("live keys", usage.keys),
        count("versions", usage.versions),
        count("  superseded", usage.superseded),
        count("  without a commit (yet)", usage.uncommitted),
        count("entries in the commit log", usage.log_entries),
        count("outcomes of transactions", usage.outcomes),
        count("  without a version", usage.remains),
        line("bytes", &bytes(usage.bytes)),
    ]);
}

fn of_log(lines: &mut Vec<String>, log: &Logged) {
    lines.extend([
        count("commits in its log", log.commits),
        count("  versions that they wrote", log.versions),
        count("  of so many keys", log.keys),
    ]);
}

fn of_node(lines: &mut Vec<String>, node: &Status) {
    let superseded = node.versions.saturating_sub(node.keys);
    let oldest = seconds(node.oldest_transaction_ms as f64 / 1_000.0);
    lines.extend([
        count("keys in memory", node.keys as u64),
        count("versions in memory", node.versions as u64),
        count("  superseded", superseded as u64),
        count("transactions running", node.transactions as u64),
        line("  the oldest for", &oldest),
        line("  writes that they hold", &bytes(node.buffered_bytes as u64)),
        line("values in memory", &bytes(node.cached_bytes)),
        count("commits kept aside (clock-bound)", node.quarantined as u64),
    ]);
}

fn since_start(lines: &mut Vec<String>, node: &Status) {
    let garbage = &node.garbage;
    lines.extend([
        count("grace periods over", garbage.graces),
        count("versions dropped from memory", garbage.dropped),
        count("versions deleted from the store", garbage.deleted),
        count("records of commits deleted", garbage.records),
        count("entries looked at by sweeping", garbage.swept.looked_at),
        count("  versions found", garbage.swept.versions),
        count("  records found", garbage.swept.records),
        count("  outcomes forgotten", garbage.swept.outcomes),
        count("  values without a commit", garbage.swept.orphans),
        count("keys evicted from memory", garbage.evicted),
        count("  looked up in the store again", garbage.heads),
        count("aborted as a version was gone", garbage.gone),
    ]);
}

fn count(label: &str, figure: u64) -> String {
    line(label, &thousands(figure))
}

fn line(label: &str, figure: &str) -> String {
    format!("  {label:<LABEL_WIDTH$}{figure:>FIGURE_WIDTH$}")
}

/// As it is named on the command line.
fn name(kind: StorageKind) -> String {
    kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// With a comma between each three digits.
pub(super) fn thousands(figure: u64) -> String {
    let digits = figure.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// In the unit that leaves one to four digits before the point.
fn bytes(figure: u64) -> String {
    let mut scaled = figure as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if scaled < 1_024.0 {
            let digits = usize::from(unit != "B");
            return format!("{scaled:.digits$} {unit}");
        }
        scaled /= 1_024.0;
    }
    format!("{scaled:.1} TiB")
}

fn seconds(figure: f64) -> String {
    match figure {
        s if s < 10.0 => format!("{s:.3} s"),
        s if s < 600.0 => format!("{s:.1} s"),
        s => format!("{:.0} min", s / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_easy_to_read() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(seconds(0.25), "0.250 s");
        assert_eq!(seconds(3_600.0), "60 min");
    }

    #[test]
    fn figures_stand_below_each_other() {
        let usage = Usage { keys: 20, versions: 1_020, bytes: 1 << 20, ..Usage::default() };
        let found = Inspection {
            storage: StorageKind::Embedded,
            usage: Some(usage),
            uncounted: None,
            log: Some(Logged::default()),
            seconds: 0.1,
            sidecar: None,
            node: None,
        };
        let text = render(&found);
        let figures = text.lines().filter(|line| line.starts_with("  "));
        let widths: Vec<usize> = figures.map(str::len).collect();
        assert!(widths.len() > 8 && widths.iter().all(|width| *width == widths[0]), "{text}");
    }
}
