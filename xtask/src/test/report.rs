//! What became of each step, said when it happens and again in the closing summary.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// What became of a step.
pub(crate) enum Outcome {
    Passed,
    /// Why.
    Failed(String),
    /// Why.
    Skipped(String),
}

/// The steps so far.
#[derive(Default)]
pub(crate) struct Report {
    steps: Vec<(&'static str, Outcome, Duration)>,
}

impl Outcome {
    /// In CI nothing may be skipped.
    pub(crate) fn skipped(why: &str) -> Self {
        if is_ci() {
            Self::Failed(format!("skipped in CI: {why}"))
        } else {
            Self::Skipped(why.to_owned())
        }
    }
}

impl Report {
    /// Runs a step.
    pub(crate) fn step(&mut self, name: &'static str, run: impl FnOnce() -> Outcome) {
        self.step_with::<()>(name, || (run(), None));
    }

    /// Runs a step that makes something that later steps need.
    pub(crate) fn step_with<T>(
        &mut self,
        name: &'static str,
        run: impl FnOnce() -> (Outcome, Option<T>),
    ) -> Option<T> {
        println!("\n=== {name}");
        let began = Instant::now();
        let (outcome, made) = run();
        match &outcome {
            Outcome::Passed => {}
            Outcome::Failed(why) => println!("!!! {name} FAILED: {why}"),
            Outcome::Skipped(why) => println!("!!! {name} SKIPPED: {why}"),
        }
        self.steps.push((name, outcome, began.elapsed()));
        made
    }

    /// Prints the summary; an error if a step failed.
    pub(crate) fn finish(&self) -> Result<()> {
        println!("\n{}", self.summary());
        let failed = self
            .steps
            .iter()
            .filter(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_)))
            .count();
        if failed > 0 {
            bail!("{failed} of {} steps failed", self.steps.len());
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let mut text = format!("{:<28}{:<8}{:>8}\n", "step", "result", "seconds");
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        for (name, outcome, took) in &self.steps {
            let (word, why, count) = match outcome {
                Outcome::Passed => ("pass", "", &mut passed),
                Outcome::Failed(why) => ("FAIL", why.lines().next().unwrap_or_default(), &mut failed),
                Outcome::Skipped(why) => ("SKIP", why.as_str(), &mut skipped),
            };
            *count += 1;
            let line = format!("{name:<28}{word:<8}{:>8.1}  {why}", took.as_secs_f64());
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let _ = write!(text, "{passed} passed, {failed} failed, {skipped} skipped");
        text
    }
}

fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_and_says_why() {
        let mut report = Report::default();
        let second = Duration::from_secs(1);
        report.steps.push(("one", Outcome::Passed, second));
        report
            .steps
            .push(("two", Outcome::Failed("broken\nin detail".into()), second));
        report
            .steps
            .push(("three", Outcome::Skipped("not root".into()), second));
        let summary = report.summary();
        assert!(summary.contains("FAIL         1.0  broken\n"), "{summary}");
        assert!(summary.contains("SKIP         1.0  not root\n"), "{summary}");
        assert!(summary.ends_with("1 passed, 1 failed, 1 skipped"));
        assert!(report.finish().is_err());
    }
}
