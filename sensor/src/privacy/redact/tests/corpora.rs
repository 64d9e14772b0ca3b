//! Two collections of commands: each secret of the one is hidden, and nearly all of the other stays as it is.
//!
//! Both are patterns; what stands in braces is made up here, the same on every run. So no token that looks real is in this repository, and a
//! pattern is tried with several.

use std::fmt::Write as _;

use super::super::{arguments, text};

const SECRETS: &str = include_str!("../corpus/secrets.txt");
const BENIGN: &str = include_str!("../corpus/benign.txt");

/// Times each pattern is filled.
const ROUNDS: u64 = 5;

/// A generator of numbers, the same everywhere (xorshift*).
pub(super) struct Lot(u64);

impl Lot {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn of(&mut self, alphabet: &str, length: usize) -> String {
        let alphabet = alphabet.as_bytes();
        (0..length)
            .map(|_| char::from(alphabet[self.below(alphabet.len())]))
            .collect()
    }
}

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const HEX: &str = "0123456789abcdef";
const UPPER36: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const BASE62: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The text that stands for `name`, and the part of it that must not be seen; `None` for a brace that is none of ours.
fn secret(name: &str, lot: &mut Lot) -> Option<(String, String)> {
    let whole = |text: String| Some((text.clone(), text));
    let after = |prefix: &str, body: String| Some((format!("{prefix}{body}"), body));
    match name {
        // Characters that end no word of a shell and need no escape in a URL.
        "pass" => {
            let first = lot.of(BASE62, 1);
            let length = 9 + lot.below(8);
            let rest = lot.of(
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!%*_+-.~",
                length,
            );
            whole(first + &rest)
        }
        "word" => {
            let words = [
                "Winter", "sommer", "hunter", "dragon", "Letmein", "changeme", "Passw0rd", "qwertz", "Admin",
            ];
            let number = lot.below(9_000) + 10;
            whole(format!(
                "{}{number}{}",
                lot.pick(&words),
                lot.pick(&["", "!", "_x"])
            ))
        }
        "hex" => whole(lot.of(HEX, 32)),
        "hex64" => whole(lot.of(HEX, 64)),
        "b62" => {
            let length = 24 + lot.below(20);
            whole(lot.of(BASE62, length))
        }
        "b62x40" => whole(lot.of(BASE62, 40)),
        "b62x64" => whole(lot.of(BASE64_URL, 64).replacen(['-', '_'], "a", 1)),
        "b64" => whole(lot.of(BASE64, 40)),
        "b64long" => whole(lot.of(BASE64, 86) + "=="),
        "ghp" => after("ghp_", lot.of(BASE62, 36)),
        "ghs" => after("ghs_", lot.of(BASE62, 36)),
        "ghfine" => after("github_pat_", lot.of(BASE62, 22) + "_" + &lot.of(BASE62, 59)),
        "glpat" => after("glpat-", lot.of(BASE62, 20)),
        "slack" => {
            let body = format!(
                "{}-{}-{}",
                lot.of("0123456789", 12),
                lot.of("0123456789", 12),
                lot.of(BASE62, 24)
            );
            after(&format!("xox{}-", lot.pick(&["b", "p", "a"])), body)
        }
        "slackhook" => {
            let body = format!(
                "T{}/B{}/{}",
                lot.of(UPPER36, 8),
                lot.of(UPPER36, 8),
                lot.of(BASE62, 24)
            );
            whole(body)
        }
        "sklive" => after("sk_live_", lot.of(BASE62, 24)),
        "npm" => after("npm_", lot.of(BASE62, 36)),
        "pypi" => after("pypi-", format!("AgEIcHlwaS5vcmc{}", lot.of(BASE64_URL, 120))),
        "cratesio" => after("cio", lot.of(BASE62, 32)),
        "rubygems" => after("rubygems_", lot.of(HEX, 48)),
        "akia" => after("AKIA", lot.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)),
        "aiza" => after("AIza", lot.of(BASE64_URL, 35)),
        "ya29" => after("ya29.", "a0A".to_owned() + &lot.of(BASE64_URL, 100)),
        "azure" => {
            let (before, rest) = (lot.of(BASE62, 3), lot.of(BASE64_URL, 34));
            whole(format!("{before}8Q~{rest}"))
        }
        "jwt" => {
            let body = format!(
                "{}.eyJ{}.{}",
                lot.of(BASE62, 33),
                lot.of(BASE64_URL, 90),
                lot.of(BASE64_URL, 43)
            );
            after("eyJ", body)
        }
        "pem" => {
            let lines: Vec<_> = (0..6).map(|_| lot.of(BASE64, 64)).collect();
            let kind = lot.pick(&[
                "RSA PRIVATE KEY",
                "PRIVATE KEY",
                "OPENSSH PRIVATE KEY",
                "EC PRIVATE KEY",
            ]);
            let text = format!(
                "-----BEGIN {kind}-----\n{}\n-----END {kind}-----",
                lines.join("\n")
            );
            Some((text, lines[lot.below(6)].clone()))
        }
        "hvs" => after("hvs.", lot.of(BASE64_URL, 90)),
        "dop" => after("dop_v1_", lot.of(HEX, 64)),
        "docker" => after("dckr_pat_", lot.of(BASE64_URL, 27)),
        "tskey" => after("tskey-auth-", lot.of(BASE62, 12) + "-" + &lot.of(BASE62, 32)),
        "sendgrid" => after("SG.", lot.of(BASE64_URL, 22) + "." + &lot.of(BASE64_URL, 43)),
        "shopify" => after("shpat_", lot.of(HEX, 32)),
        "openai" => after("sk-proj-", lot.of(BASE62, 48)),
        "anthropic" => after("sk-ant-", "api03-".to_owned() + &lot.of(BASE64_URL, 93)),
        "hf" => after("hf_", lot.of(BASE62, 34)),
        "telegram" => {
            let (id, body) = (lot.of("123456789", 9), lot.of(BASE64_URL, 33));
            Some((format!("{id}:AA{body}"), body))
        }
        "sha256tok" => after("sha256~", lot.of(BASE64_URL, 43)),
        "kubeadm" => whole(format!("{}.{}", lot.of(HEX, 6), lot.of(HEX, 16))),
        "uuidtok" => whole(uuid(lot)),
        _ => None,
    }
}

