//! Figures in tables for people and as JSON for programs, and the targets they are held against.

use std::fmt;

use serde_json::{Map, Value};

/// What a benchmark found.
#[derive(Debug, Default)]
pub struct Report {
    /// The figures.
    pub tables: Vec<Table>,
    /// What they were to reach.
    pub targets: Vec<Target>,
}

/// Figures of one kind.
#[derive(Debug)]
pub struct Table {
    /// Its name, above the table and in every object of the JSON.
    pub title: &'static str,
    /// What stands in its columns.
    pub columns: &'static [Column],
    /// One cell for each column.
    pub rows: Vec<Vec<Cell>>,
}

/// What stands in a column.
#[derive(Debug)]
pub struct Column {
    /// The heading, for people.
    pub heading: &'static str,
    /// The key in the JSON, its unit last.
    pub key: &'static str,
}

/// Makes a column.
pub const fn column(heading: &'static str, key: &'static str) -> Column {
    Column { heading, key }
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A name.
    Text(String),
    /// Something counted.
    Count(u64),
    /// Something measured, and how many decimals people are shown.
    Number(f64, usize),
    /// Not measured, or without meaning in this row.
    Absent,
}

/// One target and whether it is met.
#[derive(Debug)]
pub struct Target {
    /// What is to hold.
    pub wanted: &'static str,
    /// Where it does not, and the figure there. Empty: it holds everywhere.
    pub missed: Vec<String>,
}

impl Table {
    /// Makes an empty table.
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
    /// If it has not one cell for each column: a mistake in the benchmark.
    pub fn push(&mut self, row: Vec<Cell>) {
        assert_eq!(row.len(), self.columns.len(), "a cell for each column");
        self.rows.push(row);
    }
}

impl Report {
    /// Tells whether every target is met.
    pub fn targets_met(&self) -> bool {
        self.targets.iter().all(|target| target.missed.is_empty())
    }

    /// Returns every row of every table as an object in one list.
    pub fn to_json(&self, bench: &str) -> String {
        let mut list = Vec::new();
        for table in &self.tables {
            for row in &table.rows {
                let mut object = Map::new();
                object.insert("bench".into(), bench.into());
                object.insert("table".into(), table.title.into());
                for (column, cell) in table.columns.iter().zip(row) {
                    object.insert(column.key.into(), cell.to_json());
                }
                list.push(Value::Object(object));
            }
        }
        format!("{:#}\n", Value::Array(list))
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

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Count(count) => f.write_str(&grouped(&count.to_string())),
            Self::Number(number, decimals) => {
                let text = format!("{number:.decimals$}");
                let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
                write!(f, "{}{fraction}", grouped(whole))
            }
            Self::Absent => f.write_str("–"),
        }
    }
}

/// Puts a comma before every three digits from the end.
fn grouped(digits: &str) -> String {
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

/// An aligned table that is also one in Markdown: names to the left, figures to the right.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(Cell::to_string).collect())
            .collect();
        let named = |column: usize| {
            let first = self.rows.first().map(|row| &row[column]);
            matches!(first, Some(Cell::Text(_)))
        };
        let width = |column: usize| {
            let heading = self.columns[column].heading.chars().count();
            let cells = cells.iter().map(|row| row[column].chars().count());
            cells.chain([heading, 2]).max().unwrap_or(heading)
        };
        let layout: Vec<(bool, usize)> = (0..self.columns.len())
            .map(|column| (named(column), width(column)))
            .collect();
        let mut line = |texts: &mut dyn Iterator<Item = &str>| {
            for (text, (named, width)) in texts.zip(&layout) {
                match named {
                    true => write!(f, "| {text:<width$} ")?,
                    false => write!(f, "| {text:>width$} ")?,
                }
            }
            writeln!(f, "|")
        };
        line(&mut self.columns.iter().map(|column| column.heading))?;
        let rules: Vec<String> = layout
            .iter()
            .map(|(named, width)| match named {
                true => "-".repeat(*width),
                false => format!("{}:", "-".repeat(width - 1)),
            })
            .collect();
        line(&mut rules.iter().map(String::as_str))?;
        for row in &cells {
            line(&mut row.iter().map(String::as_str))?;
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

    const COLUMNS: &[Column] = &[column("tree", "tree"), column("request", "request_bytes")];

    fn report(missed: &[&str]) -> Report {
        let mut table = Table::new("requests", COLUMNS);
        table.push(vec!["line".into(), Cell::Number(1234.56, 1)]);
        table.push(vec!["a braid".into(), Cell::Absent]);
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
        for (count, shown) in [
            (7, "7"),
            (100, "100"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(Cell::Count(count).to_string(), shown);
        }
        assert_eq!(Cell::Number(-1234.5, 1).to_string(), "-1,234.5");
    }
}
