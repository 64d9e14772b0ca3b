//! Reasons in words: a sentence that a tired analyst understands, for each kind of reason.
//!
//! Names (of subjects, facts, calls, targets) are the caller's, who has made them fit to be shown; bytes that a model kept are shown as text with
//! everything that is not plain escaped. Sentences begin with the subject and have no full stop, so that they can be joined.

use std::fmt::Write as _;

use crate::{
    correlation::Opened,
    edges::{Burst, Kind},
    habits::{Evidence, Judgement as Habit},
    novelty::Surprise,
    rates::Judgement as Rate,
    regularity::Beacon,
    sequence::Transition,
    vectors::Oddity,
};

/// Items of a list that are shown.
const SHOWN: usize = 3;

/// A fact that is new. `scopes` are the names of the chain that it was looked for in on this host, the narrowest, which is the subject, first; `did` is
/// the fact ("started /bin/sh"), `context` where it stands ("from /usr/sbin/nginx"), or empty.
#[must_use]
pub fn novelty(scopes: &[&str], did: &str, context: &str, surprise: &Surprise) -> String {
    let subject = scopes.first().copied().unwrap_or("somebody");
    let mut text = format!("{subject} {did}");
    if !context.is_empty() {
        let _ = write!(text, " {context}");
    }
    text.push_str(" for the first time");
    let here = &surprise.here;
    match (here.observations, here.context_is_new) {
        (0, _) => text.push_str(", of which nothing was known"),
        (all, true) => {
            let _ = write!(
                text,
                "; none of {} observations so far was like that",
                number(all)
            );
        }
        (all, false) => {
            let known: Vec<String> = surprise
                .alternatives
                .iter()
                .map(|(name, count)| format!("{} ({})", plain(name), number(*count)))
                .collect();
            let _ = write!(
                text,
                "; the {} before were {}",
                number(all),
                list(&known, here.distinct)
            );
        }
    }
    // Beyond the scopes that have names here are the other hosts.
    match (surprise.known_in(), surprise.wider.len()) {
        (Some(level), _) => {
            let count = surprise.wider[level - 1].count;
            let _ = match scopes.get(level) {
                Some(scope) => write!(text, "; {scope} knows it, from {}", times(count, "other")),
                None => write!(text, "; seen on {}", times(count, "other host")),
            };
        }
        (None, 0) => {}
        (None, wider) => {
            let _ = match scopes.get(wider) {
                Some(scope) => write!(text, "; nor has {scope} seen it"),
                None => write!(text, "; nor has any other host seen it"),
            };
        }
    }
    text
}

/// A rate or volume; `what` is counted ("bytes sent"), `period` how long ("10 minutes").
#[must_use]
pub fn rate(subject: &str, what: &str, period: &str, judgement: &Rate) -> String {
    const DAYS: [&str; 7] = [
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ];
    let day = DAYS[usize::from(judgement.hour.day()) % 7];
    let hour = judgement.hour.hour();
    let usual = if judgement.hour_known >= 0.5 {
        format!("usual around {hour:02}:00 on a {day}")
    } else {
        "usual so far".to_owned()
    };
    let mut text = format!(
        "{subject} had {} {what} in {period}, where {} is {usual}",
        amount(judgement.value),
        amount(judgement.expected)
    );
    if judgement.high.is_finite() {
        let _ = write!(
            text,
            " and more than {} one time in a hundred",
            amount(judgement.high)
        );
    }
    text
}

/// A burst of edges; `period` is how long a window is.
#[must_use]
pub fn burst(source: &str, period: &str, burst: &Burst) -> String {
    let names: Vec<String> = burst
        .examples
        .iter()
        .map(|(target, port)| match port {
            0 => plain(target),
            port => format!("{}:{port}", plain(target)),
        })
        .collect();
    let usual = |usual: f64| format!("usual are {} in {period}", amount(usual));
    let new = burst.new as usize;
    match burst.kind {
        Kind::BruteForce => {
            let end = if burst.succeeded { ", and then got in" } else { "" };
            format!(
                "{source} failed {} at {}{end}; {}",
                times(burst.failures.into(), "time"),
                list(&names, 1),
                usual(burst.usual[1])
            )
        }
        Kind::PortScan => format!(
            "{source} tried {} new ports of {}, such as {}; {}",
            burst.new,
            times(burst.targets as u64, "target"),
            list(&names, new),
            usual(burst.usual[0])
        ),
        Kind::Sweep => format!(
            "{source} tried {} new targets, most without an answer, such as {}; {}",
            burst.new,
            list(&names, new),
            usual(burst.usual[0])
        ),
        Kind::LateralMovement => format!(
            "{source} reached {} where hosts are administered, for the first time: {}; {}",
            times(burst.new.into(), "target"),
            list(&names, new),
            usual(burst.usual[0])
        ),
        Kind::FanOut => format!(
            "{source} connected to {} for the first time: {}; {}",
            times(burst.new.into(), "target"),
            list(&names, new),
            usual(burst.usual[0])
        ),
    }
}

