//! The table of log sources and fields of `docs/rules.md`, written from the one that the agent works with.

use std::fmt::Write as _;

use super::{Channel, FIELDS};

/// Where the table begins and ends in the file.
pub const MARKS: [&str; 2] = ["<!-- fields: begin -->\n", "<!-- fields: end -->\n"];

/// For each log source its fields, in Markdown. Those that nearly all have come first, once.
#[must_use]
pub fn tables() -> String {
    let mut text = String::from("\n### Fields of every log source but `auditd`\n\n");
    let is_common = |name: &str| {
        let field = FIELDS.iter().find(|field| field.name == name);
        field.is_some_and(|field| {
            field.channels.contains(Channel::ProcessTermination) && field.channels.contains(Channel::Sensor)
        })
    };
    table(
        &mut text,
        FIELDS
            .iter()
            .filter(|field| is_common(field.name))
            .map(|field| (field.name, field.meaning)),
    );
    for channel in Channel::ALL {
        let own = FIELDS
            .iter()
            .filter(|field| field.channels.contains(channel) && !is_common(field.name));
        let mut own = own.map(|field| (field.name, field.meaning)).peekable();
        if own.peek().is_some() {
            let _ = write!(text, "\n### Fields of `{}`\n\n", channel.name());
            table(&mut text, own);
        }
    }
    text.push('\n');
    text
}

fn table(text: &mut String, rows: impl Iterator<Item = (&'static str, &'static str)>) {
    text.push_str("| field | holds |\n|---|---|\n");
    for (name, meaning) in rows {
        let _ = writeln!(text, "| `{name}` | {} |", meaning.replace('|', "\\|"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `SENSOR_WRITE_DOCS` in the environment it is written instead.
    #[test]
    fn the_documentation_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rules.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once(MARKS[0]).unwrap();
        let (table, after) = rest.split_once(MARKS[1]).unwrap();
        if std::env::var_os("SENSOR_WRITE_DOCS").is_some() {
            let [begin, end] = MARKS;
            std::fs::write(path, format!("{before}{begin}{}{end}{after}", tables())).unwrap();
            return;
        }
        assert!(
            table == tables(),
            "docs/rules.md is not up to date: SENSOR_WRITE_DOCS=1 cargo test -p sensor --lib documentation"
        );
    }
}
