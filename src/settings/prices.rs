//! The price list: its YAML, read into plain values.

use std::path::Path;

use serde::Deserialize;

use super::fault::{Fault, SettingsError};
use super::load::read_text;
use crate::decide::cost::{Date, Price, PriceEntry, PriceTable, Rates, Tier};

/// The list that is built in.
pub const BUILT_IN: &str = include_str!("../../config/prices.yaml");
/// Picodollars a token in a US dollar for a million tokens.
const PICO_PER_USD_PER_MILLION: f64 = 1_000_000.0;
/// No model has ever cost this much; a larger figure is a slip of the unit.
const USD_PER_MILLION_MAX: f64 = 10_000.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    prices: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    model: String,
    from: Option<String>,
    until: Option<String>,
    input: f64,
    output: f64,
    cached: Option<f64>,
    #[serde(default)]
    tiers: Vec<RawTier>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTier {
    above_prompt_tokens: u64,
    input: f64,
    output: f64,
    cached: Option<f64>,
}

/// Reads the list from a file, or the one that is built in.
pub fn load(file: Option<&Path>) -> Result<PriceTable, SettingsError> {
    let path = "model.prices_file";
    let Some(file) = file else {
        return parse(BUILT_IN);
    };
    let text = read_text(file).map_err(|error| {
        let problem = format!("{} cannot be read: {error}", file.display());
        SettingsError::new(
            vec![Fault::new(path, problem, "correct it or take it out")],
            None,
        )
    })?;
    parse(&text)
}

/// Reads the YAML of a list.
pub fn parse(text: &str) -> Result<PriceTable, SettingsError> {
    let raw: RawTable = serde_yaml::from_str(text).map_err(|error| {
        let problem = format!("the price list cannot be read: {error}");
        let remedy = "write it like the built-in list, config/prices.yaml";
        SettingsError::new(vec![Fault::new("model.prices_file", problem, remedy)], None)
    })?;
    let mut faults = Vec::new();
    let mut entries = Vec::new();
    for (position, entry) in raw.prices.into_iter().enumerate() {
        let place = format!("model.prices_file.prices[{position}]");
        entries.push(read_entry(entry, &place, &mut faults));
    }
    for (position, entry) in entries.iter().enumerate() {
        let twin = entries[..position]
            .iter()
            .any(|other| other.model == entry.model && overlap(other, entry));
        if twin {
            faults.push(Fault::new(
                format!("model.prices_file.prices[{position}]"),
                format!("'{}' has two prices for the same day", entry.model),
                "end one before the other begins",
            ));
        }
    }
    if faults.is_empty() {
        Ok(PriceTable { entries })
    } else {
        Err(SettingsError::new(faults, None))
    }
}

fn read_entry(entry: RawEntry, place: &str, faults: &mut Vec<Fault>) -> PriceEntry {
    let base = rates(entry.input, entry.output, entry.cached, place, faults);
    let mut tiers: Vec<Tier> = Vec::new();
    for tier in entry.tiers {
        let rates = rates(tier.input, tier.output, tier.cached, place, faults);
        tiers.push(Tier {
            above_prompt_tokens: tier.above_prompt_tokens,
            rates,
        });
    }
    tiers.sort_by_key(|tier| tier.above_prompt_tokens);
    let mut day = |name: &str, text: Option<String>| {
        let text = text?;
        let day = Date::parse(&text);
        if day.is_none() {
            let problem = format!("'{text}' is not a day");
            faults.push(Fault::new(
                format!("{place}.{name}"),
                problem,
                "write YYYY-MM-DD",
            ));
        }
        day
    };
    let (from, until) = (day("from", entry.from), day("until", entry.until));
    if from.zip(until).is_some_and(|(from, until)| from > until) {
        faults.push(Fault::new(
            place,
            "ends before it begins",
            "correct from or until",
        ));
    }
    PriceEntry {
        model: entry.model,
        from,
        until,
        price: Price { base, tiers },
    }
}

fn rates(
    input: f64,
    output: f64,
    cached: Option<f64>,
    place: &str,
    faults: &mut Vec<Fault>,
) -> Rates {
    let mut pico = |name: &str, usd: f64| {
        if (0.0..=USD_PER_MILLION_MAX).contains(&usd) {
            // At most 1e10, which a double holds exactly.
            return (usd * PICO_PER_USD_PER_MILLION).round() as u64;
        }
        let problem = format!("{usd} is not a price in US dollars for a million tokens");
        faults.push(Fault::new(format!("{place}.{name}"), problem, "correct it"));
        0
    };
    Rates {
        input: pico("input", input),
        output: pico("output", output),
        cached: cached.map(|usd| pico("cached", usd)),
    }
}

fn overlap(one: &PriceEntry, other: &PriceEntry) -> bool {
    let ends_before = |first: &PriceEntry, second: &PriceEntry| {
        first
            .until
            .zip(second.from)
            .is_some_and(|(until, from)| until < from)
    };
    !ends_before(one, other) && !ends_before(other, one)
}
