//! Tables in Markdown, and the targets that figures are checked against.

use std::fmt;

/// The figures of a command.
#[derive(Debug, Default)]
pub struct Report {
    pub tables: Vec<Table>,
    pub targets: Vec<Target>,
}

/// Figures of one kind. A cell is text as it is printed; an empty one has no meaning in its row.
#[derive(Debug)]
pub struct Table {
    title: &'static str,
    headings: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

/// A condition, and the places where it does not hold.
#[derive(Debug)]
pub struct Target {
    pub wanted: &'static str,
    pub missed: Vec<String>,
}

impl Table {
    pub fn new(title: &'static str, headings: &'static [&'static str]) -> Self {
        let rows = Vec::new();
        Self {
            title,
            headings,
            rows,
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it does not have one cell for each heading: a mistake of the caller.
    pub fn push(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.headings.len(), "one cell for each heading");
        self.rows.push(row);
    }
}

impl Target {
    pub fn new(wanted: &'static str) -> Self {
        let missed = Vec::new();
        Self { wanted, missed }
    }

    /// Records a place where the target is missed.
    pub fn check(&mut self, met: bool, place: impl FnOnce() -> String) {
        if !met {
            self.missed.push(place());
        }
    }
}

impl Report {
    /// Returns whether every target is met.
    pub fn targets_met(&self) -> bool {
        self.targets.iter().all(|target| target.missed.is_empty())
    }
}

/// An aligned table in Markdown: text to the left, figures to the right.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = self.headings.iter().map(|it| (*it).to_owned()).collect();
        let mut lines = vec![headings];
        lines.extend(self.rows.iter().cloned());
        let columns: Vec<(bool, usize)> = (0..self.headings.len())
            .map(|at| {
                let is_figure = |row: &Vec<String>| !row[at].contains(char::is_alphabetic);
                let width = lines.iter().map(|line| line[at].chars().count()).max();
                (self.rows.iter().all(is_figure), width.unwrap_or(0).max(2))
            })
            .collect();
        let rule = |(is_figure, width): &(bool, usize)| match is_figure {
            true => format!("{}:", "-".repeat(width - 1)),
            false => "-".repeat(*width),
        };
        lines.insert(1, columns.iter().map(rule).collect());
        writeln!(f, "{}\n", self.title)?;
        for line in lines {
            for (cell, (is_figure, width)) in line.iter().zip(&columns) {
                match is_figure {
                    true => write!(f, "| {cell:>width$} ")?,
                    false => write!(f, "| {cell:<width$} ")?,
                }
            }
            writeln!(f, "|")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            writeln!(f, "{table}")?;
        }
        for Target { wanted, missed } in &self.targets {
            let verdict = if missed.is_empty() { "met" } else { "MISSED" };
            writeln!(f, "{verdict:<7}{wanted}")?;
            for place in missed {
                writeln!(f, "         {place}")?;
            }
        }
        Ok(())
    }
}

/// Writes a measured value with so many decimals, and its digits in groups of three.
pub fn decimals(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut grouped = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

/// Writes a count, with its digits in groups of three.
pub fn grouped(number: u64) -> String {
    decimals(number as f64, 0)
}

/// Writes bytes in MiB.
pub fn mib(bytes: u64) -> String {
    decimals(bytes as f64 / f64::from(1 << 20), 1)
}

/// Writes `1 entry`, `2 entries`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        grouped(number),
        if number == 1 { one } else { many }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_aligned_and_name_missed_targets() {
        let mut table = Table::new("requests", &["tree", "request"]);
        table.push(vec!["line".into(), decimals(1234.56, 1)]);
        table.push(vec!["a braid".into(), String::new()]);
        let mut target = Target::new("small");
        target.check(true, || unreachable!("it is met"));
        let mut report = Report {
            tables: vec![table],
            targets: vec![target],
        };
        assert!(report.targets_met());
        report.targets[0].check(false, || "line: 9".into());
        assert!(!report.targets_met());
        let expected = "\
requests

| tree    | request |
| ------- | ------: |
| line    | 1,234.6 |
| a braid |         |

MISSED small
         line: 9
";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [
            (7, "7"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(decimals(-1234.5, 1), "-1,234.5");
        assert_eq!(count(1, "entry", "entries"), "1 entry");
        assert_eq!(mib(3 << 19), "1.5");
    }
}
