//! The closing table: kernel × test.

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::{Result, bail};

use super::boot::Boot;

/// Tests down, kernels across: `pass`, `FAIL`, or `–` where a test did not run.
pub(crate) fn table(boots: &[Boot]) -> String {
    let tests: BTreeSet<&str> = boots
        .iter()
        .flat_map(|boot| boot.tests.keys().map(String::as_str))
        .collect();
    let width = tests
        .iter()
        .map(|name| name.len())
        .max()
        .unwrap_or(0)
        .max("kernel".len());
    let mut text = format!("{:width$}", "kernel");
    for boot in boots {
        let _ = write!(text, "  {:>6}", boot.suite.version);
    }
    for test in tests {
        let _ = write!(text, "\n{test:width$}");
        for boot in boots {
            let cell = match boot.tests.get(test) {
                Some(true) => "pass",
                Some(false) => "FAIL",
                None => "–",
            };
            let _ = write!(text, "  {cell:>6}");
        }
    }
    text
}

/// An error that names the kernels that failed.
pub(crate) fn verdict(boots: &[Boot]) -> Result<()> {
    let failed: Vec<&str> = boots
        .iter()
        .filter(|boot| !boot.passed())
        .map(|boot| boot.suite.version)
        .collect();
    if !failed.is_empty() {
        bail!("the tests failed on kernel {}", failed.join(", "));
    }
    Ok(())
}
