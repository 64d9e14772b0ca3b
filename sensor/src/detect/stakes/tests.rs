use sensor_common::Signal;

use super::*;
use crate::{
    detect::testing::{operation, process},
    host::Thread,
    time::{BootTime, WallTime},
};

fn stakes(more: &[&str], less: &[&str]) -> Stakes {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Stakes::new(&config::Stakes {
        more: owned(more),
        less: owned(less),
    })
}

/// What a database of user 1000's session that reads `path` weighs.
fn weigh(stakes: &Stakes, path: &str) -> (Severity, Option<String>) {
    let process = process("unit:db.service", "/opt/db/bin/db", Some(1_000));
    let event = Event {
        time: BootTime(1),
        wall: WallTime(1),
        cpu: 0,
        process: Some(Arc::clone(&process)),
        parent: None,
        thread: Thread::default(),
        body: Body::Operation(Box::new(operation(Signal::FileOpen, path))),
    };
    let weight = stakes.weigh(Severity::Medium, &event, &process);
    (weight.severity, weight.at_stake.map(|name| name.to_string()))
}

#[test]
fn what_is_named_is_worse_or_milder_by_one_step() {
    for name in [
        "unit:db.service",
        "unit:db*",
        "user:1000",
        "/srv/vault",
        "/srv/v*",
        "/opt/db/bin/db",
        "/opt/db",
    ] {
        let named = Some(name.to_owned());
        assert_eq!(
            weigh(&stakes(&[name], &[]), "/srv/vault/key"),
            (Severity::High, named.clone()),
            "{name}"
        );
        assert_eq!(
            weigh(&stakes(&[], &[name]), "/srv/vault/key"),
            (Severity::Low, named),
            "{name}"
        );
    }
}

#[test]
fn what_is_not_named_stays_as_it_is() {
    let others = stakes(&["unit:db", "user:100", "/srv/vaults", "/srv/vault/keys"], &[]);
    assert_eq!(weigh(&others, "/srv/vault/key"), (Severity::Medium, None));
    let around = stakes(&["/srv/vault"], &[]);
    assert_eq!(weigh(&around, "/srv/vault/../public"), (Severity::Medium, None));
}

#[test]
fn what_is_named_as_both_counts_as_more() {
    let both = stakes(&["user:1000"], &["unit:*"]);
    assert_eq!(weigh(&both, "/x"), (Severity::High, Some("user:1000".to_owned())));
}

#[test]
fn there_is_nothing_worse_than_the_worst_nor_milder_than_the_mildest() {
    assert_eq!(Severity::Critical.worse(), Severity::Critical);
    assert_eq!(Severity::Low.milder(), Severity::Low);
}
