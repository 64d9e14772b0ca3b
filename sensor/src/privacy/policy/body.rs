//! What happened.

use std::borrow::Cow;

use sensor_proto::v1::{self, event::Body};

use super::{Field, Policy};
use crate::{
    export::escape,
    privacy::{
        pseudonym::{Kind, Pseudonyms, is_system},
        redact,
    },
};

impl Policy {
    pub(super) fn body(&self, body: &mut Body) {
        match body {
            Body::Exec(exec) => self.exec(exec),
            Body::Connect(event) => self.tuple(event.tuple.as_mut()),
            Body::Accept(event) => self.tuple(event.tuple.as_mut()),
            Body::FlowClose(event) | Body::FlowReport(event) => self.tuple(event.tuple.as_mut()),
            Body::UdpFlow(event) => self.tuple(event.tuple.as_mut()),
            Body::Listen(event) => self.address(&mut event.address),
            Body::Bind(event) => self.address(&mut event.address),
            Body::Dns(event) => self.dns(event),
            Body::TlsHello(event) => {
                self.tuple(event.tuple.as_mut());
                self.host(&mut event.server_name);
            }
            Body::Credential(event) => {
                let both = [&mut event.before, &mut event.after];
                both.into_iter()
                    .flatten()
                    .for_each(|credentials| self.credentials(credentials));
            }
            Body::Session(event) => self.session(event),
            Body::Operation(event) => self.operation(event),
            Body::Fork(_) | Body::Exit(_) | Body::Sequence(_) => {}
        }
    }

    fn exec(&self, exec: &mut v1::Exec) {
        if self.drops(Field::Environment) {
            exec.variables_unread |= !exec.variables.is_empty();
            exec.variables.clear();
        }
        for variable in &mut exec.variables {
            if self.redact
                && let Cow::Owned(shown) = redact::variable(variable.as_bytes())
            {
                *variable = escape(&shown);
            }
            if let Some(names) = &self.pseudonyms {
                *variable = names.text(variable);
            }
        }
        if let Some(names) = &self.pseudonyms {
            exec.filename = names.path(&exec.filename);
            exec.filename_raw.clear();
        }
    }

    fn operation(&self, operation: &mut v1::Operation) {
        let Some(names) = &self.pseudonyms else { return };
        for text in [
            &mut operation.path,
            &mut operation.target,
            &mut operation.previous,
        ] {
            *text = names.path(text);
        }
        operation.path_raw.clear();
        operation.target_raw.clear();
    }

    fn session(&self, session: &mut v1::Session) {
        let is_person = session.uid.map_or(session.user != "root", |uid| !is_system(uid));
        if let Some(names) = self.names(Kind::Users) {
            if is_person && !session.user.is_empty() {
                session.user = names.user(&session.user);
            }
            session.uid = session.uid.map(|id| names.id(id));
            session.from_uid = session.from_uid.map(|id| names.id(id));
        }
        self.host(&mut session.remote);
        if let Some(names) = &self.pseudonyms {
            session.program = names.path(&session.program);
        }
    }

    fn credentials(&self, credentials: &mut v1::Credentials) {
        let Some(names) = &self.pseudonyms else { return };
        let v1::Credentials {
            uid,
            gid,
            suid,
            sgid,
            euid,
            egid,
            fsuid,
            fsgid,
            ..
        } = credentials;
        for id in [uid, gid, suid, sgid, euid, egid, fsuid, fsgid] {
            *id = names.id(*id);
        }
    }

    fn dns(&self, dns: &mut v1::Dns) {
        self.tuple(dns.tuple.as_mut());
        self.host(&mut dns.name);
        if self.drops(Field::HostNames) {
            dns.answers.clear();
        }
        for answer in &mut dns.answers {
            self.host(answer);
        }
    }

    fn tuple(&self, tuple: Option<&mut v1::Tuple>) {
        let Some(tuple) = tuple else { return };
        self.address(&mut tuple.local_address);
        self.address(&mut tuple.remote_address);
        self.host(&mut tuple.remote_name);
    }

    fn address(&self, address: &mut String) {
        if let Some(names) = self.addresses() {
            *address = names.address(address);
        }
    }

    /// A name, or an address where a name can be.
    fn host(&self, name: &mut String) {
        if self.drops(Field::HostNames) && name.parse::<std::net::IpAddr>().is_err() {
            name.clear();
        } else if let Some(names) = self.addresses() {
            *name = names.host(name);
        }
    }

    fn addresses(&self) -> Option<&Pseudonyms> {
        self.names(Kind::Addresses)
    }
}
