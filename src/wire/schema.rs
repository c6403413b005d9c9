//! The user's JSON Schema, reduced to the dialect that the provider takes as `responseSchema`.
//!
//! The dialect is a subset of OpenAPI: types in upper case, `nullable`, text enums, no references
//! and no bounds. Bounds are known to make the provider refuse a whole schema with a bare 400, so
//! they are left out and listed; the local validator holds every answer to the full schema.

mod flatten;
mod shape;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use flatten::{HANDLED, PLUMBING, escape};
use shape::{TYPES, is_null_schema, shape};

/// The deepest nesting that is reduced, in levels. The provider's own limit is lower and not
/// published; this one keeps a reference that leads back to itself from running for ever.
pub const DEPTH_MAX: u32 = 32;
/// The most schema nodes after references are inlined.
pub const NODES_MAX: usize = 5_000;

/// A reduced schema and what it lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Reduced {
    /// The value of `generationConfig.responseSchema`.
    pub schema: Value,
    /// In the order of the schema, each place once.
    pub dropped: Vec<Dropped>,
    /// The deepest nesting of the reduced schema; a flat object of texts has 2.
    pub depth: u32,
}

/// A keyword that the provider is not told; the local validator still enforces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// JSON pointer to the schema that holds the keyword.
    pub pointer: String,
    pub keyword: String,
}

/// Why a schema cannot be reduced. Every pointer is a JSON pointer into the user's schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("at '{pointer}': a schema must be a JSON object, or a list of them where one belongs")]
    NotASchema { pointer: String },
    #[error(
        "at '{pointer}': '{reference}' leads back to itself; the provider takes no recursive schema, so write the levels out"
    )]
    Recursive { pointer: String, reference: String },
    #[error(
        "at '{pointer}': '{reference}' is not found; only references into this file, such as #/$defs/name, are followed"
    )]
    UnknownReference { pointer: String, reference: String },
    #[error("at '{pointer}': no type can be told; add \"type\"")]
    NoType { pointer: String },
    #[error("at '{pointer}': '{word}' is not a JSON type")]
    UnknownType { pointer: String, word: String },
    #[error(
        "at '{pointer}': an object needs at least one entry in \"properties\"; the provider refuses an object without"
    )]
    EmptyObject { pointer: String },
    #[error("at '{pointer}': an array needs \"items\"; the provider refuses an array without")]
    NoItems { pointer: String },
    #[error("at '{pointer}': parts of \"allOf\" disagree about '{keyword}'")]
    Conflict { pointer: String, keyword: String },
    #[error(
        "at '{pointer}': nested deeper than {DEPTH_MAX} levels, or a reference that leads back"
    )]
    TooDeep { pointer: String },
    #[error("more than {NODES_MAX} parts once its references are written out")]
    TooLarge,
}

/// Reduces a schema.
pub fn reduce(schema: &Value) -> Result<Reduced, SchemaError> {
    let mut reducer = Reducer {
        root: schema,
        dropped: Vec::new(),
        references: vec![String::new()],
        nodes: 0,
        depth: 0,
    };
    let reduced = reducer.node(schema, "", 1)?;
    Ok(Reduced {
        schema: Value::Object(reduced),
        dropped: reducer.dropped,
        depth: reducer.depth,
    })
}

struct Reducer<'a> {
    root: &'a Value,
    dropped: Vec<Dropped>,
    /// The places that the references on the way here lead to.
    references: Vec<String>,
    nodes: usize,
    depth: u32,
}

