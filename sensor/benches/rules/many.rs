//! As many rules as are wanted: the built-in ones first, then others of the kind that large collections hold.

use sensor::rules::{PACK, Source};

/// Programs, and what third parties look for among their arguments.
const TOOLS: [&str; 20] = [
    "curl",
    "wget",
    "python",
    "perl",
    "ruby",
    "nc",
    "socat",
    "ssh",
    "scp",
    "tar",
    "base64",
    "openssl",
    "gcc",
    "git",
    "docker",
    "kubectl",
    "systemctl",
    "crontab",
    "find",
    "sed",
];

/// `count` files with one rule each.
pub(crate) fn rules(count: usize) -> Vec<Source> {
    let builtin = PACK.iter().filter(|(_, text)| !text.contains("\n---\n"));
    let mut rules: Vec<Source> = builtin
        .take(count)
        .map(|(name, text)| source(name, text))
        .collect();
    let mut number = 0;
    while rules.len() < count {
        rules.push(source(&format!("{number}.yml"), &rule(number)));
        number += 1;
    }
    rules
}

fn source(name: &str, text: &str) -> Source {
    Source {
        file: name.into(),
        text: text.to_owned(),
    }
}

/// Most rules for Linux are about programs, some about files, few about the network and the audit system.
fn rule(number: usize) -> String {
    let tool = TOOLS[number % TOOLS.len()];
    let (source, detection) = match number % 20 {
        0..12 => (
            "category: process_creation",
            format!(
                "  image:\n    Image|endswith: ['/{tool}', '/{tool}{number}']\n  words:\n    CommandLine|contains: ['--mode{number}', ' -x{number} ', \
                 'payload{number}']\n  other:\n    ParentImage|endswith: '/parent{number}'\n  condition: image and words and not other\n"
            ),
        ),
        12..17 => (
            "category: file_event",
            format!(
                "  place:\n    TargetFilename|startswith: ['/etc/place{number}/', '/opt/{tool}{number}/']\n  ending:\n    TargetFilename|endswith: \
                 ['.x{number}', '/{tool}{number}.conf']\n  condition: place or ending\n"
            ),
        ),
        17 => (
            "category: network_connection",
            format!("  to:\n    DestinationHostname|endswith: '.host{number}.example'\n  condition: to\n"),
        ),
        18 => (
            "category: dns_query",
            format!("  name:\n    QueryName|contains: 'name{number}.'\n  condition: name\n"),
        ),
        _ => (
            "service: auditd",
            format!(
                "  call:\n    type: SYSCALL\n    exe|endswith: '/{tool}{number}'\n  path:\n    type: PATH\n    name|startswith: '/srv/{number}/'\n  condition: 1 of them\n"
            ),
        ),
    };
    format!(
        "title: Rule {number}\nlogsource:\n  product: linux\n  {source}\ndetection:\n{detection}level: medium\n"
    )
}
