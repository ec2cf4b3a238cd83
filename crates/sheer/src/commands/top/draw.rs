//! How `sheer top` looks.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table, TableState},
};
use sheer_api::names::grpc_code_name;
use sheer_api::v1::{PathStat, StatusCount, Traffic};

use super::state::{Column, HISTORY, Key, Top};
use crate::{
    numbers::{ENOUGH, Rates as _, millis, percent, rate, resource},
    output::{Tone, age},
};

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, top: &mut Top) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(headline(top), head);
    match top.looked_into() {
        Some((key, path, history)) => inside(frame, body, key, path, &history),
        None => list(frame, body, top),
    }
    frame.render_widget(keys(top), foot);
}

fn headline(top: &Top) -> Line<'static> {
    let mut spans = vec![
        "sheer top".bold(),
        Span::raw(format!(
            "  {} paths over {}, {} proxies",
            top.rows().len(),
            age(top.window.as_secs()),
            top.proxies()
        )),
    ];
    if top.paused {
        spans.push("  PAUSED".yellow().bold());
    }
    if top.editing || !top.filter.is_empty() {
        let cursor = if top.editing { "▏" } else { "" };
        spans.push(format!("  /{}{cursor}", top.filter).cyan());
    }
    Line::from(spans)
}

fn keys(top: &Top) -> Line<'static> {
    let text = if top.editing {
        "type to filter · Enter keep · Esc drop"
    } else if top.inside.is_some() {
        "Esc back · p pause · q quit"
    } else {
        "↑↓ select · Enter look into · ←→ sort · r reverse · / filter · p pause · q quit"
    };
    Line::from(text.dim())
}

fn list(frame: &mut Frame<'_>, area: Rect, top: &Top) {
    let rows = top.rows();
    if rows.is_empty() {
        let text = if !top.heard || top.proxies() == 0 {
            "Waiting for the sidecars …"
        } else if top.filter.is_empty() {
            "No request went through."
        } else {
            "No request fits the filter."
        };
        return frame.render_widget(Paragraph::new(text.dim()), area);
    }
    let columns = Column::ALL.map(|column| is_shown(column, area.width) || column == top.sort);
    let header = Column::ALL.map(|column| {
        let is_sorted = column == top.sort;
        let arrow = match (is_sorted, top.reversed) {
            (false, _) => "",
            (true, false) => " ▼",
            (true, true) => " ▲",
        };
        let style = if is_sorted {
            Style::new().bold()
        } else {
            Style::new().dim()
        };
        Cell::from(format!("{}{arrow}", column.title())).style(style)
    });
    // Numbers get what they need, names too up to a bound, and the path what room there is.
    let widest = |of: fn(&PathStat) -> String| {
        let widths = rows.iter().map(|path| of(path).chars().count());
        let widest = widths.max().unwrap_or(0).clamp(11, 24);
        Constraint::Max(u16::try_from(widest).unwrap_or(24))
    };
    let widths = [
        widest(|path| resource(path.source.as_ref(), false)),
        widest(|path| resource(path.destination.as_ref(), false)),
        Constraint::Length(8),
        Constraint::Fill(1),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
    ];
    let table = Table::new(
        rows.iter().map(|path| Row::new(chosen(row(path), columns))),
        chosen(widths, columns),
    );
    let table = table
        .header(Row::new(chosen(header, columns)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(top.selected());
    frame.render_stateful_widget(table, area, &mut state);
}

/// Where room is short the path matters most: the middle of the latencies and the method make room for it.
fn is_shown(column: Column, width: u16) -> bool {
    match column {
        Column::P50 => width >= 115,
        Column::P95 => width >= 105,
        Column::Method => width >= 95,
        _ => true,
    }
}

fn chosen<T>(of: [T; 9], columns: [bool; 9]) -> impl Iterator<Item = T> {
    of.into_iter()
        .zip(columns)
        .filter_map(|(one, is_shown)| is_shown.then_some(one))
}

fn row(path: &PathStat) -> [Cell<'static>; 9] {
    let traffic = path.traffic.clone().unwrap_or_default();
    let number = |(text, tone): (String, Tone)| Cell::from(text).style(style(tone));
    [
        Cell::from(resource(path.source.as_ref(), false)),
        Cell::from(resource(path.destination.as_ref(), false)),
        Cell::from(path.method.clone()),
        Cell::from(path.path.clone()),
        Cell::from(rate(traffic.rps())),
        number(percent(traffic.success_rate(), ENOUGH)),
        number(millis(traffic.p50_ms)),
        number(millis(traffic.p95_ms)),
        number(millis(traffic.p99_ms)),
    ]
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Warn => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red),
        Tone::Dim => Style::new().add_modifier(Modifier::DIM),
    }
}

