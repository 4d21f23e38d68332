//! Measuring: subjects of one group take turns, each for a slice of time, round after round. Knows nothing of what is
//! measured.

use std::time::{Duration, Instant};

use crate::figures::{Row, Samples, Target, Unit, nanoseconds};

/// How long to measure.
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    /// Time that one subject has in one round.
    pub(crate) slice: Duration,
}

/// How much longer a slice is for what costs milliseconds, and how many rounds fewer there are.
const LONGER: u32 = 5;
const ROUNDS_PER_LONGER_ROUND: u32 = 2;
/// Rounds of what costs microseconds, for each one of what is measured in longer slices, and for each one of what takes
/// seconds.
const ROUNDS_PER_LONG_ROUND: u32 = 6;
const ROUNDS_PER_SLOW_ROUND: u32 = 15;
/// Fewer have no median worth the name.
const MIN_ROUNDS: u32 = 3;
/// Time of a subject that many connections or threads take part in.
const LONG_SLICE: Duration = Duration::from_millis(600);

/// Something that is measured: it does its thing so many times.
pub(crate) struct Subject<'a> {
    name: String,
    /// What its median may be at most.
    limit: Option<Duration>,
    target: Option<Target>,
    /// It can do its thing so many times, or a multiple of that.
    step: u32,
    run: Box<dyn FnMut(u32) -> anyhow::Result<()> + 'a>,
}

/// Something whose throughput is measured: it does its thing for so long, and answers how often in a second.
pub(crate) struct Load<'a> {
    name: String,
    target: Option<Target>,
    run: Box<dyn FnMut(Duration) -> anyhow::Result<f64> + 'a>,
}

/// Measures a group.
pub(crate) type Measure = fn(&Plan) -> anyhow::Result<Vec<Row>>;

impl<'a> Subject<'a> {
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut(u32) -> anyhow::Result<()> + 'a) -> Self {
        Self { name: name.into(), limit: None, target: None, step: 1, run: Box::new(run) }
    }

    pub(crate) fn at_most(self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self }
    }

    pub(crate) fn aiming_at(self, target: impl Into<Option<Target>>) -> Self {
        Self { target: target.into(), ..self }
    }

    pub(crate) fn in_steps_of(self, step: u32) -> Self {
        Self { step, ..self }
    }
}

impl<'a> Load<'a> {
    pub(crate) fn new(
        name: impl Into<String>,
        run: impl FnMut(Duration) -> anyhow::Result<f64> + 'a,
    ) -> Self {
        Self { name: name.into(), target: None, run: Box::new(run) }
    }

    pub(crate) fn aiming_at(self, target: impl Into<Option<Target>>) -> Self {
        Self { target: target.into(), ..self }
    }
}

impl Plan {
    /// For what costs milliseconds: in a short slice, what one subject does to the processor's caches would be a good part
    /// of what the next one costs.
    pub(crate) fn longer(&self) -> Self {
        Self { rounds: (self.rounds / ROUNDS_PER_LONGER_ROUND).max(MIN_ROUNDS), slice: self.slice * LONGER }
    }

    /// Fewer rounds, of longer slices: for what many threads or connections take part in.
    pub(crate) fn long(&self) -> Self {
        Self { rounds: (self.rounds / ROUNDS_PER_LONG_ROUND).max(MIN_ROUNDS), slice: LONG_SLICE }
    }

    /// Fewer still: for what takes a second by itself.
    pub(crate) fn slow(&self) -> Self {
        Self { rounds: (self.rounds / ROUNDS_PER_SLOW_ROUND).max(MIN_ROUNDS), slice: self.slice }
    }

    /// Lets the subjects take turns.
    pub(crate) fn measure(&self, mut subjects: Vec<Subject<'_>>) -> anyhow::Result<Vec<Samples>> {
        let mut counts = Vec::new();
        for subject in &mut subjects {
            counts.push(self.count(subject)?);
        }
        let samples = |subject: &Subject<'_>| {
            Samples::new(subject.name.clone(), Unit::Nanoseconds)
                .limited(subject.limit.map(nanoseconds))
                .aiming_at(subject.target)
        };
        let mut measured: Vec<Samples> = subjects.iter().map(samples).collect();
        for _ in 0..self.rounds {
            for ((subject, count), samples) in subjects.iter_mut().zip(&counts).zip(&mut measured) {
                let started = Instant::now();
                (subject.run)(*count)?;
                samples.push(nanoseconds(started.elapsed()) / f64::from(*count));
            }
        }
        Ok(measured)
    }

    /// Lets them take turns; a first turn of each warms it up.
    pub(crate) fn measure_loads(&self, mut loads: Vec<Load<'_>>) -> anyhow::Result<Vec<Samples>> {
        let samples =
            |load: &Load<'_>| Samples::new(load.name.clone(), Unit::PerSecond).aiming_at(load.target);
        let mut measured: Vec<Samples> = loads.iter().map(samples).collect();
        for round in 0..=self.rounds {
            for (load, samples) in loads.iter_mut().zip(&mut measured) {
                let per_second = (load.run)(self.slice)?;
                if round > 0 {
                    samples.push(per_second);
                }
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
