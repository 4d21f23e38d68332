//! The stream of one execution: log lines while it runs, then its end. Dropping the stream drops the
//! execution with it.

use std::pin::Pin;

use futures::stream::{self, Stream};
use mentat_runtime::model::{Event, LogLine};
use tokio::sync::mpsc;

use crate::dispatch::Executed;

/// One thing that the stream tells.
pub(super) enum Told {
    /// A line, as it was logged.
    Log(LogLine),
    /// The end; nothing comes after it.
    End(Box<Executed>),
}

type Execution = Pin<Box<dyn Future<Output = Executed> + Send>>;

enum State {
    Running(mpsc::Receiver<Event>, Execution),
    Draining(mpsc::Receiver<Event>, Box<Executed>),
    Ended,
}

/// Runs the execution while its events are read.
pub(super) fn tell(
    events: mpsc::Receiver<Event>,
    execution: impl Future<Output = Executed> + Send + 'static,
) -> impl Stream<Item = Told> + Send {
    stream::unfold(State::Running(events, Box::pin(execution)), next)
}

async fn next(mut state: State) -> Option<(Told, State)> {
    loop {
        state = match state {
            State::Running(mut events, mut execution) => tokio::select! {
                Some(Event::Log(line)) = events.recv() => {
                    return Some((Told::Log(line), State::Running(events, execution)));
                }
                executed = &mut execution => State::Draining(events, Box::new(executed)),
            },
            // The execution has dropped its sender, so this ends.
            State::Draining(mut events, executed) => match events.recv().await {
                Some(Event::Log(line)) => return Some((Told::Log(line), State::Draining(events, executed))),
                None => return Some((Told::End(executed), State::Ended)),
            },
            State::Ended => return None,
        };
    }
}
