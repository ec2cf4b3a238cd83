//! What people and programs read: tables and JSON on stdout. Colour only on a terminal, and never needed to understand.

mod printer;

use std::io::{self, IsTerminal as _, Write as _};

pub(crate) use printer::{Printer, again, printing};

/// Form of what a reading command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// The table with more columns.
    Wide,
    /// JSON for programs.
    Json,
}

/// Colour of a cell, on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    Plain,
    /// Well.
    Good,
    /// Look here.
    Warn,
    /// Not well.
    Bad,
    /// Less important.
    Dim,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
            Self::Dim => "2",
        }
    }
}

/// Columns aligned by their widest cell, two spaces apart, as kubectl prints them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    /// A table with its header line.
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self {
            rows: vec![header.iter().map(|title| ((*title).to_owned(), Tone::Dim)).collect()],
        }
    }

    /// Adds a row of plain cells.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.toned(cells.into_iter().map(|cell| (cell, Tone::Plain)));
    }

    /// Adds a row of cells with colours.
    pub(crate) fn toned(&mut self, cells: impl IntoIterator<Item = (String, Tone)>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as text; `colour` only for terminals.
    pub(crate) fn render(&self, colour: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|(cell, _)| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            for (column, (cell, tone)) in row.iter().enumerate() {
                let last = column + 1 == row.len();
                let padding = if last {
                    0
                } else {
                    widths[column] - cell.chars().count() + 2
                };
                text.push_str(&paint(cell, *tone, colour));
                text.extend(std::iter::repeat_n(' ', padding));
            }
            text.push('\n');
        }
        text
    }

    /// Writes the table to stdout.
    pub(crate) fn print(&self) -> io::Result<()> {
        io::stdout().write_all(self.render(io::stdout().is_terminal()).as_bytes())
    }
}

/// Text in a colour, where colours are on.
pub(crate) fn paint(text: &str, tone: Tone, colour: bool) -> String {
    if colour && tone != Tone::Plain {
        format!("\x1b[{}m{text}\x1b[0m", tone.code())
    } else {
        text.to_owned()
    }
}

/// Writes a value as indented JSON to stdout.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Says something to the operator, on stderr. Not by `eprintln!`, which panics where that is a terminal that was closed: what runs must still
/// end in order.
pub(crate) fn tell(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "sheer: {text}");
}

/// Whether stderr is a terminal that wants colour and progress (`NO_COLOR` says no).
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// An age or duration, as kubectl writes it: `45s`, `12m`, `3h20m`, `2d`.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => match (seconds / 3_600, seconds % 3_600 / 60) {
            (hours, 0) => format!("{hours}h"),
            (hours, minutes) => format!("{hours}h{minutes}m"),
        },
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A size in binary units: `512KiB`, `14.2MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let bytes = bytes as f64;
    match bytes {
        b if b < KIB => format!("{b}B"),
        b if b < KIB * KIB => format!("{:.0}KiB", b / KIB),
        b if b < KIB * KIB * KIB => format!("{:.1}MiB", b / KIB / KIB),
        b => format!("{:.1}GiB", b / KIB / KIB / KIB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_columns_and_needs_no_colour() {
        let mut table = Table::new(["POD", "READY"]);
        table.toned([("ledger-0".into(), Tone::Plain), ("1/1".into(), Tone::Good)]);
        table.row(["fx".into(), "0/1".into()]);
        assert_eq!(table.render(false), "POD       READY\nledger-0  1/1\nfx        0/1\n");
        assert!(table.render(true).contains("\x1b[32m1/1\x1b[0m"));
    }

    #[test]
    fn ages_and_sizes_read_as_kubectl_writes_them() {
        assert_eq!(
            [0, 119, 120, 7_200, 12_000, 200_000].map(age),
            ["0s", "119s", "2m", "2h", "3h20m", "2d"]
        );
        assert_eq!([10, 2_048, 14_900_000].map(size), ["10B", "2KiB", "14.2MiB"]);
    }
}
