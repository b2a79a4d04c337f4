//! YAML as a tree that knows where each value stands.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct At {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl At {
    pub(super) fn of(location: Location) -> Self {
        let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Self { line: number(location.line()), column: number(location.column()) }
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A name and its value; the place is the name's.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) at: At,
    pub(super) node: Node,
}

impl Node {
    /// The value without its places.
    pub(super) fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Self::value).collect(),
            Content::Map(entries) => {
                let entries = entries.iter().map(|entry| (entry.name.clone(), entry.node.value()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }

    /// The value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Content::Map(entries) = &self.content else { return None };
        entries.iter().find(|entry| entry.name == name).map(|entry| &entry.node)
    }

    /// The text of a name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.content {
            Content::Scalar(Value::String(text)) => Some(text),
            Content::Scalar(_) | Content::List(_) | Content::Map(_) => None,
        }
    }

    /// The names of a map.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let entries = match &self.content {
            Content::Map(entries) => entries.as_slice(),
            Content::Scalar(_) | Content::List(_) => &[],
        };
        entries.iter().map(|entry| entry.name.as_str())
    }

    /// Every text in it, however deep.
    pub(super) fn texts(&self) -> Vec<&str> {
        match &self.content {
            Content::Scalar(Value::String(text)) => vec![text],
            Content::Scalar(_) => Vec::new(),
            Content::List(items) => items.iter().flat_map(Self::texts).collect(),
            Content::Map(entries) => entries.iter().flat_map(|entry| entry.node.texts()).collect(),
        }
    }

    /// The items of a list.
    pub(super) fn items(&self) -> &[Self] {
        match &self.content {
            Content::List(items) => items,
            Content::Scalar(_) | Content::Map(_) => &[],
        }
    }

    /// The place of a field, or of the nearest part around it that exists. Paths look like
    /// `spec.require[0].ip.cidrs[3]` and `metadata.annotations['whygate.dev/posture']`.
    pub(super) fn locate(&self, path: &str) -> At {
        let (mut node, mut at, mut rest) = (self, self.at, path);
        while let Some((next, place, after)) = node.step(rest) {
            (node, at, rest) = (next, place, after);
        }
        at
    }

    /// The child at the beginning of a path, its place, and what follows.
    fn step<'n, 'p>(&'n self, path: &'p str) -> Option<(&'n Self, At, &'p str)> {
        let path = path.strip_prefix('.').unwrap_or(path);
        match &self.content {
            Content::Scalar(_) => None,
            Content::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item, item.at, rest))
            }
            Content::Map(entries) => {
                // Names may hold dots, so the longest name that fits is meant.
                let fits = |entry: &&Entry| after(path, &entry.name).is_some();
                let entry = entries.iter().filter(fits).max_by_key(|entry| entry.name.len())?;
                Some((&entry.node, entry.at, after(path, &entry.name)?))
            }
        }
    }
}

/// What follows a name at the beginning of a path.
fn after<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    if let Some(quoted) = path.strip_prefix("['") {
        return quoted.strip_prefix(name)?.strip_prefix("']");
    }
    let rest = path.strip_prefix(name).filter(|_| !name.is_empty())?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value: Bare(content), referenced, .. } =
            Spanned::<Bare>::deserialize(deserializer)?;
        Ok(Self { at: At::of(referenced), content })
    }
}

struct Bare(Content);

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyContent).map(Self)
    }
}

struct AnyContent;

impl<'de> Visitor<'de> for AnyContent {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some(Spanned { value: name, referenced, .. }) =
            access.next_key::<Spanned<String>>()?
        {
            let node: Node = access.next_value()?;
            entries.push(Entry { name, at: At::of(referenced), node });
        }
        Ok(Content::Map(entries))
    }
}
