//! Takes the commands that wait, commits them as one transaction, and announces what came of each:
//! under load the cost of a commit is shared by hundreds; alone, a command waits for nobody.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::typing::Sending;
use super::{Chat, Reply};
use crate::error::{Error, Result};
use crate::store::commit::{Command, Outcome};

/// Most commands in one transaction.
const BATCH_MAX: usize = 256;

/// A command and who waits for its answer.
pub(super) struct Job {
    pub command: Command,
    pub reply: Reply,
    /// Until it is answered.
    pub sending: Option<Sending>,
}

/// Commits what comes until shutdown, and then what is still waiting.
pub(super) async fn run(chat: Arc<Chat>, index: usize, mut queue: mpsc::Receiver<Job>, shutdown: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            count = queue.recv_many(&mut batch, BATCH_MAX) => {
                if count == 0 {
                    return;
                }
            }
            () = shutdown.cancelled() => {
                // Nothing is accepted any more, but what was is carried out.
                queue.close();
                if queue.recv_many(&mut batch, BATCH_MAX).await == 0 {
                    return;
                }
            }
        }
        let _committing = chat.committing[index].lock().await;
        commit(&chat, std::mem::take(&mut batch)).await;
    }
}

async fn commit(chat: &Arc<Chat>, batch: Vec<Job>) {
    let (commands, waiting): (Vec<Command>, Vec<(Reply, Option<Sending>)>) =
        batch.into_iter().map(|job| (job.command, (job.reply, job.sending))).unzip();
    let outcomes = match chat.store.commit(&commands).await {
        Ok(outcomes) => outcomes,
        Err(fault) if fault.is_refusal() && commands.len() > 1 => one_by_one(chat, &commands).await,
        Err(fault) => {
            let error = Error::from(fault);
            commands.iter().map(|_| Err(error.clone())).collect()
        }
    };
    for ((command, (reply, sending)), outcome) in commands.into_iter().zip(waiting).zip(outcomes) {
        chat.announce(Job { command, reply, sending }, outcome);
    }
}

/// A statement that the database refuses is one command's fault, so that the others are tried alone.
async fn one_by_one(chat: &Arc<Chat>, commands: &[Command]) -> Vec<Result<Outcome>> {
    let mut outcomes = Vec::with_capacity(commands.len());
    for command in commands {
        let outcome = match chat.store.commit(std::slice::from_ref(command)).await {
            Ok(mut outcome) => outcome.pop().unwrap_or_else(|| Err(Error::internal())),
            Err(fault) if fault.is_refusal() => {
                tracing::error!(error = %fault, conversation.id = command.conversation_id, "the store refused a command");
                Err(Error::internal())
            }
            Err(fault) => Err(fault.into()),
        };
        outcomes.push(outcome);
    }
    outcomes
}
