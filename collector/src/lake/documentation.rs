//! The tables of `docs/lake.md`, written from the one that files and queries are made from.

use std::fmt::Write as _;

use super::{COLUMNS, Class, Kind};

/// Where the tables begin and end in the file.
pub const MARKS: [&str; 2] = ["<!-- columns: begin -->\n", "<!-- columns: end -->\n"];

/// Classes with their signals, and columns, in Markdown.
#[must_use]
pub fn tables() -> String {
    let mut text = String::from("\n| class | signals |\n|---|---|\n");
    for class in Class::ALL {
        let signals: Vec<_> = class.signals().map(|signal| format!("`{signal}`")).collect();
        let signals = if signals.is_empty() {
            "what this collector does not know".to_owned()
        } else {
            signals.join(", ")
        };
        let _ = writeln!(text, "| `{}` | {signals} |", class.name());
    }
    text.push_str("\n| column | type | classes | holds |\n|---|---|---|---|\n");
    for column in COLUMNS {
        let classes: Vec<_> = column.classes.iter().map(|class| class.name()).collect();
        let classes = if classes.is_empty() {
            "all".to_owned()
        } else {
            classes.join(", ")
        };
        let _ = writeln!(
            text,
            "| `{}` | {} | {classes} | {} |",
            column.name,
            kind(column.kind),
            column.meaning.replace('|', "\\|")
        );
    }
    text.push_str("| `class` | text | all | the class; in files a part of the path |\n");
    text.push_str("| `day` | date | all | the day of arrival, in UTC; in files a part of the path |\n\n");
    text
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Number => "number (32 bits)",
        Kind::Long => "number (64 bits)",
        Kind::Signed => "number with a sign",
        Kind::Real => "floating-point number",
        Kind::Flag => "true or false",
        Kind::Time => "time (UTC, ns)",
        Kind::Bytes => "bytes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `SENSOR_WRITE_DOCS` in the environment it is written instead.
    #[test]
    fn the_documentation_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/lake.md");
        let text = std::fs::read_to_string(path).expect("is there");
        let (before, rest) = text.split_once(MARKS[0]).expect("has a beginning");
        let (table, after) = rest.split_once(MARKS[1]).expect("has an end");
        if std::env::var_os("SENSOR_WRITE_DOCS").is_some() {
            let [begin, end] = MARKS;
            std::fs::write(path, format!("{before}{begin}{}{end}{after}", tables())).expect("writes");
            return;
        }
        assert!(
            table == tables(),
            "docs/lake.md is not up to date: SENSOR_WRITE_DOCS=1 cargo test -p collector --lib documentation"
        );
    }
}
