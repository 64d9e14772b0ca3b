//! What people ask of the running pipeline, and its answers.

use std::{sync::mpsc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    detect::Detector,
    host::Tree,
    pipeline::Command,
    respond::{Answer, Person, Responses, Step, Wish},
};

/// How long the pipeline may take: it looks at least every 50 ms, and then decides.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pipeline did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent did not answer; is it ending? `sensor respond history` tells whether it was done")]
pub struct NoAnswer;

/// Takes orders to the pipeline.
#[derive(Clone, Debug)]
pub struct Orders {
    pipeline: mpsc::Sender<Command>,
}

impl Orders {
    /// To the pipeline that reads the other end.
    #[must_use]
    pub fn new(pipeline: mpsc::Sender<Command>) -> Self {
        Self { pipeline }
    }

    /// Has something done; the inner error is the responder's, in words for the person.
    ///
    /// # Errors
    /// If the pipeline does not answer.
    pub async fn fulfil(&self, wish: Wish, person: Person) -> Result<Result<Answer, String>, NoAnswer> {
        self.ask(|answer| Command::Fulfil(wish, person, answer)).await
    }

    /// Has it written down that somebody asked for what is no action, or changed what the agent does.
    pub fn note(&self, step: Step, person: Person) {
        // A pipeline that has ended asks nothing of the host either.
        let _ = self.pipeline.send(Command::Note(step, person));
    }

    /// What waits and what was.
    ///
    /// # Errors
    /// If the pipeline does not answer.
    pub async fn responses(&self) -> Result<Responses, NoAnswer> {
        self.ask(Command::Responses).await
    }

    /// What `question` finds of what detection knows and of the processes; `None` if the pipeline does not answer.
    pub async fn examine<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Detector, &Tree) -> T + Send + 'static,
    ) -> Option<T> {
        let ask = |answer: oneshot::Sender<T>| {
            Command::Ask(Box::new(move |detector, processes| {
                // Nobody to hear it is no reason not to have done it.
                let _ = answer.send(question(detector, processes));
            }))
        };
        self.ask(ask).await.ok()
    }

    /// Sends what `command` makes of the way back, and waits for what comes on it.
    ///
    /// # Errors
    /// If the pipeline does not answer.
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        self.pipeline.send(command(answer)).map_err(|_| NoAnswer)?;
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(NoAnswer),
        }
    }
}
