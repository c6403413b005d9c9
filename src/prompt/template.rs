//! The two templates of a prompt, compiled and checked.

use std::collections::BTreeMap;

use minijinja::value::{Rest, Serde, ValueOrKwargs};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value, filters,
};

use super::PromptError;

/// The functions that every template may call.
const FUNCTIONS: [&str; 4] = ["range", "dict", "debug", "namespace"];
/// Statements that would pull in another file, which the recipe's hash would not cover.
const FILE_STATEMENTS: [&str; 4] = ["include", "import", "from", "extends"];

/// The compiled templates of a prompt.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    prompt_file: String,
    context_file: Option<String>,
}

impl Templates {
    /// Compiles the templates and checks the names that they use. A template is its file name and
    /// its text; `levels` are the names of the layout.
    pub fn compile(
        prompt: (&str, &str),
        context: Option<(&str, &str)>,
        levels: &[String],
    ) -> Result<Self, PromptError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.add_filter("head", |text: String, count: usize| {
            head(&text, count).to_owned()
        });
        environment.add_filter("tail", |text: String, count: usize| {
            tail(&text, count).to_owned()
        });
        let (prompt_file, prompt_text) = prompt;
        be_strict_everywhere(&mut environment);
        // The two templates may be one file, so their names must differ here.
        let prompt_name = format!("prompt template {prompt_file}");
        add(
            &mut environment,
            &prompt_name,
            prompt_text,
            &["key", "label", "previous_context"],
            levels,
        )?;
        let context_name = context.map(|(file, _)| format!("context template {file}"));
        if let (Some(name), Some((_, text))) = (&context_name, context) {
            add(&mut environment, name, text, &["key", "previous"], levels)?;
        }
        Ok(Templates {
            environment,
            prompt_file: prompt_name,
            context_file: context_name,
        })
    }

    /// The text of a page's request.
    pub fn prompt(
        &self,
        key: &str,
        levels: &[(String, String)],
        label: &serde_json::Value,
        previous_context: Option<&str>,
    ) -> Result<String, PromptError> {
        let mut names = level_values(levels);
        names.insert("key".to_owned(), Value::from(key));
        names.insert("label".to_owned(), Value::from(Serde(label)));
        names.insert("previous_context".to_owned(), Value::from(previous_context));
        self.render(&self.prompt_file, names)
    }

    /// What the next page is told of an accepted result.
    pub fn context(
        &self,
        previous: &serde_json::Value,
        key: &str,
        levels: &[(String, String)],
    ) -> Result<String, PromptError> {
        let file = self
            .context_file
            .as_deref()
            .ok_or(PromptError::NoContextTemplate)?;
        let mut names = level_values(levels);
        names.insert("key".to_owned(), Value::from(key));
        names.insert("previous".to_owned(), Value::from(Serde(previous)));
        self.render(file, names)
    }

    fn render(&self, name: &str, names: BTreeMap<String, Value>) -> Result<String, PromptError> {
        self.environment
            .get_template(name)
            .and_then(|template| template.render(Value::from(names)))
            .map_err(|error| template_error(name, &error))
    }
}

/// Makes the filters that would take an undefined value for an empty one refuse it as well.
fn be_strict_everywhere(environment: &mut Environment<'static>) {
    environment.add_filter("lax_join", filters::join);
    environment.add_filter("lax_tojson", filters::tojson);
    environment.add_filter("lax_groupby", filters::groupby);
    environment.add_filter("lax_zip", filters::zip);
    environment.add_filter("lax_chain", filters::chain);
    environment.add_filter("lax_pprint", filters::pprint);
    environment.add_filter("lax_escape", filters::escape);
    for (name, lax) in [
        ("join", "lax_join"),
        ("tojson", "lax_tojson"),
        ("groupby", "lax_groupby"),
        ("zip", "lax_zip"),
        ("chain", "lax_chain"),
        ("pprint", "lax_pprint"),
        ("escape", "lax_escape"),
        ("e", "lax_escape"),
    ] {
        let strict = move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            if arguments.iter().any(Value::is_undefined) {
                return Err(Error::new(
                    ErrorKind::UndefinedError,
                    format!("before or in '{name}'"),
                ));
            }
            state.apply_filter(lax, &arguments)
        };
        environment.add_filter(name, strict);
    }
}

/// Texts, and an integer for the last level, the page.
fn level_values(levels: &[(String, String)]) -> BTreeMap<String, Value> {
    let mut values: BTreeMap<String, Value> = levels
        .iter()
        .map(|(name, text)| (name.clone(), Value::from(text.as_str())))
        .collect();
    if let Some((name, text)) = levels.last()
        && let Ok(number) = text.parse::<u64>()
    {
        values.insert(name.clone(), Value::from(number));
    }
    values
}