fn uuid(lot: &mut Lot) -> String {
    [8, 4, 4, 4, 12].map(|length| lot.of(HEX, length)).join("-")
}

/// What differs from one harmless command to the next.
fn detail(name: &str, lot: &mut Lot) -> Option<String> {
    Some(match name {
        "git" => lot.of(HEX, 40),
        "sha256" => lot.of(HEX, 64),
        "hash16" => lot.of(HEX, 16),
        "hash32" => lot.of(HEX, 32),
        "id12" => lot.of(HEX, 12),
        "uuid" => uuid(lot),
        "nix" => lot.of("0123456789abcdfghijklmnpqrsvwxyz", 32),
        "buildid" => lot.of(BASE64_URL, 20),
        "ver" => format!("{}.{}.{}", lot.below(20), lot.below(30), lot.below(100)),
        "n" => (lot.below(98) + 2).to_string(),
        "port" => (lot.below(60_000) + 1_024).to_string(),
        "pod" => format!(
            "web-{}-{}",
            lot.of("bcdfghjklmnpqrstvwxz2456789", 10),
            lot.of("bcdfghjklmnpqrstvwxz2456789", 5)
        ),
        "host" => format!(
            "{}{}.internal",
            lot.pick(&["web", "db", "node-", "build"]),
            lot.below(90)
        ),
        "user" => lot
            .pick(&["anna", "deploy", "jenkins", "postgres", "ubuntu", "k.meyer"])
            .to_owned(),
        "svc" => lot
            .pick(&[
                "nginx",
                "payments",
                "auth-service",
                "grafana",
                "tokenizer",
                "api-gateway",
                "secret-sync",
                "redis",
            ])
            .to_owned(),
        "dir" => {
            lot.pick(&[
                "src",
                "projects/shop",
                "data",
                "passwords-app",
                "token-service",
                "build",
            ])
            .to_owned()
                + &lot.of(LOWER, 3)
        }
        _ => return None,
    })
}

