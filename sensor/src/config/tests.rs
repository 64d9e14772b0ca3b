use insta::assert_snapshot;

use super::*;

fn error(text: &str) -> String {
    Config::parse(text, Path::new("/etc/sensor/sensor.toml"))
        .unwrap_err()
        .to_string()
}

#[test]
fn the_example_is_the_defaults() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/sensor.toml"));
    assert_eq!(Config::load(path).unwrap(), Config::default());
    assert_eq!(Config::parse("", path).unwrap(), Config::default());
    let written = toml::to_string(&Config::default()).unwrap();
    assert_eq!(Config::parse(&written, path).unwrap(), Config::default());
}

/// A key that nobody can find is a key that is not there.
#[test]
fn the_example_names_every_key() {
    let example = include_str!("../../../deploy/sensor.toml");
    let written = toml::to_string(&Config::default()).unwrap();
    for key in written
        .lines()
        .filter_map(|line| line.split_once(" ="))
        .map(|(key, _)| key)
    {
        assert!(
            example.lines().any(|line| line.starts_with(&format!("{key} ="))),
            "{key}"
        );
    }
}

#[test]
fn values() {
    let text = "[capture]\nreorder_window = \"5ms\"\n[detect]\nflag = [\"host\"]\n[respond]\nmode = \"act\"\n\
                min_severity = \"low\"\nprotected = [\"/opt/agent/*\"]\n";
    let config = Config::parse(text, Path::new("x")).unwrap();
    assert_eq!(config.capture.reorder_window, Duration::from_millis(5));
    assert_eq!(config.detect.flag, [SubjectKind::Host]);
    assert_eq!(
        (config.respond.mode, config.respond.min_severity),
        (Mode::Act, Severity::Low)
    );
}

