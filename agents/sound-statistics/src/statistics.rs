//! Measuring. A sample is a share of full scale, from -1 to 1, whatever the file keeps it as; a level is in dBFS, of which 0
//! is full scale. Every sample is looked at once and then forgotten, so that the length of a sound costs no memory.

use std::io::Read;

use hound::{SampleFormat, WavReader, WavSpec};
use serde::Serialize;

/// Below this a sample is silence: -60 dBFS.
const SILENCE: f64 = 0.001;

/// What there is to say about a sound.
#[derive(Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// Frames in a second; a frame has one sample of each channel.
    pub sample_rate: u32,
    /// How many channels there are.
    pub channels: u16,
    /// Bits of a sample.
    pub bits: u16,
    /// Whether samples are `integer` or `float`.
    pub samples: &'static str,
    /// How many frames there are.
    pub frames: u64,
    /// How long they last.
    pub duration_seconds: f64,
    /// The share of frames in which every channel is silent; none where there is no frame.
    pub silence_ratio: Option<f64>,
    /// How many samples are as loud as can be written, which loud sound is cut down to.
    pub clipped_samples: u64,
    /// Each channel by itself, in the order of the file.
    pub levels: Vec<Channel>,
}

/// How loud a channel is.
#[derive(Debug, PartialEq, Serialize)]
pub struct Channel {
    /// Its loudest sample; none where all are zero.
    pub peak_dbfs: Option<f64>,
    /// The root of the mean of the squares of its samples; none where all are zero. A sine of full scale has -3.01.
    pub rms_dbfs: Option<f64>,
    /// How many of its samples are as loud as can be written.
    pub clipped_samples: u64,
}

/// What was seen of a channel so far.
#[derive(Clone, Default)]
struct Meter {
    peak: f64,
    squares: f64,
    clipped: u64,
}

/// Takes the statistics of a WAV file.
///
/// # Errors
/// What was read is no WAV file of a kind that is understood, is cut off, or has a sample that is no number.
pub fn statistics(file: impl Read) -> Result<Statistics, String> {
    let reader = WavReader::new(file)
        .map_err(|error| format!("the sound is no WAV file that is understood: {error}"))?;
    let spec = reader.spec();
    if spec.sample_rate == 0 {
        return Err("the sound has no frames a second".into());
    }
    match spec.sample_format {
        SampleFormat::Int => {
            // As many steps below zero, and one less above.
            let full_scale = 2_f64.powi(i32::from(spec.bits_per_sample) - 1);
            let samples = reader
                .into_samples::<i32>()
                .map(|sample| sample.map(|sample| f64::from(sample) / full_scale));
            measure(spec, samples, 1.0 - 1.0 / full_scale)
        }
        SampleFormat::Float => {
            measure(spec, reader.into_samples::<f32>().map(|sample| sample.map(f64::from)), 1.0)
        }
    }
}

/// Measures samples; those from `highest` on, and at -1 and beyond, are as loud as can be written.
fn measure(
    spec: WavSpec,
    samples: impl Iterator<Item = hound::Result<f64>>,
    highest: f64,
) -> Result<Statistics, String> {
    let mut meters = vec![Meter::default(); usize::from(spec.channels)];
    let (mut frames, mut silent_frames) = (0_u64, 0_u64);
    let mut samples = samples.peekable();
    while samples.peek().is_some() {
        let mut is_silent = true;
        for meter in &mut meters {
            let sample = match samples.next() {
                Some(Ok(sample)) if sample.is_finite() => sample,
                Some(Ok(_)) => return Err(format!("the frame {frames} has a sample that is no number")),
                Some(Err(error)) => {
                    return Err(format!("the sound cannot be read at frame {frames}: {error}"));
                }
                None => return Err(format!("the sound is cut off in frame {frames}")),
            };
            is_silent &= sample.abs() < SILENCE;
            meter.peak = meter.peak.max(sample.abs());
            meter.squares += sample * sample;
            meter.clipped += u64::from(sample >= highest || sample <= -1.0);
        }
        frames += 1;
        silent_frames += u64::from(is_silent);
    }
    Ok(Statistics {
        sample_rate: spec.sample_rate,
        channels: spec.channels,
        bits: spec.bits_per_sample,
        samples: if spec.sample_format == SampleFormat::Int { "integer" } else { "float" },
        frames,
        duration_seconds: rounded(frames as f64 / f64::from(spec.sample_rate), 1_000_000.0),
        silence_ratio: (frames > 0).then(|| rounded(silent_frames as f64 / frames as f64, 10_000.0)),
        clipped_samples: meters.iter().map(|meter| meter.clipped).sum(),
        levels: meters.iter().map(|meter| meter.channel(frames)).collect(),
    })
}

