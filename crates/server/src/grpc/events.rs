//! The stream of an execution's events while it runs, then its end. Dropping the stream ends the execution.
//!
//! Invariant: the execution does not wait for its reader but within the back-pressure that is configured. A stream is only
//! polled while its client takes what it is sent, so an execution that ran inside it would stand still for a client
//! that stops reading, its place taken and its clock unheard.

use std::sync::Arc;

use futures::stream::{self, Stream};
use mentat_runtime::error::Error;
use mentat_runtime::events::{Delivery, EventReader};
use mentat_runtime::model::{Event, NumberedEvent};
use tokio::task::JoinError;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::dispatch::Executed;

/// One thing that the stream tells.
pub(super) enum Told {
    /// An event but the end, or events that were missed.
    Delivery(Delivery),
    /// The end, with the event of it where there was one; nothing comes after it.
    End(Result<Box<Executed>, Error>, Option<Arc<NumberedEvent>>),
}

enum State {
    Running(EventReader, AbortOnDropHandle<Executed>),
    /// The end was told to all who follow, and is about to be told here.
    Ending(AbortOnDropHandle<Executed>, Arc<NumberedEvent>),
    Draining(EventReader, Result<Box<Executed>, Error>),
    Ended,
}

/// Starts the execution on the tracked tasks, and tells its events.
pub(super) fn tell<Execution>(
    tasks: &TaskTracker,
    events: EventReader,
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
                Some(delivery) = events.next() => match end_of(&delivery) {
                    Some(end) => State::Ending(execution, end),
                    None => return Some((Told::Delivery(delivery), State::Running(events, execution))),
                },
                executed = &mut execution => State::Draining(events, ended(executed)),
            },
            State::Ending(execution, end) => {
                return Some((Told::End(ended(execution.await), Some(end)), State::Ended));
            }
            // Nothing is written after the execution's end, and nothing at all where it was refused.
            State::Draining(mut events, ended) => match events.now() {
                Some(delivery) => match end_of(&delivery) {
                    Some(end) => return Some((Told::End(ended, Some(end)), State::Ended)),
                    None => return Some((Told::Delivery(delivery), State::Draining(events, ended))),
                },
                None => return Some((Told::End(ended, None), State::Ended)),
            },
            State::Ended => return None,
        };
    }
}

fn ended(executed: Result<Executed, JoinError>) -> Result<Box<Executed>, Error> {
    executed.map(Box::new).map_err(|error| Error::internal("executing the agent", error))
}

/// The event, if it is the end.
fn end_of(delivery: &Delivery) -> Option<Arc<NumberedEvent>> {
    match delivery {
        Delivery::Event(event) if matches!(event.event, Event::End(_)) => Some(Arc::clone(event)),
        Delivery::Event(_) | Delivery::Missed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;
    use mentat_runtime::events::{EventBuffer, EventLimits};
    use mentat_runtime::model::{Answer, Ended, ExecutionId, LogLevel, LogLine, Outcome, Usage};
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    fn buffer() -> Arc<EventBuffer> {
        let (agent, room) = ("a.b".parse().unwrap(), Arc::default());
        Arc::new(EventBuffer::new(EventLimits::default(), "default".into(), agent, room))
    }

    fn executed() -> Executed {
        let result = Ok(Answer { output: "done".into(), exit_code: 0 });
        let outcome = Outcome { result, ..Outcome::failed(Error::Cancelled) };
        Executed { execution_id: ExecutionId::new(), version: None, runtime: None, outcome, receipt: None }
    }

    fn end() -> Ended {
        let result = Ok(Answer { output: "done".into(), exit_code: 0 });
        let version = "1.0.0".parse().unwrap();
        Ended { version, result, output_left_out: false, usage: Usage::default(), logs_dropped: 0 }
    }

    fn line(message: &str) -> Event {
        Event::Log(LogLine {
            level: LogLevel::Info,
            message: message.into(),
            timestamp: std::time::SystemTime::UNIX_EPOCH,
        })
    }

    #[tokio::test]
    async fn events_come_first_and_the_end_last() {
        let events = buffer();
        let reader = events.read_from(0);
        let execution = async move {
            events.write(line("one")).unwrap();
            tokio::task::yield_now().await;
            events.write(line("two")).unwrap();
            events.end(end());
            executed()
        };
        let told: Vec<Told> = tell(&TaskTracker::new(), reader, execution).collect().await;
        let numbers: Vec<u64> = told
            .iter()
            .map(|told| match told {
                Told::Delivery(Delivery::Event(event)) | Told::End(Ok(_), Some(event)) => event.sequence,
                _ => panic!("something else was told"),
            })
            .collect();
        assert_eq!(numbers, [0, 1, 2]);
        assert!(matches!(told.last(), Some(Told::End(..))));
    }

    #[tokio::test]
    async fn an_execution_ends_though_nobody_reads_its_stream() {
        let events = buffer();
        let reader = events.read_from(0);
        let (ended, end) = oneshot::channel();
        let _unread = tell(&TaskTracker::new(), reader, async move {
            events.write(line("one")).unwrap();
            ended.send(()).unwrap();
            executed()
        });
        tokio::time::timeout(Duration::from_secs(20), end).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_execution_ends_with_its_stream() {
        let (alive, mut gone) = mpsc::channel::<()>(1);
        let stream = tell(&TaskTracker::new(), buffer().read_from(0), async move {
            let _until_dropped = alive;
            std::future::pending().await
        });
        drop(stream);
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), gone.recv()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_bug_that_ends_the_execution_is_told_as_one() {
        let execution = async { panic!("a bug in a test") };
        let told: Vec<Told> = tell(&TaskTracker::new(), buffer().read_from(0), execution).collect().await;
        assert!(matches!(&told[..], [Told::End(Err(Error::Internal { .. }), None)]));
    }
}
