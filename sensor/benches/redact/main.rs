//! What it costs to look for secrets: `cargo bench -p sensor --bench redact`.
//!
//! Each command is redacted many times over, in rounds that take turns, and the median round counts. The first have no secret, as nearly all that run.

use std::{hint::black_box, time::Instant};

use sensor::privacy::redact::arguments;

const ROUNDS: usize = 21;
const REPEATS: u32 = 20_000;

/// Arguments with a `|` between them, and whether something is hidden in them.
const COMMANDS: [(&str, bool); 8] = [
    ("ls|-la|/home/user/projects/shop", false),
    ("git|commit|-m|Fix login form of web", false),
    (
        "/usr/bin/curl|-sS|-o|/dev/null|-w|%{http_code}|http://localhost:8080/healthz",
        false,
    ),
    (
        "sh|-c|test -x /usr/sbin/anacron || ( cd / && run-parts --report /etc/cron.daily )",
        false,
    ),
    (
        "/usr/bin/containerd-shim-runc-v2|-namespace|k8s.io|-id|e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855|-address|/run/containerd/containerd.sock",
        false,
    ),
    (
        "rustc|--crate-name|app|--edition=2021|src/lib.rs|--error-format=json|--crate-type|lib|-C|opt-level=3|-C|metadata=0123456789abcdef|--out-dir|/home/user/app/target/release/deps",
        false,
    ),
    ("mysql|-u|root|-phunter2|shop", true),
    (
        "curl|-H|Authorization: Bearer 0123456789abcdef|https://api.internal/v1",
        true,
    ),
];

fn main() {
    let commands = COMMANDS.map(|(command, secret)| (command.replace('|', "\0") + "\0", secret));
    let mut times = vec![Vec::with_capacity(ROUNDS); commands.len()];
    for _ in 0..ROUNDS {
        for ((command, _), times) in commands.iter().zip(&mut times) {
            let begun = Instant::now();
            for _ in 0..REPEATS {
                black_box(arguments(black_box(command.as_bytes())));
            }
            times.push(begun.elapsed() / REPEATS);
        }
    }
    for ((command, secret), times) in commands.iter().zip(&mut times) {
        times.sort_unstable();
        let kind = if *secret { "secret" } else { "clean" };
        let program = command.split('\0').next().unwrap_or_default();
        println!(
            "{kind:6} {:4} bytes {:>10?}  {program}",
            command.len(),
            times[ROUNDS / 2]
        );
    }
}