impl Meter {
    fn channel(&self, frames: u64) -> Channel {
        Channel {
            peak_dbfs: decibels(self.peak),
            rms_dbfs: decibels((self.squares / frames.max(1) as f64).sqrt()),
            clipped_samples: self.clipped,
        }
    }
}

/// The level of a share of full scale, to a hundredth; none for nothing at all.
fn decibels(share: f64) -> Option<f64> {
    (share > 0.0).then(|| rounded(20.0 * share.log10(), 100.0))
}

/// A number to so many parts of one; zero has no sign.
fn rounded(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts + 0.0
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use hound::{Sample, WavWriter};

    use super::*;

    fn wav<T: Sample + Copy>(
        channels: u16,
        bits: u16,
        sample_format: SampleFormat,
        samples: &[T],
    ) -> Vec<u8> {
        let spec = WavSpec { channels, sample_rate: 8000, bits_per_sample: bits, sample_format };
        let mut file = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut file, spec).unwrap();
        for sample in samples {
            writer.write_sample(*sample).unwrap();
        }
        writer.finalize().unwrap();
        file.into_inner()
    }

    #[test]
    fn half_of_full_scale_is_six_decibels_below_it_however_it_is_kept() {
        for bits in [8, 16, 24, 32] {
            let half = 1_i32 << (bits - 2);
            let file = wav(1, bits, SampleFormat::Int, &[half, -half, half, -half]);
            let found = statistics(&file[..]).unwrap();
            let level = Channel { peak_dbfs: Some(-6.02), rms_dbfs: Some(-6.02), clipped_samples: 0 };
            assert_eq!((found.bits, found.frames, &found.levels[..]), (bits, 4, &[level][..]));
        }
        let found = statistics(&wav(1, 32, SampleFormat::Float, &[0.5_f32, -0.5])[..]).unwrap();
        assert_eq!((found.samples, found.levels[0].rms_dbfs), ("float", Some(-6.02)));
    }

    #[test]
    fn channels_are_measured_each_by_itself_and_silent_together() {
        let file = wav(2, 16, SampleFormat::Int, &[0_i16, 0, i16::MAX, 0, i16::MIN, 0, 10, -10]);
        let found = statistics(&file[..]).unwrap();
        assert_eq!(
            (found.silence_ratio, found.clipped_samples, found.duration_seconds),
            (Some(0.5), 2, 0.0005)
        );
        assert_eq!(found.levels[0].peak_dbfs, Some(0.0));
        assert_eq!(found.levels[0].clipped_samples, 2);
        assert_eq!(found.levels[1].peak_dbfs, Some(-70.31));
    }

    #[test]
    fn silence_has_no_level_and_nothing_has_no_share_of_it() {
        let found = statistics(&wav(1, 16, SampleFormat::Int, &[0_i16; 4])[..]).unwrap();
        assert_eq!((found.levels[0].peak_dbfs, found.levels[0].rms_dbfs), (None, None));
        assert_eq!(found.silence_ratio, Some(1.0));
        let found = statistics(&wav::<i16>(1, 16, SampleFormat::Int, &[])[..]).unwrap();
        assert_eq!((found.frames, found.silence_ratio), (0, None));
    }

    #[test]
    fn what_is_cut_off_or_no_number_is_refused_with_its_place() {
        let file = wav(1, 16, SampleFormat::Int, &[1_i16; 100]);
        let refused = statistics(&file[..file.len() - 20]).unwrap_err();
        assert!(refused.starts_with("the sound cannot be read at frame 90: "), "{refused}");
        let refused = statistics(&wav(1, 32, SampleFormat::Float, &[0.0, f32::NAN])[..]).unwrap_err();
        assert_eq!(refused, "the frame 1 has a sample that is no number");
        let refused = statistics(&file[..20]).unwrap_err();
        assert!(refused.starts_with("the sound is no WAV file that is understood: "), "{refused}");
    }
}
