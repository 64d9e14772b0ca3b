//! One command, from the look at whether it is allowed to its answer.

use std::{sync::PoisonError, time::Duration};

use sensor_proto::{
    ENTRY_BYTES_MAX, action_name,
    v1::{
        Command, CommandAnswer, GetStatusRequest, OfferBundleRequest, ReloadResponse, RespondRequest,
        RespondResponse, Result as Became, RuleFiles, Snapshot, agent_server::Agent as _, command::What,
        command_answer::Answer, respond_response,
    },
};
use tokio::time::{Instant, sleep};
use tonic::{Request, Status};

use super::{
    Permission, Remote,
    journal::{Known, Parcel},
    permission::{collects, wish},
    rules,
};
use crate::{
    forensics::told,
    respond::{ActionResult, Person, Step},
    time::WallTime,
};

/// Longest text of who asked and why, in bytes.
const TEXT_MAX: usize = 1_024;

/// How long something may take that goes on by itself, as a bundle does.
const LASTS: Duration = Duration::from_secs(3_600);

/// How often it is looked whether it is over.
const LOOK: Duration = Duration::from_millis(200);

/// Most processes of a snapshot.
const PROCESSES: usize = 20_000;

impl Remote {
    /// Does what is asked, once, and says what came of it.
    pub(super) async fn perform(&self, command: Command) -> CommandAnswer {
        let said = |answer| CommandAnswer {
            id: command.id.clone(),
            answer: Some(answer),
            time_ns: WallTime::now().0,
            bundle: String::new(),
        };
        let (id, who) = (&command.id, &command.who);
        let what = match self.acceptable(&command) {
            Ok(what) => what,
            Err(why) => {
                tracing::warn!(id, who, "the collector asked in vain: {why}");
                self.note_refusal(&command, &why);
                return said(Answer::Refused(why));
            }
        };
        if matches!(what, What::Snapshot(_)) {
            // It changes nothing, and may be as large as the journal.
            return said(self.answer(&command, what).await);
        }
        match self.begin(&command).await {
            Ok(Known::New) => {}
            Ok(Known::Answered(answer)) => return *answer,
            Ok(Known::Begun) => return said(interrupted()),
            Err(why) => return said(Answer::Failed(why)),
        }
        let answer = self.begun(&command, what, said).await;
        self.finish(answer.clone()).await;
        answer
    }

    /// Does what is in the journal, unless its time is over.
    async fn begun(
        &self,
        command: &Command,
        what: What,
        said: impl Fn(Answer) -> CommandAnswer,
    ) -> CommandAnswer {
        let (id, who) = (&command.id, &command.who);
        if command.expires_ns <= WallTime::now().0 {
            return said(Answer::Failed(
                "it expired before this host heard of it".to_owned(),
            ));
        }
        tracing::info!(id, who, "asked by the collector: {}", in_words(&what));
        if matches!(what, What::Reload(_) | What::Rules(_)) {
            self.note(command, &in_words(&what));
        }
        let makes_bundle = collects(&what);
        let answer = said(self.answer(command, what).await);
        match makes_bundle {
            true => self.until_collected(answer, command).await,
            false => answer,
        }
    }

    /// Has the audit of this host say what was asked for that is no action, or does not come to be one.
    fn note(&self, command: &Command, what: &str) {
        let Some(orders) = &self.service.orders else {
            return;
        };
        let why = match &command.why[..command.why.floor_char_boundary(TEXT_MAX)] {
            "" => what.to_owned(),
            why => format!("{what} ({why})"),
        };
        let name = by_collector(command);
        orders.note(Step::Requested, Person { name, why });
    }

    /// The same of what is refused; of what comes within a second of another, the log alone has it: refusals shall not fill a disk.
    fn note_refusal(&self, command: &Command, why: &str) {
        const APART: Duration = Duration::from_secs(1);
        let now = Instant::now();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.is_some_and(|noted| now.duration_since(noted) < APART) {
            return;
        }
        *noted = Some(now);
        let what = command
            .what
            .as_ref()
            .map_or("what it does not know".to_owned(), in_words);
        self.note(command, &format!("{what}: refused: {why}"));
    }

