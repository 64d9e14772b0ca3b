//! What a regular expression cannot match without: texts of which each of its matches holds at least one (but for the long s and the sign of the
//! Kelvin, which are no s and k here).

use regex_syntax::hir::{Class, Hir, HirKind};

/// Texts of an expression, at most; one with more has none that tell anything.
const TEXTS: usize = 128;

/// A text that is shorter is in nearly everything.
const SHORTEST: usize = 2;

/// Texts in small letters, of which whatever matches holds one, in whatever letters. `None` where there are none that tell anything.
pub(super) fn needed(pattern: &str) -> Option<Vec<String>> {
    let hir = regex_syntax::parse(pattern).ok()?;
    let texts = needs(&hir)?;
    (shortest(&texts) >= SHORTEST).then_some(texts)
}

fn shortest(texts: &[String]) -> usize {
    texts.iter().map(String::len).min().unwrap_or(0)
}

/// The better of two sets: what is rarer is what is longer.
fn better(one: Option<Vec<String>>, other: Option<Vec<String>>) -> Option<Vec<String>> {
    let worth = |texts: &Option<Vec<String>>| {
        texts
            .as_ref()
            .map_or((0, 0), |texts| (shortest(texts).min(4), usize::MAX - texts.len()))
    };
    if worth(&other) > worth(&one) { other } else { one }
}

/// Each match holds one of these.
fn needs(hir: &Hir) -> Option<Vec<String>> {
    if let Some(all) = exactly(hir) {
        return Some(all).filter(|all| !all.iter().any(String::is_empty));
    }
    match hir.kind() {
        HirKind::Capture(capture) => needs(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => needs(&repetition.sub),
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(needs(part)?);
            }
            (all.len() <= TEXTS).then_some(all)
        }
        HirKind::Concat(parts) => in_sequence(parts),
        _ => None,
    }
}

/// The best that stands in a sequence: neighbours that are known exactly are taken together.
fn in_sequence(parts: &[Hir]) -> Option<Vec<String>> {
    let mut best = None;
    let mut run = vec![String::new()];
    for part in parts {
        let known = exactly(part);
        match known.as_ref().and_then(|known| product(&run, known)) {
            Some(longer) => run = longer,
            None => {
                best = better(best, finished(run));
                best = better(best, needs(part));
                run = known.unwrap_or_else(|| vec![String::new()]);
            }
        }
    }
    better(best, finished(run))
}

fn finished(run: Vec<String>) -> Option<Vec<String>> {
    Some(run).filter(|run| !run.iter().any(String::is_empty))
}

fn product(before: &[String], after: &[String]) -> Option<Vec<String>> {
    if before.len() * after.len() > TEXTS {
        return None;
    }
    let pairs = before
        .iter()
        .flat_map(|first| after.iter().map(move |second| format!("{first}{second}")));
    Some(pairs.collect())
}

/// All that it can match, in small letters, where that is little.
fn exactly(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(vec![String::new()]),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0)
                .ok()
                .filter(|text| text.is_ascii())?;
            Some(vec![text.to_ascii_lowercase()])
        }
        HirKind::Class(class) => one_of(class),
        HirKind::Capture(capture) => exactly(&capture.sub),
        HirKind::Repetition(repetition) if (repetition.min, repetition.max) == (0, Some(1)) => {
            let mut all = exactly(&repetition.sub)?;
            all.push(String::new());
            Some(all)
        }
        HirKind::Concat(parts) => parts
            .iter()
            .try_fold(vec![String::new()], |run, part| product(&run, &exactly(part)?)),
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(exactly(part)?);
            }
            (all.len() <= TEXTS).then_some(all)
        }
        HirKind::Repetition(_) => None,
    }
}

/// A class of few characters: mostly a letter in both cases.
fn one_of(class: &Class) -> Option<Vec<String>> {
    const FEW: usize = 4;
    let Class::Unicode(class) = class else { return None };
    let count: usize = class.iter().map(|range| range.len()).sum();
    if count > 2 * FEW {
        return None;
    }
    // `(?i)s` and `(?i)k` are these as well, which nobody means.
    let is_meant = |character: &char| !matches!(character, '\u{17f}' | '\u{212a}');
    let mut all: Vec<String> = class
        .iter()
        .flat_map(|range| range.start()..=range.end())
        .filter(is_meant)
        .map(|character| character.to_lowercase().collect())
        .collect();
    all.sort();
    all.dedup();
    (all.len() <= FEW && all.iter().all(|text: &String| text.is_ascii())).then_some(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_match_cannot_do_without() {
        for (pattern, wanted) in [
            ("abc", Some("abc")),
            (r"/(nc|ncat)$", Some("/nc /ncat")),
            (r"(?i)\bMask\+(tcp|udp)://", Some("mask+tcp:// mask+udp://")),
            (r"\s(-e|--exec)\s", Some("-e --exec")),
            (r"\d+x?", None),
            (r"curl.*\|\s*sh", Some("curl")),
            (r"a|b.*", None),
            (r"(abc)*d", None),
            (r"(abc)+d", Some("abc")),
            (r"^/(tmp|var/tmp)/.*\.so$", Some("/tmp/ /var/tmp/")),
            (r"(unset HISTFILE|HISTSIZE=0)", Some("unset histfile histsize=0")),
        ] {
            let found = needed(pattern);
            assert_eq!(found.map(|texts| texts.join(" ")).as_deref(), wanted, "{pattern}");
        }
    }

    proptest! {
        /// Whatever an expression matches holds one of the texts.
        #[test]
        fn nothing_that_matches_is_passed_by(
            pattern in r"(?x) ( [ab](\|[ab]b)? | \(a\|bb\) | \(ab\)\? | \(ba\)\+ | \[ab\] | \\b | b\* ){1,5}",
            text in "[abAB ]{0,10}",
        ) {
            let Ok(regex) = regex_syntax_matches(&pattern, &text) else { return Ok(()) };
            if let (true, Some(texts)) = (regex, needed(&pattern)) {
                let text = text.to_lowercase();
                prop_assert!(texts.iter().any(|needle| text.contains(needle)), "{pattern} {text} {texts:?}");
            }
        }
    }

    fn regex_syntax_matches(pattern: &str, text: &str) -> Result<bool, regex::Error> {
        Ok(regex::Regex::new(pattern)?.is_match(text))
    }
}
