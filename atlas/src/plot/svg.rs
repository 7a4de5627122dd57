//! Lays out a figure as an SVG document: title, panels, legend, table.

use super::draw::{Anchor, Canvas, TextStyle, fit, width, wrap};
use super::layout::{MARGIN, Plan};
use super::panel::{self, FRAME, Shared};
use super::view::{self, View};
use super::{Figure, Table};

/// Draws a validated figure.
pub(crate) fn draw(figure: &Figure) -> String {
    let views: Vec<View> = figure.panels.iter().map(|panel| view::view(&panel.points)).collect();
    let mut shared = Shared::of(&figure.labels);
    let plan = Plan::of(figure, &views, |frame| {
        let margins = figure.panels.iter().zip(&views);
        margins.map(|(panel, view)| panel::margin(&figure.labels, panel, view, &shared, frame)).fold(0.0, f32::max)
    });
    shared.margin = plan.margin;
    let mut canvas = Canvas::default();
    heading(&mut canvas, &figure.title, &figure.subtitle, plan.width);
    for ((panel, view), cell) in figure.panels.iter().zip(&views).zip(&plan.cells) {
        panel::draw(&mut canvas, figure, panel, view, &shared, *cell);
    }
    plan.legend.draw(&mut canvas, &figure.labels, plan.legend_at);
    if let Some(table) = &figure.table {
        draw_table(&mut canvas, table, plan.table_at, plan.width);
    }
    canvas.finish(plan.width, plan.height, figure.layout.scale())
}

/// Writes title and subtitle, which may be empty; returns the next free y.
pub(crate) fn heading(canvas: &mut Canvas, title: &str, subtitle: &str, page: f32) -> f32 {
    let room = page - 2.0 * MARGIN;
    let mut y = MARGIN;
    if !title.is_empty() {
        let usual = TextStyle::bold(24.0);
        // A long title is in smaller letters before it is cut.
        let size = usual.size * (room / width(title, usual)).clamp(0.65, 1.0);
        let style = TextStyle { size, ..usual };
        canvas.line((MARGIN, y + 14.0), &fit(title, style, room), style);
        y += 34.0;
    }
    let style = TextStyle::faint(13.0);
    for line in wrap(subtitle, style, room) {
        canvas.line((MARGIN, y), &line, style);
        y += 20.0;
    }
    y
}

/// Writes a table; returns the next free y.
fn draw_table(canvas: &mut Canvas, table: &Table, top: f32, page: f32) -> f32 {
    const SIZE: f32 = 12.0;
    const BETWEEN: f32 = 8.0;
    let cell_width = |row: &[String], column: usize, style| row.get(column).map_or(0.0, |cell| width(cell, style));
    let widths_at = |size: f32| -> Vec<f32> {
        let column_width = |column| {
            let rows = table.rows.iter().map(|row| cell_width(row, column, TextStyle::plain(size)));
            rows.fold(cell_width(&table.columns, column, TextStyle::bold(size)), f32::max).min(340.0)
        };
        (0..table.columns.len()).map(column_width).collect()
    };
    let room = page - 2.0 * MARGIN;
    // A table of many columns is written smaller, rather than cut.
    let columns = table.columns.len().max(1) as f32;
    let size =
        (SIZE * (room - BETWEEN * columns) / widths_at(SIZE).iter().sum::<f32>().max(1.0)).clamp(SIZE / 2.0, SIZE);
    let (head, text, widths) = (TextStyle::bold(size), TextStyle::plain(size), widths_at(size));
    let between = ((room - widths.iter().sum::<f32>()) / columns).clamp(BETWEEN, 36.0);
    let mut y = top;
    let write = |canvas: &mut Canvas, cells: &[String], y: f32, style: TextStyle<'static>| {
        let mut x = MARGIN;
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            // The first column has names; numbers are right-aligned.
            let (x_at, anchor) = if column == 0 { (x, Anchor::Start) } else { (x + width, Anchor::End) };
            canvas.line((x_at, y), &fit(cell, style, *width + 0.5), TextStyle { anchor, ..style });
            x += width + between;
        }
    };
    write(canvas, &table.columns, y, head);
    y += 8.0;
    canvas.element(&format!(r#"<path d="M{MARGIN} {y}H{:.1}" stroke="{FRAME}"/>"#, page - MARGIN));
    for row in &table.rows {
        y += 18.0;
        write(canvas, row, y, text);
    }
    y + MARGIN
}
