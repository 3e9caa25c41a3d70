//! Takes the commands that wait, commits them as one transaction, and announces what came of each:
//! under load the cost of a commit is shared by hundreds; alone, a command waits for nobody.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::typing::Sending;
use super::{Chat, Reply};
use crate::error::Error;
use crate::protocol::Close;
use crate::store::Fault;
use crate::store::commit::Command;

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
    let outcome = chat.store.commit(&commands).await;
    let is_alone = commands.len() == 1;
    let jobs = commands.into_iter().zip(waiting);
    let jobs = jobs.map(|(command, (reply, sending))| Job { command, reply, sending });
    match outcome {
        Ok(outcomes) => {
            for (job, outcome) in jobs.zip(outcomes) {
                chat.announce(job, outcome);
            }
        }
        // A statement that the database refuses is one command's fault, so that the others are tried alone.
        Err(fault) if fault.is_refusal() && !is_alone => {
            for job in jobs {
                Box::pin(commit(chat, vec![job])).await;
            }
        }
        Err(fault) if fault.is_refusal() => {
            for job in jobs {
                let conversation_id = job.command.conversation_id;
                tracing::error!(error = %fault, conversation.id = conversation_id, "the store refused a command");
                chat.announce(job, Err(Error::internal()));
            }
        }
        Err(fault @ Fault::Unknown(_)) => lose(fault, jobs),
        Err(fault) => {
            let error = Error::from(fault);
            jobs.for_each(|job| chat.announce(job, Err(error.clone())));
        }
    }
}

/// Nobody knows what came of these commands: whoever asked by a socket comes back and sees.
fn lose(fault: Fault, jobs: impl Iterator<Item = Job>) {
    let error = Error::from(fault);
    for Job { reply, .. } in jobs {
        if let Some(outbox) = reply.outbox() {
            outbox.close(Close::TryAgainLater);
        }
        if let Reply::Waiter(waiter) = reply {
            let _ = waiter.send(Err(error.clone()));
        }
    }
}
