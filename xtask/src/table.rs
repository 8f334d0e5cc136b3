//! Tables for terminals.

/// A table: its first columns are text, the others numbers.
pub struct Table {
    text_columns: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Begins a table with a line of headings.
    pub fn new(text_columns: usize, headings: &[&str]) -> Self {
        let headings = headings.iter().map(ToString::to_string).collect();
        Self {
            text_columns,
            rows: vec![headings],
        }
    }

    /// Adds a line.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Returns the table as text, with a rule under the headings.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(
                |(column, (cell, &width))| match column < self.text_columns {
                    true => format!("{cell:<width$}"),
                    false => format!("{cell:>width$}"),
                },
            );
            let line = cells.collect::<Vec<_>>().join("  ");
            text.push_str(&format!("  {}\n", line.trim_end()));
            if number == 0 {
                let rules = widths.iter().map(|&width| "─".repeat(width));
                text.push_str(&format!("  {}\n", rules.collect::<Vec<_>>().join("  ")));
            }
        }
        text
    }
}

/// Writes a number with its digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(1, &["who", "bytes"]);
        table.row(vec!["B".into(), grouped(1_234_567)]);
        table.row(vec!["Çé".into(), grouped(12)]);
        let expected = "  who      bytes\n  ───  ─────────\n  B    1,234,567\n  Çé          12\n";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (81_967, "81,967")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(count(1, "entry", "entries"), "1 entry");
    }
}