fn add(
    environment: &mut Environment<'static>,
    name: &str,
    text: &str,
    own: &[&str],
    levels: &[String],
) -> Result<(), PromptError> {
    environment
        .add_template_owned(name.to_owned(), text.to_owned())
        .map_err(|error| template_error(name, &error))?;
    let code = code_lines(text);
    refuse_files(name, &code)?;
    refuse_unknown_filters(environment, name, &code)?;
    let template = environment
        .get_template(name)
        .map_err(|error| template_error(name, &error))?;
    let known: Vec<&str> = own
        .iter()
        .copied()
        .chain(levels.iter().map(String::as_str))
        .collect();
    let mut unknown: Vec<String> = template
        .undeclared_variables(false)
        .into_iter()
        .filter(|used| !known.contains(&used.as_str()) && !FUNCTIONS.contains(&used.as_str()))
        .collect();
    unknown.sort();
    let Some(unknown) = unknown.into_iter().next() else {
        return Ok(());
    };
    let place = line_of(&code, &unknown).map_or(String::new(), |line| format!(" line {line}"));
    let nearest = known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(word, &unknown), *word))
        .min()
        .filter(|(distance, word)| distance * 3 <= word.len().max(unknown.len()));
    Err(PromptError::UnknownName {
        template: name.to_owned(),
        place,
        known: known.join(", "),
        suggestion: nearest.map_or(String::new(), |(_, word)| {
            format!("; did you mean '{word}'?")
        }),
        name: unknown,
    })
}

/// Refuses statements that read another file, which would change what is asked unseen.
fn refuse_files(name: &str, code: &[String]) -> Result<(), PromptError> {
    for (position, line) in code.iter().enumerate() {
        for statement in line.split("{%").skip(1) {
            let word = statement.trim_start_matches(['-', '+']).trim_start();
            let word = word
                .split(|c: char| !c.is_ascii_alphabetic())
                .next()
                .unwrap_or_default();
            if FILE_STATEMENTS.contains(&word) {
                return Err(PromptError::Template {
                    template: name.to_owned(),
                    place: format!(" line {}", position + 1),
                    detail: format!("'{word}' is not supported; write the text into this file"),
                });
            }
        }
    }
    Ok(())
}

/// Refuses filters that do not exist; the engine itself would only notice when it renders.
fn refuse_unknown_filters(
    environment: &Environment<'_>,
    name: &str,
    code: &[String],
) -> Result<(), PromptError> {
    for (position, line) in code.iter().enumerate() {
        for used in line.split('|').skip(1) {
            let used = used.trim_start();
            let end = used.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let used = &used[..end.unwrap_or(used.len())];
            let tried = environment.empty_state().apply_filter(used, &[]);
            let is_unknown = tried.is_err_and(|error| error.kind() == ErrorKind::UnknownFilter);
            if is_unknown && !used.is_empty() {
                return Err(PromptError::Template {
                    template: name.to_owned(),
                    place: format!(" line {}", position + 1),
                    detail: format!("there is no filter '{used}'"),
                });
            }
        }
    }
    Ok(())
}

/// The first line that uses the word.
fn line_of(code: &[String], word: &str) -> Option<usize> {
    let has_word = |line: &String| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|part| part == word)
    };
    code.iter().position(has_word).map(|position| position + 1)
}

/// What stands inside tags, line by line, without comments, texts in quotes and raw blocks.
/// A statement begins with its `{%`.
fn code_lines(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut close: Option<&str> = None;
    let mut quote: Option<char> = None;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let mut step = character.len_utf8();
        let line = lines.last_mut();
        match (close, quote) {
            (Some(_), Some(mark)) => match character {
                '\\' => step += rest[step..].chars().next().map_or(0, char::len_utf8),
                _ if character == mark => quote = None,
                _ => {}
            },
            (Some(end), None) if rest.starts_with(end) => {
                close = None;
                step = end.len();
            }
            (Some("#}"), None) => {}
            (Some(_), None) if character == '"' || character == '\'' => quote = Some(character),
            (Some(_), None) => line.into_iter().for_each(|line| line.push(character)),
            (None, _) => {
                close = [("{{", "}}"), ("{%", "%}"), ("{#", "#}")]
                    .into_iter()
                    .find_map(|(open, close)| rest.starts_with(open).then_some(close));
                if close.is_some() {
                    let opening = &rest[..2];
                    line.into_iter().for_each(|line| line.push_str(opening));
                    step = raw_block(rest).unwrap_or(2);
                }
            }
        }
        let newlines = rest[..step].matches('\n').count();
        lines.extend(std::iter::repeat_n(String::new(), newlines));
        rest = &rest[step..];
    }
    lines
}

/// The bytes from `{% raw %}` up to its end, when one begins here.
fn raw_block(text: &str) -> Option<usize> {
    let tag = text
        .strip_prefix("{%")?
        .trim_start_matches(['-', '+'])
        .trim_start();
    let is_raw = tag
        .strip_prefix("raw")?
        .trim_start_matches(['-', '+', ' '])
        .starts_with("%}");
    is_raw.then(|| text.find("endraw").unwrap_or(text.len()))
}

fn template_error(name: &str, error: &Error) -> PromptError {
    let place = error
        .line()
        .map_or(String::new(), |line| format!(" line {line}"));
    let what = match error.kind() {
        ErrorKind::UndefinedError => "a name is undefined".to_owned(),
        kind => kind.to_string(),
    };
    let detail = error
        .detail()
        .map_or(what.clone(), |detail| format!("{what}: {detail}"));
    PromptError::Template {
        template: name.to_owned(),
        place,
        detail,
    }
}

/// The first characters of a text.
fn head(text: &str, count: usize) -> &str {
    text.char_indices()
        .nth(count)
        .map_or(text, |(end, _)| &text[..end])
}

/// The last characters of a text.
fn tail(text: &str, count: usize) -> &str {
    let Some(before) = count.checked_sub(1) else {
        return "";
    };
    text.char_indices()
        .rev()
        .nth(before)
        .map_or(text, |(start, _)| &text[start..])
}

#[cfg(test)]
mod tests;
