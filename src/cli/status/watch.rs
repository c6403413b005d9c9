//! Looking again and again: in place on a terminal, one block after the other elsewhere.

use std::io::{self, Write};
use std::time::Duration;

use super::super::screen::Screen;
use super::Look;

/// A text that takes the place of one that took so many lines of the terminal: from its first line
/// on, each line clears its own rest, and the last one what is left below. Nothing flickers, and
/// nothing is pushed into what can be scrolled back.
fn in_place(lines: usize, text: &str) -> String {
    let up = match lines {
        0 => String::new(),
        lines => format!("\r\u{1b}[{lines}A"),
    };
    format!("{up}{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n"))
}

/// How many lines of a terminal a text takes that is `width` columns wide.
fn height(text: &str, width: u16) -> usize {
    let width = usize::from(width.max(1));
    let lines = text.lines().map(|line| {
        let columns = console::measure_text_width(line);
        columns.div_ceil(width).max(1)
    });
    lines.sum()
}

/// As many whole lines as fit a terminal, and a word that there are more.
fn fitted(text: &str, screen: Screen, rows: usize) -> String {
    if height(text, screen.width) < rows {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut used = 0;
    for line in text.lines() {
        used += height(line, screen.width);
        // The last row is for the cursor, the one before for the word.
        if used + 2 > rows {
            break;
        }
        shown.push_str(line);
        shown.push('\n');
    }
    shown.push_str("… the terminal is too low for the rest\n");
    shown
}

/// Looks every so many seconds until a signal comes.
pub(super) async fn watch(
    look: &Look<'_>,
    seconds: u32,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let pause = Duration::from_secs(seconds.into());
    let ended = super::super::run::signal();
    futures_util::pin_mut!(ended);
    let mut former = String::new();
    loop {
        let screen = Screen::of_stdout();
        let block = String::from_utf8(look.block(screen, true).await?)?;
        if screen.is_terminal && !look.json {
            let (rows, _columns) = console::Term::stdout().size();
            let shown = fitted(&block, screen, usize::from(rows));
            // One write, so that no half of it is ever seen; what was printed may be wrapped
            // anew by now.
            let former_height = height(&former, screen.width);
            out.write_all(in_place(former_height, &shown).as_bytes())?;
            former = shown;
        } else {
            print_after(&former, &block, look.json, out)?;
            former = block;
        }
        out.flush()?;
        tokio::select! {
            () = &mut ended => return Ok(()),
            () = actix_rt::time::sleep(pause) => {}
        }
    }
}

/// Blocks of text are parted by an empty line; JSON has a line each.
fn print_after(former: &str, block: &str, json: bool, out: &mut impl Write) -> io::Result<()> {
    if !former.is_empty() && !json {
        writeln!(out)?;
    }
    out.write_all(block.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_taken_back_by_the_lines_that_it_takes_on_the_terminal() {
        let text = "one\n\ntwo that is long\n";
        assert_eq!(height(text, 80), 3);
        assert_eq!(height(text, 10), 4);
        assert_eq!(height("\u{1b}[31mred\u{1b}[0m\n", 3), 1);
        assert_eq!(in_place(0, "a\n"), "a\u{1b}[K\n\u{1b}[J");
        let again = "\r\u{1b}[3Aa\u{1b}[K\nb\u{1b}[K\n\u{1b}[J";
        assert_eq!(in_place(3, "a\nb\n"), again);
    }

    #[test]
    fn a_block_never_scrolls_the_terminal() {
        let text: String = (0..30).map(|line| format!("line {line}\n")).collect();
        let screen = Screen::plain(80);
        assert_eq!(fitted(&text, screen, 40), text);
        let shown = fitted(&text, screen, 10);
        assert_eq!(shown.lines().count(), 9);
        assert!(shown.ends_with("the terminal is too low for the rest\n"));
        let few = fitted(&text, screen, 1);
        assert_eq!(few.lines().count(), 1);
    }
}
