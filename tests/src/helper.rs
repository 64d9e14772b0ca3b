//! What this program does when it is not the test runner but one of its subjects.

mod credentials;
mod end;
mod ends;
mod files;
mod forks;
mod operations;
mod paths;
mod programs;
mod reuse;
mod sequences;
mod service;
mod sessions;
mod tcp;
mod tls;
mod tracing;
mod udp;
mod uring;
mod web;

use anyhow::{Context as _, Result, bail};

pub use sequences::UNUSUAL;
pub use tls::TLS_NAME;

/// First argument that makes this program a helper; the second is the role.
pub const SWITCH: &str = "helper";

/// Plays the role that the arguments name, if they do.
pub fn play() -> Option<Result<()>> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != SWITCH {
        return None;
    }
    let role = args.next().unwrap_or_default().to_string_lossy().into_owned();
    let rest: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    Some(dispatch(&role, &rest).with_context(|| format!("helper {role}")))
}

fn dispatch(role: &str, args: &[String]) -> Result<()> {
    match role {
        "web" => web::serve(args),
        "sink" => web::sink(args),
        "beat" => web::beat(args),
        "create-files" => files::create(args),
        "open-file" => files::open(args),
        "credentials" => credentials::ordinary(),
        "forged" => credentials::forged(args),
        "kprobe" => tracing::kprobe(),
        "ports" => tracing::ports(),
        "log-session" => sessions::log(args),
        "login-uid" => sessions::login_uid(args),
        "audit" => sessions::audit(args),
        "ends" => ends::obey(args),
        "exit" => end::exit(args),
        "die" => end::die(args),
        "wait" => end::wait(),
        "fork-chain" => forks::chain(args),
        "fork-storm" => forks::storm(args),
        "spawn-held" => forks::held(args),
        "fork-bomb" => forks::bomb(args),
        "thread-exec" => programs::thread_exec(args),
        "mapped-exec" => programs::mapped_exec(args),
        "operations" => operations::run(args),
        "rare-operations" => operations::rare(args),
        "sequences" => sequences::run(args),
        "path-views" => paths::views(args),
        "path-storm" => paths::storm(args),
        "path-swaps" => paths::swaps(args),
        "uring" => uring::run(args),
        "reuse" => reuse::run(args),
        "service" => service::run(args),
        "tcp-server" => tcp::server(args),
        "tcp-client" => tcp::client(args),
        "tls-server" => tls::server(),
        "tls-client" => tls::client(args),
        "udp-server" => udp::server(args),
        "udp-client" => udp::client(args),
        "dns-server" => udp::name_server(args),
        "dns-client" => udp::resolver(args),
        _ => bail!("there is no such role"),
    }
}

/// An argument that is a number.
fn number<T: std::str::FromStr>(args: &[String], index: usize) -> Result<T> {
    let text = args
        .get(index)
        .with_context(|| format!("argument {index} is missing"))?;
    text.parse()
        .ok()
        .with_context(|| format!("{text:?} is not a number that fits"))
}
