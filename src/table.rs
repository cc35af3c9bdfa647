//! Columns of text, as wide as their widest cell.

use std::fmt::{self, Write};

use crate::report;

/// Between two columns.
const GAP: usize = 3;

/// Rows of cells; the first row usually holds the headings.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    /// Adds a row. Control characters in a cell are made visible (D-15).
    pub(crate) fn row<C: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let shown = |cell: C| report::printable(cell.as_ref()).into_owned();
        self.0.push(cells.into_iter().map(shown).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.0 {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                write!(line, "{cell:<width$}", width = width + GAP)?;
            }
            writeln!(formatter, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_trail() {
        let mut table = Table::default();
        table.row(["NAME", "SIZE"]);
        table.row(["long name", "1"]);
        table.row(["ü", ""]);
        assert_eq!(table.to_string(), "NAME        SIZE\nlong name   1\nü\n");
    }
}
