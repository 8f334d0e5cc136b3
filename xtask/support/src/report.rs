//! Tables in Markdown for people, the same figures as JSON for programs, and their targets.

use std::fmt;

use serde_json::{Map, Value};

/// The figures of a command.
#[derive(Debug, Default)]
pub struct Report {
    pub tables: Vec<Table>,
    pub targets: Vec<Target>,
}

/// A column: its heading for people, and its key in the JSON with the unit last.
pub type Column = (&'static str, &'static str);

/// Figures of one kind.
#[derive(Debug)]
pub struct Table {
    pub title: &'static str,
    columns: &'static [Column],
    /// One cell for each column.
    pub rows: Vec<Vec<Cell>>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Text(String),
    Count(u64),
    /// A measured value, and the number of decimals in the table.
    Number(f64, usize),
    /// Not measured, or without meaning in this row.
    Absent,
}

/// A condition, and where it does not hold.
#[derive(Debug)]
pub struct Target {
    pub wanted: &'static str,
    pub missed: Vec<String>,
}

impl Table {
    pub fn new(title: &'static str, columns: &'static [Column]) -> Self {
        let rows = Vec::new();
        Self {
            title,
            columns,
            rows,
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has more cells than the table has columns: a mistake of the caller.
    pub fn push(&mut self, mut row: Vec<Cell>) {
        assert!(row.len() <= self.columns.len(), "one cell for each column");
        row.resize(self.columns.len(), Cell::Absent);
        self.rows.push(row);
    }
}

impl Target {
    pub fn new(wanted: &'static str) -> Self {
        Self {
            wanted,
            missed: Vec::new(),
        }
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

    /// Returns every row of every table as an object in one list.
    pub fn to_json(&self, bench: &str) -> String {
        let object = |table: &Table, row: &Vec<Cell>| {
            let cells = table.columns.iter().zip(row);
            let cells = cells.map(|((_, key), cell)| (key.to_string(), cell.to_json()));
            let names = [("bench", bench), ("table", table.title)];
            let names = names.map(|(key, name)| (key.to_owned(), Value::from(name)));
            Value::Object(names.into_iter().chain(cells).collect::<Map<_, _>>())
        };
        let rows = self
            .tables
            .iter()
            .flat_map(|table| table.rows.iter().map(|row| object(table, row)));
        format!("{:#}\n", Value::Array(rows.collect()))
    }
}

impl Cell {
    fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Count(count) => (*count).into(),
            Self::Number(number, _) => (*number).into(),
            Self::Absent => Value::Null,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<usize> for Cell {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(cell: Option<T>) -> Self {
        cell.map_or(Self::Absent, T::into)
    }
}

/// Returns bytes in MiB.
pub fn mib(bytes: Option<u64>) -> Cell {
    bytes
        .map(|bytes| Cell::Number(bytes as f64 / f64::from(1 << 20), 1))
        .into()
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Count(count) => f.write_str(&grouped(*count)),
            Self::Number(number, decimals) => {
                let text = format!("{number:.decimals$}");
                let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
                write!(f, "{}{fraction}", group(whole))
            }
            Self::Absent => f.write_str("–"),
        }
    }
}

/// Writes a number with its digits in groups of three.
pub fn grouped(number: u64) -> String {
    group(&number.to_string())
}

fn group(digits: &str) -> String {
    let (sign, digits) = digits.split_at(usize::from(digits.starts_with('-')));
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes `1 entry`, `2 entries`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        grouped(number),
        if number == 1 { one } else { many }
    )
}

/// An aligned table in Markdown: text to the left, figures to the right.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = self
            .columns
            .iter()
            .map(|(heading, _)| heading.to_string())
            .collect();
        let rows = self
            .rows
            .iter()
            .map(|row| row.iter().map(Cell::to_string).collect());
        let mut lines: Vec<Vec<String>> = [headings].into_iter().chain(rows).collect();
        let layout: Vec<(bool, usize)> = (0..self.columns.len())
            .map(|at| {
                let is_text = matches!(self.rows.first().map(|row| &row[at]), Some(Cell::Text(_)));
                let width = lines.iter().map(|line| line[at].chars().count()).max();
                (is_text, width.unwrap_or(0).max(2))
            })
            .collect();
        let rule = |(is_text, width): &(bool, usize)| match is_text {
            true => "-".repeat(*width),
            false => format!("{}:", "-".repeat(width - 1)),
        };
        lines.insert(1, layout.iter().map(rule).collect());
        for line in lines {
            for (text, (is_text, width)) in line.iter().zip(&layout) {
                match is_text {
                    true => write!(f, "| {text:<width$} ")?,
                    false => write!(f, "| {text:>width$} ")?,
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
            writeln!(f, "{}\n\n{table}", table.title)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn report(missed: &[&str]) -> Report {
        let mut table = Table::new(
            "requests",
            &[("tree", "tree"), ("request", "request_bytes")],
        );
        table.push(vec!["line".into(), Cell::Number(1234.56, 1)]);
        table.push(vec!["a braid".into()]);
        let missed = missed.iter().map(|place| place.to_string()).collect();
        Report {
            tables: vec![table],
            targets: vec![Target {
                wanted: "small",
                missed,
            }],
        }
    }

    #[test]
    fn tables_are_aligned() {
        let expected = "\
| tree    | request |
| ------- | ------: |
| line    | 1,234.6 |
| a braid |       – |
";
        assert_eq!(report(&[]).tables[0].to_string(), expected);
    }

    #[test]
    fn every_row_is_an_object_with_unrounded_figures() {
        let json: Value = serde_json::from_str(&report(&[]).to_json("b")).unwrap();
        let expected = serde_json::json!([
            {"bench": "b", "table": "requests", "tree": "line", "request_bytes": 1234.56},
            {"bench": "b", "table": "requests", "tree": "a braid", "request_bytes": null},
        ]);
        assert_eq!(json, expected);
    }

    #[test]
    fn one_missed_place_misses_the_target() {
        assert!(report(&[]).targets_met());
        let missed = report(&["line: 9"]);
        assert!(!missed.targets_met());
        assert!(
            missed
                .to_string()
                .contains("MISSED small\n         line: 9\n")
        );
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
        assert_eq!(Cell::Number(-1234.5, 1).to_string(), "-1,234.5");
        assert_eq!(count(1, "entry", "entries"), "1 entry");
    }
}