#[test]
fn messages() {
    assert_snapshot!(error("[respond]\nmode = \"kill\"\n"), @"/etc/sensor/sensor.toml:2: [respond] mode: unknown variant `kill`, expected one of `observe`, `ask`, `act`");
    assert_snapshot!(error("[respond]\n\nmodus = \"act\"\n"), @"/etc/sensor/sensor.toml:3: [respond] modus: unknown field `modus`, expected one of `mode`, `action`, `block_for`, `isolate_for`, `isolate_allow`, `block_executables`, `bpffs`, `cgroup`, `ask_within`, `min_severity`, `protected`, `protect_ancestors`, `max_kills_per_minute`, `max_kills_per_day`, `rules`");
    assert_snapshot!(error("[response]\n"), @"/etc/sensor/sensor.toml:1: unknown field `response`, expected one of `capture`, `host`, `session`, `detect`, `rules`, `respond`, `privacy`, `export`, `uplink`, `remote`");
    assert_snapshot!(error("[uplink]\ncert = \"/x\"\n"), @"/etc/sensor/sensor.toml:1: [uplink] ca: ca, cert and key belong together: give all three, or none");
    assert_snapshot!(error("[remote]\nallow = [\"shell\"]\n"), @r#"/etc/sensor/sensor.toml:2: [remote] allow: nothing that may be asked is called "shell"; there are approve, undo, status, reload, rules, kill, kill_tree, suspend, resume, disconnect, reconnect, block, unblock, isolate, release, revoke, reinstate, quarantine, restore, collect"#);
    assert_snapshot!(error("[capture]\nring_bytes_bulk = 100000\n"), @"/etc/sensor/sensor.toml:2: [capture] ring_bytes_bulk: 100000 is not a power of two; the nearest are 65536 and 131072");
    assert_snapshot!(error("[capture]\nring_bytes_critical = 1\n"), @"/etc/sensor/sensor.toml:2: [capture] ring_bytes_critical: 1 is not allowed; allowed are 4096 to 268435456");
    assert_snapshot!(error("[capture]\nreorder_window = \"1h\"\n"), @"/etc/sensor/sensor.toml:2: [capture] reorder_window: 3600s is not allowed; allowed are 0s to 1s");
    assert_snapshot!(error("[capture]\nreorder_window = 2\n"), @"/etc/sensor/sensor.toml:2: [capture] reorder_window: invalid type: integer `2`, expected a duration");
    assert_snapshot!(error("[capture]\nring_bytes_bulk = 4096\n"), @"/etc/sensor/sensor.toml:1: [capture] watermark_bytes: 65536 is not less than ring_bytes_bulk, 4096");
    assert_snapshot!(error("[host]\nname = \"a\"\nmax_processes = -1\n"), @"/etc/sensor/sensor.toml:3: [host] max_processes: -1 is not allowed; allowed are 1024 to 4194304");
    assert_snapshot!(error("[detect]\nalert_budget = \"3\"\n"), @r#"/etc/sensor/sensor.toml:2: [detect] alert_budget: "3" is not allowed; allowed is a number a period, such as "1/day", "3/week", "1/month", from one in a hundred days to 1000 a day"#);
    assert_snapshot!(error("[detect]\nmax_p_value = 1.5\n"), @"/etc/sensor/sensor.toml:2: [detect] max_p_value: 1.5 is not allowed; allowed is what is above 0, up to 1");
    assert_snapshot!(error("[detect]\nflag = [\"pod\"]\n"), @"/etc/sensor/sensor.toml:2: [detect] flag: unknown variant `pod`, expected one of `unit`, `container`, `cgroup`, `session`, `host`");
    assert_snapshot!(error("[respond]\nprotected = [\"/bin/ok\", \"sshd\"]\n"), @r#"/etc/sensor/sensor.toml:2: [respond] protected: "sshd" is not allowed; allowed are absolute paths, with at most a `*` at the end"#);
    let rule = |text: &str| error(&format!("[respond]\nmode = \"ask\"\n[[respond.rules]]\n{text}\n"));
    assert_snapshot!(rule("severity = \"worst\""), @"/etc/sensor/sensor.toml:4: [[respond.rules]] severity: unknown variant `worst`, expected one of `low`, `medium`, `high`, `critical`");
    assert_snapshot!(rule("techniques = [\"T1059\", \"t1486\"]"), @r#"/etc/sensor/sensor.toml:4: [[respond.rules]] techniques: "t1486" is no technique of ATT&CK; their ids are such as "T1059", of sub-techniques such as "T1059.004""#);
    assert_snapshot!(rule("subjects = [\"nginx.service\"]"), @r#"/etc/sensor/sensor.toml:4: [[respond.rules]] subjects: no incident is about "nginx.service"; allowed are "unit:NAME", "container:NAME", "session:NAME", "cgroup:PATH" and "host", with at most a `*` at the end"#);
    assert_snapshot!(rule("subjects = [\"unit:*.service*\"]"), @r#"/etc/sensor/sensor.toml:4: [[respond.rules]] subjects: no incident is about "unit:*.service*"; allowed are "unit:NAME", "container:NAME", "session:NAME", "cgroup:PATH" and "host", with at most a `*` at the end"#);
    assert_snapshot!(rule("action = \"kil\""), @r#"/etc/sensor/sensor.toml:4: [[respond.rules]] action: "kil" is no action that a policy may ask for; there are kill, kill_tree, suspend, disconnect, block, isolate, revoke, quarantine, collect, block_destination"#);
    assert_snapshot!(rule("action = [\"unblock\"]"), @r#"/etc/sensor/sensor.toml:4: [[respond.rules]] action: "unblock" is no action that a policy may ask for; there are kill, kill_tree, suspend, disconnect, block, isolate, revoke, quarantine, collect, block_destination"#);
    assert_snapshot!(rule("action = []"), @r#"/etc/sensor/sensor.toml:4: [[respond.rules]] action: at least one action must be named; to have nothing done, set mode = "observe""#);
    assert_snapshot!(rule("mode = \"never\""), @"/etc/sensor/sensor.toml:4: [[respond.rules]] mode: unknown variant `never`, expected one of `observe`, `ask`, `act`");
    assert_snapshot!(rule("technique = [\"T1059\"]"), @"/etc/sensor/sensor.toml:4: [[respond.rules]] technique: unknown field `technique`, expected one of `severity`, `techniques`, `subjects`, `mode`, `action`");
    assert_snapshot!(rule("mode = \"act\"\n[[respond.rules]]\nseverity = \"critical\"\naction = \"kill\""), @"/etc/sensor/sensor.toml:3: response rule 1 is for every incident, so that none of those after it would ever be asked; put it last");
    assert_snapshot!(error("[privacy]\npseudonymise = [\"user\"]\n"), @"/etc/sensor/sensor.toml:2: [privacy] pseudonymise: unknown variant `user`, expected one of `users`, `addresses`, `paths`");
    assert_snapshot!(error("[privacy]\ndrop = [\"args\"]\n"), @"/etc/sensor/sensor.toml:2: [privacy] drop: unknown variant `args`, expected one of `argv`, `environment`, `cwd`, `host_names`, `reasons`");
    assert_snapshot!(error("[privacy]\nkey_file = \"key\"\n"), @r#"/etc/sensor/sensor.toml:2: [privacy] key_file: "key" is not allowed; allowed is an absolute path"#);
    assert_snapshot!(error("[respond\n"), @"/etc/sensor/sensor.toml:1: unclosed table, expected `]`");
}

#[test]
fn a_file_that_is_not_there() {
    let error = Config::load(Path::new("/nonexistent/sensor.toml"))
        .unwrap_err()
        .to_string();
    assert_snapshot!(error, @"cannot read the configuration /nonexistent/sensor.toml: No such file or directory (os error 2); name another with --config");
}
