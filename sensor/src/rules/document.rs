//! From the text of a file to its rules, each with the line that it begins at; from a parser's message to a line and a remedy.
//!
//! Documents are parsed one by one, so that one that is no YAML at all does not take the others with it. The parser tells no lines beyond those of
//! YAML itself: the line of another fault is the one that has the word it is about, else the section's.

use std::{ops::Range, sync::Arc};

use rsigma_parser::{CorrelationRule, FilterRule, SigmaRule, parse_sigma_yaml};

use super::{Fault, Place, Source};

/// Documents of a file, at most.
const DOCUMENTS: usize = 1_000;

/// A document of a file.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its first line.
    pub place: Place,
    /// Its text, with that of the whole file where documents build on each other.
    text: Arc<str>,
    /// What it is.
    pub kind: Kind,
}

/// What a document is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A rule about single events.
    Rule(Box<SigmaRule>),
    /// A rule about several that come together.
    Correlation(Box<CorrelationRule>),
    /// What other rules shall leave out.
    Filter(Box<FilterRule>),
}

/// The documents of a file, and what is wrong with the others.
#[must_use]
pub fn parse(source: &Source) -> (Vec<Document>, Vec<Fault>) {
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    let pieces = pieces(&source.text);
    if pieces.len() > DOCUMENTS {
        let message = format!("it has more than {DOCUMENTS} documents; none is used");
        let place = place(source, 0);
        faults.push(fault(place, message, "split it, one rule a file".to_owned()));
        return (documents, faults);
    }
    for piece in pieces {
        parse_piece(source, piece, &mut documents, &mut faults);
    }
    (documents, faults)
}

fn parse_piece(source: &Source, piece: Piece, documents: &mut Vec<Document>, faults: &mut Vec<Fault>) {
    let text: Arc<str> = source.text[piece.bytes].into();
    let before = documents.len();
    let (found, messages) = match parse_sigma_yaml(&text) {
        Ok(found) => ((found.rules, found.correlations, found.filters), found.errors),
        Err(error) => ((Vec::new(), Vec::new(), Vec::new()), vec![error.to_string()]),
    };
    let (rules, correlations, filters) = found;
    let kinds = rules
        .into_iter()
        .map(|rule| (rule.title.clone(), Kind::Rule(Box::new(rule))));
    let kinds = kinds.chain(
        correlations
            .into_iter()
            .map(|rule| (rule.title.clone(), Kind::Correlation(Box::new(rule)))),
    );
    let kinds = kinds.chain(
        filters
            .into_iter()
            .map(|rule| (rule.title.clone(), Kind::Filter(Box::new(rule)))),
    );
    for (title, kind) in kinds {
        let line = line_with(&text, &title)
            .or_else(|| first_line(&text))
            .unwrap_or(0);
        documents.push(Document {
            place: place(source, piece.line + line),
            text: Arc::clone(&text),
            kind,
        });
    }
    // A message about a rule that is there all the same is no more than a note.
    let harmless = documents.len() > before && !messages.is_empty() && !text.contains("\naction:");
    for message in messages {
        let line = line_of(&text, &message);
        let remedy = remedy(&message);
        faults.push(Fault {
            harmless,
            ..fault(place(source, piece.line + line), in_one_line(&message), remedy)
        });
    }
}

impl Document {
    /// A fault that was found when the rule was put to use.
    pub(super) fn fault(&self, message: &str) -> Fault {
        let begins = first_line(&self.text).unwrap_or(0);
        let first = self
            .place
            .line
            .saturating_sub(line_with(&self.text, self.title()).unwrap_or(begins));
        let place = Place {
            file: Arc::clone(&self.place.file),
            line: first + line_of(&self.text, message),
        };
        fault(place, in_one_line(message), remedy(message))
    }