    /// What is asked, or why it may not be asked of this host.
    fn acceptable(&self, command: &Command) -> Result<What, String> {
        const UNKNOWN: &str = "this agent does not know what that is; it may be older than the collector";
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !(1..=64).contains(&command.id.len()) || !command.id.bytes().all(is_id) {
            return Err("its id is not 1 to 64 letters, digits and hyphens".to_owned());
        }
        if command.who.len() > TEXT_MAX || command.why.len() > TEXT_MAX {
            return Err(format!("who asks, or why, is longer than {TEXT_MAX} bytes"));
        }
        let what = command.what.clone().ok_or(UNKNOWN)?;
        let needed = Permission::needed(&what).ok_or(UNKNOWN)?;
        if self.allow.contains(&needed) {
            return Ok(what);
        }
        Err(format!(
            "this host does not allow its collector to ask for that: [remote] allow has no \"{needed}\""
        ))
    }

    async fn begin(&self, command: &Command) -> Result<Known, String> {
        let (journal, command) = (self.journal.clone(), command.clone());
        let what = command.what.as_ref().map(in_words).unwrap_or_default();
        let begun = tokio::task::spawn_blocking(move || {
            journal.begin(&command.id, command.expires_ns, &command.who, &what)
        });
        match begun.await {
            Ok(known) => known.map_err(|error| error.to_string()),
            Err(_) => Err("the agent is ending".to_owned()),
        }
    }

    async fn finish(&self, answer: CommandAnswer) {
        let journal = self.journal.clone();
        let finished = tokio::task::spawn_blocking(move || journal.finish(&answer)).await;
        if let Ok(Err(error)) = finished {
            tracing::warn!("the answer to a command is not kept: {error}");
        }
    }

    async fn answer(&self, command: &Command, what: What) -> Answer {
        let answer = match (&what, wish(&what)) {
            (_, Some(wish)) => {
                let request = RespondRequest {
                    wish: Some(wish),
                    why: command.why.clone(),
                };
                self.service
                    .fulfil(request, by_collector(command))
                    .await
                    .map(Answer::Response)
            }
            (What::Reload(_), _) => {
                let reloaded = self.service.reload_for(by_collector(command)).await;
                reloaded.map(Answer::Reloaded)
            }
            (What::Rules(files), _) => self
                .replace_rules(files, by_collector(command))
                .await
                .map(Answer::Reloaded),
            _ => self.snapshot().await.map(Answer::Snapshot),
        };
        answer.unwrap_or_else(|status| Answer::Failed(status.message().to_owned()))
    }

    /// Uses these rules, as a whole or not at all. One set at a time.
    async fn replace_rules(&self, files: &RuleFiles, who: Box<str>) -> Result<ReloadResponse, Status> {
        let _alone = self.rules.lock().await;
        let (state, files) = (self.state.clone(), files.clone());
        let put = tokio::task::spawn_blocking(move || rules::put(&state, &files)).await;
        let placed = put.map_err(|_| Status::unavailable("the agent is ending"))?;
        let placed = placed.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let reloaded = self.service.reload_for(who).await;
        if reloaded.is_err() {
            placed.take_back();
        }
        reloaded
    }

    /// What the agent says of itself, and the processes that run, as far as a message takes them.
    async fn snapshot(&self) -> Result<Snapshot, Status> {
        let status = self
            .service
            .get_status(Request::new(GetStatusRequest {}))
            .await?
            .into_inner();
        let orders = self.service.orders.as_ref();
        let orders = orders.ok_or_else(|| Status::unimplemented("nobody here knows of processes"))?;
        let running = orders
            .examine(|_, tree| tree.iter().cloned().collect::<Vec<_>>())
            .await;
        let running = running.ok_or_else(|| Status::unavailable("the agent is ending"))?;
        let mut snapshot = Snapshot {
            status: Some(status),
            ..Snapshot::default()
        };
        let mut room = ENTRY_BYTES_MAX;
        for process in &running {
            let process = self.service.converter.process_of(process, None);
            let bytes = prost::Message::encoded_len(&process) + 8;
            if snapshot.processes.len() == PROCESSES || bytes > room {
                snapshot.left_out += 1;
                continue;
            }
            room -= bytes;
            snapshot.processes.push(process);
        }
        Ok(snapshot)
    }

