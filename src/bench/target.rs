//! What a figure should be, and whether it is.

use serde::Serialize;

use super::table::Table;

/// A ratio and its bound.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Target {
    what: String,
    figure: f64,
    bound: Bound,
    is_met: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    pub(super) fn at_most(what: impl Into<String>, figure: f64, bound: f64) -> Self {
        let is_met = figure <= bound;
        Self { what: what.into(), figure, bound: Bound::AtMost(bound), is_met }
    }

    pub(super) fn at_least(what: impl Into<String>, figure: f64, bound: f64) -> Self {
        let is_met = figure >= bound;
        Self { what: what.into(), figure, bound: Bound::AtLeast(bound), is_met }
    }

    pub(super) fn render_all(targets: &[Self]) -> String {
        let mut table = Table::new(&["target", "ratio", "should be", ""]);
        for Self { what, figure, bound, is_met } in targets {
            let bound = match bound {
                Bound::AtMost(bound) => format!("at most {bound:.2}"),
                Bound::AtLeast(bound) => format!("at least {bound:.2}"),
            };
            let verdict = if *is_met { "met" } else { "MISSED" };
            table.row(vec![what.clone(), format!("{figure:.2}"), bound, verdict.to_owned()]);
        }
        table.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_the_good_side() {
        assert!(Target::at_most("", 2.5, 2.5).is_met && Target::at_least("", 0.5, 0.5).is_met);
        assert!(!Target::at_most("", 2.6, 2.5).is_met && !Target::at_least("", 0.4, 0.5).is_met);
        let text = Target::render_all(&[Target::at_most("commit", 3.0, 2.5)]);
        assert!(
            text.contains("commit") && text.contains("at most 2.50") && text.contains("MISSED")
        );
    }
}
