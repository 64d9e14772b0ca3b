//! What was drawn by lot, told from what somebody named.
//!
//! Two explanations of a run of characters are weighed against each other: letters and digits drawn evenly, and names as programs
//! and people make them, in which letters are as frequent as in English and capitals begin words. The sum of the logarithms
//! of the odds, character by character, is evidence in bits. Digests in hexadecimal, which are everywhere and no secrets, are left alone.

/// Shorter runs are left alone unless something names them.
pub(super) const LEAST: usize = 24;

/// Longer runs are judged by their beginning.
const MOST: usize = 256;

/// Evidence, in eighths of a bit, beyond which a run is random; beyond the second, without a digit, too.
const ENOUGH: i32 = 8 * 8;
const ENOUGH_WITHOUT_DIGIT: i32 = 24 * 8;

/// log2 of (1/26 over the letter's share of English), in eighths of a bit, from `a`.
const LETTERS: [i32; 26] = [
    -9, 11, 4, 0, -14, 6, 8, -5, -7, 37, 19, -1, 5, -7, -8, 8, 43, -5, -6, -10, 4, 16, 6, 36, 8, 44,
];

/// Evidence of a pair of classes, in eighths of a bit, from the class of the first to that of the second: lower case, upper case, digit.
const PAIRS: [[i32; 3]; 3] = [[-8, 19, 12], [-7, 4, 14], [4, 12, -15]];

#[derive(Clone, Copy)]
enum Class {
    Lower,
    Upper,
    Digit,
}

/// Whether `run` is a token that somebody drew by lot: of [`LEAST`] characters at least, with letters of both cases.
pub(super) fn is_random(run: &[u8]) -> bool {
    if run.len() < LEAST {
        return false;
    }
    let run = &run[..run.len().min(MOST)];
    let mut seen = [0_u32; 3];
    let mut sum = 0;
    let mut last: Option<(u8, Class)> = None;
    for &byte in run {
        let class = match byte {
            b'a'..=b'z' => Class::Lower,
            b'A'..=b'Z' => Class::Upper,
            b'0'..=b'9' => Class::Digit,
            _ => {
                sum += symbol(byte);
                last = None;
                continue;
            }
        };
        seen[class as usize] += 1;
        if byte.is_ascii_alphabetic() {
            sum += LETTERS[usize::from(byte.to_ascii_lowercase() - b'a')];
        }
        if let Some((before, of)) = last {
            sum += PAIRS[of as usize][class as usize];
            if before == byte {
                sum -= 32;
            }
        }
        last = Some((byte, class));
    }
    let [lower, upper, digits] = seen;
    let enough = if digits > 0 { ENOUGH } else { ENOUGH_WITHOUT_DIGIT };
    lower >= 3 && upper >= 3 && sum >= enough
}

/// Of 64 characters of base64 two are none of letters and digits; in paths and names they join words.
fn symbol(byte: u8) -> i32 {
    match byte {
        b'+' => 40,
        b'=' => 0,
        b'/' => -48,
        _ => -28,
    }
}

/// Whether `run` is text in base64 that can be read, and what it says: what is written so to be run is evidence, not a secret.
pub(super) fn readable(run: &[u8]) -> Option<Vec<u8>> {
    const SHARE: usize = 95;
    let mut bytes = Vec::with_capacity(run.len() / 4 * 3 + 3);
    let (mut bits, mut held) = (0_u32, 0);
    for &byte in run.iter().take_while(|byte| **byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    // Text in UTF-16, as PowerShell wants it.
    let wide = bytes.len() > 8 && bytes.iter().skip(1).step_by(2).all(|byte| *byte == 0);
    if wide {
        bytes = bytes.into_iter().step_by(2).collect();
    }
    let legible = bytes
        .iter()
        .filter(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t' | b'\r'))
        .count();
    (legible * 100 >= bytes.len() * SHARE).then_some(bytes)
}
