//! W3C trace context (<https://www.w3.org/TR/trace-context/>): which trace a request belongs to, and
//! what its upstream is told of that.

use std::{
    fmt,
    num::{NonZeroU32, NonZeroU64, NonZeroU128},
};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::id::Ids;

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// The length of a `traceparent` of version 00: `00-TRACE-PARENT-FLAGS`.
const LENGTH: usize = 55;

/// The flag that says that whoever called records the request (section 3.2.2.5).
const SAMPLED: u8 = 1;

/// What becomes of traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceSettings {
    /// Whose traces are continued.
    pub source: TraceSource,
    /// Of how many traces that begin here one is told by [`crate::Dataplane::spans`]; of those that
    /// are continued the ones that their sender records. Default `None`: there are no spans, and no
    /// trace begins here.
    pub one_in: Option<NonZeroU32>,
}

/// Whose traces are continued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceSource {
    /// Everybody's.
    #[default]
    Everybody,
    /// Those of trusted proxies; what others say of traces is removed.
    TrustedProxies,
}

/// Names a trace: 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Names one step of a trace: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The trace that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub id: TraceId,
    /// The step of whoever sent the request; `None` if the trace begins here.
    pub parent: Option<SpanId>,
    /// Our own step, if it is told of.
    pub span: Option<SpanId>,
}

/// One thread's part in traces.
pub(crate) struct Tracer {
    settings: TraceSettings,
    /// Whether anybody looks at traces, or some are not to be continued.
    takes_part: bool,
}

impl Tracer {
    /// `is_told` if traces are told of elsewhere, as in the access log.
    pub(crate) fn new(settings: TraceSettings, is_told: bool) -> Self {
        Self { settings, takes_part: is_told || settings != TraceSettings::default() }
    }

    /// Finds the trace of a request, and what its upstream gets to know of it.
    ///
    /// Who takes no part passes on what came, as it came (section 4.3 of the recommendation).
    pub(crate) fn read(
        &self,
        headers: &HeaderMap,
        ids: &Ids,
        is_trusted: impl Fn() -> bool,
    ) -> (Option<Trace>, Onward) {
        if !self.takes_part {
            return (None, Onward::AsItCame);
        }
        let believes = self.settings.source == TraceSource::Everybody || is_trusted();
        let came = if believes { Parent::read(headers) } else { None };
        match (came, self.settings.one_in) {
            (Some(came), None) => (Some(came.passed()), Onward::AsItCame),
            (Some(came), Some(_)) => came.continued(ids),
            (None, Some(one_in)) => begun(ids, one_in).unwrap_or((None, Onward::Nothing)),
            (None, None) => (None, if believes { Onward::AsItCame } else { Onward::Nothing }),
        }
    }
}

/// What the upstream gets to know of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Onward {
    /// What the client said, if anything.
    AsItCame,
    Nothing,
    /// Our step, beside what others say of the same trace.
    Step(Parent),
    /// The first step of all.
    First(Parent),
}

impl Onward {
    /// Writes it over what came. Not before the headers are canonical: a client may ask for the removal
    /// of any of its own.
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        match self {
            Self::AsItCame => {}
            Self::Nothing => remove(headers),
            Self::Step(parent) => parent.write(headers),
            Self::First(parent) => {
                remove(headers);
                parent.write(headers);
            }
        }
    }
}

fn remove(headers: &mut HeaderMap) {
    headers.remove(PARENT);
    headers.remove(STATE);
}

/// A trace that begins here.
fn begun(ids: &Ids, one_in: NonZeroU32) -> Option<(Option<Trace>, Onward)> {
    let number = ids.number();
    let id = NonZeroU128::new(u128::from(number) << 64 | u128::from(ids.number()))?;
    let span = NonZeroU64::new(ids.number())?;
    let is_sampled = number.is_multiple_of(u64::from(one_in.get()));
    let parent = Parent { id: TraceId(id), span: SpanId(span), flags: u8::from(is_sampled) };
    let trace = Trace { id: parent.id, parent: None, span: is_sampled.then_some(parent.span) };
    Some((Some(trace), Onward::First(parent)))
}