/// An edge that comes back like clockwork; `edge` says which ("curl to 10.0.0.9:443").
#[must_use]
pub fn beacon(edge: &str, beacon: &Beacon) -> String {
    let same = if beacon.amount_jitter < 0.1 {
        ", always saying about as much"
    } else {
        ""
    };
    format!(
        "{edge} came back every {} give or take {:.0} %, {} in a row{same}",
        duration(beacon.period),
        beacon.jitter * 100.0,
        times(beacon.intervals as u64, "time"),
    )
}

/// A minute that is odd; `names` are those of its numbers.
#[must_use]
pub fn oddity(subject: &str, names: &[&str], oddity: &Oddity) -> String {
    let numbers: Vec<String> = oddity
        .reasons
        .iter()
        .map(|&(dimension, value, usual, _)| {
            let name = names.get(dimension).copied().unwrap_or("something");
            format!("{name} {} (usual {})", amount(value), amount(usual))
        })
        .collect();
    if numbers.is_empty() {
        return format!("{subject} had a minute whose numbers do not go together as they usually do");
    }
    format!("{subject} had an odd minute: {}", list(&numbers, numbers.len()))
}

/// The most surprising transition of a sequence; `name` says what a symbol is called.
#[must_use]
pub fn transition(subject: &str, name: impl Fn(u16) -> String, transition: &Transition) -> String {
    let context: Vec<String> = transition.context.iter().map(|&symbol| name(symbol)).collect();
    let mut text = format!("{subject} called {}", name(transition.symbol));
    if context.is_empty() {
        text.push_str(" where nothing like it was seen before");
    } else {
        let _ = write!(text, " after {}", context.join(", "));
    }
    if transition.times > 1 {
        let _ = write!(text, ", {}", times(transition.times as u64, "time"));
    }
    let expected: Vec<String> = transition
        .expected
        .iter()
        .map(|&(symbol, p)| format!("{} ({:.0} %)", name(symbol), p * 100.0))
        .collect();
    if !expected.is_empty() {
        let _ = write!(text, "; expected was {}", list(&expected, expected.len()));
    }
    text
}

/// A block that is not like the person; `name` says what a symbol is called.
#[must_use]
pub fn habits(person: &str, name: impl Fn(u32) -> String, judgement: &Habit, reasons: &[Evidence]) -> String {
    let commands: Vec<String> = reasons
        .iter()
        .map(|reason| {
            let share = |share: f64| format!("{:.1} %", share * 100.0);
            format!(
                "{} ({}, in the past {}, others {})",
                name(reason.symbol),
                times(reason.times as u64, "time"),
                share(reason.own),
                share(reason.others)
            )
        })
        .collect();
    let likely = if judgement.score > 0.0 {
        "more like others than like themselves"
    } else {
        "less like themselves than usual"
    };
    let mut text = format!("{person} behaves {likely}");
    if !commands.is_empty() {
        let _ = write!(text, ": {}", list(&commands, commands.len()));
    }
    text
}

/// Why an incident was opened, after its reasons.
#[must_use]
pub fn opened(opened: &Opened) -> String {
    format!(
        "together that is expected {} by chance, and {} allowed",
        every(opened.expected_per_day),
        every(opened.budget_per_day)
    )
}

/// As many as are shown, and how many more there are.
fn list(items: &[String], all: usize) -> String {
    let shown = items.len().min(SHOWN);
    let mut text = items[..shown].join(", ");
    if all > shown {
        let _ = write!(text, " and {} more", all - shown);
    }
    text
}

fn times(count: u64, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{} {what}s", number(count))
    }
}

/// `1,234,567`.
fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Two digits are enough for what is usual; small numbers keep a decimal.
fn amount(value: f64) -> String {
    if value >= 1e15 {
        return format!("{value:.1e}");
    }
    let exact = value.fract() == 0.0 && value < 10_000.0;
    if exact || value >= 100.0 {
        let magnitude = if exact { 0 } else { value.log10() as i32 - 1 };
        let unit = 10_f64.powi(magnitude);
        return number(((value / unit).round() * unit) as u64);
    }
    format!("{value:.*}", usize::from(value < 10.0))
}

fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{seconds:.0} seconds"),
        seconds if seconds < 7_200.0 => format!("{:.0} minutes", seconds / 60.0),
        seconds => format!("{:.1} hours", seconds / 3_600.0),
    }
}

fn every(per_day: f64) -> String {
    if per_day >= 1.0 {
        format!("{} a day", amount(per_day))
    } else {
        format!("once in {} days", amount(1.0 / per_day.max(1e-9)))
    }
}

/// Bytes as text, everything that is not plain escaped: one line, nothing invisible.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::new();
    for character in text.chars() {
        if character.is_alphanumeric() || character.is_ascii_graphic() || character == ' ' {
            shown.push(character);
        } else {
            shown.extend(character.escape_unicode());
        }
    }
    shown
}

#[cfg(test)]
mod tests;
