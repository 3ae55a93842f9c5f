//! What a benchmark prints: figures with what they should be.

/// Figures, one a line.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    rows: Vec<Row>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Row {
    name: String,
    value: f64,
    unit: String,
    at_most: Option<f64>,
}

impl Table {
    pub(crate) fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A figure, and what it should be at most.
    pub(crate) fn row(&mut self, name: &str, value: f64, unit: &str, at_most: Option<f64>) {
        self.rows.push(Row {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            at_most,
        });
    }

    /// What one has to know to read the figures.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(crate) fn print(&self) {
        println!("{}", self.render());
    }

    fn render(&self) -> String {
        let mut lines = vec![self.title.clone()];
        for Row {
            name,
            value,
            unit,
            at_most,
        } in &self.rows
        {
            let aim = at_most.map_or_else(String::new, |at_most| {
                let verdict = if *value <= at_most { "holds" } else { "MISSED" };
                format!("aim {at_most:>8.2}  {verdict}")
            });
            let line = format!("  {name:<42} {value:>10.2} {unit:<4}  {aim}");
            lines.push(line.trim_end().to_owned());
        }
        lines.extend(self.notes.iter().map(|note| format!("  {note}")));
        lines.join("\n")
    }
}

/// The value in the middle; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_which_aims_hold() {
        let mut table = Table::new("thing");
        table.row("size", 3.9, "MiB", Some(4.0));
        table.row("time", 51.0, "ms", Some(50.0));
        table.row("count", 7.0, "", None);
        let text = table.render();
        assert!(
            text.contains("3.90 MiB") && text.contains("4.00  holds"),
            "{text}"
        );
        assert!(
            text.contains("50.00  MISSED") && text.ends_with("7.00"),
            "{text}"
        );
    }

    #[test]
    fn the_median_is_the_value_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(&[]).abs() < f64::EPSILON);
    }
}