/// One path.
fn inside(frame: &mut Frame<'_>, area: Rect, key: &Key, path: Option<&PathStat>, history: &[(u64, u64)]) {
    let traffic = path.and_then(|path| path.traffic.clone()).unwrap_or_default();
    let statuses = u16::try_from(traffic.statuses.len()).unwrap_or(0).clamp(1, 8);
    let [title, numbers, rates, failures, answers] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(3),
        Constraint::Min(4),
        Constraint::Length(4),
        Constraint::Length(statuses + 1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(name(key)), title);
    frame.render_widget(Paragraph::new(summary(&traffic)), numbers);
    let of = |pick: fn(&(u64, u64)) -> u64| history.iter().map(pick).collect::<Vec<_>>();
    let requests = of(|(requests, _)| *requests);
    let most = requests.iter().max().copied().unwrap_or(0);
    spark(
        frame,
        rates,
        &format!("requests a second, {HISTORY} s, up to {most}"),
        &requests,
        Color::Cyan,
    );
    let failed = of(|(_, failures)| *failures);
    let most = failed.iter().max().copied().unwrap_or(0);
    spark(
        frame,
        failures,
        &format!("failures a second, up to {most}"),
        &failed,
        Color::Red,
    );
    frame.render_widget(Paragraph::new(answered(&traffic)), answers);
}

fn name(key: &Key) -> Vec<Line<'static>> {
    vec![
        Line::from(vec![key.method.clone().bold(), Span::raw(" "), key.path.clone().bold()]),
        Line::from(format!("{} → {}", key.source, key.destination)),
    ]
}

fn summary(traffic: &Traffic) -> Vec<Line<'static>> {
    let value = |(text, tone): (String, Tone)| Span::styled(format!("{text:<12}"), style(tone));
    vec![
        Line::from("RPS         SUCCESS     P50         P95         P99".dim()),
        Line::from(vec![
            value((rate(traffic.rps()), Tone::Plain)),
            value(percent(traffic.success_rate(), ENOUGH)),
            value(millis(traffic.p50_ms)),
            value(millis(traffic.p95_ms)),
            value(millis(traffic.p99_ms)),
        ]),
    ]
}

fn spark(frame: &mut Frame<'_>, area: Rect, title: &str, data: &[u64], colour: Color) {
    // The newest that fit: a sparkline begins at the left.
    let room = usize::from(area.width).min(data.len());
    let block = Block::new().borders(Borders::TOP).title(title.to_owned());
    let sparkline = Sparkline::default()
        .block(block)
        .data(&data[data.len() - room..])
        .style(Style::new().fg(colour));
    frame.render_widget(sparkline, area);
}

fn answered(traffic: &Traffic) -> Vec<Line<'static>> {
    let mut statuses: Vec<&StatusCount> = traffic.statuses.iter().filter(|status| status.count > 0).collect();
    statuses.sort_by_key(|status| std::cmp::Reverse(status.count));
    let line = |status: &&StatusCount| {
        let code = match status.grpc_status {
            Some(code) => grpc_code_name(code).map_or_else(|| format!("grpc-status {code}"), str::to_owned),
            None => format!("HTTP {}", status.http_status),
        };
        let why = if status.error.is_empty() {
            String::new()
        } else {
            format!("  by a proxy: {}", status.error)
        };
        let text = format!("{code:<20}{:>8}{why}", status.count);
        if status.success {
            Line::from(text)
        } else {
            Line::from(text.red())
        }
    };
    let mut lines = vec![Line::from("ANSWERS".dim())];
    lines.extend(statuses.iter().take(8).map(line));
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::commands::top::state::tests::{answer, press};

    fn screen(keys: &str, width: u16) -> String {
        let mut top = Top::new(String::new(), Duration::from_secs(10));
        top.take(answer());
        press(&mut top, keys);
        let mut terminal = Terminal::new(TestBackend::new(width, 20)).unwrap();
        terminal.draw(|frame| draw(frame, &mut top)).unwrap();
        let text = terminal.backend().to_string();
        let lines = text.lines().map(|line| line.trim_matches('"').trim_end());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_list_reads_well() {
        insta::assert_snapshot!(screen("↓↓", 110));
    }

    #[test]
    fn a_narrow_terminal_keeps_the_path() {
        insta::assert_snapshot!(screen("/bal", 80));
    }

    #[test]
    fn one_path_reads_well() {
        insta::assert_snapshot!(screen("↓↓\n", 90));
    }
}
