//! The figures of a data set, as a line of a table and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{alarms::Alarms, measures::Measures};

/// Of one model on one data set.
#[derive(Serialize)]
pub(crate) struct Model {
    #[serde(flatten)]
    pub(crate) measures: Measures,
    /// To score and to learn a symbol.
    pub(crate) ns_per_symbol: f64,
    pub(crate) model_bytes: usize,
    /// Share of attacks of 20 calls found that were spliced into about 2,000 normal ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dilution_tpr_1pct: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dilution_tpr_1pct_ci: Option<[f64; 2]>,
}

#[derive(Serialize)]
pub(crate) struct Figures {
    /// What the content of the file was taken for.
    pub(crate) kind: &'static str,
    pub(crate) normal: usize,
    pub(crate) attacks: usize,
    #[serde(flatten)]
    pub(crate) model: Model,
    /// How the alert budget is kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) alarms: Vec<Alarms>,
    pub(crate) baselines: BTreeMap<&'static str, Model>,
}

pub(crate) fn head() {
    println!(
        "{:<12} {:<13} {:>6} {:>20} {:>9} {:>20} {:>6} {:>24} {:>7} {:>9}  dilution TPR@1%",
        "data", "model", "AUC", "", "TPR@0.1%", "TPR@1%", "@5%", "realised FPR at 1%", "ns/sym", "bytes"
    );
}

pub(crate) fn print(name: &str, figures: &Figures) {
    line(name, figures.kind, &figures.model);
    for (baseline, model) in &figures.baselines {
        line("", baseline, model);
    }
    for alarms in &figures.alarms {
        let [low, high] = alarms.realised_per_day_ci;
        println!(
            "{:<12} budget {:>4} a day: {:>5.2} [{low:.2}, {high:.2}] by chance in {:.1} days, {:.0} % of attacks found",
            "",
            alarms.budget_per_day,
            alarms.realised_per_day,
            alarms.days,
            100.0 * alarms.found
        );
    }
}

fn line(name: &str, model: &str, figures: &Model) {
    let measures = &figures.measures;
    let interval = |[low, high]: [f64; 2]| format!("[{low:.3}, {high:.3}]");
    let dilution = match (figures.dilution_tpr_1pct, figures.dilution_tpr_1pct_ci) {
        (Some(tpr), Some(ci)) => format!("{tpr:.3} {}", interval(ci)),
        _ => String::from("-"),
    };
    println!(
        "{name:<12} {model:<13} {:>6.3} {:>20} {:>9.3} {:>5.3} {:>14} {:>6.3} {:>7.4} {:>16} {:>7.0} {:>9}  {dilution}",
        measures.auc,
        interval(measures.auc_ci),
        measures.tpr_0_1pct,
        measures.tpr_1pct,
        interval(measures.tpr_1pct_ci),
        measures.tpr_5pct,
        measures.realised_fpr,
        interval(measures.realised_fpr_ci),
        figures.ns_per_symbol,
        figures.model_bytes,
    );
}
