//! What an answer cost, and the most that a batch can cost.
//!
//! Prices are whole picodollars (1e-12 USD) a token: the finest listed price, 0.0375 USD for a
//! million tokens, is 37,500 of them, and would be a fraction in nanodollars. Costs are
//! nanodollars (1e-9 USD), rounded up. Reading the price list is the business of the settings.

use crate::domain::attempt::Tokens;
use crate::domain::time::Timestamp;

/// Picodollars in a nanodollar.
const PICO_PER_NANO: u128 = 1_000;

/// What tokens cost, in picodollars a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    pub input: u64,
    /// Input that the provider read from its cache; the input price when none is listed.
    pub cached: Option<u64>,
    /// Answer and thoughts.
    pub output: u64,
}

/// The rates of prompts that are larger than a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// The tier holds for prompts of more tokens than this.
    pub above_prompt_tokens: u64,
    pub rates: Rates,
}

/// The price of a model at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    pub base: Rates,
    /// In ascending order of their bound.
    pub tiers: Vec<Tier>,
}

impl Price {
    /// The rates for a prompt of this size.
    pub fn rates(&self, prompt_tokens: u64) -> Rates {
        self.tiers
            .iter()
            .rev()
            .find(|tier| prompt_tokens > tier.above_prompt_tokens)
            .map_or(self.base, |tier| tier.rates)
    }
}

/// A day of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// Reads `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Date> {
        let bytes = text.as_bytes();
        let shape = bytes.len() == 10 && bytes[4] == b'-' && bytes[7] == b'-';
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !shape || !digits(&text[..4]) || !digits(&text[5..7]) || !digits(&text[8..]) {
            return None;
        }
        let date = Date {
            year: text[..4].parse().ok()?,
            month: text[5..7].parse().ok()?,
            day: text[8..].parse().ok()?,
        };
        let year = date.year;
        let is_leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match date.month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        (1..=days).contains(&date.day).then_some(date)
    }

    /// The day of an instant.
    pub fn of(at: Timestamp) -> Option<Date> {
        Date::parse(at.to_string().get(..10)?)
    }
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// One line of the price list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceEntry {
    /// The model's name without its version suffix, such as `gemini-3.5-flash`.
    pub model: String,
    /// The first day; open when absent.
    pub from: Option<Date>,
    /// The last day, included; open when absent.
    pub until: Option<Date>,
    pub price: Price,
}

/// The price list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceTable {
    pub entries: Vec<PriceEntry>,
}

impl PriceTable {
    /// The price of a model on a day; the entry with the longest matching name holds.
    pub fn price(&self, model: &str, date: Date) -> Option<Price> {
        let model = model.strip_prefix("models/").unwrap_or(model);
        self.entries
            .iter()
            .filter(|entry| names_model(&entry.model, model))
            .filter(|entry| entry.from.is_none_or(|from| from <= date))
            .filter(|entry| entry.until.is_none_or(|until| date <= until))
            .max_by_key(|entry| entry.model.len())
            .map(|entry| entry.price.clone())
    }
}

/// Whether a listed name covers a model: the same name, or the name with a version behind it.
/// A different word behind it (`-lite`, `-image`) is another model at another price.
fn names_model(listed: &str, model: &str) -> bool {
    let Some(rest) = model.strip_prefix(listed) else {
        return false;
    };
    let Some(suffix) = rest.strip_prefix('-') else {
        return rest.is_empty();
    };
    suffix.starts_with(|c: char| c.is_ascii_digit())
        || ["preview", "latest", "exp"]
            .iter()
            .any(|word| suffix == *word || suffix.starts_with(&format!("{word}-")))
}

/// What one answer cost, in nanodollars, rounded up. Cached input is part of the prompt.
pub fn cost_nanos(price: &Price, tokens: &Tokens) -> u64 {
    let prompt = tokens.prompt.unwrap_or(0);
    let cached = tokens.cached.unwrap_or(0).min(prompt);
    let output = tokens
        .candidates
        .unwrap_or(0)
        .saturating_add(tokens.thoughts.unwrap_or(0));
    let rates = price.rates(prompt);
    let pico = product(prompt - cached, rates.input)
        + product(cached, rates.cached.unwrap_or(rates.input))
        + product(output, rates.output);
    to_nanos(pico)
}

/// The most that a batch can cost, in nanodollars, rounded up: nothing is read from the cache, and
/// every answer is as long as it may be. The tier is that of the average prompt, for the pages of a
/// batch share one prompt and differ little.
pub fn reserve_nanos(
    price: &Price,
    input_tokens_estimate: u64,
    requests: u64,
    max_output_tokens: u64,
) -> u64 {
    if requests == 0 {
        return 0;
    }
    let rates = price.rates(input_tokens_estimate.div_ceil(requests));
    let input = rates.input.max(rates.cached.unwrap_or(0));
    let output = u128::from(requests) * u128::from(max_output_tokens);
    let pico = product(input_tokens_estimate, input)
        .saturating_add(output.saturating_mul(u128::from(rates.output)));
    to_nanos(pico)
}

fn product(tokens: u64, rate: u64) -> u128 {
    u128::from(tokens) * u128::from(rate)
}

