//! What was measured, as figures: samples, the rows that come of them, and the table that is printed. Knows nothing of
//! how they are measured, nor of what.

use std::time::Duration;

use serde::Serialize;

/// What the figures of a row count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Time, in nanoseconds; printed as microseconds or milliseconds.
    Nanoseconds,
    /// Executions or requests in a second.
    PerSecond,
    /// Bytes; printed as KiB or MiB.
    Bytes,
    /// How many times something else.
    Times,
}

/// What is wanted of a row. Timings decide nothing, so one that is missed is printed and no more.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// Of the ratio to the floor.
    RatioAtMost(f64),
    /// Of the ratio to the floor.
    RatioAtLeast(f64),
    /// Of the median, in the row's unit.
    AtMost(f64),
    /// Of the median, in the row's unit.
    AtLeast(f64),
}

/// The figures of one subject, one for each round.
pub(crate) struct Samples {
    name: String,
    unit: Unit,
    limit: Option<f64>,
    target: Option<Target>,
    /// A difference of two subjects is compared with no floor.
    is_difference: bool,
    values: Vec<f64>,
}

/// What one thing costs, or achieves.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
    /// How many times the group's first row, as the median of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    /// What the median may be at most, in the row's unit; more makes the command fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<Target>,
}

fn show_ratio(ratio: f64) -> String {
    if ratio < 0.01 { format!("{ratio:.5}") } else { format!("{ratio:.2}") }
}

/// Nanoseconds of a duration.
pub(crate) fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

impl Samples {
    pub(crate) fn new(name: impl Into<String>, unit: Unit) -> Self {
        Self { name: name.into(), unit, limit: None, target: None, is_difference: false, values: Vec::new() }
    }

    pub(crate) fn limited(self, limit: Option<f64>) -> Self {
        Self { limit, ..self }
    }

    pub(crate) fn aiming_at(self, target: impl Into<Option<Target>>) -> Self {
        Self { target: target.into(), ..self }
    }

    pub(crate) fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// What this costs more than another that took turns with it, round by round.
    pub(crate) fn less(&self, other: &Self, name: &str, limit: Duration) -> Self {
        let values = self.values.iter().zip(&other.values).map(|(one, other)| one - other).collect();
        let limit = Some(nanoseconds(limit));
        Self { name: name.into(), unit: self.unit, limit, target: None, is_difference: true, values }
    }

    /// How many times another that took turns with it, round by round.
    pub(crate) fn over(&self, other: &Self, name: &str) -> Self {
        let values = self.values.iter().zip(&other.values).map(|(one, other)| one / other).collect();
        Self { values, ..Self::new(name, Unit::Times) }
    }

    /// The row of these alone, or beside a floor of the same unit.
    pub(crate) fn row(&self, floor: Option<&Self>) -> Row {
        let (min, median, max) = spread(&self.values);
        let comparable = floor.filter(|floor| floor.unit == self.unit && !self.is_difference);
        Row {
            name: self.name.clone(),
            unit: self.unit,
            min,
            median,
            max,
            ratio: comparable.map(|floor| spread(&self.over(floor, "").values).1),
            limit: self.limit,
            target: self.target,
        }
    }
}

/// The rows of samples; the first is the floor of all.
pub(crate) fn rows(measured: &[Samples]) -> Vec<Row> {
    let floor = measured.first();
    measured.iter().map(|samples| samples.row(floor)).collect()
}

/// Smallest, median and largest.
fn spread(samples: &[f64]) -> (f64, f64, f64) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1)))
}

impl Row {
    /// Whether it makes the command fail.
    pub(crate) fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| self.median > limit)
    }

    /// What is said of limit and target.
    fn remark(&self) -> String {
        if let Some(limit) = self.limit {
            let limit = self.unit.show(limit);
            return if self.is_over() { format!("  OVER its {limit}") } else { format!("  of {limit}") };
        }
        let Some(target) = self.target else { return String::new() };
        let ratio = self.ratio.unwrap_or(f64::NAN);
        let (bound, is_over, is_under) = match target {
            Target::RatioAtMost(most) => (format!("{most:.2}"), ratio > most, false),
            Target::RatioAtLeast(least) => (format!("{least:.2}"), false, ratio < least),
            Target::AtMost(most) => (self.unit.show(most), self.median > most, false),
            Target::AtLeast(least) => (self.unit.show(least), false, self.median < least),
        };
        match target {
            _ if is_over => format!("  OVER its {bound}"),
            _ if is_under => format!("  UNDER its {bound}"),
            Target::RatioAtMost(_) | Target::AtMost(_) => format!("  of {bound}"),
            Target::RatioAtLeast(_) | Target::AtLeast(_) => format!("  of at least {bound}"),
        }
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Nanoseconds if value.abs() < 1e7 => format!("{:.2} us", value / 1e3),
            Self::Nanoseconds => format!("{:.1} ms", value / 1e6),
            Self::PerSecond => format!("{value:.0} /s"),
            Self::Bytes if value.abs() < f64::from(1 << 20) => format!("{:.1} KiB", value / 1024.0),
            Self::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
            Self::Times => format!("{value:.2}"),
        }
    }
}

/// Prints a group as a table.
#[allow(clippy::print_stdout, reason = "a developer's tool talks to the terminal")]
pub(crate) fn print(group: &str, rows: &[Row]) {
    println!("{group:<62}{:>14}{:>14}{:>14}{:>8}", "min", "median", "max", "ratio");
    for row in rows {
        let [min, median, max] = [row.min, row.median, row.max].map(|value| row.unit.show(value));
        let ratio = row.ratio.map_or_else(String::new, show_ratio);
        println!("  {:<60}{min:>14}{median:>14}{max:>14}{ratio:>8}{}", row.name, row.remark());
    }
    println!();
}
