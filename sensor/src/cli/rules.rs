//! `sensor rules`: check, test, list and explain rules, without an agent.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;

use super::{
    run::ConfigArgs,
    text::{harmless, short},
};
use crate::{
    config,
    rules::{DISABLED, Fault, Loaded, RuleSet, Source, read, sample},
};

/// Check, test, list and explain rules.
#[derive(Clone, Debug, clap::Args)]
pub struct RulesArgs {
    #[command(subcommand)]
    command: Command,
}

/// What to do with them.
#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Say what is wrong with rules, where, and what to do about it; and which cannot match on this host, and why.
    Check {
        /// Files of rules, and directories of them.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Show the test events beside rules (`NAME.test.yml`) to them.
    Test {
        /// Files of rules, and directories of them.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// List rules: those that the configuration has, or those of the paths.
    List {
        /// Files of rules, and directories of them.
        paths: Vec<PathBuf>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Say what a rule finds, why that is bad, what else looks like it, and whether it can match here.
    Explain {
        /// Ids or titles of rules that the configuration has; files of rules, and directories of them.
        #[arg(required = true)]
        rules: Vec<PathBuf>,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// The rules that a configuration has: built-in ones, those of its paths, and which of them are disabled.
fn configured(config: &ConfigArgs) -> Result<RuleSet, String> {
    let config = config.load().map_err(|error| error.to_string())?;
    Ok(RuleSet::load(&config.rules))
}

/// Does it. The code is 1 where a rule or a test is not as it should be.
#[must_use]
pub fn run(args: &RulesArgs) -> ExitCode {
    let (text, is_good) = match &args.command {
        Command::Check { paths } => check(paths),
        Command::Test { paths } => test(paths),
        Command::List { paths, config } => match paths.is_empty() {
            true => match configured(config) {
                Ok(set) => (list(&set), true),
                Err(error) => (format!("{}\n", harmless(&error)), false),
            },
            false => (list(&set(paths)), true),
        },
        Command::Explain { rules, config } => explain(rules, config),
    };
    print!("{text}");
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn set(paths: &[PathBuf]) -> RuleSet {
    RuleSet::load(&config::Rules {
        builtin: paths.is_empty(),
        paths: paths.to_vec(),
        disable: Vec::new(),
    })
}

fn check(paths: &[PathBuf]) -> (String, bool) {
    let set = set(paths);
    let mut lines: Vec<_> = set
        .faults
        .iter()
        .map(|fault| (fault.place.clone(), fault.to_string()))
        .collect();
    for Loaded { rule, why, .. } in &set.rules {
        if let Some(why) = why {
            lines.push((
                rule.place.clone(),
                format!("{}: {}: {why}", rule.place, rule.title),
            ));
        }
    }
    lines.sort();
    let mut text: String = lines
        .iter()
        .map(|(_, line)| format!("{}\n", harmless(line)))
        .collect();
    let errors = set.errors().count();
    let idle = set.rules.iter().filter(|loaded| !loaded.active).count();
    text.push_str(&format!(
        "{}: {} can match here, {idle} cannot; {}\n",
        count(set.rules.len(), "rule"),
        set.active(),
        if errors == 0 {
            "no errors".to_owned()
        } else {
            count(errors, "error")
        }
    ));
    (text, errors == 0)
}

fn count(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn test(paths: &[PathBuf]) -> (String, bool) {
    let (sources, faults) = read(paths);
    let mut text: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    let mut is_good = faults.is_empty();
    let (mut tests, mut untested) = (0, 0);
    for source in &sources {
        let path = sample::beside(Path::new(&*source.file));
        if !path.exists() {
            untested += 1;
            continue;
        }
        let (lines, number) = test_file(source, &path);
        tests += number;
        is_good &= lines.is_empty();
        text.push_str(&lines);
    }
    text.push_str(&format!(
        "{} in {}; {untested} without any\n",
        count(tests, "test"),
        count(sources.len(), "file")
    ));
    (text, is_good)
}

/// What is not as it should be, a line each, and how many tests there are.
fn test_file(source: &Source, path: &Path) -> (String, usize) {
    let mut lines = String::new();
    let set = RuleSet::build(std::slice::from_ref(source), &[]);
    set.errors()
        .map(Fault::to_string)
        .for_each(|fault| lines.push_str(&format!("{fault}\n")));
    let samples = match sample::load(path) {
        Ok(samples) => samples,
        Err(why) => return (format!("{lines}{}: {why}\n", path.display()), 0),
    };
    let verdicts = samples.check(source);
    for verdict in &verdicts {
        if let Some(fault) = &verdict.fault {
            lines.push_str(&format!(
                "{}: {}: {fault}\n",
                path.display(),
                harmless(&verdict.why)
            ));
        }
    }
    (lines, verdicts.len())
}

fn list(set: &RuleSet) -> String {
    let mut text = format!("{:<36}  {:<13}  {:<10}  title\n", "id", "level", "technique");
    for Loaded {
        rule, active, why, ..
    } in &set.rules
    {
        let technique = rule.techniques.first().map_or("-", |technique| technique);
        let idle = match (active, why.as_deref()) {
            (true, _) => "",
            (false, Some(DISABLED)) => " (disabled)",
            (false, _) => " (cannot match here)",
        };
        text.push_str(&format!(
            "{:<36}  {:<13}  {:<10}  {}{idle}\n",
            short(&rule.id, 36),
            rule.level,
            harmless(technique),
            harmless(&rule.title)
        ));
    }
    text
}

fn explain(wanted: &[PathBuf], config: &ConfigArgs) -> (String, bool) {
    let known = match configured(config) {
        Ok(set) => set.rules,
        Err(error) => return (format!("{}\n", harmless(&error)), false),
    };
    let mut text = String::new();
    let mut is_good = true;
    for wanted in wanted {
        let explained = if wanted.exists() {
            set(std::slice::from_ref(wanted))
                .rules
                .iter()
                .map(explanation)
                .collect()
        } else {
            let name = wanted.to_string_lossy();
            let mut found = known
                .iter()
                .filter(|loaded| *loaded.rule.id == *name || *loaded.rule.title == *name);
            found.next().map(explanation).unwrap_or_default()
        };
        if explained.is_empty() {
            is_good = false;
            text.push_str(&format!(
                "there is neither a rule nor a file {}; `sensor rules list` shows the rules\n",
                harmless(&wanted.to_string_lossy())
            ));
        }
        text.push_str(&explained);
    }
    (text, is_good)
}

fn explanation(loaded: &Loaded) -> String {
    let rule = &loaded.rule;
    let list = |items: &mut dyn Iterator<Item = &str>| {
        let all: Vec<_> = items.collect();
        if all.is_empty() {
            "-".to_owned()
        } else {
            all.join(", ")
        }
    };
    let found = match rule.channels.is_empty() {
        true if loaded.active => "several events that come together".to_owned(),
        true => "nowhere".to_owned(),
        false => rule.channels.to_string(),
    };
    let opens = match rule.level.severity() {
        Some(_) => "opens an incident",
        None => "evidence; opens no incident by itself",
    };
    let lines = [
        ("", rule.title.to_string()),
        ("id", rule.id.to_string()),
        ("where", rule.place.to_string()),
        ("level", format!("{} ({opens})", rule.level)),
        (
            "techniques",
            list(&mut rule.techniques.iter().map(|technique| &**technique)),
        ),
        ("tactics", list(&mut rule.tactics.iter().map(|tactic| &**tactic))),
        ("why", rule.description.to_string()),
        (
            "looks like it",
            list(&mut rule.false_positives.iter().map(|text| &**text)),
        ),
        ("looked for in", found),
        (
            "here",
            match (&loaded.why, loaded.active) {
                (Some(why), _) => why.clone(),
                (None, _) => "it can match".to_owned(),
            },
        ),
    ];
    let mut text = String::new();
    for (name, line) in lines {
        let line = harmless(&line);
        if name.is_empty() {
            text.push_str(&format!("{line}\n"));
        } else {
            text.push_str(&format!("  {name:<14} {line}\n"));
        }
    }
    text
}