/// `pattern` with each `{name}` replaced by what `fill` says; braces that it does not know stay.
fn filled(pattern: &str, mut fill: impl FnMut(&str) -> Option<String>) -> String {
    let mut text = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        let name = from[1..].split_once('}').map_or("", |(name, _)| name);
        match fill(name) {
            Some(value) => {
                text.push_str(&value);
                rest = &from[name.len() + 2..];
            }
            None => {
                text.push('{');
                rest = &from[1..];
            }
        }
    }
    text + rest
}

/// Patterns, each of a line or, in quotes, of several.
fn patterns(corpus: &str) -> Vec<String> {
    let mut patterns: Vec<String> = Vec::new();
    let mut open = false;
    for line in corpus.lines().filter(|line| !line.starts_with('#')) {
        if open {
            let last = patterns.last_mut().expect("begun");
            let _ = write!(last, "\n{line}");
            open = !line.ends_with('"');
        } else {
            open = line.ends_with("<<EOF");
            patterns.push(line.to_owned());
        }
    }
    patterns
}

/// As a shell splits it, but for what it would replace.
fn split(command: &str) -> Vec<u8> {
    let mut args = Vec::new();
    let mut quote = None;
    let mut characters = command.bytes();
    while let Some(byte) = characters.next() {
        match (byte, quote) {
            (b'\\', None | Some(b'"')) => args.extend(characters.next()),
            (b'"' | b'\'', None) => quote = Some(byte),
            (_, Some(open)) if open == byte => quote = None,
            (b' ', None) => args.push(0),
            _ => args.push(byte),
        }
    }
    args.push(0);
    args
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', " ")
}

#[test]
fn no_secret_gets_through() {
    let (mut total, mut seen) = (0, Vec::new());
    for (number, pattern) in patterns(SECRETS).iter().enumerate() {
        for round in 0..ROUNDS {
            let mut lot = Lot::new(number as u64 * 1_000 + round + 1);
            let mut secrets = Vec::new();
            let command = filled(pattern, |name| {
                let (text, body) = secret(name, &mut lot)?;
                secrets.push(body);
                Some(text)
            });
            assert!(!secrets.is_empty(), "a pattern without a secret: {pattern}");
            total += secrets.len() * 2;
            let (args, line) = (split(&command), command.as_bytes());
            for (how, shown) in [("arguments", arguments(&args)), ("text", text(line))] {
                let shown = lossy(&shown);
                // A part that is left is a leak, too.
                let leaks = secrets.iter().filter(|secret| {
                    let half = secret.len().div_ceil(2).max(5);
                    let parts = secret.as_bytes().windows(half.min(secret.len()));
                    parts.map(lossy).any(|part| shown.contains(&part))
                });
                seen.extend(leaks.map(|secret| format!("{how}: {secret} in {shown}")));
            }
        }
    }
    assert!(total >= 600, "{total}");
    println!("{} of {total} secrets hidden", total - seen.len());
    assert!(seen.is_empty(), "{} of {total}:\n{}", seen.len(), seen.join("\n"));
}

#[test]
fn commands_without_secrets_stay_as_they_are() {
    let (mut total, mut changed) = (0, Vec::new());
    for (number, pattern) in patterns(BENIGN).iter().enumerate() {
        for round in 0..ROUNDS {
            let mut lot = Lot::new(number as u64 * 1_000 + round + 77);
            let command = filled(pattern, |name| detail(name, &mut lot));
            total += 2;
            let (args, line) = (split(&command), command.as_bytes());
            for shown in [arguments(&args), text(line)] {
                if let std::borrow::Cow::Owned(shown) = shown {
                    changed.push(lossy(&shown));
                }
            }
        }
    }
    let share = changed.len() as f64 / total as f64;
    println!(
        "{} of {total} unchanged: {:.2} %",
        total - changed.len(),
        100.0 - share * 100.0
    );
    assert!(total >= 2_000, "{total}");
    assert!(
        share <= 0.01,
        "{} of {total}:\n{}",
        changed.len(),
        changed.join("\n")
    );
}
