//! `sound-statistics`: its numbers are those of the sound that was made here, by whichever way it was given.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "samples are numbers cut down to their bits"
)]

use std::f64::consts::TAU;

use serde_json::{Value, json};

use super::Studio;

const AGENT: &str = "mentatlab.sound-statistics";
const RATE: u32 = 44_100;

/// A WAV file: the format is 1 for integers and 3 for floats.
fn wav(format: u16, channels: u16, bits: u16, samples: &[u8]) -> Vec<u8> {
    let frame = channels * bits / 8;
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend(u32::try_from(36 + samples.len()).unwrap().to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0");
    file.extend([format, channels].map(u16::to_le_bytes).concat());
    file.extend([RATE, RATE * u32::from(frame)].map(u32::to_le_bytes).concat());
    file.extend([frame, bits].map(u16::to_le_bytes).concat());
    file.extend(b"data");
    file.extend(u32::try_from(samples.len()).unwrap().to_le_bytes());
    file.extend(samples);
    file
}

/// A sine that is silent in its second half, as shares of full scale.
fn sine(seconds: u32, level: f64) -> Vec<f64> {
    let frames = seconds * RATE;
    let sample = |frame: u32| level * (TAU * 441.0 * f64::from(frame) / f64::from(RATE)).sin();
    (0..frames).map(|frame| if frame < frames / 2 { sample(frame) } else { 0.0 }).collect()
}

fn decibels(share: f64) -> f64 {
    20.0 * share.log10()
}

/// Peak and RMS, measured here.
fn levels(samples: &[f64]) -> (f64, f64) {
    let peak = samples.iter().fold(0.0, |peak: f64, sample| peak.max(sample.abs()));
    let squares: f64 = samples.iter().map(|sample| sample * sample).sum();
    (decibels(peak), decibels((squares / samples.len() as f64).sqrt()))
}

fn assert_levels(said: &Value, (peak, rms): (f64, f64)) {
    for (key, expected) in [("peak_dbfs", peak), ("rms_dbfs", rms)] {
        let is = said[key].as_f64().unwrap();
        assert!((is - expected).abs() < 0.0051, "{key}: {is} is not {expected}");
    }
}

#[tokio::test]
async fn the_numbers_of_a_sound_are_the_same_by_every_way_that_it_is_given() {
    let studio = Studio::with("sound-statistics", &[]).await;
    let (left, right) = (sine(30, 0.5), sine(30, 0.05));
    let kept = |sample: f64| (sample * 32_768.0).round();
    let samples: Vec<u8> = left
        .iter()
        .zip(&right)
        .flat_map(|(left, right)| [*left, *right].map(|sample| (kept(sample) as i16).to_le_bytes()).concat())
        .collect();
    let file = wav(1, 2, 16, &samples);
    studio.put("media://sounds/sine.wav", &file);
    let (found, peak) =
        studio.ask(AGENT, json!({ "audio": "media://sounds/sine.wav" }).to_string()).await.unwrap();
    assert!(peak < 2 << 20, "{peak} bytes of memory for {} of sound, which pass through", file.len());
    for (key, expected) in [
        ("sample_rate", json!(RATE)),
        ("channels", json!(2)),
        ("bits", json!(16)),
        ("samples", json!("integer")),
        ("frames", json!(30 * RATE)),
        ("duration_seconds", json!(30.0)),
        ("clipped_samples", json!(0)),
    ] {
        assert_eq!(found[key], expected, "{key}");
    }
    let is_quiet = |sample: f64| (kept(sample) / 32_768.0).abs() < 0.001;
    let quiet = left.iter().zip(&right).filter(|(left, right)| is_quiet(**left) && is_quiet(**right)).count();
    let (silent, expected) = (found["silence_ratio"].as_f64().unwrap(), quiet as f64 / left.len() as f64);
    assert!((silent - expected).abs() < 0.0001, "{silent} is not {expected}");
    for (channel, samples) in [&left, &right].into_iter().enumerate() {
        let samples: Vec<f64> = samples.iter().map(|sample| kept(*sample) / 32_768.0).collect();
        assert_levels(&found["levels"][channel], levels(&samples));
    }
    // As the input itself, and as an input that is nothing but a reference.
    assert_eq!(studio.ask(AGENT, file).await.unwrap().0, found);
    assert_eq!(studio.ask(AGENT, "media://sounds/sine.wav").await.unwrap().0, found);
}

#[tokio::test]
async fn every_kind_of_sample_is_measured_and_what_is_clipped_is_counted() {
    let studio = Studio::with("sound-statistics", &[]).await;
    // Twice as loud as can be written: two thirds of the louder half are cut.
    let loud: Vec<f64> = sine(1, 2.0).into_iter().map(|sample| sample.clamp(-1.0, 1.0)).collect();
    for (bits, format) in [(8_u16, 1_u16), (16, 1), (24, 1), (32, 1), (32, 3)] {
        let scale = 2_f64.powi(i32::from(bits) - 1);
        let kept = |sample: f64| (sample * scale).round().clamp(-scale, scale - 1.0);
        let bytes = |sample: f64| match (bits, format) {
            (_, 3) => (sample as f32).to_le_bytes().to_vec(),
            (8, _) => vec![(kept(sample) + 128.0) as u8],
            (bits, _) => (kept(sample) as i32).to_le_bytes()[..usize::from(bits) / 8].to_vec(),
        };
        let samples: Vec<u8> = loud.iter().flat_map(|sample| bytes(*sample)).collect();
        let (found, _) = studio.ask(AGENT, wav(format, 1, bits, &samples)).await.unwrap();
        let written = |sample: f64| if format == 3 { f64::from(sample as f32) } else { kept(sample) / scale };
        let highest = if format == 3 { 1.0 } else { 1.0 - 1.0 / scale };
        let written: Vec<f64> = loud.iter().map(|sample| written(*sample)).collect();
        let clipped = written.iter().filter(|sample| **sample >= highest || **sample <= -1.0).count();
        assert!(clipped > 10_000, "{clipped}");
        assert_eq!((&found["bits"], &found["clipped_samples"]), (&json!(bits), &json!(clipped)));
        assert_levels(&found["levels"][0], levels(&written));
    }
}

#[tokio::test]
async fn a_sound_that_is_cut_off_or_none_is_refused_with_the_reason() {
    let studio = Studio::with("sound-statistics", &[]).await;
    let file = wav(1, 1, 16, &[0; 2000]);
    studio.put("media://sounds/cut.wav", &file[..file.len() - 1000]);
    for (input, says) in [
        (r#"{"audio": "media://sounds/cut.wav"}"#, "the sound cannot be read at frame 500: "),
        (r#"{"audio": "media://sounds/gone.wav"}"#, "there is no object `media://sounds/gone.wav`"),
        ("ID3", "the input is neither a WAV file nor a request for one: "),
    ] {
        let refused = studio.ask(AGENT, input).await.unwrap_err();
        assert!(refused.contains(says), "{input}: {refused}");
    }
}
