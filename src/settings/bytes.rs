//! Byte sizes as people write them.

/// The units that are understood, with their bytes.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads `18GiB`, `1.5 GB` or a whole number of bytes; a fraction of a byte is cut off.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.trim();
    let factor = match unit {
        "" => 1,
        _ => UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .map(|(_, bytes)| *bytes)
            .ok_or_else(|| match unit.to_ascii_uppercase().as_str() {
                "K" | "M" | "G" | "T" => {
                    format!("'{unit}' could be {unit}B or {unit}iB; say which")
                }
                _ => format!("'{unit}' is not a unit; use B, kB, MB, GB, TB, KiB, MiB, GiB or TiB"),
            })?,
    };
    let unreadable = || "not a size; write a number and a unit, such as 18GiB".to_owned();
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let has_fraction = number.contains('.');
    if whole.is_empty() || (has_fraction && (fraction.is_empty() || fraction.len() > 9)) {
        return Err(unreadable());
    }
    if has_fraction && factor == 1 {
        return Err("a fraction needs a unit, such as 1.5GiB".to_owned());
    }
    let digits: u128 = format!("{whole}{fraction}")
        .parse()
        .map_err(|_| unreadable())?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| unreadable())?);
    let bytes = digits
        .checked_mul(u128::from(factor))
        .map(|product| product / scale);
    bytes
        .and_then(|bytes| u64::try_from(bytes).ok())
        .ok_or_else(|| "too large".to_owned())
}

/// Writes a size in the largest binary or decimal unit that divides it.
pub fn show(bytes: u64) -> String {
    let (name, factor) = UNITS
        .iter()
        .filter(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .max_by_key(|(_, factor)| *factor)
        .unwrap_or(&UNITS[0]);
    format!("{}{name}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: u64) {
        assert_eq!(parse(text), Ok(expected), "{text}");
    }

    #[test]
    fn sizes_are_read() {
        check("0", 0);
        check("1048576", 1 << 20);
        check("1_000", 1_000);
        check("18GiB", 18 << 30);
        check("200MiB", 200 << 20);
        check("1.5GB", 1_500_000_000);
        check(" 1.5 gib ", 3 << 29);
        check("64kb", 64_000);
        check("2TiB", 2 << 40);
        check("7B", 7);
        check("0.5KiB", 512);
        check("18446744073709551615", u64::MAX);
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "GiB",
            "1G",
            "1 parsec",
            "-1",
            "1e3",
            "1.5",
            "1.",
            ".5GB",
            "1.2.3GB",
            "99999999999TiB",
            "18446744073709551616",
            "1GiB2",
            "0.1234567890123GB",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("1G").unwrap_err().contains("GiB"));
    }

    #[test]
    fn sizes_are_written_as_they_can_be_read() {
        for bytes in [0, 1, 1_000, 1_024, 3 << 29, 2_000_000_000, 18 << 30, 12_345] {
            assert_eq!(parse(&show(bytes)), Ok(bytes));
        }
        assert_eq!(show(18 << 30), "18GiB");
    }
}
