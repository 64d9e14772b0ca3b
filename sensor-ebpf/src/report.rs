//! What open connections have carried so far: the agent walks the sockets of a network namespace from time to time, and this
//! program reports those that are due.

use core::ffi::c_void;

use sensor_common::{FlowClose, Signal, record::flow_flags};

use crate::{
    emit,
    kernel::Address,
    network::{self, FLOWS},
};

/// `int bpf_iter_tcp(struct bpf_iter_meta *meta, struct sock_common *sk_common, uid_t uid)`, its arguments in a struct.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn tcp_report(ctx: *mut c_void) -> i32 {
    // SAFETY: the second of the arguments, eight bytes each; the verifier checks the offset. It is null at the end of a walk.
    let sock = unsafe { *ctx.cast::<Address>().add(1) };
    if !sock.is_null() {
        report(sock);
    }
    0
}

#[inline(always)]
fn report(sock: Address) {
    let Some(owner) = FLOWS.get_ptr_mut(network::key(sock)) else {
        return;
    };
    let Some(settings) = emit::settings() else {
        return;
    };
    let now = network::now();
    // SAFETY: map memory is valid while the program runs.
    let identity = unsafe {
        let (start, reported) = ((*owner).start_time, (*owner).reported);
        let since = if reported > start { reported } else { start };
        if now < since.wrapping_add(settings.flow_interval) {
            return;
        }
        (*owner).reported = now;
        &(*owner).identity
    };
    let Some(admitted) = emit::admit(Signal::FlowReport) else {
        return;
    };
    let Some(admitted) = network::unless_muted(admitted, sock, identity) else {
        return;
    };
    admitted.submit::<FlowClose>(|record| {
        // SAFETY: the record is valid for writes, the owner while the program runs; the socket is one by the walk's prototype.
        unsafe {
            let body = &raw mut (*record).body;
            network::copy(&raw const (*owner).identity, &raw mut (*record).header.identity);
            (*body).start_time = (*owner).start_time;
            (*body).flags = (*owner).flags as u32 | flow_flags::ESTABLISHED;
            (*body).socket = network::key(sock);
            network::write_tuple(sock, &raw mut (*body).tuple);
            network::write_totals(sock, body);
        }
    });
}
