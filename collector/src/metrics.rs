//! Numbers as Prometheus reads them: text, a line for each.

use std::fmt::Write as _;

/// A page of metrics in the making.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// A number that only grows.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.sample(name, None, value);
    }

    /// A number that is as it is now.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "gauge");
        self.sample(name, None, value);
    }

    /// What a metric means, before its samples.
    pub fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample. Labels are words of ours, which need no escaping.
    pub fn sample(&mut self, name: &str, label: Option<(&str, &str)>, value: u64) {
        let _ = match label {
            Some((label, of)) => writeln!(self.0, "{name}{{{label}=\"{of}\"}} {value}"),
            None => writeln!(self.0, "{name} {value}"),
        };
    }

    /// All of it.
    #[must_use]
    pub fn text(self) -> String {
        self.0
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
        page.sample("sensor_b", Some(("state", "alive")), 1);
        insta::assert_snapshot!(page.text(), @r#"
        # HELP sensor_a_total All.
        # TYPE sensor_a_total counter
        sensor_a_total 7
        # HELP sensor_b Some.
        # TYPE sensor_b gauge
        sensor_b{state="alive"} 1
        "#);
    }
}
