//! The agent's command line.
use sensor::capture::*;
use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};
fn main() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(std::io::stderr)
        .init();
    let options = Options {
        rings: RingSizes {
            critical: 1 << 21,
            bulk: 1 << 22,
        },
        bulk_watermark: 1 << 20,
        bulk_interval: Duration::from_millis(50),
        reorder_window: Duration::from_micros(200),
        cgroup_controller: Some("pids"),
        agent_tgid: std::process::id(),
    };
    let mut capture = Capture::start(&options).unwrap();
    for h in capture.hooks() {
        eprintln!(
            "{:?} {:?} refused {:?}",
            h.signal,
            h.rung.map(|r| r.hook.to_string()),
            h.refused.iter().map(|r| &r.1).collect::<Vec<_>>()
        );
    }
    eprintln!("{:?} absent {:?}", capture.load_times(), capture.absent_fields());
    let stop = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
    let end = Instant::now() + Duration::from_secs(std::env::args().nth(1).map_or(3, |s| s.parse().unwrap()));
    while Instant::now() < end {
        capture.wait(stop.as_fd());
        capture.read(|bytes| {
            let r = record::Record::decode(bytes).unwrap();
            let i = &r.header.identity;
            print!(
                "{} cpu{} #{} {}<{} comm={} uid={} login={} cg={} ns={}/{}/{} ",
                r.header.time,
                r.header.cpu,
                r.header.sequence,
                i.tgid,
                i.parent_tgid,
                String::from_utf8_lossy(&i.comm),
                i.uid,
                i.login_uid,
                i.cgroup,
                i.mount_ns,
                i.pid_ns,
                i.net_ns
            );
            match r.body {
                record::RecordBody::Exec(e) => println!(
                    "EXEC {} args={:?} cwd={} file={} {:?}",
                    String::from_utf8_lossy(&record::path_from_components(e.path, false)),
                    String::from_utf8_lossy(e.args),
                    String::from_utf8_lossy(&record::path_from_components(e.cwd, false)),
                    String::from_utf8_lossy(e.filename),
                    e.exec
                ),
                b => println!("{b:?}"),
            }
        });
    }
    for s in sensor_common::Signal::ALL {
        eprintln!("{} {:?}", s.name(), capture.accounts().tally(s).unwrap());
    }
    eprintln!(
        "late {} status {}",
        capture.late(),
        std::fs::read_to_string("/proc/self/status")
            .unwrap()
            .lines()
            .filter(|l| l.starts_with("Vm") || l.starts_with("Rss"))
            .collect::<Vec<_>>()
            .join(" ")
    );
}
