//! Measuring: subjects of one group take turns, each for a slice of time, round after round. Knows nothing of what is
//! measured.

use std::time::{Duration, Instant};

use serde::Serialize;

/// How long to measure.
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// Time that one subject has in one round.
    pub(crate) slice: Duration,
}

/// Something that is measured: it does its thing so many times.
pub(crate) struct Subject<'a> {
    name: String,
    /// What its median may be at most.
    limit: Option<Duration>,
    /// It can do its thing so many times, or a multiple of that.
    step: u32,
    run: Box<dyn FnMut(u32) -> anyhow::Result<()> + 'a>,
}

/// What one thing costs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) min_ns: f64,
    pub(crate) median_ns: f64,
    pub(crate) max_ns: f64,
    /// How many times the median of the group's first row; none for a difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    /// What the median may be at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit_ns: Option<f64>,
}

/// Measures a group.
pub(crate) type Measure = fn(&Plan) -> anyhow::Result<Vec<Row>>;

/// The costs of one subject, a sample for each round, in nanoseconds.
pub(crate) struct Samples {
    name: String,
    limit: Option<Duration>,
    is_difference: bool,
    samples: Vec<f64>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut(u32) -> anyhow::Result<()> + 'a) -> Self {
        Self { name: name.into(), limit: None, step: 1, run: Box::new(run) }
    }

    pub(crate) fn at_most(self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self }
    }

    pub(crate) fn in_steps_of(self, step: u32) -> Self {
        Self { step, ..self }
    }
}

impl Plan {
    /// Lets the subjects take turns.
    pub(crate) fn measure(&self, mut subjects: Vec<Subject<'_>>) -> anyhow::Result<Vec<Samples>> {
        let mut counts = Vec::new();
        for subject in &mut subjects {
            counts.push(self.count(subject)?);
        }
        let mut measured: Vec<Samples> = subjects
            .iter()
            .map(|subject| Samples {
                name: subject.name.clone(),
                limit: subject.limit,
                is_difference: false,
                samples: Vec::new(),
            })
            .collect();
        for _ in 0..self.rounds {
            for ((subject, count), samples) in subjects.iter_mut().zip(&counts).zip(&mut measured) {
                let started = Instant::now();
                (subject.run)(*count)?;
                samples.samples.push(started.elapsed().as_secs_f64() * 1e9 / f64::from(*count));
            }
        }
        Ok(measured)
    }

    /// How often a subject can do its thing in its slice; warms it up on the way.
    fn count(&self, subject: &mut Subject<'_>) -> anyhow::Result<u32> {
        let mut count = subject.step;
        loop {
            let started = Instant::now();
            (subject.run)(count)?;
            if started.elapsed() >= self.slice || count >= 1 << 20 {
                return Ok(count);
            }
            count *= 2;
        }
    }
}

impl Samples {
    /// What this costs more than another that took turns with it, round by round.
    pub(crate) fn less(&self, other: &Self, name: &str, limit: Duration) -> Self {
        let samples = self.samples.iter().zip(&other.samples).map(|(one, other)| one - other).collect();
        Self { name: name.into(), limit: Some(limit), is_difference: true, samples }
    }
}

/// The rows of samples; the first is the floor of all.
pub(crate) fn rows(measured: &[Samples]) -> Vec<Row> {
    let floor = measured.first().map_or(f64::NAN, |samples| spread(&samples.samples).1);
    let row = |samples: &Samples| {
        let (min_ns, median_ns, max_ns) = spread(&samples.samples);
        let limit_ns = samples.limit.map(|limit| limit.as_secs_f64() * 1e9);
        let ratio = (!samples.is_difference).then_some(median_ns / floor);
        Row { name: samples.name.clone(), min_ns, median_ns, max_ns, ratio, limit_ns }
    };
    measured.iter().map(row).collect()
}

/// Smallest, median and largest.
fn spread(samples: &[f64]) -> (f64, f64, f64) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1)))
}

impl Row {
    pub(crate) fn is_over(&self) -> bool {
        self.limit_ns.is_some_and(|limit| self.median_ns > limit)
    }
}

/// Prints a group as a table, in microseconds.
pub(crate) fn print(group: &str, rows: &[Row]) {
    println!("{group:<58}{:>9}{:>9}{:>9}{:>9}", "min us", "median", "max", "ratio");
    for row in rows {
        let Row { name, min_ns, median_ns, max_ns, ratio, .. } = row;
        let limit = match row.limit_ns {
            Some(limit) if row.is_over() => format!("  OVER its {:.0} us", limit / 1e3),
            Some(limit) => format!("  of {:.0} us", limit / 1e3),
            None => String::new(),
        };
        let us = |ns: &f64| ns / 1e3;
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        println!("  {name:<56}{:>9.2}{:>9.2}{:>9.2}{ratio:>9}{limit}", us(min_ns), us(median_ns), us(max_ns));
    }
    println!();
}
