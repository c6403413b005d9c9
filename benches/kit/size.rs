//! How much a bench works on.

/// The size that `variable` names, else `usual`; under `cargo test` a few will do, because nothing
/// is measured there.
pub fn size(variable: &str, usual: u32) -> u32 {
    const FEW: u32 = 20;
    if !std::env::args().any(|argument| argument == "--bench") {
        return FEW;
    }
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is '{text}', not a number")),
        Err(_) => usual,
    }
}
