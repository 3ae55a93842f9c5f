//! `docs/security-tests`: which test proves which row of the catalogue of attacks and failures, compared with the tests that exist.
//!
//! A test says by its name what it proves: `jwt_026_duplicate_member`, or `jwks_006_009_…` and `http_007_to_011_…` for several rows. Each
//! row of the tables names its tests, is `open`, or is `not applicable` for a reason. So the tables can be written anew from the sources
//! at any time, and a row that differs from what would be written is a finding.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::tidy::list_files;
use crate::workspace::Workspace;

/// What the rows are about, and how many each area has at least. More may be added behind the last.
const AREAS: [(&str, u16); 15] = [
    ("ADM", 38),
    ("AZ", 19),
    ("CFG", 10),
    ("DISC", 11),
    ("DOC", 2),
    ("HTTP", 26),
    ("ISS", 11),
    ("JWKS", 9),
    ("JWT", 103),
    ("KEY", 12),
    ("LIVE", 23),
    ("RBAC", 10),
    ("REF", 14),
    ("ROT", 14),
    ("TLS", 12),
];

const FOLDER: &str = "docs/security-tests";

#[derive(Debug, clap::Args)]
pub(crate) struct CatalogueOptions {
    /// Write the names of the tests that exist into the tables
    #[arg(long)]
    write: bool,
}

/// `JWT-026`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Id {
    area: &'static str,
    number: u16,
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{:03}", self.area, self.number)
    }
}

/// The tests of each row, by name.
type Tests = BTreeMap<Id, BTreeSet<String>>;

/// How many rows of an area are in which state.
#[derive(Debug, Default, Eq, PartialEq)]
struct Counts {
    not_applicable: u16,
    open: u16,
    tested: u16,
}

/// One area's table: what is wrong with it, what it should be, and its counts.
struct Checked {
    findings: Vec<String>,
    text: String,
    counts: Counts,
}

/// Prints the counts of each area; with `--write`, brings the tables up to date first.
pub(crate) fn run(workspace: &Workspace, options: &CatalogueOptions) -> Result<()> {
    let files = list_files(&workspace.root)?;
    let tests = collect_tests(&workspace.root, &files);
    let mut findings = Vec::new();
    println!("area  tested  not applicable  open");
    let mut sum = Counts::default();
    for (area, least) in AREAS {
        let path = table_path(&workspace.root, area);
        let mut checked = check_table(area, least, &read(&path)?, &tests);
        if options.write {
            fs::write(&path, &checked.text)?;
            checked = check_table(area, least, &checked.text, &tests);
        }
        let Counts {
            not_applicable,
            open,
            tested,
        } = checked.counts;
        println!("{area:4}  {tested:6}  {not_applicable:14}  {open:4}");
        sum.not_applicable += not_applicable;
        sum.open += open;
        sum.tested += tested;
        findings.extend(checked.findings);
    }
    println!(
        "all   {:6}  {:14}  {:4}",
        sum.tested, sum.not_applicable, sum.open
    );
    if findings.is_empty() {
        return Ok(());
    }
    bail!(
        "the tables do not say what is:\n  {}",
        findings.join("\n  ")
    )
}

/// Every place where a table and the sources differ.
pub(crate) fn find(root: &Path, files: &str, findings: &mut Vec<String>) -> Result<()> {
    let tests = collect_tests(root, files);
    for (area, least) in AREAS {
        let text = read(&table_path(root, area))?;
        findings.extend(check_table(area, least, &text, &tests).findings);
    }
    Ok(())
}

