//! Commands to be typed, as a shell takes them.

/// A command with each word quoted where a shell would make something else of it.
pub fn command<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word.as_ref())).collect();
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_:./%=,@+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn words_survive_a_shell() {
        let check = |words: &[&str], expected: &str| assert_eq!(command(words), expected);
        check(
            &["pagemill", "show", "Ohio:1849:4"],
            "pagemill show Ohio:1849:4",
        );
        check(&["show", "Howard College:1"], "show 'Howard College:1'");
        check(&["show", "St. Mary's:1", ""], r"show 'St. Mary'\''s:1' ''");
        check(&["a$b", "50%25"], "'a$b' 50%25");
    }
}
