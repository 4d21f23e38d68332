//! The stream of one execution: log lines while it runs, then its end. Dropping the stream ends the
//! execution.
//!
//! Invariant: the execution does not wait for its reader. A stream is only polled while its client takes what it is
//! sent, so an execution that ran inside it would stand still for a client that stops reading, its place taken
//! and its clock unheard.

use futures::stream::{self, Stream};
use mentat_runtime::error::Error;
use mentat_runtime::model::{Event, LogLine};
use tokio::sync::mpsc;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::dispatch::Executed;

/// One thing that the stream tells.
pub(super) enum Told {
    /// A line, as it was logged.
    Log(LogLine),
    /// The end; nothing comes after it.
    End(Result<Box<Executed>, Error>),
}

enum State {
    Running(mpsc::Receiver<Event>, AbortOnDropHandle<Executed>),
    Draining(mpsc::Receiver<Event>, Result<Box<Executed>, Error>),
    Ended,
}

/// Starts the execution on the tracked tasks, and tells its events.
pub(super) fn tell<Execution>(
    tasks: &TaskTracker,
    events: mpsc::Receiver<Event>,
    execution: Execution,
) -> impl Stream<Item = Told> + Send + use<Execution>
where
    Execution: Future<Output = Executed> + Send + 'static,
{
    let execution = AbortOnDropHandle::new(tasks.spawn(execution));
    stream::unfold(State::Running(events, execution), next)
}

async fn next(mut state: State) -> Option<(Told, State)> {
    loop {
        state = match state {
            State::Running(mut events, mut execution) => tokio::select! {
                Some(Event::Log(line)) = events.recv() => {
                    return Some((Told::Log(line), State::Running(events, execution)));
                }
                executed = &mut execution => {
                    let ended = executed.map(Box::new);
                    State::Draining(events, ended.map_err(|error| Error::internal("executing the agent", error)))
                }
            },
            // The execution has dropped its sender, so this ends.
            State::Draining(mut events, ended) => match events.recv().await {
                Some(Event::Log(line)) => return Some((Told::Log(line), State::Draining(events, ended))),
                None => return Some((Told::End(ended), State::Ended)),
            },
            State::Ended => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;
    use mentat_runtime::model::{Answer, ExecutionId, LogLevel, Outcome};
    use tokio::sync::oneshot;

    use super::*;

    fn executed() -> Executed {
        let result = Ok(Answer { output: "done".into(), exit_code: 0 });
        let outcome = Outcome { result, ..Outcome::failed(Error::Cancelled) };
        Executed { execution_id: ExecutionId::new(), version: None, outcome, receipt: None }
    }

    fn line(message: &str) -> Event {
        Event::Log(LogLine {
            level: LogLevel::Info,
            message: message.into(),
            timestamp: std::time::SystemTime::UNIX_EPOCH,
        })
    }

    #[tokio::test]
    async fn lines_come_first_and_the_end_last() {
        let (sender, events) = mpsc::channel(4);
        let execution = async move {
            sender.send(line("one")).await.unwrap();
            sender.send(line("two")).await.unwrap();
            executed()
        };
        let told: Vec<Told> = tell(&TaskTracker::new(), events, execution).collect().await;
        let [Told::Log(one), Told::Log(two), Told::End(Ok(end))] = &told[..] else {
            panic!("{} things were told", told.len());
        };
        assert_eq!((one.message.as_str(), two.message.as_str()), ("one", "two"));
        assert_eq!(end.outcome.result.as_ref().unwrap().output, "done");
    }

    #[tokio::test]
    async fn an_execution_ends_though_nobody_reads_its_stream() {
        let (sender, events) = mpsc::channel(4);
        let (ended, end) = oneshot::channel();
        let _unread = tell(&TaskTracker::new(), events, async move {
            sender.send(line("one")).await.unwrap();
            ended.send(()).unwrap();
            executed()
        });
        tokio::time::timeout(Duration::from_secs(20), end).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_execution_ends_with_its_stream() {
        let (alive, mut gone) = mpsc::channel::<()>(1);
        let (_sender, events) = mpsc::channel(1);
        let stream = tell(&TaskTracker::new(), events, async move {
            let _until_dropped = alive;
            std::future::pending().await
        });
        drop(stream);
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), gone.recv()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_bug_that_ends_the_execution_is_told_as_one() {
        let (sender, events) = mpsc::channel(1);
        drop(sender);
        let told: Vec<Told> =
            tell(&TaskTracker::new(), events, async { panic!("a bug in a test") }).collect().await;
        assert!(matches!(&told[..], [Told::End(Err(Error::Internal { .. }))]));
    }
}
