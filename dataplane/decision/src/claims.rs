//! The content of a token: JSON read once, with names that occur twice refused.

use std::{cell::Cell, fmt, time::Duration};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::time::Timestamp;

/// How deep lists and objects may be nested, the outermost counted.
pub const DEPTH_LIMIT: usize = 16;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number.
    Number(serde_json::Number),
    /// A text.
    String(Box<str>),
    /// A list.
    Array(Box<[Json]>),
    /// Names and values, each name once, in the order of the names' bytes.
    Object(Box<[(Box<str>, Json)]>),
}

/// Why a text is not JSON that has one meaning only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonProblem {
    /// It is no JSON text (RFC 8259).
    NotJson,
    /// An object has a name twice, so that two readers could take different values.
    NameTwice,
    /// It is nested deeper than [`DEPTH_LIMIT`].
    TooDeep,
}

impl Json {
    /// Reads one JSON text, whitespace around it allowed and nothing else.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &[u8]) -> Result<Self, JsonProblem> {
        let problem = Cell::new(JsonProblem::NotJson);
        let mut reader = serde_json::Deserializer::from_slice(text);
        let value = Value { room: DEPTH_LIMIT, problem: &problem }.deserialize(&mut reader);
        value.and_then(|value| reader.end().map(|()| value)).map_err(|_| problem.get())
    }

    /// The value of a name; none if there is no such name, or if this is no object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(entries) = self else { return None };
        let place = entries.binary_search_by(|(entry, _)| (**entry).cmp(name)).ok()?;
        entries.get(place).map(|(_, value)| value)
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The elements, if it is a list.
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(elements) = self { Some(elements) } else { None }
    }

    /// The texts of a list of texts, or the one text by itself; none if anything else is among them.
    pub fn texts(&self) -> Option<Vec<&str>> {
        match self {
            Self::String(text) => Some(vec![text]),
            Self::Array(elements) => elements.iter().map(Self::as_str).collect(),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Object(_) => None,
        }
    }

    /// The instant that a `NumericDate` means (RFC 7519 section 2), its fraction cut off.
    pub fn as_timestamp(&self) -> Option<Timestamp> {
        let Self::Number(number) = self else { return None };
        if let Some(seconds) = number.as_i64() {
            return Some(Timestamp(seconds));
        }
        let since = match number.as_u64() {
            Some(seconds) => Duration::from_secs(seconds),
            None => Duration::try_from_secs_f64(number.as_f64()?).ok()?,
        };
        Some(Timestamp(0).plus(since))
    }
}

/// Reads one value; `room` levels may still be opened below it.
#[derive(Clone, Copy)]
struct Value<'a> {
    room: usize,
    problem: &'a Cell<JsonProblem>,
}

impl Value<'_> {
    /// The reader of the elements of a list or an object.
    fn below<E: Error>(self) -> Result<Self, E> {
        let room = self.room.checked_sub(1).ok_or_else(|| self.fail(JsonProblem::TooDeep))?;
        Ok(Self { room, ..self })
    }

    /// Remembers what is wrong, because errors of serde are nothing but texts.
    fn fail<E: Error>(self, problem: JsonProblem) -> E {
        self.problem.set(problem);
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        let number = serde_json::Number::from_f64(value);
        number.map(Json::Number).ok_or_else(|| self.fail(JsonProblem::NotJson))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let below = self.below()?;
        let mut elements = Vec::new();
        while let Some(element) = list.next_element_seed(below)? {
            elements.push(element);
        }
        Ok(Json::Array(elements.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json, A::Error> {
        let below = self.below()?;
        let mut entries: Vec<(Box<str>, Json)> = Vec::new();
        while let Some(name) = object.next_key()? {
            entries.push((name, object.next_value_seed(below)?));
        }
        // Sorted once instead of compared pair by pair: a stranger chooses how many names there are.
        entries.sort_by(|one, two| one.0.cmp(&two.0));
        let mut neighbours = entries.iter().zip(entries.iter().skip(1));
        if neighbours.any(|(one, two)| one.0 == two.0) {
            return Err(self.fail(JsonProblem::NameTwice));
        }
        Ok(Json::Object(entries.into()))
    }
}

/// The claims of a token (RFC 7519 section 4), read but not yet judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// The whole payload; always an object.
    pub payload: Json,
}

impl Claims {
    /// The claim that a path leads to.
    ///
    /// At every object on the way the whole rest of the path counts as one name first, so that
    /// `https://example.com/roles` finds the claim of that name; only then is the rest divided at its
    /// first dot, so that `realm_access.roles` finds `roles` in `realm_access`.
    pub fn find(&self, path: &str) -> Option<&Json> {
        let (mut value, mut rest) = (&self.payload, path);
        loop {
            if let Some(found) = value.get(rest) {
                return Some(found);
            }
            let (name, below) = rest.split_once('.')?;
            (value, rest) = (value.get(name)?, below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Json, JsonProblem> {
        Json::parse(text.as_bytes())
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let value = parse(r#" {"b":[1,-2,1.5,"x"],"a":{"c":null,"d":true}} "#).unwrap();
        assert_eq!(value.get("a").and_then(|a| a.get("d")), Some(&Json::Bool(true)));
        assert_eq!(value.get("a").and_then(|a| a.get("c")), Some(&Json::Null));
        assert_eq!(value.get("b").and_then(Json::as_array).map(<[Json]>::len), Some(4));
        assert_eq!(value.get("c"), None);
    }

    #[test]
    fn a_name_twice_is_refused_at_every_depth_and_in_every_spelling() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"b":2,"a":3}]}"#, r#"{"a":1,"\u0061":2}"#]
        {
            assert_eq!(parse(text), Err(JsonProblem::NameTwice), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_text_is_refused() {
        for text in ["", "{", "{}x", "{} {}", "{'a':1}", "[1,]", "NaN", "\u{feff}{}", "01"] {
            assert_eq!(parse(text), Err(JsonProblem::NotJson), "{text}");
        }
        assert_eq!(Json::parse(b"\"\xff\""), Err(JsonProblem::NotJson));
    }

    #[test]
    fn nesting_ends_at_its_limit() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(DEPTH_LIMIT)).is_ok());
        assert_eq!(parse(&nested(DEPTH_LIMIT + 1)), Err(JsonProblem::TooDeep));
        assert_eq!(parse(&nested(100_000)), Err(JsonProblem::TooDeep));
    }

    #[test]
    fn dates_are_numbers_with_their_fraction_cut_off() {
        let date = |text| parse(text).unwrap().as_timestamp().map(|time| time.0);
        assert_eq!(date("1700000000"), Some(1_700_000_000));
        assert_eq!(date("1700000000.9"), Some(1_700_000_000));
        assert_eq!(date("-5"), Some(-5));
        assert_eq!(date("18446744073709551615"), Some(i64::MAX));
        assert_eq!(date("\"1700000000\""), None);
        assert_eq!(date("-1.5"), None);
    }

    #[test]
    fn a_name_with_dots_goes_before_the_way_through_objects() {
        let payload = parse(r#"{"a.b":1,"a":{"b":2,"c.d":3,"c":{"e":4}}}"#).unwrap();
        let claims = Claims { payload };
        let find = |path| claims.find(path).and_then(Json::as_timestamp).map(|number| number.0);
        assert_eq!(find("a.b"), Some(1));
        assert_eq!(find("a.c.d"), Some(3));
        assert_eq!(find("a.c.e"), Some(4));
        assert_eq!(find("a.c.x"), None);
        assert_eq!(find("a."), None);
    }
}