    /// A bundle is begun; waits until it is there, and has it sent.
    async fn until_collected(&self, mut answer: CommandAnswer, command: &Command) -> CommandAnswer {
        let Some(Answer::Response(RespondResponse {
            answer: Some(respond_response::Answer::Begun(number)),
        })) = answer.answer
        else {
            return answer;
        };
        let until = Instant::now() + LASTS;
        let is_it = |outcome: &std::sync::Arc<crate::respond::Outcome>| {
            outcome.number == number && !matches!(outcome.result, ActionResult::Asked)
        };
        while Instant::now() < until {
            let responses = self.responses().await;
            let Some(outcome) =
                responses.and_then(|responses| responses.history.into_iter().rev().find(is_it))
            else {
                sleep(LOOK).await;
                continue;
            };
            let told = self.service.converter.outcome(&outcome);
            if told.result() == Became::Done
                && let Some(parcel) = parcel(&outcome.detail, &command.id)
            {
                answer.bundle.clone_from(&parcel.offer.sha256);
                let journal = self.journal.clone();
                let posted = tokio::task::spawn_blocking(move || journal.post(&parcel)).await;
                if let Ok(Err(error)) = posted {
                    tracing::warn!("a bundle is not sent: {error}");
                }
            }
            let response = RespondResponse {
                answer: Some(respond_response::Answer::Outcome(told)),
            };
            answer.answer = Some(Answer::Response(response));
            break;
        }
        answer.time_ns = WallTime::now().0;
        answer
    }
}

/// The bundle that an outcome tells of.
fn parcel(detail: &str, command: &str) -> Option<Parcel> {
    let (path, size, sha256) = told(detail)?;
    let name = path.rsplit('/').next()?;
    Some(Parcel {
        offer: OfferBundleRequest {
            sha256: sha256.to_owned(),
            name: name.to_owned(),
            size,
            command: command.to_owned(),
        },
        path: path.to_owned(),
    })
}

/// Who asked, as the audit has it; it may be too long to be accepted.
fn by_collector(command: &Command) -> Box<str> {
    let who = &command.who[..command.who.floor_char_boundary(TEXT_MAX)];
    format!("{who} by the collector").into()
}

fn interrupted() -> Answer {
    Answer::Failed(
        "the agent ended in the midst of it, and does not begin it again; `history` tells what came of it"
            .to_owned(),
    )
}

/// What is asked, for the log and the journal.
fn in_words(what: &What) -> String {
    match what {
        What::Approve(number) => format!("approve {number}"),
        What::Deny(number) => format!("deny {number}"),
        What::Undo(number) => format!("undo {number}"),
        What::Order(order) => action_name(order.kind()),
        What::Reload(_) => "reload".to_owned(),
        What::Rules(files) => format!("rules, {} files", files.files.len()),
        What::Snapshot(_) => "status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_found_by_what_its_outcome_says() {
        let parcel = parcel(
            "/var/lib/sensor/forensics/a, b.tar.zst, 1234 bytes, SHA-256 00ff",
            "c1",
        )
        .unwrap();
        assert_eq!(parcel.path, "/var/lib/sensor/forensics/a, b.tar.zst");
        assert_eq!(
            (
                parcel.offer.name.as_str(),
                parcel.offer.size,
                parcel.offer.sha256.as_str()
            ),
            ("a, b.tar.zst", 1234, "00ff")
        );
        assert_eq!(super::parcel("it is gone", "c1"), None);
    }
}
