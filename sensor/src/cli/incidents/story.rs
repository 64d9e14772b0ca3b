//! An incident as a story: what it is, how it came in, what happened in order, whose processes, what was done, and what next.

use std::{collections::HashMap, fmt::Write as _};

use sensor_proto::v1::{self, Ending, Incident, Involved, ProcessId, Verdict, ending::Reason};

use crate::{
    cli::{
        render::{became, clock, concluded, happened, opinion, severity_name},
        text::{argument, harmless, short},
    },
    time::WallTime,
};

/// Arguments of a process that are shown.
const ARGUMENTS: usize = 12;

/// All of it, for people.
pub(super) fn tell(incident: &Incident) -> String {
    let mut text = String::new();
    head(&mut text, incident);
    happenings(&mut text, incident);
    processes(&mut text, &incident.processes);
    if !incident.next_step.is_empty() {
        let _ = write!(text, "\nNext\n  {}\n", harmless(&incident.next_step));
    }
    text
}

fn head(text: &mut String, incident: &Incident) {
    let times = match incident.count {
        0 | 1 => String::new(),
        times => format!(", seen {times} times"),
    };
    let state = incident
        .ended
        .as_ref()
        .map_or_else(|| "open".to_owned(), how_it_ended);
    let _ = writeln!(
        text,
        "{} {} of {}, {state}\n{}\n",
        severity_name(incident.severity()),
        harmless(&incident.id),
        short(&incident.subject, 128),
        short(&incident.summary, 600),
    );
    let _ = writeln!(
        text,
        "  when       {} to {}{times}",
        WallTime(incident.opened_ns),
        WallTime(incident.updated_ns)
    );
    if let Some(origin) = &incident.origin {
        let whose = concluded(origin);
        let _ = writeln!(
            text,
            "  came in    by {}{whose}",
            match origin.entry.as_str() {
                "" | "unknown" => "a way that is not known".to_owned(),
                entry => short(entry, 32),
            }
        );
        for reason in origin.reasons.iter().skip(1) {
            let _ = writeln!(text, "             {}", short(&reason.text, 200));
        }
    }
    if !incident.at_stake.is_empty() {
        let _ = writeln!(text, "  at stake   {}", short(&incident.at_stake, 200));
    }
    let techniques = techniques(incident);
    if !techniques.is_empty() {
        let tactics: Vec<String> = incident.tactics.iter().map(|tactic| short(tactic, 32)).collect();
        let _ = writeln!(text, "  ATT&CK     {techniques} ({})", tactics.join(", "));
    }
}

fn techniques(incident: &Incident) -> String {
    let mut techniques: Vec<String> = Vec::new();
    for technique in incident.signals.iter().flat_map(|signal| &signal.techniques) {
        let technique = short(technique, 16);
        if !techniques.contains(&technique) {
            techniques.push(technique);
        }
    }
    techniques.join(", ")
}

/// Evidence and outcomes, in the order in which they happened.
fn happenings(text: &mut String, incident: &Incident) {
    let mut told: Vec<(u64, String)> = Vec::new();
    for signal in &incident.signals {
        let event = signal.event.as_ref();
        let what = event.map(happened).unwrap_or_default();
        let who = event
            .and_then(|event| event.process.as_ref())
            .map(name)
            .unwrap_or_default();
        let mut lines = format!("{who} {what}\n               {}", opinion(signal));
        for reason in signal.reasons.iter().skip(1) {
            let _ = write!(lines, "\n               {}", short(reason, 400));
        }
        told.push((event.map_or(0, |event| event.time_ns), lines));
    }
    for outcome in &incident.outcomes {
        told.push((outcome.time_ns, format!("→ {}", became(outcome))));
    }
    told.sort_by_key(|(time, _)| *time);
    if !told.is_empty() {
        text.push_str("\nWhat happened\n");
    }
    for (time, lines) in told {
        let _ = writeln!(text, "  {} {lines}", clock(time));
    }
}

fn name(process: &v1::Process) -> String {
    let path = &process.executable;
    let name = path.rsplit('/').next().filter(|name| !name.is_empty());
    format!(
        "{}[{}]",
        short(name.unwrap_or(&process.comm), 32),
        process.id.map_or(0, |id| id.tgid)
    )
}

