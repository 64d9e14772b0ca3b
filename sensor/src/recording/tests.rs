use proptest::prelude::*;
use sensor_common::{
    Signal,
    credential::{Cred, Moment},
    record::FlowEnd,
};

use super::*;
use crate::{
    detect::testing::{operation, process, session},
    host::{
        CredentialChange, DatagramTotals, Exec, Exit, Flow, FlowTotals, How, Sequence,
        dns::{DnsAnswer, DnsMessage},
    },
};

fn about() -> About {
    About {
        host: "web1".into(),
        agent: "0.1.0".into(),
        kernel: "6.1".into(),
        began: WallTime(5),
        began_boot: BootTime(4),
    }
}

fn event(time: u64, body: Body) -> Arc<Event> {
    Arc::new(Event {
        time: BootTime(time),
        wall: WallTime(time + 1),
        cpu: 3,
        process: Some(process("unit:nginx.service", "/usr/sbin/nginx", Some(1000))),
        parent: None,
        thread: Thread::default(),
        body,
    })
}

/// One of each kind.
fn bodies() -> Vec<Body> {
    let flow = || Flow {
        id: 7,
        local: "10.0.0.1:40000".parse().expect("an address"),
        remote: "[2001:db8::1]:443".parse().expect("an address"),
        remote_name: Some("example.org".into()),
        inbound: false,
        established: true,
        listener: true,
    };
    let change = CredentialChange {
        before: Cred::default(),
        after: Cred {
            euid: 7,
            ..Cred::default()
        },
        how: How::Unexplained,
        noticed: Moment::Fork,
        call: None,
    };
    let totals = DatagramTotals {
        first: WallTime(1),
        duration: std::time::Duration::from_secs(3),
        datagrams_sent: 1,
        bytes_sent: 2,
        datagrams_received: 3,
        bytes_received: 4,
        end: FlowEnd::NoRoom,
    };
    let message = DnsMessage {
        name: "example.org".into(),
        answers: vec![DnsAnswer::Name("a".into())],
        ..DnsMessage::default()
    };
    vec![
        Body::Exec(Exec {
            previous: Some(Arc::default()),
            ..Exec::default()
        }),
        Body::Fork,
        Body::Exit(Exit::Signal {
            number: 9,
            core: true,
        }),
        Body::Connect(flow()),
        Body::Accept(flow()),
        Body::Listen {
            address: "0.0.0.0:80".parse().expect("an address"),
            backlog: 5,
        },
        Body::FlowClose(flow(), FlowTotals::default()),
        Body::FlowReport(flow(), FlowTotals::default()),
        Body::TlsHello(flow(), Box::default()),
        Body::Bind {
            address: "[::]:80".parse().expect("an address"),
            protocol: 17,
        },
        Body::UdpFlow(flow(), totals),
        Body::Dns(flow(), Box::new(message)),
        Body::Credential(Box::new(change)),
        Body::Session(Box::new(session(Signal::Login, "alice", "192.0.2.1"))),
        Body::Operation(Box::new(operation(Signal::FileRename, "/a"))),
        Body::Sequence(Sequence {
            calls: [1; 6],
            withheld: 2,
        }),
    ]
}

fn written() -> (Vec<u8>, Vec<Recorded>) {
    let mut writer = Writer::new(about());
    let running = process("host", "/sbin/init", None);
    writer.running(&running);
    let mut recorded = vec![Recorded::About(about()), Recorded::Running(running)];
    let mut bytes = Vec::new();
    for (index, body) in bodies().into_iter().enumerate() {
        let event = event(index as u64, body);
        writer.event(&event);
        recorded.push(Recorded::Event(event));
        // Each block stands for itself.
        bytes.extend(writer.take(index % 5 == 0));
    }
    writer.lost(3);
    recorded.push(Recorded::Lost(3));
    bytes.extend(writer.finish());
    (bytes, recorded)
}

fn read(bytes: &[u8]) -> Result<Vec<Recorded>, RecordingError> {
    Reader::new(bytes)?.collect()
}

#[test]
fn what_was_written_is_read() {
    let (bytes, recorded) = written();
    assert_eq!(read(&bytes).expect("it is whole"), recorded);
}

#[test]
fn many_events_of_one_process_take_little_room() {
    let mut writer = Writer::new(about());
    let mut event = (*event(1, Body::Fork)).clone();
    for time in 0..100_000 {
        event.time = BootTime(time * 1_000);
        writer.event(&event);
    }
    let bytes = writer.finish();
    assert!(bytes.len() < 800_000, "{} bytes", bytes.len());
    assert_eq!(read(&bytes).expect("it is whole").len(), 100_001);
}

#[test]
fn what_is_no_recording_is_told_apart() {
    let (bytes, _) = written();
    let error = |bytes: &[u8]| read(bytes).expect_err("it is none").to_string();
    assert!(error(b"").starts_with("this is no recording"));
    assert!(error(b"GIF89a----").starts_with("this is no recording"));
    let mut other = bytes.clone();
    other[4] = 9;
    assert!(error(&other).starts_with("version 9 of the format"));
    let cut = &bytes[..bytes.len() - 1];
    assert!(error(cut).starts_with("the recording is cut off after byte"));
    let mut damaged = bytes;
    damaged[30] ^= 1;
    assert!(error(&damaged).contains("its checksum is wrong"));
}

#[test]
fn what_comes_before_the_damage_is_read() {
    let (bytes, recorded) = written();
    let cut = &bytes[..bytes.len() - END.len()];
    let read: Vec<_> = Reader::new(cut).expect("it begins well").collect();
    assert_eq!(read.len(), recorded.len() + 1);
    assert!(read.last().is_some_and(|last| last.is_err()));
}

proptest! {
    /// A checksum keeps accidents out and nobody else: what is inside a block that somebody made up is read to an end.
    #[test]
    fn made_up_blocks_are_refused_or_read(block in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..200, byte: u8) {
        let (whole, _) = written();
        let seal = |plain: &[u8]| {
            let stored = zstd::bulk::compress(plain, 3).expect("into memory");
            let mut bytes = whole[..6].to_vec();
            bytes.extend((stored.len() as u32).to_le_bytes());
            bytes.extend((plain.len() as u32).to_le_bytes());
            bytes.extend(crc32fast::hash(&stored).to_le_bytes());
            bytes.extend(stored);
            bytes
        };
        let _ = read(&seal(&block));
        let mut plain = zstd::bulk::decompress(&whole[18..18 + u32::from_le_bytes([whole[6], whole[7], whole[8], whole[9]]) as usize], 1 << 20).expect("a block");
        let place = at % plain.len();
        plain[place] = byte;
        let _ = read(&seal(&plain));
    }
}
