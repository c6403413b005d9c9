//! What was measured, a line each, beside what it must not exceed.

use super::Size;

/// The lines so far.
pub struct Table {
    size: Size,
    missed: usize,
}

impl Table {
    /// Begins a table.
    pub fn new(size: Size) -> Self {
        if size == Size::Few {
            println!(
                "a few pages each; for the real sizes name a row: cargo bench --bench scale -- all"
            );
        }
        println!(
            "{:<46} {:>14} {:>14}  verdict",
            "what", "measured", "at most"
        );
        Table { size, missed: 0 }
    }

    /// A measured value and its limit, in `unit`.
    pub fn line(&mut self, what: &str, measured: f64, limit: f64, unit: &str) {
        let holds = measured <= limit;
        self.missed += usize::from(!holds);
        let verdict = match self.size {
            Size::Few => "-",
            Size::Full if holds => "holds",
            Size::Full => "MISSED",
        };
        let (measured, limit) = (format!("{measured:.2} {unit}"), format!("{limit} {unit}"));
        println!("{what:<46} {measured:>14} {limit:>14}  {verdict}");
    }

    /// What belongs to the line before.
    pub fn note(&self, text: &str) {
        println!("    {text}");
    }

    /// Ends the table.
    pub fn finish(self) {
        if self.size == Size::Full {
            println!("{} missed", self.missed);
        }
    }
}
