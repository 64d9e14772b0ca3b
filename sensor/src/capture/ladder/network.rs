//! The rungs of datagrams and of what is read from them.

use super::{Cgroup, Hook, Part, Rung};

/// Through which nothing but datagrams goes, in the process that sends or receives.
const DATAGRAMS_BY_FUNCTION: Rung = Rung {
    program: "datagram_send",
    hook: Hook::FunctionEntry("ip_send_skb"),
    also: &[
        part("datagram_send6", Hook::FunctionEntry("ip6_send_skb")),
        part("datagram_receive", Hook::FunctionEntry("skb_consume_udp")),
    ],
    blind_spot: "",
};
/// Through which every packet goes.
const DATAGRAMS_BY_CGROUP: Rung = Rung {
    program: "datagram_egress",
    hook: Hook::Cgroup(Cgroup::Egress),
    also: &[part("datagram_ingress", Hook::Cgroup(Cgroup::Ingress))],
    blind_spot: "",
};

const fn part(program: &'static str, hook: Hook) -> Part {
    Part {
        program,
        hook,
        optional: false,
    }
}

const fn with(rung: Rung, blind_spot: &'static str) -> Rung {
    Rung { blind_spot, ..rung }
}

pub(super) const FLOW_REPORT: &[Rung] = &[Rung {
    program: "tcp_report",
    hook: Hook::Iterator("tcp"),
    also: &[part("tcp_state", Hook::Tracepoint("inet_sock_set_state"))],
    blind_spot: "a connection that began before the agent, until it closes",
}];
pub(super) const BIND: &[Rung] = &[
    Rung {
        program: "bind_exit",
        hook: Hook::FunctionExit("__inet_bind"),
        also: &[part("bind6_exit", Hook::FunctionExit("__inet6_bind"))],
        blind_spot: "raw sockets, whose addresses are those of the host",
    },
    Rung {
        program: "bind_cgroup",
        hook: Hook::Cgroup(Cgroup::PostBind4),
        also: &[part("bind6_cgroup", Hook::Cgroup(Cgroup::PostBind6))],
        blind_spot: "raw sockets, whose addresses are those of the host",
    },
];
/// Both need to know that a connection is new, and whose.
const TCP_STATE: &[Part] = &[part("tcp_state", Hook::Tracepoint("inet_sock_set_state"))];
const HELLO_BLIND_SPOT: &str = "what is behind the first buffer of a call, longer than 4 KiB, sent through io_uring or by a 32-bit program, or said over QUIC";
pub(super) const TLS_HELLO: &[Rung] = &[
    Rung {
        program: "tls_sendmsg",
        hook: Hook::FunctionExit("tcp_sendmsg"),
        also: TCP_STATE,
        blind_spot: HELLO_BLIND_SPOT,
    },
    Rung {
        program: "tls_send",
        hook: Hook::Tracepoint("sock_send_length"),
        also: TCP_STATE,
        blind_spot: HELLO_BLIND_SPOT,
    },
];
pub(super) const UDP_FLOW: &[Rung] = &[
    with(
        DATAGRAMS_BY_FUNCTION,
        "datagrams that nobody reads, and those behind an extension header of IPv6",
    ),
    with(
        DATAGRAMS_BY_CGROUP,
        "who receives on a socket that was bound before the agent began and has sent nothing, and datagrams behind an extension header of IPv6",
    ),
];
pub(super) const DNS: &[Rung] = &[
    with(
        DATAGRAMS_BY_FUNCTION,
        "what is asked over TCP, TLS or HTTPS, and answers that nobody reads",
    ),
    with(DATAGRAMS_BY_CGROUP, "what is asked over TCP, TLS or HTTPS"),
];