/// What a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    id: TraceId,
    span: SpanId,
    flags: u8,
}

impl Parent {
    /// The one that can be read; several are none (section 3.2).
    fn read(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(PARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.as_bytes())
    }

    /// Version 00, or what a later one has in common with it (section 4.3).
    fn parse(text: &[u8]) -> Option<Self> {
        let (known, more) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let version = hexadecimal(parts.next()?, 2)?;
        let id = hexadecimal(parts.next()?, 32)?;
        let span = u64::try_from(hexadecimal(parts.next()?, 16)?).ok()?;
        let flags = u8::try_from(hexadecimal(parts.next()?, 2)?).ok()?;
        let fits = if version == 0 {
            more.is_empty()
        } else {
            version != 0xff && (more.is_empty() || more.starts_with(b"-"))
        };
        if !fits || parts.next().is_some() {
            return None;
        }
        let (id, span) = (TraceId(NonZeroU128::new(id)?), SpanId(NonZeroU64::new(span)?));
        Some(Self { id, span, flags })
    }

    fn passed(self) -> Trace {
        Trace { id: self.id, parent: Some(self.span), span: None }
    }

    /// Our step comes between, if it is told of. Otherwise the sender's stays the upstream's parent.
    fn continued(self, ids: &Ids) -> (Option<Trace>, Onward) {
        let is_sampled = self.flags & SAMPLED != 0;
        let span = NonZeroU64::new(ids.number()).filter(|_| is_sampled).map(SpanId);
        let onward = span.map_or(Onward::AsItCame, |span| Onward::Step(Self { span, ..self }));
        (Some(Trace { span, ..self.passed() }), onward)
    }

    /// Marked like ids of requests: none comes twice, so HPACK should not index it.
    fn write(self, headers: &mut HeaderMap) {
        let Self { id, span, flags } = self;
        // Hexadecimal digits are a header's value.
        if let Ok(mut value) = HeaderValue::try_from(format!("00-{id}-{span}-{flags:02x}")) {
            value.set_sensitive(true);
            headers.insert(PARENT, value);
        }
    }
}

