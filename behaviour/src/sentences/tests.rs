use insta::assert_snapshot;

use super::*;
use crate::{
    correlation::{self, Key},
    novelty::{Learning, Level, Limits, Novelty, Opinion},
    rates::{HourOfWeek, Series},
};

#[test]
fn a_new_fact_with_what_was_usual_and_who_else_knows_it() {
    let learning = Learning {
        events: Some(1_200),
        ..Learning::default()
    };
    let mut model = Novelty::new(Limits::default(), learning);
    let scopes = ["nginx.service", "the image nginx:1.25", "this host"];
    let others = ["other.service", "the image nginx:1.25", "this host"];
    model.accept(&others, b"nginx", b"/usr/bin/certbot", 0);
    for number in 0..1_200 {
        let fact: &[u8] = if number % 100 == 0 {
            b"log\nger"
        } else {
            b"/usr/sbin/nginx"
        };
        model.observe(&scopes, b"nginx", fact, 0);
    }
    let mut sentence = |did: &str, context: &[u8], fact: &[u8]| {
        let Opinion::Surprise(surprise) = model.observe(&scopes, context, fact, 0) else {
            panic!("{did} is new")
        };
        novelty(&scopes, did, &format!("from {}", plain(context)), &surprise)
    };
    assert_snapshot!(sentence("started /bin/sh", b"nginx", b"/bin/sh"),
        @r"nginx.service started /bin/sh from nginx for the first time; the 1,200 before were /usr/sbin/nginx (1,188), log\u{a}ger (12); nor has this host seen it");
    assert_snapshot!(sentence("started certbot", b"nginx", b"/usr/bin/certbot"),
        @r"nginx.service started certbot from nginx for the first time; the 1,200 before were /usr/sbin/nginx (1,188), log\u{a}ger (12); the image nginx:1.25 knows it, from 1 other");
    assert_snapshot!(sentence("started id", b"sh", b"id"),
        @"nginx.service started id from sh for the first time; none of 1,200 observations so far was like that; nor has this host seen it");
    let unknown = Surprise {
        p_value: 1.0,
        here: Level {
            count: 0,
            observations: 0,
            distinct: 0,
            context_is_new: true,
            unseen: 1.0,
        },
        wider: Vec::new(),
        alternatives: Vec::new(),
    };
    assert_snapshot!(novelty(&["cron.service"], "started id", "", &unknown),
        @"cron.service started id for the first time, of which nothing was known");
}

#[test]
fn a_volume_with_what_is_usual_then() {
    let mut series = Series::new();
    for day in 0..10 {
        for hour in 0..24 {
            let value = if hour < 6 { 1_000.0 } else { 50_000.0 } * (1.0 + f64::from(hour % 5) / 10.0);
            series.observe(HourOfWeek::at(i64::from(day * 24 + hour) * 3_600, 0), value);
        }
    }
    let night = HourOfWeek::at(10 * 86_400 + 3 * 3_600, 0);
    assert_snapshot!(rate("user 1000", "bytes sent", "an hour", &series.judge(night, 123_456_789.0)),
        @"user 1000 had 120,000,000 bytes sent in an hour, where 2,200 is usual around 03:00 on a Sunday and more than 150,000 one time in a hundred");
    assert_snapshot!(rate("user 1000", "logins", "an hour", &Series::new().judge(night, 3.0)),
        @"user 1000 had 3 logins in an hour, where 0 is usual so far");
}

fn burst_of(kind: Kind) -> Burst {
    Burst {
        score: 30.0,
        kind,
        new: 40,
        targets: 2,
        ports: 20,
        failures: 1_900,
        attempts: 2_000,
        usual: [0.125, 3.0],
        windows: 144,
        examples: [("10.0.0.1", 22), ("10.0.0.2", 0)]
            .map(|(name, port)| (name.as_bytes().into(), port))
            .into(),
        succeeded: true,
    }
}

#[test]
fn bursts_by_what_they_look_like() {
    let sentence = |kind| burst("web.service", "10 minutes", &burst_of(kind));
    assert_snapshot!(sentence(Kind::BruteForce), @"web.service failed 1,900 times at 10.0.0.1:22, 10.0.0.2, and then got in; usual are 3 in 10 minutes");
    assert_snapshot!(sentence(Kind::PortScan), @"web.service tried 40 new ports of 2 targets, such as 10.0.0.1:22, 10.0.0.2 and 38 more; usual are 0.1 in 10 minutes");
    assert_snapshot!(sentence(Kind::Sweep), @"web.service tried 40 new targets, most without an answer, such as 10.0.0.1:22, 10.0.0.2 and 38 more; usual are 0.1 in 10 minutes");
    assert_snapshot!(sentence(Kind::LateralMovement), @"web.service reached 40 targets where hosts are administered, for the first time: 10.0.0.1:22, 10.0.0.2 and 38 more; usual are 0.1 in 10 minutes");
    assert_snapshot!(sentence(Kind::FanOut), @"web.service connected to 40 targets for the first time: 10.0.0.1:22, 10.0.0.2 and 38 more; usual are 0.1 in 10 minutes");
}

