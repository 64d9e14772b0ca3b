//! Expressions of consumers: whatever is read is evaluated without a panic, and soon.
#![no_main]

use collector::consumers::expression::Expression;
use libfuzzer_sys::fuzz_target;
use sensor_proto::v1::{Entry, Event, Exec, Process, entry, event};

fuzz_target!(|text: &str| {
    let Ok(expression) = Expression::parse(text) else {
        return;
    };
    let event = Event {
        process: Some(Process {
            executable: "/usr/bin/env".into(),
            args: vec!["env".into(), "-i".into()],
            ..Process::default()
        }),
        body: Some(event::Body::Exec(Exec::default())),
        ..Event::default()
    };
    let entry = Entry {
        host: "web1".into(),
        body: Some(entry::Body::Event(event)),
    };
    let _ = expression.matches(&entry);
    assert!(!expression.matches(&Entry::default()) || !text.is_empty());
});
