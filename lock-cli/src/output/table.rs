//! Columns that line up, and fit a terminal.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

/// What stands for the end of a cell that was too long.
const CUT: char = '…';
/// Columns are not made narrower than this.
const NARROWEST: usize = 8;

/// How many columns a terminal has; `None` if it is none.
pub fn width_of(out: &(impl IsTerminal + AsFd)) -> Option<usize> {
    if !out.is_terminal() {
        return None;
    }
    let told = rustix::termios::tcgetwinsize(out).ok();
    let columns = told.map_or(0, |size| usize::from(size.ws_col));
    // A serial line knows no size.
    Some(if columns == 0 { 80 } else { columns })
}

/// Lines up columns; the last one is not padded. On a terminal, cells are cut until all fit; what is
/// read by programs is whole.
pub fn table(rows: &[Vec<String>]) -> String {
    fit(rows, width_of(&io::stdout()))
}

/// At most so many characters of it.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push(CUT);
    cut
}

fn fit(rows: &[Vec<String>], limit: Option<usize>) -> String {
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
        shrink(&mut widths, limit.saturating_sub(gaps));
    }
    let lines = rows.iter().map(|row| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{:<width$}", cut(cell, *width), width = *width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Takes from the widest until all have room, or none has more to give.
fn shrink(widths: &mut [usize], room: usize) {
    while widths.iter().sum::<usize>() > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => return,
        }
    }
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
        assert_eq!(fit(&rows, None), "a    bb\nccc  d");
    }

    #[test]
    fn the_widest_columns_give_way_to_a_terminal() {
        let long = "x".repeat(100_000);
        let rows = [
            row(&["holds", &long, "note"]),
            row(&["waits", "ann", &"y".repeat(40)]),
        ];
        let shown = fit(&rows, Some(80));
        for line in shown.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(
            shown.contains("x…  note") && shown.contains("waits  ann"),
            "{shown}"
        );
        assert!(fit(&rows, None).contains(&long), "programs get it whole");
    }

    #[test]
    fn what_cannot_fit_is_shown_narrow() {
        let rows = [row(&["aaaaaaaaaaaa", "bbbbbbbbbbbb"])];
        assert_eq!(fit(&rows, Some(4)), "aaaaaaa…  bbbbbbb…");
    }
}
