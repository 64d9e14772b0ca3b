//! Text from outside, shown harmlessly: whoever names a process or a file must not be able to steer the terminal of
//! who looks at it, nor to make one line look like two, or like another.

pub use sensor_proto::text::{harmless, harmless_json};

/// `text`, harmless, and cut to about `limit` characters, saying how much is missing.
#[must_use]
pub fn short(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => harmless(text).into_owned(),
        Some((end, _)) => format!("{}… (+{} bytes)", harmless(&text[..end]), text.len() - end),
    }
}

/// One argument of a command as a shell would want it, harmless.
#[must_use]
pub fn argument(text: &str) -> String {
    let shown = short(text, 200);
    let plain = |character: char| character.is_alphanumeric() || "_-./=:,+@%^…\\".contains(character);
    if !shown.is_empty() && shown.chars().all(plain) {
        shown
    } else {
        format!("'{}'", shown.replace('\'', "'\\''"))
    }
}

/// Bytes for people: `512 B`, `1.5 kB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut scaled = count as f64;
    let mut unit = "";
    for next in units {
        if scaled < 999.95 {
            break;
        }
        (scaled, unit) = (scaled / 1000.0, next);
    }
    format!("{scaled:.1} {unit}")
}

/// A duration for people: `950 ns`, `1.2 ms`, `3.4 s`, `2 h 5 min`.
#[must_use]
pub fn duration(nanoseconds: u64) -> String {
    let seconds = nanoseconds / 1_000_000_000;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} µs", nanoseconds as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanoseconds as f64 / 1e6),
        _ if seconds < 120 => format!("{:.1} s", nanoseconds as f64 / 1e9),
        _ if seconds < 7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sensor_proto::text::is_harmful;

    use super::*;

    #[test]
    fn arguments_are_quoted_where_a_shell_would_need_it() {
        for (text, shown) in [
            ("-la", "-la"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("$x", "'$x'"),
        ] {
            assert_eq!(argument(text), shown);
        }
        assert_eq!(short("abcdef", 3), "abc… (+3 bytes)");
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(
            [bytes(999), bytes(1000), bytes(1_500_000)],
            ["999 B", "1.0 kB", "1.5 MB"]
        );
        assert_eq!(bytes(u64::MAX), "18.4 EB");
        let durations = [950, 1_500, 2_000_000, 3_400_000_000, 7_500_000_000_000].map(duration);
        assert_eq!(durations, ["950 ns", "1.5 µs", "2.0 ms", "3.4 s", "2 h 5 min"]);
    }

    proptest! {
        #[test]
        fn nothing_harmful_is_left(text: String) {
            prop_assert!(!harmless(&text).chars().any(is_harmful));
            prop_assert!(!argument(&text).chars().any(is_harmful));
        }
    }
}
