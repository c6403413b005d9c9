//! How results look: the width and colors of the terminal, tables that fit it, questions.

use std::io::{self, BufRead, IsTerminal, Write};

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table};
use console::{Style, Term};

use crate::domain::time::Timestamp;
use crate::report::words;

/// The width of what is no terminal: a file, or another program.
const WIDTH_ELSEWHERE: u16 = 120;
/// No table is made narrower than this, however narrow the terminal is.
const WIDTH_MIN: u16 = 40;

/// Where results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// In columns.
    pub width: u16,
    /// Whether colors may be used: on a terminal, and not where NO_COLOR or TERM=dumb forbid it.
    pub colors: bool,
    /// Whether a person looks on.
    pub is_terminal: bool,
}

impl Screen {
    /// What standard output is.
    pub fn of_stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let columns = std::env::var("COLUMNS").ok();
        let columns = columns.and_then(|columns| columns.trim().parse::<u16>().ok());
        let width = if is_terminal {
            Term::stdout()
                .size_checked()
                .map(|(_rows, columns)| columns)
        } else {
            columns
        };
        Screen {
            width: width.unwrap_or(WIDTH_ELSEWHERE).max(WIDTH_MIN),
            colors: is_terminal && console::colors_enabled(),
            is_terminal,
        }
    }

    /// A screen of this width without colors, as tests want it.
    pub fn plain(width: u16) -> Self {
        Screen {
            width,
            colors: false,
            is_terminal: false,
        }
    }

    /// Text in a style, where colors may be used.
    pub fn styled(&self, text: &str, style: Style) -> String {
        if self.colors {
            style.force_styling(true).apply_to(text).to_string()
        } else {
            text.to_owned()
        }
    }

    /// Something that needs a look.
    pub fn alarm(&self, text: &str) -> String {
        self.styled(text, Style::new().red().bold())
    }

    /// Something that went as it should.
    pub fn good(&self, text: &str) -> String {
        self.styled(text, Style::new().green())
    }

    /// Something of less interest.
    pub fn faint(&self, text: &str) -> String {
        self.styled(text, Style::new().dim())
    }

    /// A text as lines that end between words, where somebody reads it on a terminal; else as it is,
    /// for whatever searches in it. It begins in the column `indent`, and so do its further lines.
    pub fn paragraph(&self, indent: usize, text: &str, out: &mut impl Write) -> io::Result<()> {
        if !self.is_terminal {
            return writeln!(out, "{text}");
        }
        let mut used = indent;
        for word in text.split(' ') {
            let width = console::measure_text_width(word);
            if used > indent && used + 1 + width > usize::from(self.width) {
                write!(out, "\n{:indent$}", "")?;
                used = indent;
            }
            if used > indent {
                write!(out, " ")?;
                used += 1;
            }
            write!(out, "{word}")?;
            used += width;
        }
        writeln!(out)
    }

    /// The same without colors, for texts that are cut or cleaned afterwards.
    pub fn without_colors(self) -> Self {
        Screen {
            colors: false,
            ..self
        }
    }

    /// An instant, how long ago it was and when: `3 h 5 min ago (2026-11-22T09:47:11Z)`.
    pub fn when(&self, then: Timestamp, now: Timestamp) -> String {
        let absolute = self.faint(&format!("({})", seconds(then)));
        if then > now {
            format!("in {} {absolute}", words::span(then.since(now)))
        } else {
            format!("{} ago {absolute}", words::span(now.since(then)))
        }
    }
}

/// An instant without the fractions of its second.
pub fn seconds(at: Timestamp) -> String {
    let text = at.to_string();
    match text.split_once('.') {
        Some((whole, _fraction)) => format!("{whole}Z"),
        None => text,
    }
}

/// The side on which a column's texts stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    /// For figures.
    Right,
}

/// A table without lines, as wide as it needs to be and no wider than the screen: what does not
/// fit is wrapped within its column.
pub struct Columns {
    table: Table,
    sides: Vec<Side>,
    screen: Screen,
}

