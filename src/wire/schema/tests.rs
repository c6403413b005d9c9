use super::*;

fn check(schema: Value, expected: Value) {
    let reduced = reduce(&schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
    assert_eq!(reduced.schema, expected, "{schema}");
}

fn check_dropped(schema: Value, expected: &[(&str, &str)]) {
    let dropped = reduce(&schema).unwrap().dropped;
    let found: Vec<(&str, &str)> = dropped
        .iter()
        .map(|each| (each.pointer.as_str(), each.keyword.as_str()))
        .collect();
    assert_eq!(found, expected, "{schema}");
}

fn check_error(schema: Value, expected: &str) {
    let error = reduce(&schema).expect_err("must be refused").to_string();
    assert!(error.contains(expected), "{schema}: {error}");
}

#[test]
fn types_are_written_in_upper_case() {
    for (word, expected) in [
        ("string", "STRING"),
        ("number", "NUMBER"),
        ("integer", "INTEGER"),
        ("boolean", "BOOLEAN"),
    ] {
        check(json!({"type": word}), json!({"type": expected}));
    }
    check(
        json!({"type": "array", "items": {"type": "string"}}),
        json!({"type": "ARRAY", "items": {"type": "STRING"}}),
    );
}

#[test]
fn null_becomes_nullable() {
    let nullable = json!({"type": "STRING", "nullable": true});
    check(json!({"type": ["string", "null"]}), nullable.clone());
    check(
        json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
        nullable.clone(),
    );
    check(
        json!({"oneOf": [{"type": "null"}, {"type": "string"}]}),
        nullable.clone(),
    );
    check(json!({"type": "string", "nullable": true}), nullable);
    check(
        json!({"enum": ["a", null]}),
        json!({"type": "STRING", "enum": ["a"], "nullable": true}),
    );
    check(
        json!({"type": ["string", "null"], "enum": ["a"]}),
        json!({"type": "STRING", "enum": ["a"]}),
    );
}

#[test]
fn several_types_become_alternatives() {
    check(
        json!({"type": ["string", "integer", "null"], "description": "d"}),
        json!({"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}], "description": "d", "nullable": true}),
    );
    check(
        json!({"type": ["integer", "number"]}),
        json!({"type": "NUMBER"}),
    );
}

#[test]
fn objects_keep_the_order_of_their_properties() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Page", "type": "object",
        "properties": {"zeta": {"type": "string", "description": "last"}, "alpha": {"type": "number"}},
        "required": ["alpha", "zeta"],
    });
    let reduced = reduce(&schema).unwrap();
    assert_eq!(reduced.schema["propertyOrdering"], json!(["zeta", "alpha"]));
    assert_eq!(reduced.schema["required"], json!(["alpha", "zeta"]));
    assert_eq!(reduced.schema["title"], "Page");
    assert_eq!(reduced.schema["properties"]["zeta"]["description"], "last");
    assert!(reduced.dropped.is_empty(), "{:?}", reduced.dropped);
    assert_eq!(reduced.depth, 2);
}

#[test]
fn enums_and_constants_of_text_are_kept() {
    check(
        json!({"type": "string", "enum": ["a", "b"]}),
        json!({"type": "STRING", "enum": ["a", "b"]}),
    );
    check(
        json!({"const": "a"}),
        json!({"type": "STRING", "enum": ["a"]}),
    );
    check(json!({"enum": [1, 2]}), json!({"type": "INTEGER"}));
    check_dropped(json!({"enum": [1, 2]}), &[("", "enum")]);
    check_dropped(json!({"type": "integer", "const": 1}), &[("", "const")]);
}

#[test]
fn bounds_are_dropped_and_listed() {
    let schema = json!({
        "type": "object", "additionalProperties": false, "minProperties": 1,
        "properties": {
            "a/b": {"type": "integer", "minimum": 0, "maximum": 9},
            "c": {"type": "array", "maxItems": 3, "items": {"type": "string", "pattern": "x", "format": "date"}},
        },
    });
    check_dropped(
        schema,
        &[
            ("", "additionalProperties"),
            ("", "minProperties"),
            ("/properties/a~1b", "minimum"),
            ("/properties/a~1b", "maximum"),
            ("/properties/c", "maxItems"),
            ("/properties/c/items", "pattern"),
            ("/properties/c/items", "format"),
        ],
    );
}

#[test]
fn formats_that_the_provider_knows_are_kept() {
    for (kind, format) in [
        ("string", "date-time"),
        ("number", "double"),
        ("integer", "int32"),
    ] {
        let reduced = reduce(&json!({"type": kind, "format": format})).unwrap();
        assert_eq!(reduced.schema["format"], format);
        assert!(reduced.dropped.is_empty());
    }
}

