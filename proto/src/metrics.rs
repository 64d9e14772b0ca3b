//! Numbers as Prometheus reads them: text, a line for each.

use std::fmt::{self, Write as _};

/// A page of metrics in the making.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// A number that only grows.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.sample(name, &[], value);
    }

    /// A number that is as it is now.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        self.sample(name, &[], value);
    }

    /// What a metric means, before its samples.
    pub fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample, with its labels.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push_str(name);
        for (number, (label, of)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", Escaped(of));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// All of it.
    #[must_use]
    pub fn text(self) -> String {
        self.0
    }
}

/// What a label is of, which may be a name that somebody else chose.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' | '"' => write!(f, "\\{character}")?,
                '\n' => f.write_str("\\n")?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_prometheus_reads() {
        let mut page = Page::default();
        page.counter("sensor_a_total", "All.", 7);
        page.head("sensor_b", "Some.", "gauge");
        page.sample("sensor_b", &[("state", "alive")], 1);
        page.sample("sensor_b", &[("state", "alive"), ("of", "a \"b\"\n\\")], 2);
        insta::assert_snapshot!(page.text(), @r#"
        # HELP sensor_a_total All.
        # TYPE sensor_a_total counter
        sensor_a_total 7
        # HELP sensor_b Some.
        # TYPE sensor_b gauge
        sensor_b{state="alive"} 1
        sensor_b{state="alive",of="a \"b\"\n\\"} 2
        "#);
    }
}