impl Columns {
    /// A table with these headings.
    pub fn new(screen: Screen, headings: &[(&str, Side)]) -> Self {
        let mut table = Table::new();
        table
            .load_style(comfy_table::presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(screen.width);
        if !screen.colors {
            table.force_no_tty();
        }
        let sides: Vec<Side> = headings.iter().map(|(_name, side)| *side).collect();
        let heading = headings.iter().map(|(name, side)| {
            let cell = aligned(Cell::new(name), *side);
            if screen.colors {
                cell.add_attribute(comfy_table::Attribute::Bold)
            } else {
                cell
            }
        });
        table.set_header(heading.collect::<Vec<Cell>>());
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Columns {
            table,
            sides,
            screen,
        }
    }

    /// Adds a row; control characters become spaces, so that no text breaks out of its cell.
    pub fn row<T: AsRef<str>>(&mut self, texts: &[T]) {
        let cells = texts.iter().zip(&self.sides);
        let cells = cells.map(|(text, side)| aligned(Cell::new(one_line(text.as_ref())), *side));
        self.table.add_row(cells.collect::<Vec<Cell>>());
    }

    /// Keeps the texts of a column on one line, keys for example, which are copied.
    pub fn keep_whole(&mut self, place: usize) {
        if let Some(column) = self.table.column_mut(place) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.table.row_count() == 0
    }

    /// Prints the table, without blanks at the ends of its lines.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        debug_assert!(self.screen.width >= 1);
        for line in self.table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn aligned(cell: Cell, side: Side) -> Cell {
    match side {
        Side::Left => cell,
        Side::Right => cell.set_alignment(CellAlignment::Right),
    }
}

/// A text on one line, its control characters as spaces.
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

/// A text on one line, cut to so many characters.
pub fn cut(text: &str, characters: usize) -> String {
    let line = one_line(text);
    if line.chars().count() <= characters {
        return line;
    }
    let mut short: String = line.chars().take(characters.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Tells how many more there are than a list shows, and how to see them.
pub fn more(shown: u64, total: u64, remedy: &str, out: &mut impl Write) -> io::Result<()> {
    if total <= shown {
        return Ok(());
    }
    let left = words::count(total - shown);
    writeln!(out, "… and {left} more: {remedy}")
}

/// Asks a question on stderr, so that what is printed stays what it is. Anything but yes is no, and
/// so is the end of the input.
pub fn confirmed(question: &str) -> io::Result<bool> {
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(width: u16) -> String {
        let headings = [
            ("page", Side::Left),
            ("failures", Side::Right),
            ("why", Side::Left),
        ];
        let mut columns = Columns::new(Screen::plain(width), &headings);
        columns.row(&[
            "Alabama:Howard College:1849:14",
            "1,024",
            "a line\nthat goes on and on and on and on and on and on",
        ]);
        columns.row(&["Ohio:Lincoln:1850:2", "3", "short"]);
        let mut text = Vec::new();
        columns.print(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn tables_fit_the_terminal() {
        for width in [60, 80, 160] {
            let text = printed(width);
            for line in text.lines() {
                assert!(
                    line.chars().count() <= usize::from(width),
                    "{width}: {line}"
                );
                assert_eq!(line, line.trim_end());
            }
            assert!(text.contains("1,024"), "{text}");
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
        assert_eq!(printed(160).lines().count(), 3);
        assert!(printed(60).lines().count() > 3);
    }

    #[test]
    fn keys_stay_whole_however_narrow_the_terminal_is() {
        let headings = [("page", Side::Left), ("why", Side::Left)];
        let mut columns = Columns::new(Screen::plain(40), &headings);
        let key = "Alabama:Howard College:1849:14";
        columns.row(&[key, "a sentence that is far too long for what is left"]);
        columns.keep_whole(0);
        let mut text = Vec::new();
        columns.print(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(key), "{text}");
    }

    #[test]
    fn texts_are_cut_by_characters() {
        assert_eq!(cut("a\tb\nc", 5), "a b c");
        assert_eq!(cut("Élèves 1849", 4), "Élè…");
    }

    #[test]
    fn instants_are_relative_and_absolute() {
        let screen = Screen::plain(80);
        let now = Timestamp::from_micros(7_200_000_000);
        let then = Timestamp::from_micros(500_000);
        assert_eq!(
            screen.when(then, now),
            "1 h 59 min ago (1970-01-01T00:00:00Z)"
        );
        assert_eq!(
            screen.when(now, then),
            "in 1 h 59 min (1970-01-01T02:00:00Z)"
        );
    }
}
