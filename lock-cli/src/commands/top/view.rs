//! Draws the picture.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table};
use turnlock::Mode;

use super::model::{Model, Row, Sort, age};
use crate::output::{cut, format_duration};

/// The width from which there is room for what is nice to know.
const WIDE: u16 = 120;

/// The keys, for the last line.
const KEYS: &str = "q quit   sort: w waiters  h hold  t wait  n name   ↑ ↓ scroll";

/// A column: its title, its width and its text. Titles of sorted columns are marked.
struct Column {
    title: &'static str,
    sort: Option<Sort>,
    width: Constraint,
    text: fn(&Row) -> String,
}

const fn column(title: &'static str, width: Constraint, text: fn(&Row) -> String) -> Column {
    Column {
        title,
        sort: None,
        width,
        text,
    }
}

const fn sorted(
    title: &'static str,
    sort: Sort,
    width: Constraint,
    text: fn(&Row) -> String,
) -> Column {
    Column {
        title,
        sort: Some(sort),
        width,
        text,
    }
}

use Constraint::{Fill, Length, Max};

const COLUMNS: &[Column] = &[
    sorted("NAME", Sort::Name, Fill(3), |row| row.name.clone()),
    sorted("WAITING", Sort::Waiters, Length(8), |row| {
        row.waiting.to_string()
    }),
    sorted("HELD", Sort::Hold, Length(7), |row| ago(row.held_since)),
    sorted(
        "WAITED",
        Sort::Wait,
        Length(7),
        |row| ago(row.waiting_since),
    ),
    column("MODE", Length(6), mode),
    column("HOLDER", Fill(2), |row| row.holder.clone()),
];

const WIDE_COLUMNS: &[Column] = &[
    column("COMMAND", Max(16), |row| row.command.clone()),
    column("TOKEN", Max(20), |row| row.token.clone()),
    column("NOTE", Fill(2), |row| row.note.clone()),
];

fn mode(row: &Row) -> String {
    match row.mode {
        Mode::Exclusive => "excl".to_owned(),
        Mode::Shared => format!("{}x sh", row.holders),
    }
}

fn ago(since: Option<u64>) -> String {
    since.map_or("-".to_owned(), |since| format_duration(age(since)))
}

pub fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let areas = Layout::vertical([Length(2), Fill(1), Length(1)]);
    let [head, body, foot] = areas.areas(frame.area());
    draw_head(frame, head, model);
    draw_table(frame, body, model);
    let dim = Style::new().add_modifier(Modifier::DIM);
    frame.render_widget(Paragraph::new(Line::styled(KEYS, dim)), foot);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let (waiting, contended) = model.waiting();
    let (grants, ends) = model.rates();
    let at_least = if model.is_complete { "" } else { "≥ " };
    let took = model.took.map_or("-".to_owned(), |took| {
        format!("{:.1} ms", took.as_secs_f64() * 1e3)
    });
    let state = match &model.trouble {
        Some(trouble) => format!("no reply: {trouble}"),
        None => format!(
            "{at_least}{} in use, {contended} contended, {waiting} waiting   {grants:.1} grants/s, \
             {ends:.1} ends/s   read {took}",
            model.rows.len()
        ),
    };
    let width = usize::from(area.width);
    let title = format!("turnlock top  {}", model.place);
    let state_style = match model.trouble {
        Some(_) => bold,
        None => Style::new(),
    };
    let lines = vec![
        Line::styled(cut(&title, width), bold),
        Line::styled(cut(&state, width), state_style),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, model: &mut Model) {
    let columns: Vec<&Column> = match area.width >= WIDE {
        true => COLUMNS.iter().chain(WIDE_COLUMNS).collect(),
        false => COLUMNS.iter().collect(),
    };
    let widths: Vec<Constraint> = columns.iter().map(|column| column.width).collect();
    // The table cuts without a mark, so texts are cut before.
    let cells = Layout::horizontal(widths.iter().copied())
        .spacing(1)
        .split(area);
    let fitted = |text: String, at: usize| Cell::new(cut(&text, usize::from(cells[at].width)));
    let titles = columns.iter().enumerate().map(|(at, column)| {
        let mark = match column.sort == Some(model.sort) {
            true => "▾",
            false => "",
        };
        fitted(format!("{}{mark}", column.title), at)
    });
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    let header = TableRow::new(titles.collect::<Vec<_>>()).style(reversed);
    let height = usize::from(area.height.saturating_sub(1));
    model.first = model.first.min(model.rows.len().saturating_sub(height));
    let shown = model.rows.iter().skip(model.first).take(height);
    let rows = shown.map(|row| {
        let cells = columns.iter().enumerate();
        let cells = cells.map(|(at, column)| fitted((column.text)(row), at));
        TableRow::new(cells.collect::<Vec<_>>())
    });
    let table = Table::new(rows.collect::<Vec<_>>(), widths)
        .header(header)
        .column_spacing(1);
    frame.render_widget(table, area);
    if model.rows.is_empty() && model.took.is_some() && area.height > 2 {
        let below = Rect {
            y: area.y + 2,
            height: 1,
            ..area
        };
        frame.render_widget(Paragraph::new("no lock is in use"), below);
    }
}
