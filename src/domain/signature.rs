//! What two messages have in common when they differ only in names, numbers and places.

/// The longest signature, in characters.
const CHARACTERS_MAX: usize = 240;
/// A run of letters and digits of at least this length that holds a digit is taken for an id.
const ID_CHARACTERS_MIN: usize = 12;

/// A message without what is this page's own: its key, quoted names, numbers, hashes, ids and
/// addresses. Messages with one signature say the same.
pub fn signature(message: &str, key: &str) -> String {
    let without_key = if key.is_empty() {
        message.to_owned()
    } else {
        message.replace(key, "<key>")
    };
    let characters: Vec<char> = without_key.chars().collect();
    let mut reader = Reader {
        characters: &characters,
        at: 0,
        said: String::new(),
        length: 0,
    };
    reader.read();
    reader.said
}

struct Reader<'a> {
    characters: &'a [char],
    at: usize,
    said: String,
    /// Of `said`, in characters.
    length: usize,
}

impl Reader<'_> {
    fn read(&mut self) {
        while let Some(&character) = self.characters.get(self.at) {
            if self.length >= CHARACTERS_MAX {
                self.said.push('…');
                return;
            }
            match character {
                _ if character.is_whitespace() || character.is_control() => self.space(),
                '\'' | '"' | '`' => self.quoted(character),
                _ if is_of_a_word(character) => self.word(),
                _ => {
                    self.say(&character.to_string());
                    self.at += 1;
                }
            }
        }
        let trimmed = self.said.trim_end().len();
        self.said.truncate(trimmed);
    }

    fn say(&mut self, text: &str) {
        self.said.push_str(text);
        self.length += text.chars().count();
    }

    fn space(&mut self) {
        self.at += 1;
        if !self.said.is_empty() && !self.said.ends_with(' ') {
            self.say(" ");
        }
    }

    /// A quotation is what it opens before and closes behind a word; else it is an apostrophe.
    fn quoted(&mut self, quote: char) {
        let before = self.at.checked_sub(1).map(|at| self.characters[at]);
        let opens = !before.is_some_and(char::is_alphanumeric);
        let closes = |at: &usize| {
            let after = self.characters.get(at + 1);
            self.characters[*at] == quote && !after.is_some_and(|c| c.is_alphanumeric())
        };
        let end = (self.at + 1..self.characters.len()).find(closes);
        match end {
            Some(end) if opens => {
                self.say("'…'");
                self.at = end + 1;
            }
            _ => {
                self.say(&quote.to_string());
                self.at += 1;
            }
        }
    }

    fn word(&mut self) {
        let rest = &self.characters[self.at..];
        if let Some(length) = address_length(rest) {
            self.say("<address>");
            self.at += length;
            return;
        }
        let length = rest.iter().take_while(|c| is_of_a_word(**c)).count();
        let word: String = rest[..length].iter().collect();
        self.at += length;
        if is_number(rest[0], &word) {
            self.say("#");
            self.at += rest_of_number(&rest[length..]);
        } else if is_id(&word) {
            self.say("<id>");
        } else {
            self.say(&without_digits(&word));
        }
    }
}

fn is_of_a_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == '-'
}

/// How long an address such as `https://host/path` is, if one begins here.
fn address_length(rest: &[char]) -> Option<usize> {
    let scheme = rest
        .iter()
        .take_while(|c| c.is_ascii_alphanumeric())
        .count();
    let begins = scheme > 1 && rest[scheme..].starts_with(&[':', '/', '/']);
    let is_inside = |c: &&char| !c.is_whitespace() && !['\'', '"', ')', '>', ','].contains(*c);
    begins.then(|| rest.iter().take_while(is_inside).count())
}

/// Whether a word is a number, perhaps with a unit behind it, such as `12`, `-3` or `48h`.
fn is_number(first: char, word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word);
    (first.is_ascii_digit() || first == '-')
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// How much of what follows a number belongs to it: `1,234`, `0.5`, `1.2.3`.
fn rest_of_number(rest: &[char]) -> usize {
    let mut length = 0;
    while let [mark, digit, ..] = &rest[length..] {
        if !['.', ','].contains(mark) || !digit.is_ascii_digit() {
            break;
        }
        let digits = rest[length + 1..].iter();
        length += 1 + digits.take_while(|c| c.is_ascii_digit()).count();
    }
    length
}

/// Hashes, UUIDs and the names that services make up.
fn is_id(word: &str) -> bool {
    let plain: String = word.chars().filter(|c| *c != '-' && *c != '_').collect();
    let has_digit = plain.bytes().any(|byte| byte.is_ascii_digit());
    let is_hex = plain.len() >= 8 && plain.bytes().all(|byte| byte.is_ascii_hexdigit());
    has_digit && (is_hex || plain.len() >= ID_CHARACTERS_MIN)
}

/// Each run of digits as one mark.
fn without_digits(word: &str) -> String {
    let mut said = String::with_capacity(word.len());
    for character in word.chars() {
        match character {
            '0'..='9' if said.ends_with('#') => {}
            '0'..='9' => said.push('#'),
            _ => said.push(character),
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "Alabama:Howard College:1849:14";

    fn check(message: &str, expected: &str) {
        assert_eq!(signature(message, KEY), expected, "{message}");
    }

    #[test]
    fn s0_29_numbers_names_hashes_keys_and_offsets_do_not_tell_messages_apart() {
        check(
            "expected value at line 3 column 17",
            "expected value at line # column #",
        );
        check("offset 1,234,567 of 0.75 MiB", "offset # of # MiB");
        check(
            "/students/12/name: 'Ann O'Neill' is not of type \"integer\"",
            "/students/#/name: '…' is not of type '…'",
        );
        check(
            "page 'x' isn't there, and its file `y z` is gone",
            "page '…' isn't there, and its file '…' is gone",
        );
        check(
            "key Alabama:Howard College:1849:14 has no line",
            "key <key> has no line",
        );
        check("files/5wimve6qj2uyjfak1od9 is gone", "files/<id> is gone");
        check(
            "batch 01a201a6-517c-75a1-a897-c28b16fc7a22 expired",
            "batch <id> expired",
        );
        check("sha deadbeef01 differs", "sha <id> differs");
        check("answer of page4 in v12", "answer of page# in v#");
        check(
            "GET https://x.example/v1/files?id=3 gave 503",
            "GET <address> gave #",
        );
        check("between -3 and 4.5.", "between # and #.");
    }

    #[test]
    fn what_is_no_name_or_number_stays() {
        check("the answer is not JSON", "the answer is not JSON");
        check("  two\n\tlines\u{7} ", "two lines");
        check("", "");
        check("an open ' quote", "an open ' quote");
        check("recitation", "recitation");
        check("non-empty-list", "non-empty-list");
        check("Élèves 学校", "Élèves 学校");
    }

    #[test]
    fn signatures_are_short_and_signing_twice_changes_little() {
        let long = "word ".repeat(500);
        let signed = signature(&long, "");
        assert!(signed.chars().count() <= CHARACTERS_MAX + 2, "{signed}");
        let once = signature("at 12 in 'x' and files/abc123def456", "");
        assert_eq!(signature(&once, ""), once);
    }
}
