//! The metrics as they are told: every one of the table, within its labels, and in the page.

use std::time::Duration;

use bytes::Bytes;
use mentat_manifest::RuntimeKind;
use mentat_runtime::model::Answer;

use super::*;
use crate::rollout::{Choice, ChoiceReason};

fn ran(exit_code: i32) -> Outcome {
    let answer = Answer { output: Bytes::new(), exit_code };
    Outcome { result: Ok(answer), ..Outcome::failed(Error::Cancelled) }
}

#[test]
fn every_metric_of_the_table_is_rendered() {
    let metrics = Metrics::new();
    metrics.module_loaded(CodeOrigin::Disk);
    metrics.attestation_verified(&Verification { result: "valid", took: Duration::from_millis(1) });
    metrics.pulled(&Ok(()));
    let choice = Choice { runtime: RuntimeKind::Wasm, reason: ChoiceReason::EngineAway };
    metrics.chosen(choice);
    metrics.executed(&"a.b".parse().unwrap(), &ran(0));
    let decisions = Decisions { granted: 2, denied: 1 };
    metrics.container_executed(&"a.c".parse().unwrap(), &ran(0));
    metrics.decided(&BTreeMap::from([(CapabilityKind::Env, decisions)]));
    let overloaded = Error::Overloaded { message: String::new(), retry_after: Duration::ZERO };
    metrics.executed(&"a.b".parse().unwrap(), &Outcome { result: Err(overloaded), ..ran(0) });
    let levels = Levels {
        active: 3,
        places: 10,
        warm: 1,
        in_flight_bytes: 5,
        streams: StreamLevels { events: 9, dropped: 1, bytes: 7, sockets: 3, published: 2 },
        memory_used: ByteCount(65_536),
        memory_limit: ByteCount(1 << 30),
        memory_evictions: 2,
        disk_evictions: 0,
        media: MediaCounts { stored_bytes: 7, ..MediaCounts::default() },
        standings: StandingCounts { trusted: [4, 0, 0, 1], refused: 2 },
        containers: ContainerLevels {
            active: 1,
            places: 3,
            engine_up: true,
            swept: 2,
            ..ContainerLevels::default()
        },
    };
    let text = metrics.render(&levels).unwrap();
    for (name, help, _) in METRICS {
        assert!(text.contains(&format!("# HELP {name} {help}")), "{name} is missing in\n{text}");
    }
    assert!(text.contains("wasm_instances_total{status=\"active\"} 3"));
    assert!(text.contains("wasm_module_cache_hits_total 1"));
    assert!(text.contains("attestation_agents{trust=\"verified\"} 1"));
    assert!(text.contains("attestation_verification_duration_seconds_count{result=\"valid\"} 1"));
    assert!(text.contains("server_in_flight_bytes 5"));
    assert!(text.contains("stream_events_total 9") && text.contains("stream_sockets 3"));
    assert!(text.contains("container_executions_total{status=\"idle\"} 2"));
    assert!(text.contains("container_swept_total 2") && text.contains("container_engine_up 1"));
    assert!(text.contains("media_bytes_total{what=\"stored\"} 7"));
    assert!(text.contains("wasm_memory_usage_bytes{kind=\"used\"} 65536"));
    assert!(text.contains("wasm_module_cache_evictions_total{place=\"memory\"} 2"));
    assert!(text.contains("capability_requests_total{kind=\"env\",result=\"denied\"} 1"));
}

#[test]
fn agents_beyond_the_bound_share_a_label() {
    let metrics = Metrics::new();
    for number in 0..MAX_AGENT_LABELS + 5 {
        metrics.executed(&format!("agent-{number}").parse().unwrap(), &ran(3));
    }
    let levels = Levels {
        active: 0,
        places: 1,
        warm: 0,
        in_flight_bytes: 0,
        streams: StreamLevels::default(),
        memory_used: ByteCount(0),
        memory_limit: ByteCount(1),
        memory_evictions: 0,
        disk_evictions: 0,
        media: MediaCounts::default(),
        standings: StandingCounts::default(),
        containers: ContainerLevels::default(),
    };
    let text = metrics.render(&levels).unwrap();
    assert!(text.contains("agent_id=\"other\",outcome=\"exit_nonzero\""));
    let named = text.lines().filter(|line| line.starts_with("wasm_memory_peak_bytes{agent_id=\"agent-"));
    assert_eq!(named.count(), MAX_AGENT_LABELS);
}
