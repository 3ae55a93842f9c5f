//! What the figures should be, and whether they are.

use std::fmt::Write as _;

/// The judged figures of a run, in order.
#[derive(Default)]
pub(super) struct Aims(Vec<String>);

/// Of which side of it a figure should be.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast,
    AtMost,
}

impl Aims {
    /// `spent` says what the time goes to, where that is known.
    pub(super) fn at_least(&mut self, what: &str, value: f64, aim: f64, unit: &str, spent: &str) {
        self.judge(what, value, (Bound::AtLeast, aim), unit, spent);
    }

    pub(super) fn at_most(&mut self, what: &str, value: f64, aim: f64, unit: &str, spent: &str) {
        self.judge(what, value, (Bound::AtMost, aim), unit, spent);
    }

    fn judge(
        &mut self,
        what: &str,
        value: f64,
        (bound, aim): (Bound, f64),
        unit: &str,
        spent: &str,
    ) {
        let (held, words) = match bound {
            Bound::AtLeast => (value >= aim, "at least"),
            Bound::AtMost => (value <= aim, "at most"),
        };
        let verdict = if held {
            "held".to_owned()
        } else {
            format!("MISSED by {:.0} %", 100.0 * (value - aim).abs() / aim)
        };
        let digits = if value < 100.0 { 2 } else { 0 };
        let mut line =
            format!("| {what} | {value:.digits$} {unit} | {words} {aim} {unit} | {verdict} |");
        // An empty cell otherwise.
        write!(line, " {spent} |").unwrap_or_default();
        self.0.push(line);
    }

    /// As a table.
    pub(super) fn table(&self) -> String {
        let heads = "| aim | measured | should be | | what the server's CPU time of one goes to |\n|---|---|---|---|---|";
        format!("{heads}\n{}", self.0.join("\n"))
    }
}

#[test]
fn an_aim_is_held_or_missed_by_so_much() {
    let mut aims = Aims::default();
    aims.at_least("rate", 9000.0, 8000.0, "/s", "");
    aims.at_least("part", 63.0, 70.0, "%", "signing");
    aims.at_most("memory", 70.4, 64.0, "MiB", "");
    let table = aims.table();
    let lines: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(
        lines,
        [
            "| rate | 9000 /s | at least 8000 /s | held |  |",
            "| part | 63.00 % | at least 70 % | MISSED by 10 % | signing |",
            "| memory | 70.40 MiB | at most 64 MiB | MISSED by 10 % |  |",
        ]
    );
}
