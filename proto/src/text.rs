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

/// Whether a terminal or a reader could be misled by it.
#[must_use]
pub fn is_harmful(character: char) -> bool {
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
    // What is written as JSON and is ASCII has nothing of it but, perhaps, that one.
    let is_plain = line.bytes().all(|byte| byte < 0x7f);
    if is_plain || !line.chars().any(is_harmful) {
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

#[cfg(test)]
mod tests {
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
}
