//! The trace that a contender works for, as it is stored with its entry.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// The length of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// A position in a trace: the `traceparent` of [W3C Trace Context], version 00.
///
/// Others can write into a queue whatever they like. So a context that was read from an entry is good
/// for a link between two traces, and must never become the parent of a span.
///
/// ```
/// use lock_core::observe::TraceContext;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context: TraceContext = text.parse()?;
/// assert_eq!(context.to_string(), text);
/// assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert!(context.is_sampled());
/// # Ok::<(), lock_core::observe::TraceContextError>(())
/// ```
///
/// [W3C Trace Context]: https://www.w3.org/TR/trace-context/
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
}

/// Says why a text is not a [`TraceContext`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a traceparent of version 00: give 00-TRACE-SPAN-FLAGS with 32, 16 and 2 lower-case \
     hexadecimal digits, TRACE and SPAN not all zero"
)]
pub struct TraceContextError;

impl TraceContext {
    /// Returns the context with these ids. `None` if one of them is zero, which the standard forbids.
    pub fn new(trace_id: u128, span_id: u64, is_sampled: bool) -> Option<Self> {
        (trace_id != 0 && span_id != 0).then_some(TraceContext {
            trace: trace_id,
            span: span_id,
            flags: is_sampled.into(),
        })
    }

    /// Returns the id of the trace: 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// Returns the id of the span: 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// Returns whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

impl FromStr for TraceContext {
    type Err = TraceContextError;

    fn from_str(text: &str) -> Result<Self, TraceContextError> {
        let is_lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let fields: Vec<&str> = text.split('-').collect();
        let &["00", trace, span, flags] = fields.as_slice() else {
            return Err(TraceContextError);
        };
        let digits = [trace, span, flags];
        if text.len() != LENGTH
            || digits.map(str::len) != [32, 16, 2]
            || !digits.iter().all(|field| field.bytes().all(is_lower_hex))
        {
            return Err(TraceContextError);
        }
        let parsed = TraceContext {
            trace: u128::from_str_radix(trace, 16).map_err(|_| TraceContextError)?,
            span: u64::from_str_radix(span, 16).map_err(|_| TraceContextError)?,
            flags: u8::from_str_radix(flags, 16).map_err(|_| TraceContextError)?,
        };
        match parsed.trace == 0 || parsed.span == 0 {
            true => Err(TraceContextError),
            false => Ok(parsed),
        }
    }
}

impl TryFrom<String> for TraceContext {
    type Error = TraceContextError;

    fn try_from(text: String) -> Result<Self, TraceContextError> {
        text.parse()
    }
}

impl From<TraceContext> for String {
    fn from(context: TraceContext) -> Self {
        context.to_string()
    }
}

/// Reads a context that anybody may have written. Whatever is not one counts as none.
pub(crate) fn deserialize_or_none<'de, D>(reader: D) -> Result<Option<TraceContext>, D::Error>
where
    D: Deserializer<'de>,
{
    let value = serde_json::Value::deserialize(reader)?;
    Ok(value.as_str().and_then(|text| text.parse().ok()))
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceContext { trace, span, flags } = self;
        write!(f, "00-{trace:032x}-{span:016x}-{flags:02x}")
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_what_the_standard_allows_is_parsed() {
        assert_eq!(VALID.parse::<TraceContext>().unwrap().to_string(), VALID);
        let wrong = [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\u{e9}",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ];
        for text in wrong {
            assert_eq!(
                text.parse::<TraceContext>(),
                Err(TraceContextError),
                "{text:?}"
            );
        }
    }

    #[test]
    fn ids_of_zero_make_no_context() {
        assert_eq!(TraceContext::new(0, 1, true), None);
        assert_eq!(TraceContext::new(1, 0, true), None);
        let context = TraceContext::new(1, 2, false).unwrap();
        assert_eq!(context.to_string().parse(), Ok(context));
        assert!(!context.is_sampled());
    }
}