#[test]
fn a_beacon() {
    let mut seen = Beacon {
        score: 40.0,
        period: 61.2,
        jitter: 0.123,
        amount_jitter: 0.01,
        intervals: 32,
    };
    assert_snapshot!(beacon("curl to 10.0.0.9:443", &seen), @"curl to 10.0.0.9:443 came back every 61 seconds give or take 12 %, 32 times in a row, always saying about as much");
    (seen.period, seen.amount_jitter) = (9_000.0, 2.0);
    assert_snapshot!(beacon("curl to 10.0.0.9:443", &seen), @"curl to 10.0.0.9:443 came back every 2.5 hours give or take 12 %, 32 times in a row");
}

#[test]
fn an_odd_minute() {
    let names = ["programs started", "files opened"];
    let mut odd = Oddity {
        score: 3.0,
        reasons: vec![(1, 12_345.0, 3.2, 2.0), (0, 0.0, 20.0, 1.0)],
    };
    assert_snapshot!(oddity("web.service", &names, &odd), @"web.service had an odd minute: files opened 12,000 (usual 3.2), programs started 0 (usual 20)");
    odd.reasons.clear();
    assert_snapshot!(oddity("web.service", &names, &odd), @"web.service had a minute whose numbers do not go together as they usually do");
}

#[test]
fn a_transition_with_what_was_expected() {
    let name = |symbol: u16| ["read", "write", "execve", "socket"][usize::from(symbol)].to_owned();
    let mut seen = Transition {
        at: 7,
        times: 3,
        context: vec![0, 1, 0],
        symbol: 2,
        bits: 12.0,
        expected: vec![(1, 0.903), (0, 0.05)],
    };
    assert_snapshot!(transition("web.service", name, &seen), @"web.service called execve after read, write, read, 3 times; expected was write (90 %), read (5 %)");
    (seen.times, seen.context, seen.expected) = (1, Vec::new(), Vec::new());
    assert_snapshot!(transition("web.service", name, &seen), @"web.service called execve where nothing like it was seen before");
}

#[test]
fn habits_that_are_not_the_persons() {
    let mut judgement = Habit {
        score: 1.2,
        deviation: 5.0,
        p_value: 1e-4,
        accepted: false,
    };
    let reasons = [Evidence {
        symbol: 9,
        times: 12,
        nats: 20.0,
        own: 0.0001,
        others: 0.043,
    }];
    let name = |symbol: u32| format!("command-{symbol}");
    assert_snapshot!(habits("user 1000", name, &judgement, &reasons), @"user 1000 behaves more like others than like themselves: command-9 (12 times, in the past 0.0 %, others 4.3 %)");
    judgement.score = -0.5;
    assert_snapshot!(habits("user 1000", name, &judgement, &[]), @"user 1000 behaves less like themselves than usual");
}

#[test]
fn an_incident_with_its_budget() {
    let mut incident = Opened {
        key: Key::Tree(1),
        score: 12.0,
        expected_per_day: 0.013,
        budget_per_day: 1.0,
        evidence: Vec::<correlation::Evidence>::new(),
    };
    assert_snapshot!(opened(&incident), @"together that is expected once in 77 days by chance, and 1 a day allowed");
    (incident.expected_per_day, incident.budget_per_day) = (2.34, 10.0);
    assert_snapshot!(opened(&incident), @"together that is expected 2.3 a day by chance, and 10 a day allowed");
}

#[test]
fn numbers_are_as_exact_as_they_are_known() {
    let amounts = [
        0.0, 0.125, 7.0, 12.34, 99.96, 1_234.0, 1_234.5, 98_765.4, 1.5e9, 3e15,
    ];
    assert_snapshot!(amounts.map(amount).join(" | "), @"0 | 0.1 | 7 | 12 | 100 | 1,234 | 1,200 | 99,000 | 1,500,000,000 | 3.0e15");
    assert_snapshot!([0, 999, 1_000, 1_234_567].map(number).join(" | "), @"0 | 999 | 1,000 | 1,234,567");
}
