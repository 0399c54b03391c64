//! Columns that stand under each other on a terminal, where a Japanese letter takes two places. Knows no content.

use unicode_width::UnicodeWidthStr as _;

/// Pads every column to its widest cell; no blanks at the ends of lines.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.width())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width - cell.width() + 2));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_japanese_letter_takes_two_places() {
        let rows = [
            vec!["条".into(), "b".into()],
            vec!["abc".into(), "d".into()],
        ];
        assert_eq!(aligned(&rows), "条   b\nabc  d\n");
    }
}