impl Reducer<'_> {
    fn node(
        &mut self,
        schema: &Value,
        pointer: &str,
        depth: u32,
    ) -> Result<Map<String, Value>, SchemaError> {
        if depth > DEPTH_MAX {
            return Err(SchemaError::TooDeep {
                pointer: pointer.to_owned(),
            });
        }
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(SchemaError::TooLarge);
        }
        self.depth = self.depth.max(depth);
        let mark = self.references.len();
        let (flat, pointer) = self.flatten(schema, pointer)?;
        let reduced = self.flat_node(&flat, &pointer, depth);
        self.references.truncate(mark);
        reduced
    }

    /// Reduces a schema without references and `allOf` at its top.
    fn flat_node(
        &mut self,
        schema: &Map<String, Value>,
        pointer: &str,
        depth: u32,
    ) -> Result<Map<String, Value>, SchemaError> {
        let shape = shape(schema, pointer)?;
        let leftovers = schema
            .keys()
            .filter(|key| !HANDLED.contains(&key.as_str()) && !PLUMBING.contains(&key.as_str()));
        for keyword in leftovers {
            self.drop(pointer, keyword);
        }
        let alternatives = ["anyOf", "oneOf"]
            .into_iter()
            .find(|key| schema.contains_key(*key));
        let is_open = match shape.types.as_slice() {
            [] => true,
            ["object"] => !schema.contains_key("properties"),
            ["array"] => !schema.contains_key("items") && !schema.contains_key("prefixItems"),
            _ => false,
        };
        let mut nullable = shape.nullable;
        let mut body = match alternatives {
            Some(keyword) if is_open => {
                if keyword == "anyOf" && schema.contains_key("oneOf") {
                    self.drop(pointer, "oneOf");
                }
                let inherited = shape.types.first().copied();
                let (body, null_among) =
                    self.alternatives(&schema[keyword], inherited, pointer, keyword, depth)?;
                nullable |= null_among && shape.types.is_empty();
                body
            }
            _ => {
                for keyword in ["anyOf", "oneOf"] {
                    if schema.contains_key(keyword) {
                        self.drop(pointer, keyword);
                    }
                }
                self.types(schema, &shape.types, pointer, depth)?
            }
        };
        for keyword in ["title", "description"] {
            if let Some(text @ Value::String(_)) = schema.get(keyword) {
                body.insert(keyword.to_owned(), text.clone());
            }
        }
        if nullable {
            body.insert("nullable".to_owned(), Value::Bool(true));
        }
        Ok(body)
    }

    /// One type as it is, several as alternatives.
    fn types(
        &mut self,
        schema: &Map<String, Value>,
        types: &[&'static str],
        pointer: &str,
        depth: u32,
    ) -> Result<Map<String, Value>, SchemaError> {
        match types {
            [] => Err(SchemaError::NoType {
                pointer: pointer.to_owned(),
            }),
            [only] => self.typed(schema, only, pointer, depth),
            several => {
                let members = several
                    .iter()
                    .map(|each| {
                        self.typed(schema, each, pointer, depth + 1)
                            .map(Value::Object)
                    })
                    .collect::<Result<Vec<Value>, SchemaError>>()?;
                Ok(Map::from_iter([(
                    "anyOf".to_owned(),
                    Value::Array(members),
                )]))
            }
        }
    }

    fn typed(
        &mut self,
        schema: &Map<String, Value>,
        kind: &'static str,
        pointer: &str,
        depth: u32,
    ) -> Result<Map<String, Value>, SchemaError> {
        let word = TYPES
            .iter()
            .find(|(name, _)| *name == kind)
            .map_or(kind, |(_, word)| word);
        let mut out = Map::from_iter([("type".to_owned(), json!(word))]);
        if let Some(format) = schema.get("format") {
            let is_allowed = match kind {
                "string" => format == "date-time" || format == "enum",
                "number" => format == "float" || format == "double",
                "integer" => format == "int32" || format == "int64",
                _ => false,
            };
            if is_allowed {
                out.insert("format".to_owned(), format.clone());
            } else {
                self.drop(pointer, "format");
            }
        }
        self.enumeration(schema, kind, pointer, &mut out);
        match kind {
            "object" => self.object(schema, pointer, depth, &mut out)?,
            "array" => {
                let items = self.items(schema, pointer, depth)?;
                out.insert("items".to_owned(), Value::Object(items));
            }
            _ => {}
        }
        Ok(out)
    }

    /// Keeps text values; the dialect has no others.
    fn enumeration(
        &mut self,
        schema: &Map<String, Value>,
        kind: &str,
        pointer: &str,
        out: &mut Map<String, Value>,
    ) {
        let (keyword, values) = match (schema.get("enum"), schema.get("const")) {
            (_, Some(value)) => ("const", std::slice::from_ref(value)),
            (Some(Value::Array(values)), None) => ("enum", values.as_slice()),
            _ => return,
        };
        let texts: Vec<Value> = values
            .iter()
            .filter(|value| value.is_string())
            .cloned()
            .collect();
        if kind == "string" && !texts.is_empty() {
            out.insert("enum".to_owned(), Value::Array(texts));
        } else {
            self.drop(pointer, keyword);
        }
    }

    fn object(
        &mut self,
        schema: &Map<String, Value>,
        pointer: &str,
        depth: u32,
        out: &mut Map<String, Value>,
    ) -> Result<(), SchemaError> {
        let Some(Value::Object(properties)) = schema.get("properties") else {
            return Err(SchemaError::EmptyObject {
                pointer: pointer.to_owned(),
            });
        };
        let mut reduced = Map::new();
        for (name, property) in properties {
            let below = format!("{pointer}/properties/{}", escape(name));
            let body = self.node(property, &below, depth + 1)?;
            reduced.insert(name.clone(), Value::Object(body));
        }
        if reduced.is_empty() {
            return Err(SchemaError::EmptyObject {
                pointer: pointer.to_owned(),
            });
        }
        let order: Vec<&String> = reduced.keys().collect();
        let order = json!(order);
        if let Some(Value::Array(names)) = schema.get("required") {
            let (known, unknown): (Vec<&Value>, Vec<&Value>) = names
                .iter()
                .partition(|name| name.as_str().is_some_and(|name| reduced.contains_key(name)));
            if !unknown.is_empty() {
                self.drop(pointer, "required");
            }
            if !known.is_empty() {
                out.insert("required".to_owned(), json!(known));
            }
        }
        out.insert("properties".to_owned(), Value::Object(reduced));
        out.insert("propertyOrdering".to_owned(), order);
        Ok(())
    }

    /// The items of an array; places of a tuple become alternatives.
    fn items(
        &mut self,
        schema: &Map<String, Value>,
        pointer: &str,
        depth: u32,
    ) -> Result<Map<String, Value>, SchemaError> {
        let tuple = schema
            .get("prefixItems")
            .or_else(|| schema.get("items").filter(|v| v.is_array()));
        if let Some(places) = tuple {
            let keyword = if schema.contains_key("prefixItems") {
                "prefixItems"
            } else {
                "items"
            };
            self.drop(pointer, keyword);
            let (body, null_among) =
                self.alternatives(places, None, pointer, keyword, depth + 1)?;
            let mut body = body;
            if null_among {
                body.insert("nullable".to_owned(), Value::Bool(true));
            }
            return Ok(body);
        }
        match schema.get("items") {
            Some(items @ Value::Object(_)) => {
                self.node(items, &format!("{pointer}/items"), depth + 1)
            }
            _ => Err(SchemaError::NoItems {
                pointer: pointer.to_owned(),
            }),
        }
    }

    /// The alternatives without null, and whether null was among them. One alternative that is
    /// left alone stands for itself.
    fn alternatives(
        &mut self,
        members: &Value,
        inherited: Option<&str>,
        pointer: &str,
        keyword: &str,
        depth: u32,
    ) -> Result<(Map<String, Value>, bool), SchemaError> {
        let Value::Array(members) = members else {
            return Err(SchemaError::NotASchema {
                pointer: format!("{pointer}/{keyword}"),
            });
        };
        let mut null_among = false;
        let mut reduced: Vec<Value> = Vec::new();
        for (position, member) in members.iter().enumerate() {
            if is_null_schema(member) {
                null_among = true;
                continue;
            }
            let mut member = member.clone();
            if let (Some(kind), Value::Object(map)) = (inherited, &mut member)
                && !map.contains_key("$ref")
            {
                map.entry("type").or_insert_with(|| json!(kind));
            }
            let below = format!("{pointer}/{keyword}/{position}");
            let body = Value::Object(self.node(&member, &below, depth + 1)?);
            if !reduced.contains(&body) {
                reduced.push(body);
            }
        }
        if reduced.len() > 1 {
            let body = Map::from_iter([("anyOf".to_owned(), Value::Array(reduced))]);
            return Ok((body, null_among));
        }
        match reduced.pop() {
            Some(Value::Object(body)) => Ok((body, null_among)),
            _ => Err(SchemaError::NoType {
                pointer: pointer.to_owned(),
            }),
        }
    }

    fn drop(&mut self, pointer: &str, keyword: &str) {
        let dropped = Dropped {
            pointer: pointer.to_owned(),
            keyword: keyword.to_owned(),
        };
        if !self.dropped.contains(&dropped) {
            self.dropped.push(dropped);
        }
    }
}