#[test]
fn references_are_written_out() {
    let schema = json!({
        "$defs": {"name": {"type": "string", "maxLength": 9, "description": "of the file"}},
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/name"}, "b": {"$ref": "#/$defs/name", "description": "own"}},
    });
    let reduced = reduce(&schema).unwrap();
    assert_eq!(
        reduced.schema["properties"]["a"]["description"],
        "of the file"
    );
    assert_eq!(
        reduced.schema["properties"]["b"],
        json!({"type": "STRING", "description": "own"})
    );
    let expected = Dropped {
        pointer: "/$defs/name".into(),
        keyword: "maxLength".into(),
    };
    assert_eq!(reduced.dropped, [expected]);
}

#[test]
fn encoded_references_are_understood() {
    let schema = json!({
        "$defs": {"a b/c": {"type": "string"}},
        "type": "array", "items": {"$ref": "#/$defs/a%20b~1c"},
    });
    check(
        schema,
        json!({"type": "ARRAY", "items": {"type": "STRING"}}),
    );
}

#[test]
fn parts_of_all_of_are_merged() {
    check(
        json!({"allOf": [{"type": "string"}], "description": "d"}),
        json!({"type": "STRING", "description": "d"}),
    );
    check(
        json!({
            "$defs": {"base": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}},
            "allOf": [{"$ref": "#/$defs/base"}, {"properties": {"b": {"type": "string"}}, "required": ["b"]}],
        }),
        json!({
            "type": "OBJECT",
            "properties": {"a": {"type": "STRING"}, "b": {"type": "STRING"}},
            "required": ["a", "b"], "propertyOrdering": ["a", "b"],
        }),
    );
    check_error(
        json!({"allOf": [{"type": "string"}, {"type": "number"}]}),
        "disagree about 'type'",
    );
}

#[test]
fn alternatives_are_kept_where_nothing_else_says_the_type() {
    let branches = json!([
        {"properties": {"a": {"type": "string"}}},
        {"properties": {"b": {"type": "string"}}},
    ]);
    let reduced = reduce(&json!({"type": "object", "oneOf": branches})).unwrap();
    assert_eq!(reduced.schema["anyOf"][1]["type"], "OBJECT");
    assert_eq!(reduced.schema.get("type"), None);
    check_dropped(
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}]}),
        &[("", "anyOf")],
    );
}

#[test]
fn tuples_become_lists_of_alternatives() {
    check(
        json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]}),
        json!({"type": "ARRAY", "items": {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]}}),
    );
}

#[test]
fn required_names_without_a_property_are_dropped() {
    let schema =
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "z"]});
    assert_eq!(reduce(&schema).unwrap().schema["required"], json!(["a"]));
    check_dropped(schema, &[("", "required")]);
}

#[test]
fn what_cannot_be_reduced_is_refused_with_its_place() {
    check_error(json!(true), "no type can be told");
    check_error(json!([]), "must be a JSON object");
    check_error(json!({}), "at ''");
    check_error(json!({"type": "null"}), "no type can be told");
    check_error(json!({"type": "text"}), "'text' is not a JSON type");
    check_error(json!({"type": "object"}), "at least one entry");
    check_error(
        json!({"type": "object", "properties": {}}),
        "at least one entry",
    );
    check_error(json!({"type": "array"}), "needs \"items\"");
    check_error(
        json!({"type": "object", "properties": {"a": {"items": 3, "type": "array"}}}),
        "/properties/a",
    );
    check_error(
        json!({"$ref": "https://example.com/x.json"}),
        "is not found",
    );
    check_error(
        json!({"$ref": "#/$defs/none"}),
        "'#/$defs/none' is not found",
    );
    check_error(json!({"$ref": "#"}), "leads back to itself");
}

#[test]
fn recursion_is_told_from_depth() {
    check_error(
        json!({
            "$defs": {"node": {"type": "object", "properties": {"child": {"$ref": "#/$defs/node"}}}},
            "$ref": "#/$defs/node",
        }),
        "leads back to itself",
    );
    let mut deep = json!({"type": "string"});
    for _ in 0..DEPTH_MAX {
        deep = json!({"type": "array", "items": deep});
    }
    check_error(deep, "nested deeper");
}

#[test]
fn a_schema_that_explodes_is_refused() {
    let mut definitions = Map::new();
    definitions.insert("d0".into(), json!({"type": "string"}));
    for level in 1..20 {
        let below = json!({"$ref": format!("#/$defs/d{}", level - 1)});
        let body = json!({"type": "object", "properties": {"a": below, "b": below}});
        definitions.insert(format!("d{level}"), body);
    }
    check_error(
        json!({"$defs": definitions, "$ref": "#/$defs/d19"}),
        "more than 5000 parts",
    );
}
