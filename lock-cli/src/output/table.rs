//! Formats tables whose columns line up and fit a terminal.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

/// The mark at the end of a cell that was cut.
const CUT: char = '…';

/// A column that may be made narrower, and its least width.
pub type Shrinks = (usize, usize);

/// Returns the number of columns of a terminal, or `None` if this is not a terminal.
pub fn terminal_width(out: &(impl IsTerminal + AsFd)) -> Option<usize> {
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(out).ok();
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    // A serial line does not know its size.
    Some(if columns == 0 { 80 } else { columns })
}

/// Lines up columns; the last one is not padded. On a terminal that is too narrow, cells of the
/// columns that may shrink are cut, the first ones named first. Output for programs is never cut.
pub fn format_table(rows: &[Vec<String>], shrinks: &[Shrinks]) -> String {
    fit_table(rows, shrinks, terminal_width(&io::stdout()))
}

/// Cuts a text to at most this many characters.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push(CUT);
    cut
}

fn fit_table(rows: &[Vec<String>], shrinks: &[Shrinks], limit: Option<usize>) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter()
            .filter_map(|r| r.get(c))
            .map(|s| s.chars().count())
            .max()
            .unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..columns).map(width).collect();
    if let Some(limit) = limit {
        let gaps = 2 * columns.saturating_sub(1);
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(limit);
        for &(column, narrowest) in shrinks {
            let width = &mut widths[column];
            let given = excess.min(width.saturating_sub(narrowest));
            *width -= given;
            excess -= given;
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| {
            let mut cell = cut(cell, width);
            // Padded by hand: the formatter does not pad cells of more than 65,535 characters.
            let padding = width.saturating_sub(cell.chars().count());
            cell.extend(std::iter::repeat_n(' ', padding));
            cell
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|&cell| cell.to_owned()).collect()
    }

    #[test]
    fn columns_line_up() {
        let rows = [row(&["a", "bb"]), row(&["ccc", "d"])];
        assert_eq!(fit_table(&rows, &[], None), "a    bb\nccc  d");
    }

    #[test]
    fn columns_give_way_to_a_terminal_in_their_order() {
        let long = "x".repeat(100_000);
        let rows = [
            row(&["holds", "18446744073709551615", "ann@host", &long]),
            row(&["waits", "2", "bob@another-host", "note"]),
        ];
        let shrinks = [(3, 8), (2, 10)];
        let shown = fit_table(&rows, &shrinks, Some(80));
        for line in shown.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(shown.contains("bob@another-host  note"), "{shown}");
        let narrow = fit_table(&rows, &shrinks, Some(10));
        assert!(narrow.contains("18446744073709551615"), "{narrow}");
        assert!(narrow.contains("bob@anoth…  note"), "{narrow}");
        assert!(narrow.contains("ann@host    xxxxxxx…"), "{narrow}");
        assert!(
            fit_table(&rows, &shrinks, None).contains(&long),
            "programs get it whole"
        );
    }
}
