//! What executions say while they run: how much of it is kept, for how long, and who may read it.

use std::time::Duration;

use mentat_manifest::ByteCount;
use mentat_runtime::events::{BackPressure, EventLimits, RoomLimits};
use serde::{Deserialize, Serialize};

use super::sections::milliseconds;

/// What is kept of what executions say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamsConfig {
    /// Bytes of one execution's events.
    pub buffer: ByteCount,
    /// Events of one execution.
    pub buffer_events: u32,
    /// What happens to a chunk for which there is no room until somebody has read.
    pub back_pressure: WhenFull,
    /// Milliseconds that its writer waits, where it waits.
    pub block_ms: u64,
    /// Bytes of the events of one tenant.
    pub per_tenant: ByteCount,
    /// Bytes of all events.
    pub total: ByteCount,
    /// Milliseconds that events are kept after the end of their execution.
    pub retention_ms: u64,
    /// Milliseconds of silence after which a reader gets a heartbeat.
    pub heartbeat_ms: u64,
    /// WebSockets at one time.
    pub max_sockets: u32,
}

/// What happens to a chunk for which there is no room until somebody has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Its writer waits for a while, and then the oldest event goes.
    Block,
    /// The oldest event goes.
    DropOldest,
    /// The agent is told that it cannot be written.
    Fail,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        let (limits, room) = (EventLimits::default(), RoomLimits::default());
        let (back_pressure, block) = match limits.back_pressure {
            BackPressure::Block(time) => (WhenFull::Block, time),
            BackPressure::DropOldest => (WhenFull::DropOldest, Duration::ZERO),
            BackPressure::Fail => (WhenFull::Fail, Duration::ZERO),
        };
        Self {
            buffer: ByteCount(limits.bytes as u64),
            buffer_events: u32::try_from(limits.count).unwrap_or(u32::MAX),
            back_pressure,
            block_ms: milliseconds(block),
            per_tenant: ByteCount(room.tenant_bytes as u64),
            total: ByteCount(room.total_bytes as u64),
            retention_ms: milliseconds(room.retention),
            heartbeat_ms: 15_000,
            max_sockets: 10_000,
        }
    }
}

impl StreamsConfig {
    /// What is kept of one execution's events.
    #[must_use]
    pub fn limits(&self) -> EventLimits {
        EventLimits {
            bytes: size(self.buffer),
            count: usize::try_from(self.buffer_events).unwrap_or(usize::MAX).max(1),
            back_pressure: match self.back_pressure {
                WhenFull::Block => BackPressure::Block(Duration::from_millis(self.block_ms)),
                WhenFull::DropOldest => BackPressure::DropOldest,
                WhenFull::Fail => BackPressure::Fail,
            },
        }
    }

    /// What is kept of all.
    #[must_use]
    pub fn room(&self) -> RoomLimits {
        RoomLimits {
            tenant_bytes: size(self.per_tenant),
            total_bytes: size(self.total),
            retention: Duration::from_millis(self.retention_ms),
        }
    }
}

fn size(bytes: ByteCount) -> usize {
    usize::try_from(bytes.0).unwrap_or(usize::MAX)
}
