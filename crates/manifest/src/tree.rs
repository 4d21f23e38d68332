//! A YAML document as a tree that remembers where everything stood, so that a problem found by key can
//! be shown by line. Bounded before it is built.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Options, Spanned};

use crate::escape::escape_untrusted;
use crate::parse::Problem;

/// Bytes of a manifest at most.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Levels of nesting at most; the deepest real key is at five.
const MAX_DEPTH: usize = 32;
/// Values in a manifest at most.
const MAX_NODES: usize = 50_000;

/// How our own words about a key begin, among the reader's errors.
const TWICE: &str = "keys as text: ";

/// A value and where it began.
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Tree,
}

/// A place in the text; both count from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

/// What stands there.
pub(crate) enum Tree {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, Place, Node)>),
}

/// Reads one YAML document.
pub(crate) fn read(text: &str) -> Result<Node, Problem> {
    if text.len() > MAX_BYTES {
        let message = format!("the manifest has {} bytes, the limit is {MAX_BYTES}", text.len());
        return Err(Problem::at(Place { line: 1, column: 1 }, String::new(), message));
    }
    let spanned: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().map_or(Place { line: 1, column: 1 }, |location| place(&location));
        Problem::at(place, String::new(), explain(error))
    })?;
    Ok(node(spanned))
}

/// The reader's error in words for a manifest's author.
fn explain(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error {
        Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => format!("key `{}` is given twice; keep one of them", escape_untrusted(key, 64)),
            None => "a key is given twice; keep one of them".into(),
        },
        Error::MultipleDocuments { .. } => {
            "a manifest is one YAML document; nothing may follow a `---`".into()
        }
        Error::Budget { .. } => format!(
            "the manifest is nested deeper than {MAX_DEPTH} levels, has more than {MAX_NODES} values, or uses anchors or merge keys, \
             which manifests may not"
        ),
        other => {
            let text = other.to_string();
            let line = text.lines().next().unwrap_or_default();
            let message = line.split(" at line ").next().unwrap_or(line);
            if let Some((_, told)) = message.split_once(TWICE) {
                return told.to_owned();
            }
            format!("the manifest is not YAML that can be read: {}", escape_untrusted(message, 300))
        }
    }
}

fn options() -> Options {
    let mut options = Options::default();
    let mut budget = serde_saphyr::Budget::default();
    budget.max_nodes = MAX_NODES;
    budget.max_depth = MAX_DEPTH;
    budget.flow_nesting_limit = MAX_DEPTH;
    // Manifests are short; sharing parts of them only hides what they say.
    budget.max_aliases = 0;
    budget.max_anchors = 0;
    budget.max_merge_keys = 0;
    options.budget = Some(budget);
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.strict_booleans = true;
    options
}

fn node(spanned: Spanned<Raw>) -> Node {
    let place = place(&spanned.referenced);
    let value = match spanned.value {
        Raw::Scalar(value) => Tree::Scalar(value),
        Raw::List(items) => Tree::List(items.into_iter().map(node).collect()),
        Raw::Map(entries) => Tree::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let place = self::place(&key.referenced);
                    (key.value, place, node(value))
                })
                .collect(),
        ),
    };
    Node { place, value }
}

fn place(location: &serde_saphyr::Location) -> Place {
    Place { line: location.line().max(1), column: location.column().max(1) }
}

enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value, a list or a mapping")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number(value.into())))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Raw, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number must be finite"))?;
        Ok(Raw::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::String(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map: Vec<(Spanned<String>, Spanned<Raw>)> = Vec::new();
        // The reader's own policy takes `1` and `"1"` for two keys, which are one as text.
        let mut seen = BTreeSet::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Raw>>()? {
            if !seen.insert(key.value.clone()) {
                let key = escape_untrusted(&key.value, 64);
                return Err(A::Error::custom(format!("{TWICE}key `{key}` is given twice; keep one of them")));
            }
            map.push((key, value));
        }
        Ok(Raw::Map(map))
    }
}

impl Node {
    /// As JSON; extension keys (`x-…`) are left out where `strip` says so.
    pub(crate) fn to_json(&self, strip: Extensions) -> Value {
        match &self.value {
            Tree::Scalar(value) => value.clone(),
            Tree::List(items) => Value::Array(items.iter().map(|item| item.to_json(strip)).collect()),
            Tree::Map(entries) => {
                let mut map = Map::new();
                for (key, _, value) in entries {
                    if strip == Extensions::LeaveOut && key.starts_with("x-") {
                        continue;
                    }
                    let inner =
                        if matches!(key.as_str(), "metadata" | "ui") { Extensions::Keep } else { strip };
                    map.insert(key.clone(), value.to_json(inner));
                }
                Value::Object(map)
            }
        }
    }

    /// Where the value at `path` (keys and list indices, with dots) stands; the nearest enclosing
    /// place when it is not there.
    pub(crate) fn place_of(&self, path: &str) -> Place {
        let mut place = self.place;
        let mut node = self;
        for step in path.split('.').filter(|step| !step.is_empty()) {
            let found = match &node.value {
                Tree::Map(entries) => {
                    entries.iter().find(|(key, _, _)| key == step).map(|(_, place, node)| (*place, node))
                }
                Tree::List(items) => step
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .map(|node| (node.place, node)),
                Tree::Scalar(_) => None,
            };
            let Some((found, inner)) = found else { break };
            place = found;
            node = inner;
        }
        place
    }
}

/// What to do with keys that begin with `x-`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extensions {
    Keep,
    LeaveOut,
}
