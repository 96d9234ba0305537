//! Durations as people write them: `"3s"`, `"300ms"`, `"1m 30s"`.

use std::time::Duration;

use jiff::SignedDuration;

use super::problem::quoted;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// A bare number.
    #[error("a duration needs a unit: write \"{0}s\" for seconds")]
    NoUnit(String),
    /// Neither `3s` nor anything like it.
    #[error("not a duration")]
    Syntax,
    /// Less than nothing.
    #[error("a duration cannot be negative")]
    Negative,
}

/// Reads `3s`, `300ms`, `1m 30s`.
///
/// # Errors
/// [`DurationError`]
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError::NoUnit(quoted(text)));
    }
    let signed: SignedDuration = text.parse().map_err(|_| DurationError::Syntax)?;
    Duration::try_from(signed).map_err(|_| DurationError::Negative)
}

/// The shortest text that [`parse`] reads back as the same duration.
pub(crate) fn show(duration: Duration) -> String {
    let signed = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    format!("{signed:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_durations_with_units() {
        for (text, milliseconds) in [
            ("3s", 3000),
            ("300ms", 300),
            ("1m 30s", 90_000),
            ("1m30s", 90_000),
            (" 2 h ", 7_200_000),
            ("1.5s", 1500),
            ("0s", 0),
            ("PT5S", 5000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_its_reason() {
        assert_eq!(parse("9"), Err(DurationError::NoUnit("9".to_owned())));
        for text in ["", " ", "s", "9 parsecs", "1d", "nine seconds", "9s9", "\u{1b}[31m"] {
            assert_eq!(parse(text), Err(DurationError::Syntax), "{text:?}");
        }
        for text in ["-3s", "3s ago"] {
            assert_eq!(parse(text), Err(DurationError::Negative), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for (milliseconds, text) in [(0, "0s"), (9000, "9s"), (90_000, "1m 30s"), (1500, "1s 500ms")] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(show(duration), text);
            assert_eq!(parse(text), Ok(duration));
        }
    }
}
