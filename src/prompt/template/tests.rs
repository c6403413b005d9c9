use serde_json::json;

use super::*;

fn level_names() -> Vec<String> {
    ["state", "year", "page"].map(str::to_owned).to_vec()
}

fn levels() -> Vec<(String, String)> {
    let pairs = [("state", "Alabama"), ("year", "1849"), ("page", "04")];
    pairs
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .to_vec()
}

fn compile(text: &str) -> Result<Templates, PromptError> {
    Templates::compile(("v1.jinja", text), None, &level_names())
}

fn check(template: &str, expected: &str) {
    let label = json!({"zeta": "last", "alpha": [1, 2], "text": "añb\u{1F600}c"});
    let rendered = compile(template)
        .and_then(|templates| templates.prompt("Alabama:1849:04", &levels(), &label, None))
        .unwrap_or_else(|error| panic!("{template}: {error}"));
    assert_eq!(rendered, expected, "{template}");
}

#[test]
fn a_prompt_sees_key_levels_and_label() {
    check(
        "{{ key }} {{ state }} {{ year }}",
        "Alabama:1849:04 Alabama 1849",
    );
    check("{{ page + 1 }}", "5");
    check("{{ year ~ '!' }}", "1849!");
    check("{{ label.zeta }} {{ label.alpha[1] }}", "last 2");
    check(
        "{% for name in label %}{{ name }},{% endfor %}",
        "zeta,alpha,text,",
    );
    check("{{ label.alpha|tojson }}", "[1, 2]");
    check("<b>{{ '<&' }}</b>", "<b><&</b>");
    check(
        "{% set x = page %}{% for i in range(2) %}{{ x + i }} {% endfor %}",
        "4 5 ",
    );
    check("{{ label.none|default('-') }}", "-");
}

#[test]
fn head_and_tail_cut_on_characters() {
    check(
        "{{ label.text|head(2) }}|{{ label.text|tail(2) }}",
        "añ|\u{1F600}c",
    );
    check("{{ label.text|head(0) }}|{{ label.text|tail(0) }}", "|");
    check(
        "{{ label.text|head(99) }}|{{ label.text|tail(99) }}",
        "añb\u{1F600}c|añb\u{1F600}c",
    );
    check(
        "{{ label.text|tail(5) }}|{{ label.text|tail(4) }}",
        "añb\u{1F600}c|ñb\u{1F600}c",
    );
}

#[test]
fn the_context_is_none_or_text() {
    let templates =
        compile("{% if previous_context %}Before: {{ previous_context }}{% endif %}.").unwrap();
    let render = |context| {
        templates
            .prompt("k", &levels(), &json!({}), context)
            .unwrap()
    };
    assert_eq!(render(None), ".");
    assert_eq!(render(Some("{{ x }}")), "Before: {{ x }}.");
}

#[test]
fn a_context_sees_the_result_before() {
    let context = Some((
        "context.jinja",
        "{{ previous.lines|join(' ')|tail(5) }} ({{ state }})",
    ));
    let templates = Templates::compile(("v1.jinja", "x"), context, &level_names()).unwrap();
    let previous = json!({"lines": ["one", "two"]});
    assert_eq!(
        templates.context(&previous, "k", &levels()).unwrap(),
        "e two (Alabama)"
    );
    assert!(templates.context(&json!({}), "k", &levels()).is_err());
    let alone = compile("x").unwrap();
    assert_eq!(
        alone.context(&previous, "k", &levels()),
        Err(PromptError::NoContextTemplate)
    );
}

fn check_refused(template: &str, expected: &str) {
    let error = compile(template).expect_err("must be refused").to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn unknown_names_are_refused_when_loaded() {
    check_refused("a\n{{ stat }}", "v1.jinja line 2: there is no 'stat' here");
    check_refused("{{ stat }}", "did you mean 'state'?");
    check_refused("{% if\n  foo %}x{% endif %}", "line 2");
    check_refused("{{ previous.text }}", "there is no 'previous'");
    check_refused("{{ school|default('x') }}", "there is no 'school'");
    let context = Some(("context.jinja", "{{ label }}"));
    let error = Templates::compile(("v1.jinja", ""), context, &level_names()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("context.jinja line 1: there is no 'label'"),
        "{error}"
    );
}

#[test]
fn broken_templates_are_refused_when_loaded() {
    check_refused("ok\n{{ key", "v1.jinja line 2");
    check_refused(
        "x\n{{ key | shout }}",
        "v1.jinja line 2: there is no filter 'shout'",
    );
    check_refused("{{ key|tail(1)|shout(2) }}", "there is no filter 'shout'");
    check_refused("x\n{% include 'a' %}", "line 2: 'include' is not supported");
    check_refused("{%- extends 'a' %}", "'extends' is not supported");
}

#[test]
fn undefined_names_below_are_refused_when_rendered() {
    let templates = compile("line\n{{ label.title }}").unwrap();
    let error = templates
        .prompt("k", &levels(), &json!({}), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 2: a name is undefined"), "{error}");
    assert!(
        templates
            .prompt("k", &levels(), &json!({"title": null}), None)
            .is_ok()
    );
}

#[test]
fn only_what_stands_inside_tags_is_looked_at() {
    check(
        "a|shout {# b|shout {{ x #}{{ 'c|shout' }}",
        "a|shout c|shout",
    );
    check(
        "{% raw %}{{ d|shout }}{% include 'x' %}{% endraw %}",
        "{{ d|shout }}{% include 'x' %}",
    );
    check(
        "{% raw -%}\n{{ stat }}\n{%- endraw %}{{ page }}",
        "{{ stat }}4",
    );
    check(r#"{{ "\"|shout" }}"#, "\"|shout");
    check_refused(
        "{# stat #}\n{% raw %}\n{{ stat }}\n{% endraw %}\n{{ stat }}",
        "line 5",
    );
}
fn check_strict(expression: &str) {
    let templates = compile(expression).unwrap();
    let rendered = templates.prompt("k", &levels(), &json!({}), None);
    assert!(rendered.is_err(), "{expression} gives {rendered:?}");
}

#[test]
fn no_filter_takes_an_undefined_value_for_an_empty_one() {
    for filter in [
        "join(',')",
        "upper",
        "trim",
        "length",
        "tojson",
        "replace('a','b')",
        "list",
        "string",
        "tail(3)",
        "head(3)",
        "first",
        "last",
        "sort",
        "title",
        "indent(2)",
        "map('upper')|list",
        "unique|list",
        "dictsort",
        "items",
        "lines",
        "split(',')",
        "int",
        "float",
        "reverse",
        "e",
        "batch(2)",
        "capitalize",
        "escape",
        "pprint",
        "abs",
        "round",
        "sum",
        "min",
        "attr('x')",
        "bool",
        "format(1)",
        "select|list",
        "groupby('x')",
        "slice(2)|list",
        "zip([1])|list",
        "chain([1])|list",
        "count",
        "safe",
    ] {
        check_strict(&format!("{{{{ label.none|{filter} }}}}"));
    }
    check_strict("{{ 'a' ~ label.none }}");
    check_strict("{% if label.none %}x{% endif %}");
    check_strict("{% for x in label.none %}{% endfor %}");
    check(
        "{{ [1, 2]|join('-') }} {{ [1]|zip([2])|list }}",
        "1-2 [(1, 2)]",
    );
    check("{{ {'a': 1}|tojson(indent=1) }}", "{\n \"a\": 1\n}");
}
