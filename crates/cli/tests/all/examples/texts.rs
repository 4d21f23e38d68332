//! `summarise`: its summary is told token by token while it works, and is the same as its output.

use futures::StreamExt;
use mentat_proto::v1;
use mentat_proto::v1::execute_agent_event::Event;

use super::Studio;
use crate::program::text;
use crate::server::execute;

const AGENT: &str = "mentatlab.summarise";

#[tokio::test(flavor = "multi_thread")]
async fn tokens_come_in_order_with_the_progress_and_are_the_output() {
    let studio = Studio::with("summarise", &[]).await;
    let input = "Ships need a light. The keeper slept. The light shows everybody the way. It rained. \
                 Ships saw the light.";
    let request = execute(AGENT, input);
    let mut told = studio.server.client().await.execute_agent_stream(request).await.unwrap().into_inner();
    let (mut tokens, mut progress, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(event) = told.next().await {
        match event.unwrap().event.unwrap() {
            Event::StreamStart(start) => assert_eq!((start.stream.as_str(), tokens.len()), ("summary", 0)),
            Event::StreamData(data) => tokens.push(text(&data.chunk)),
            Event::Metric(metric) => {
                assert_eq!(metric.name, "progress");
                progress.push((tokens.len(), metric.value));
            }
            Event::StreamEnd(end) => ends.push((end.stream, end.total_chunks, end.whole)),
            Event::Response(response) => ends.push((text(&response.output), 0, response.exit_code == 0)),
            Event::Log(line) => assert_eq!(line.message, "kept 2 of 5 sentences"),
            other => panic!("{other:?}"),
        }
    }
    let first = ["Ships", " need", " a", " light", ".", "\n"];
    let second = ["Ships", " saw", " the", " light", ".", "\n"];
    assert_eq!(tokens, [first, second].concat());
    assert_eq!(progress, [(0, 0.0), (6, 0.5), (12, 1.0)]);
    assert_eq!(ends, [("summary".into(), 12, true), (tokens.concat(), 0, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_token_is_read_while_the_agent_still_works() {
    // More than lies between a writer and a reader, so that the agent waits for who reads.
    let words = 100_000;
    let sentence = format!("The light{}.", " shines".repeat(words));
    let studio = Studio::with("summarise", &["streams.block_ms=60000", "streams.buffer_events=100"]).await;
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let request = v1::ExecuteAgentRequest { execution_id: id.into(), ..execute(AGENT, sentence.clone()) };
    let mut told = studio.server.client().await.execute_agent_stream(request).await.unwrap().into_inner();
    let (mut summary, mut chunks, mut output) = (String::new(), 0, None);
    while let Some(event) = told.next().await {
        match event.unwrap().event.unwrap() {
            Event::StreamData(data) => {
                if summary.is_empty() {
                    let request = v1::GetExecutionRequest { execution_id: id.into() };
                    let now = studio.server.client().await.get_execution(request).await.unwrap().into_inner();
                    assert_eq!(
                        (text(&data.chunk).as_str(), now.state()),
                        ("The", v1::ExecutionState::Running)
                    );
                }
                chunks += 1;
                summary.push_str(&text(&data.chunk));
            }
            Event::Missed(missed) => panic!("{missed:?}"),
            Event::Response(response) => output = Some(text(&response.output)),
            _ => {}
        }
    }
    assert_eq!(chunks, words + 4, "the subject, the words, the full stop, the end of the line");
    assert_eq!((&summary, output.as_ref()), (&(sentence + "\n"), Some(&summary)));
}
