//! Text from outside, shown harmlessly: whoever names a process or a file must not be able to steer the terminal of
//! who looks at it, nor to make one line look like two, or like another.

use std::borrow::Cow;

/// `text` with everything escaped that a terminal or a reader could be misled by: control characters, line and
/// paragraph separators, and characters that are invisible or change the direction of their neighbours.
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            '\0'..='\x7f' if character.is_control() => {
                shown.push_str(&format!("\\x{:02x}", u32::from(character)));
            }
            _ if is_harmful(character) => shown.push_str(&format!("\\u{{{:x}}}", u32::from(character))),
            _ => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}'                        // soft hyphen
            | '\u{34f}'                     // grapheme joiner
            | '\u{61c}'                     // Arabic letter mark
            | '\u{115f}'..='\u{1160}'       // Hangul fillers
            | '\u{180b}'..='\u{180f}'       // Mongolian selectors
            | '\u{200b}'..='\u{200f}'       // zero width, direction marks
            | '\u{2028}'..='\u{202e}'       // separators, direction overrides
            | '\u{2060}'..='\u{206f}'       // joiners, isolates
            | '\u{3164}'                    // Hangul filler
            | '\u{fe00}'..='\u{fe0f}'       // variation selectors
            | '\u{feff}' | '\u{ffa0}'       // no-break of width zero, filler
            | '\u{fff0}'..='\u{fffb}'       // interlinear annotation
            | '\u{1d173}'..='\u{1d17a}'     // musical format controls
            | '\u{e0000}'..='\u{e0fff}'     // tags, selectors
        )
}

/// A line of JSON that means the same, in which what [`harmless`] would escape is escaped as JSON does it: people look at such lines, too.
#[must_use]
pub fn harmless_json(line: String) -> String {
    if !line.chars().any(is_harmful) {
        return line;
    }
    let mut shown = String::with_capacity(line.len() + 8);
    let mut units = [0; 2];
    for character in line.chars() {
        // Outside of strings JSON has none of them.
        if is_harmful(character) {
            for unit in character.encode_utf16(&mut units) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

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

    use super::*;

    #[test]
    fn what_misleads_is_escaped() {
        for (text, shown) in [
            ("plain grüße 日本", "plain grüße 日本"),
            ("a\x1b[31mred", "a\\x1b[31mred"),
            ("two\nlines\r", "two\\nlines\\r"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("txt.\u{202e}exe", "txt.\\u{202e}exe"),
            ("\u{2066}x\u{2069}\u{200b}", "\\u{2066}x\\u{2069}\\u{200b}"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(harmless(text), shown);
        }
    }

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