/// The processes as a tree; one that was several programs stands there with each.
fn processes(text: &mut String, involved: &[Involved]) {
    let known: Vec<(&v1::Process, &str)> = involved
        .iter()
        .filter_map(|one| Some((one.process.as_ref()?, one.sha256.as_str())))
        .collect();
    if known.is_empty() {
        return;
    }
    text.push_str("\nProcesses\n");
    let mut children: HashMap<Option<Key>, Vec<usize>> = HashMap::new();
    let ids: Vec<Option<Key>> = known.iter().map(|(process, _)| process.id.map(key)).collect();
    for (at, (process, _)) in known.iter().enumerate() {
        // What a process became hangs on what it was before.
        let earlier = ids[..at].iter().any(|id| *id == ids[at]);
        let parent = process
            .parent_id
            .map(key)
            .filter(|parent| ids.contains(&Some(*parent)));
        if !earlier {
            children.entry(parent).or_default().push(at);
        }
    }
    let tree = Tree { known, ids, children };
    let roots = tree.children.get(&None).cloned().unwrap_or_default();
    for root in roots {
        tree.branch(text, root, "  ", "  ", 0);
    }
}

/// By what a process is found: its id and start.
type Key = (u32, u64);

fn key(id: ProcessId) -> Key {
    (id.tgid, id.start_time_ns)
}

struct Tree<'a> {
    known: Vec<(&'a v1::Process, &'a str)>,
    ids: Vec<Option<Key>>,
    children: HashMap<Option<Key>, Vec<usize>>,
}

impl Tree<'_> {
    /// A process and what descends from it. What claims to be its own ancestor is not followed for ever.
    fn branch(&self, text: &mut String, at: usize, first: &str, rest: &str, depth: usize) {
        let id = self.ids[at];
        let children = self.children.get(&id).map_or(&[][..], Vec::as_slice);
        let lives: Vec<usize> = (at..self.known.len())
            .filter(|other| self.ids[*other] == id)
            .collect();
        for (number, life) in lives.iter().enumerate() {
            let (process, sha256) = self.known[*life];
            let lead = if number == 0 { first } else { rest };
            let became = if number == 0 { "" } else { "then " };
            let _ = writeln!(text, "{lead}{became}{}", command(process));
            if !sha256.is_empty() {
                let on = if children.is_empty() { ' ' } else { '│' };
                let _ = writeln!(text, "{rest}{on} sha256 {}", short(sha256, 64));
            }
        }
        if id.is_none() || depth > 48 {
            return;
        }
        for (number, child) in children.iter().enumerate() {
            let is_last = number + 1 == children.len();
            let (first, more) = if is_last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            self.branch(
                text,
                *child,
                &format!("{rest}{first}"),
                &format!("{rest}{more}"),
                depth + 1,
            );
        }
    }
}

/// `sh[1234] alice: /bin/sh -c id`
fn command(process: &v1::Process) -> String {
    let user = match process.user.as_str() {
        "" => process.uid.to_string(),
        user => short(user, 32),
    };
    let mut line = format!("{} {user}: {}", name(process), argument(&process.executable));
    for text in process.args.iter().skip(1).take(ARGUMENTS) {
        line.push(' ');
        line.push_str(&argument(text));
    }
    if process.args.len() > ARGUMENTS + 1 || process.args_truncated {
        line.push_str(" …");
    }
    line
}

/// In a word, for a list.
pub(super) fn ended_as(ended: &Ending) -> &'static str {
    match (ended.reason(), ended.verdict()) {
        (_, Verdict::TruePositive) => "true-positive",
        (_, Verdict::Benign) => "benign",
        (_, Verdict::FalsePositive) => "false-positive",
        (Reason::Merged, _) => "merged",
        (Reason::Closed, _) => "closed",
        _ => "over",
    }
}

fn how_it_ended(ended: &Ending) -> String {
    let when = WallTime(ended.time_ns);
    match ended.reason() {
        Reason::Merged => format!("a part of {}", harmless(&ended.into)),
        Reason::Closed => {
            let mut text = format!("closed {when}: {}", ended_as(ended));
            if !ended.who.is_empty() {
                let _ = write!(text, ", by {}", short(&ended.who, 64));
            }
            if !ended.why.is_empty() {
                let _ = write!(text, ": {}", short(&ended.why, 400));
            }
            text
        }
        _ => "over: nothing more of it was seen".to_owned(),
    }
}

#[cfg(test)]
mod tests;