/// A number of exactly so many digits, none of them in upper case.
fn hexadecimal(digits: &[u8], length: usize) -> Option<u128> {
    if digits.len() != length || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0b1902b7";

    fn headers(parents: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append(PARENT, parent.parse().unwrap());
        }
        headers.insert(STATE, HeaderValue::from_static("a=b"));
        headers
    }

    fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
        headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The trace, and the two headers that go on.
    fn read(
        settings: TraceSettings,
        parents: &[&str],
        is_trusted: bool,
    ) -> (Option<Trace>, Option<String>, bool) {
        let mut headers = headers(parents);
        let tracer = Tracer::new(settings, true);
        let (trace, onward) = tracer.read(&headers, &Ids::new(1), || is_trusted);
        onward.write(&mut headers);
        let parent = text(&headers, &PARENT).map(ToOwned::to_owned);
        (trace, parent, headers.contains_key(STATE))
    }

    fn spans(source: TraceSource, one_in: u32) -> TraceSettings {
        TraceSettings { source, one_in: NonZeroU32::new(one_in) }
    }

    #[test]
    fn only_what_the_recommendation_allows_is_a_parent() {
        let valid = format!("00-{ID}-{SPAN}-01");
        let parsed = Parent::parse(valid.as_bytes()).unwrap();
        assert_eq!(
            (parsed.id.to_string(), parsed.span.to_string(), parsed.flags),
            (ID.into(), SPAN.into(), 1)
        );
        for later in [format!("01-{ID}-{SPAN}-01"), format!("cc-{ID}-{SPAN}-01-what comes")] {
            assert_eq!(Parent::parse(later.as_bytes()), Some(parsed), "{later}");
        }
        for invalid in [
            String::new(),
            format!("00-{ID}-{SPAN}"),
            format!("00-{ID}-{SPAN}-1"),
            format!("00-{ID}-{SPAN}-01-"),
            format!("00-{ID}-{SPAN}-01 "),
            format!("01-{ID}-{SPAN}-01x"),
            format!("ff-{ID}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", ID.to_uppercase()),
            format!("00-{ID}-{}-01", SPAN.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{ID}-{}-01", "0".repeat(16)),
            format!("00-{}-{SPAN}-01", ID.replace('4', "g")),
            format!("00_{ID}_{SPAN}_01"),
            format!("+0-{ID}-{SPAN}-01"),
        ] {
            assert_eq!(Parent::parse(invalid.as_bytes()), None, "{invalid}");
        }
    }

    #[test]
    fn without_spans_what_came_is_known_and_passed_on_as_it_came() {
        let valid = format!("00-{ID}-{SPAN}-01");
        let (trace, parent, state) = read(TraceSettings::default(), &[&valid], false);
        let trace = trace.unwrap();
        assert_eq!((trace.id.to_string(), trace.span), (ID.to_owned(), None));
        assert_eq!((parent, state), (Some(valid), true));
        let garbage = read(TraceSettings::default(), &["garbage"], false);
        assert_eq!(garbage, (None, Some("garbage".to_owned()), true));
    }

    #[test]
    fn a_span_of_ours_comes_between_a_sender_that_records_and_the_upstream() {
        let sampled = format!("00-{ID}-{SPAN}-03");
        let (trace, parent, state) = read(spans(TraceSource::Everybody, 1), &[&sampled], false);
        let trace = trace.unwrap();
        assert_eq!(trace.parent.unwrap().to_string(), SPAN);
        let span = trace.span.unwrap();
        assert_ne!(span.to_string(), SPAN);
        assert_eq!((parent, state), (Some(format!("00-{ID}-{span}-03")), true));
    }

    #[test]
    fn a_sender_that_does_not_record_is_not_recorded() {
        let quiet = format!("00-{ID}-{SPAN}-00");
        let (trace, parent, _) = read(spans(TraceSource::Everybody, 1), &[&quiet], false);
        assert_eq!((trace.unwrap().span, parent), (None, Some(quiet)));
    }

    #[test]
    fn a_trace_begins_here_where_none_can_be_read() {
        let valid = format!("00-{ID}-{SPAN}-01");
        for parents in [&[][..], &["garbage"], &[&valid, &valid]] {
            let (trace, parent, state) = read(spans(TraceSource::Everybody, 1), parents, false);
            let trace = trace.unwrap();
            let expected = format!("00-{}-{}-01", trace.id, trace.span.unwrap());
            assert_eq!((trace.parent, parent, state), (None, Some(expected), false), "{parents:?}");
        }
        let (trace, parent, _) = read(spans(TraceSource::Everybody, u32::MAX), &[], false);
        assert!(trace.unwrap().span.is_none() && parent.unwrap().ends_with("-00"));
    }

    #[test]
    fn where_only_trusted_proxies_are_believed_a_strangers_trace_ends() {
        let valid = format!("00-{ID}-{SPAN}-01");
        let restart = TraceSettings { source: TraceSource::TrustedProxies, one_in: None };
        assert_eq!(read(restart, &[&valid], false), (None, None, false));
        assert_eq!(read(restart, &[&valid], true).1, Some(valid.clone()));
        let (trace, ..) = read(spans(TraceSource::TrustedProxies, 1), &[&valid], false);
        assert_ne!(trace.unwrap().id.to_string(), ID);
    }

    #[test]
    fn whoever_takes_no_part_looks_at_nothing() {
        let headers = headers(&[&format!("00-{ID}-{SPAN}-01")]);
        let tracer = Tracer::new(TraceSettings::default(), false);
        let found = tracer.read(&headers, &Ids::new(1), || unreachable!());
        assert_eq!(found, (None, Onward::AsItCame));
    }
}
