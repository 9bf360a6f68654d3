//! Tables for terminals.

use std::fmt::Write;

/// Rows of text; the first column is aligned to the left, all others to the right.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        let head = head.iter().map(|&text| text.to_owned()).collect();
        Self { rows: vec![head] }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(super) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Writing to a string does not fail.
                let _ = match column {
                    0 => write!(text, "{cell:<width$}"),
                    _ => write!(text, "  {cell:>width$}"),
                };
            }
            text.push('\n');
        }
        text
    }
}

/// A time in microseconds, with as many digits as mean something.
pub(super) fn micros(value: f64) -> String {
    match value {
        v if v < 1_000.0 => format!("{v:.1} us"),
        v if v < 1_000_000.0 => format!("{:.2} ms", v / 1_000.0),
        v => format!("{:.2} s", v / 1_000_000.0),
    }
}

/// A ratio.
pub(super) fn times(value: f64) -> String {
    format!("{value:.2}x")
}
