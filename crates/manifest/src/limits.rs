//! The budget of one execution, and how it comes about: defaults, what the manifest asks for, the
//! operator's ceiling, and what a caller takes away.
//!
//! Invariant: narrowing never widens, and nothing gets over the ceiling.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{ByteCount, Fuel};

/// How a guest's computing is measured and bounded.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Metering {
    /// By counting operations: the same input costs the same on every machine.
    #[default]
    Fuel,
    /// By the wall clock alone: faster code, nothing counted.
    Epoch,
}

/// The budget of one execution, with nothing left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sum of all linear memories, in bytes.
    pub memory_bytes: ByteCount,
    /// Operations, where metered by fuel.
    pub fuel: Fuel,
    /// Wall clock from the start of the instance to the end of the call.
    pub timeout: Duration,
    /// Bytes of output.
    pub output_bytes: ByteCount,
    /// Bytes of log lines in all.
    pub log_bytes: ByteCount,
    /// Log lines in all.
    pub log_lines: u32,
    /// How computing is measured.
    pub metering: Metering,
}

/// The budget that a manifest, a caller or a user asks for; `None` is no wish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsRequest {
    /// As in [`Limits`].
    pub memory_bytes: Option<ByteCount>,
    /// As in [`Limits`].
    pub fuel: Option<Fuel>,
    /// As in [`Limits`].
    pub timeout: Option<Duration>,
    /// As in [`Limits`].
    pub output_bytes: Option<ByteCount>,
    /// As in [`Limits`].
    pub log_bytes: Option<ByteCount>,
    /// As in [`Limits`].
    pub log_lines: Option<u32>,
    /// As in [`Limits`]; a caller cannot change it, since the code is compiled for it.
    pub metering: Option<Metering>,
}

/// A wish over the operator's ceiling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} of {asked} is over this installation's ceiling of {ceiling}; ask for less, or have the operator raise `limits.ceiling`"
)]
pub struct CeilingError {
    what: &'static str,
    asked: String,
    ceiling: String,
}

impl Limits {
    /// What an agent gets that asks for nothing.
    pub const DEFAULT: Self = Self {
        // A language runtime and a few documents.
        memory_bytes: ByteCount(64 << 20),
        // About a second of computing.
        fuel: Fuel(1_000_000_000),
        timeout: Duration::from_secs(30),
        output_bytes: ByteCount(64 << 20),
        // A screenful for a person; more belongs into the output.
        log_bytes: ByteCount(1 << 20),
        log_lines: 10_000,
        metering: Metering::Fuel,
    };

    /// What an operator who says nothing allows at most.
    pub const CEILING: Self = Self {
        memory_bytes: ByteCount(1 << 30),
        // About a quarter of an hour of computing.
        fuel: Fuel(1_000_000_000_000),
        timeout: Duration::from_secs(600),
        output_bytes: ByteCount(256 << 20),
        log_bytes: ByteCount(16 << 20),
        log_lines: 100_000,
        metering: Metering::Fuel,
    };

    /// The budget for `request`: its wishes, else the defaults (which the ceiling cuts silently).
    ///
    /// # Errors
    /// When a wish is over the ceiling; names both values.
    pub fn resolve(defaults: &Self, request: &LimitsRequest, ceiling: &Self) -> Result<Self, CeilingError> {
        Ok(Self {
            memory_bytes: within(
                "memory",
                request.memory_bytes,
                defaults.memory_bytes,
                ceiling.memory_bytes,
            )?,
            fuel: within("fuel", request.fuel, defaults.fuel, ceiling.fuel)?,
            timeout: within(
                "a timeout",
                request.timeout.map(Milliseconds),
                Milliseconds(defaults.timeout),
                Milliseconds(ceiling.timeout),
            )?
            .0,
            output_bytes: within(
                "output",
                request.output_bytes,
                defaults.output_bytes,
                ceiling.output_bytes,
            )?,
            log_bytes: within("a log", request.log_bytes, defaults.log_bytes, ceiling.log_bytes)?,
            log_lines: within("log lines", request.log_lines, defaults.log_lines, ceiling.log_lines)?,
            metering: request.metering.unwrap_or(defaults.metering),
        })
    }

    /// The budget with everything that `request` takes away; what it asks for beyond is ignored.
    #[must_use]
    pub fn narrow(&self, request: &LimitsRequest) -> Self {
        Self {
            memory_bytes: lower(self.memory_bytes, request.memory_bytes),
            fuel: lower(self.fuel, request.fuel),
            timeout: lower(self.timeout, request.timeout),
            output_bytes: lower(self.output_bytes, request.output_bytes),
            log_bytes: lower(self.log_bytes, request.log_bytes),
            log_lines: lower(self.log_lines, request.log_lines),
            metering: self.metering,
        }
    }
}

#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Milliseconds(Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ms", self.0.as_millis())
    }
}

fn lower<T: Ord>(own: T, asked: Option<T>) -> T {
    match asked {
        Some(asked) => own.min(asked),
        None => own,
    }
}

fn within<T: Copy + PartialOrd + fmt::Display>(
    what: &'static str,
    asked: Option<T>,
    default: T,
    ceiling: T,
) -> Result<T, CeilingError> {
    match asked {
        Some(asked) if asked > ceiling => {
            Err(CeilingError { what, asked: asked.to_string(), ceiling: ceiling.to_string() })
        }
        Some(asked) => Ok(asked),
        None if default > ceiling => Ok(ceiling),
        None => Ok(default),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_request() -> impl Strategy<Value = LimitsRequest> {
        (any::<Option<u64>>(), any::<Option<u64>>(), any::<Option<u32>>(), any::<Option<u32>>()).prop_map(
            |(memory, fuel, timeout, lines)| LimitsRequest {
                memory_bytes: memory.map(ByteCount),
                fuel: fuel.map(Fuel),
                timeout: timeout.map(|ms| Duration::from_millis(ms.into())),
                output_bytes: fuel.map(ByteCount),
                log_bytes: memory.map(ByteCount),
                log_lines: lines,
                metering: None,
            },
        )
    }

    fn within_each(inner: &Limits, outer: &Limits) -> bool {
        inner.memory_bytes <= outer.memory_bytes
            && inner.fuel <= outer.fuel
            && inner.timeout <= outer.timeout
            && inner.output_bytes <= outer.output_bytes
            && inner.log_bytes <= outer.log_bytes
            && inner.log_lines <= outer.log_lines
    }

    proptest! {
        #[test]
        fn narrowing_never_widens_and_twice_is_once(request in any_request()) {
            let once = Limits::DEFAULT.narrow(&request);
            prop_assert!(within_each(&once, &Limits::DEFAULT));
            prop_assert_eq!(once.narrow(&request), once);
        }

        #[test]
        fn nothing_gets_over_the_ceiling(request in any_request()) {
            if let Ok(limits) = Limits::resolve(&Limits::DEFAULT, &request, &Limits::CEILING) {
                prop_assert!(within_each(&limits, &Limits::CEILING));
            }
        }
    }

    #[test]
    fn a_wish_over_the_ceiling_is_refused_with_both_values() {
        let request = LimitsRequest { memory_bytes: Some(ByteCount(2 << 30)), ..LimitsRequest::default() };
        let error = Limits::resolve(&Limits::DEFAULT, &request, &Limits::CEILING).unwrap_err();
        assert!(error.to_string().starts_with("memory of 2GB is over this installation's ceiling of 1GB"));
    }
}