    /// What it is called.
    #[must_use]
    pub fn title(&self) -> &str {
        match &self.kind {
            Kind::Rule(rule) => &rule.title,
            Kind::Correlation(rule) => &rule.title,
            Kind::Filter(rule) => &rule.title,
        }
    }
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    /// Number of its first line, from 1.
    line: usize,
    bytes: Range<usize>,
}

/// The documents of a text. Where some build on others, all are one piece.
fn pieces(text: &str) -> Vec<Piece> {
    let whole = Piece {
        line: 1,
        bytes: 0..text.len(),
    };
    if text.lines().any(|line| line.starts_with("action:")) {
        return vec![whole];
    }
    let (mut pieces, mut piece, mut at) = (Vec::new(), whole, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let end = at + line.len();
        if line.starts_with("---") && line.trim_end() == "---" {
            piece.bytes.end = at;
            pieces.push(piece);
            piece = Piece {
                line: index + 2,
                bytes: end..text.len(),
            };
        }
        at = end;
    }
    pieces.push(piece);
    pieces.retain(|piece| first_line(&text[piece.bytes.clone()]).is_some());
    pieces
}

/// The first line, from 0, that says something.
fn first_line(text: &str) -> Option<usize> {
    text.lines().position(|line| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#') && line != "..."
    })
}

/// The line, from 0, that a message is about.
fn line_of(text: &str, message: &str) -> usize {
    let told = message.split("line ").nth(1).and_then(|rest| {
        let digits: &str = rest.split(|character: char| !character.is_ascii_digit()).next()?;
        digits.parse::<usize>().ok()
    });
    let told = told.map(|line| line.saturating_sub(1));
    let words = || message.split(['\'', '"', '`']).skip(1).step_by(2);
    let word = || {
        words()
            .filter(|word| !word.is_empty())
            .find_map(|word| line_with(text, word))
    };
    // A picture of the place shows the text itself.
    let picture = || message.lines().nth(1).and_then(|line| line_with(text, line));
    let tail = || message.rsplit(": ").next().and_then(|word| line_with(text, word));
    if message.starts_with("Missing required field") {
        return first_line(text).unwrap_or(0);
    }
    let section = || {
        let section = if message.contains("orrelation") || message.contains("rule reference") {
            "correlation:"
        } else if message.contains("ondition") {
            "condition:"
        } else {
            "detection:"
        };
        line_with(text, section)
    };
    told.or_else(word)
        .or_else(picture)
        .or_else(tail)
        .or_else(section)
        .or_else(|| first_line(text))
        .unwrap_or(0)
}

fn line_with(text: &str, word: &str) -> Option<usize> {
    let word = word.trim();
    (!word.is_empty()).then(|| text.lines().position(|line| line.contains(word)))?
}

/// The message without a picture of the place, and without its own line, which counts from the beginning of the document.
fn in_one_line(message: &str) -> String {
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default();
    let first = first.split_once(" at line ").map_or(first, |(before, _)| before);
    let first = first.split_once("  --> ").map_or(first, |(before, _)| before);
    let mut why = lines.map(str::trim_start).filter_map(|line| {
        let why = line.strip_prefix("= ").or_else(|| line.strip_prefix("error: "));
        why.filter(|why| !why.is_empty())
    });
    let why = why.next();
    match why {
        Some(why) => format!("{} {why}", first.trim_end()),
        None => first.trim_end().to_owned(),
    }
}