fn table_path(root: &Path, area: &str) -> PathBuf {
    root.join(FOLDER)
        .join(format!("{}.md", area.to_ascii_lowercase()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// All tests of the sources that are named after a row.
fn collect_tests(root: &Path, files: &str) -> Tests {
    let mut tests = Tests::new();
    let sources = files
        .lines()
        .filter(|file| Path::new(file).extension().is_some_and(|end| end == "rs"));
    for file in sources {
        // A file that git still knows but that is gone has no test.
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        for name in test_names(&text) {
            for id in ids_of(name) {
                tests.entry(id).or_default().insert(name.to_owned());
            }
        }
    }
    tests
}

/// The functions that `cargo test` runs: `#[test]` or `#[tokio::test]` stands on them, and `#[ignore]` does not. Attributes stand on lines of
/// their own, as rustfmt writes them; those of several lines go on until they are closed.
fn test_names(source: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let (mut is_test, mut is_ignored, mut in_attribute) = (false, false, false);
    for line in source.lines() {
        let line = line.split(" //").next().unwrap_or_default().trim();
        let attribute = line.strip_prefix("#[");
        if in_attribute || attribute.is_some() {
            let attribute = attribute.unwrap_or_default();
            is_test |= attribute.starts_with("test]") || attribute.starts_with("tokio::test");
            // What is ignored on a condition is not run either.
            is_ignored |= attribute.starts_with("ignore") || line.contains(", ignore");
            in_attribute = !line.ends_with(']');
            continue;
        }
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        let function = line.strip_prefix("async ").unwrap_or(line);
        let name = function
            .strip_prefix("fn ")
            .and_then(|rest| rest.split(['(', '<']).next());
        names.extend(name.filter(|_| is_test && !is_ignored));
        (is_test, is_ignored) = (false, false);
    }
    names
}

/// The rows a test's name says it proves: `jwt_026_…`, `jwks_006_009_…`, `http_007_to_011_…`, `rot_001_iss_010_…`.
fn ids_of(name: &str) -> Vec<Id> {
    let mut ids: Vec<Id> = Vec::new();
    let mut area = None;
    let (mut is_range, mut is_fresh) = (false, false);
    for word in name.split('_') {
        let named = AREAS
            .iter()
            .find(|(area, _)| area.eq_ignore_ascii_case(word));
        match (area, parse_number(word)) {
            (Some(area), Some(number)) => {
                let last = ids.last().map_or(number, |last| last.number + 1);
                let begin = if is_range { last } else { number };
                ids.extend((begin..=number).map(|number| Id { area, number }));
                (is_range, is_fresh) = (false, false);
            }
            _ if word == "to" && !is_fresh && !ids.is_empty() => is_range = true,
            // An area without a number is a word like any other.
            _ if named.is_some() && !is_fresh => {
                area = named.map(|(area, _)| *area);
                is_fresh = true;
            }
            _ => break,
        }
    }
    ids
}

/// Three digits: `2048` and `1` are no row.
fn parse_number(word: &str) -> Option<u16> {
    let is_number = word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| word.parse().ok()).flatten()
}

fn check_table(area: &'static str, least: u16, text: &str, tests: &Tests) -> Checked {
    let mut checked = Checked {
        findings: Vec::new(),
        text: String::new(),
        counts: Counts::default(),
    };
    let mut next = 1;
    for line in text.lines() {
        if line.starts_with(&format!("| {area}-")) {
            let id = Id { area, number: next };
            next += 1;
            checked.row(id, line, tests);
        } else {
            checked.text.push_str(line);
        }
        checked.text.push('\n');
    }
    let unlisted = tests
        .keys()
        .filter(|id| id.area == area && id.number >= next);
    let missing = (next..=least).map(|number| Id { area, number });
    for id in unlisted.copied().chain(missing).collect::<BTreeSet<_>>() {
        checked.finding(id, "has no row");
    }
    checked
}

impl Checked {
    fn finding(&mut self, id: Id, what: &str) {
        let file = id.area.to_ascii_lowercase();
        self.findings
            .push(format!("{FOLDER}/{file}.md: {id} {what}"));
    }

    /// Takes over one row, its third cell brought up to date.
    fn row(&mut self, id: Id, line: &str, tests: &Tests) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let &[named, what, state, note] = cells.as_slice() else {
            self.text.push_str(line);
            return self.finding(id, "has a row of other than four cells");
        };
        if named != id.to_string() {
            self.finding(
                id,
                &format!("should stand where {named} does: a row for each number, in order"),
            );
        }
        let existing = tests.get(&id).map(|names| {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join(", ")
        });
        let expected = match (&existing, state) {
            (Some(names), _) => names,
            (None, NOT_APPLICABLE) => NOT_APPLICABLE,
            (None, _) => OPEN,
        };
        match expected {
            OPEN => self.counts.open += 1,
            NOT_APPLICABLE => self.counts.not_applicable += 1,
            _ => self.counts.tested += 1,
        }
        if expected == NOT_APPLICABLE && note.is_empty() {
            self.finding(id, "needs the reason why it is not applicable");
        }
        if state != expected {
            self.finding(
                id,
                &format!("says {state}, but it is {expected}: run `cargo xtask catalogue --write`"),
            );
        }
        let row = format!("| {named} | {what} | {expected} | {note} |");
        self.text.push_str(&row.replace("|  |", "| |"));
    }
}

const NOT_APPLICABLE: &str = "not applicable";
const OPEN: &str = "open";

#[cfg(test)]
mod tests;