fn to_nanos(pico: u128) -> u64 {
    u64::try_from(pico.div_ceil(PICO_PER_NANO)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flash() -> Price {
        Price {
            base: Rates {
                input: 375_000,
                cached: Some(37_500),
                output: 1_875_000,
            },
            tiers: Vec::new(),
        }
    }

    fn pro() -> Price {
        let rates = |input, output| Rates {
            input,
            cached: None,
            output,
        };
        Price {
            base: rates(1_000_000, 6_000_000),
            tiers: vec![Tier {
                above_prompt_tokens: 200_000,
                rates: rates(2_000_000, 9_000_000),
            }],
        }
    }

    fn tokens(prompt: u64, cached: u64, candidates: u64, thoughts: u64) -> Tokens {
        Tokens {
            prompt: Some(prompt),
            cached: Some(cached),
            candidates: Some(candidates),
            thoughts: Some(thoughts),
            total: None,
        }
    }

    fn check_cost(price: &Price, tokens: Tokens, expected: u64) {
        assert_eq!(cost_nanos(price, &tokens), expected, "{tokens:?}");
    }

    #[test]
    fn answers_are_charged_by_kind() {
        check_cost(&flash(), tokens(1_000_000, 0, 0, 0), 375_000_000);
        check_cost(&flash(), tokens(0, 0, 1_000_000, 0), 1_875_000_000);
        check_cost(&flash(), tokens(0, 0, 600_000, 400_000), 1_875_000_000);
        check_cost(&flash(), tokens(1_000_000, 1_000_000, 0, 0), 37_500_000);
        check_cost(
            &flash(),
            tokens(1_000, 400, 10, 5),
            225_000 + 15_000 + 28_125,
        );
        check_cost(&flash(), tokens(10, 99, 0, 0), 375);
        check_cost(&flash(), tokens(1, 1, 0, 0), 38);
        check_cost(&flash(), Tokens::default(), 0);
        check_cost(&pro(), tokens(10, 4, 0, 0), 10_000);
        check_cost(&flash(), tokens(u64::MAX, 0, u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn the_tier_follows_the_size_of_the_prompt() {
        check_cost(&pro(), tokens(200_000, 0, 1, 0), 200_000_000 + 6_000);
        check_cost(&pro(), tokens(200_001, 0, 1, 0), 400_002_000 + 9_000);
    }

    #[test]
    fn a_reservation_is_never_below_the_cost() {
        assert_eq!(reserve_nanos(&flash(), 0, 0, 8_192), 0);
        assert_eq!(reserve_nanos(&flash(), 2_000, 2, 100), 750_000 + 375_000);
        let spent = 2 * cost_nanos(&flash(), &tokens(1_000, 500, 60, 40));
        assert!(reserve_nanos(&flash(), 2_000, 2, 100) >= spent);
        assert_eq!(reserve_nanos(&pro(), 300_000, 1, 0), 600_000_000);
        assert_eq!(reserve_nanos(&pro(), 300_000, 2, 0), 300_000_000);
        assert_eq!(
            reserve_nanos(&flash(), u64::MAX, u64::MAX, u64::MAX),
            u64::MAX
        );
    }

    fn check_date(text: &str, valid: bool) {
        assert_eq!(Date::parse(text).is_some(), valid, "{text}");
    }

    #[test]
    fn dates_are_days_of_the_calendar() {
        check_date("2026-12-31", true);
        check_date("2028-02-29", true);
        check_date("2026-02-29", false);
        check_date("2026-13-01", false);
        check_date("2026-00-10", false);
        check_date("2026-1-1", false);
        check_date("+026-01-01", false);
        check_date("é26-01-01x", false);
        let at = Timestamp::parse("2026-11-30T23:59:59Z").unwrap();
        assert_eq!(Date::of(at), Date::parse("2026-11-30"));
        assert_eq!(Date::parse("2026-01-09").unwrap().to_string(), "2026-01-09");
    }

    fn table() -> PriceTable {
        let entry = |model: &str, from: Option<&str>, until: Option<&str>, input| PriceEntry {
            model: model.to_owned(),
            from: from.and_then(Date::parse),
            until: until.and_then(Date::parse),
            price: Price {
                base: Rates {
                    input,
                    cached: None,
                    output: 1,
                },
                tiers: Vec::new(),
            },
        };
        PriceTable {
            entries: vec![
                entry("gemini-3.8-flash", None, Some("2026-12-31"), 1),
                entry("gemini-3.8-flash", Some("2027-01-01"), None, 2),
                entry("gemini-3.5-flash", None, None, 3),
                entry("gemini-3.5-flash-lite", None, None, 4),
            ],
        }
    }

    fn check_price(model: &str, date: &str, expected: Option<u64>) {
        let found = table().price(model, Date::parse(date).unwrap());
        assert_eq!(
            found.map(|price| price.base.input),
            expected,
            "{model} on {date}"
        );
    }

    #[test]
    fn prices_follow_name_and_day() {
        check_price("gemini-3.8-flash", "2026-12-31", Some(1));
        check_price("models/gemini-3.8-flash", "2027-01-01", Some(2));
        check_price("gemini-3.8-flash-001", "2026-11-01", Some(1));
        check_price("gemini-3.8-flash-preview-11-2026", "2026-11-01", Some(1));
        check_price("gemini-3.8-flash-lite", "2026-11-01", None);
        check_price("gemini-3.8-flashy", "2026-11-01", None);
        check_price("gemini-3.5-flash-lite", "2026-11-01", Some(4));
        check_price("gemini-3.5-flash-lite-002", "2026-11-01", Some(4));
        check_price("gemini-9", "2026-11-01", None);
    }
}