/// What to do about what a message says.
fn remedy(message: &str) -> String {
    const REMEDIES: [(&str, &str); 16] = [
        (
            "not a YAML mapping",
            "write it as `key: value` lines, beginning with `title:`",
        ),
        (
            "YAML",
            "correct indentation and quotes there: a value that begins with *, %, @, { or [ or has ': ' in it needs quotes",
        ),
        ("Missing required field", "add that key"),
        ("Missing timeframe", "add `timespan:`, as 5m"),
        (
            "Unknown modifier",
            "use contains, startswith, endswith, all, re, cidr, cased, exists, fieldref, base64, base64offset, wide, windash, gt, gte, lt, lte or neq",
        ),
        (
            "`not` is not",
            "put the value into a selection of its own, and `not` into the condition",
        ),
        (
            "unknown detection",
            "name a selection of the detection section in the condition",
        ),
        (
            "regex",
            "correct the regular expression; look-around and back references are not supported",
        ),
        ("CIDR", "write a network as 10.0.0.0/8"),
        (
            "rule reference",
            "load the rule that it refers to as well, or correct its id or name",
        ),
        ("cycle", "let correlations refer to each other one way only"),
        ("timespan", "write a number with s, m, h or d"),
        (
            "ondition",
            "combine names of selections by and, or, not, parentheses, `1 of` and `all of`",
        ),
        (
            "orrelation",
            "see the Sigma specification of correlations: type, rules, group-by, timespan, condition",
        ),
        ("level", "use informational, low, medium, high or critical"),
        (
            "status",
            "use stable, test, experimental, deprecated or unsupported",
        ),
    ];
    let found = REMEDIES.iter().find(|(word, _)| message.contains(word));
    found
        .map_or("correct that part of the rule", |(_, remedy)| remedy)
        .to_owned()
}

fn place(source: &Source, line: usize) -> Place {
    Place {
        file: Arc::clone(&source.file),
        line,
    }
}

fn fault(place: Place, message: String, remedy: String) -> Fault {
    Fault {
        place,
        message,
        remedy,
        harmless: false,
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn faults(text: &str) -> String {
        let source = Source {
            file: "r.yml".into(),
            text: text.to_owned(),
        };
        let (documents, faults) = parse(&source);
        let titles: Vec<_> = documents
            .iter()
            .map(|document| format!("{}: {}", document.place, document.title()))
            .collect();
        let said = faults.iter().map(ToString::to_string);
        titles.into_iter().chain(said).collect::<Vec<_>>().join("\n")
    }

    const GOOD: &str = "title: Good\nlogsource:\n  category: process_creation\ndetection:\n  a:\n    Image: /x\n  condition: a\n";

    #[test]
    fn one_bad_document_does_not_take_the_others_with_it() {
        let broken = "title: Broken\ndetection:\n  a: [\n";
        assert_snapshot!(faults(&format!("# a comment\n---\n{GOOD}---\n{broken}---\n{GOOD}")), @r"
        r.yml:3: Good
        r.yml:15: Good
        r.yml:14: error: YAML parse error: did not find expected node content; correct indentation and quotes there: a value that begins with *, %, @, { or [ or has ': ' in it needs quotes
        ");
    }

    #[test]
    fn faults_have_a_line_and_a_remedy() {
        let texts = [
            GOOD.replace("title: Good\n", ""),
            GOOD.replace("Image:", "Image|enswith:"),
            GOOD.replace("condition: a", "condition: a and and b"),
            format!("{GOOD}level: terrible\n"),
            "just text\n".to_owned(),
            "title: T\ncorrelation:\n  type: event_count\n  rules: [a]\n".to_owned(),
        ];
        let said: Vec<_> = texts.iter().map(|text| faults(text)).collect();
        assert_snapshot!(said.join("\n"), @r"
        r.yml:1: error: Missing required field 'title'; add that key
        r.yml:6: error: Unknown modifier 'enswith'; use contains, startswith, endswith, all, re, cidr, cased, exists, fieldref, base64, base64offset, wide, windash, gt, gte, lt, lte or neq
        r.yml:7: error: Condition parse error at 1:7: expected quantifier, ident, or not_op; combine names of selections by and, or, not, parentheses, `1 of` and `all of`
        r.yml:1: Good
        r.yml:8: note: invalid level: 'terrible'; use informational, low, medium, high or critical
        r.yml:1: error: Document is not a YAML mapping; write it as `key: value` lines, beginning with `title:`
        r.yml:2: error: Invalid correlation rule: Missing timeframe; add `timespan:`, as 5m
        ");
    }
}
