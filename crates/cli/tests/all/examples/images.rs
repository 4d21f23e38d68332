//! `thumbnail`: what it stores is the image that it was referred to, smaller, and nothing that would not fit is decoded.

#![allow(clippy::cast_possible_truncation, reason = "colours are bytes of a larger number")]

use serde_json::{Value, json};
use sha2::Digest;

use super::Studio;

const AGENT: &str = "mentatlab.thumbnail";

/// A PNG of eight-bit colours.
fn png(width: u32, height: u32, colour: impl Fn(u32, u32) -> [u8; 3]) -> Vec<u8> {
    let pixels: Vec<u8> =
        (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| colour(x, y)).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    file
}

/// A PNG that says it has so many pixels, and has none.
fn hollow(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = png::Encoder::new(&mut file, width, height).write_header().unwrap();
    writer.write_chunk(png::chunk::IDAT, b"").unwrap();
    drop(writer);
    file
}

/// Width, height and the pixels of a PNG of eight-bit colours.
fn pixels(file: &[u8]) -> (u32, u32, Vec<[u8; 3]>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    (info.width, info.height, pixels.chunks_exact(3).map(|pixel| pixel.try_into().unwrap()).collect())
}

fn request(image: &str, width: u32, height: u32, format: &str) -> String {
    json!({ "image": image, "width": width, "height": height, "format": format }).to_string()
}

/// The object that an answer refers to, which is what the answer says it is.
fn stored(studio: &Studio, answer: &Value) -> Vec<u8> {
    let reference = answer["thumbnail"].as_str().unwrap();
    let object = std::fs::read(studio.path(reference)).unwrap();
    assert_eq!(reference, format!("media://sha256/{}", hex::encode(sha2::Sha256::digest(&object))));
    assert_eq!(answer["bytes"], object.len());
    object
}

/// Colours without any order, the same ones each time.
fn noise(x: u32, y: u32) -> [u8; 3] {
    let hash = (x.wrapping_mul(0x9e37_79b1) ^ y.wrapping_mul(0x85eb_ca77)).wrapping_mul(0xc2b2_ae3d);
    [(hash >> 24) as u8, (hash >> 16) as u8, (hash >> 8) as u8]
}

#[tokio::test]
async fn a_thumbnail_is_the_mean_of_what_its_pixels_cover() {
    let studio = Studio::with("thumbnail", &[]).await;
    // More than the agent reads at one time, and the store hands out in one piece.
    let file = png(800, 600, noise);
    assert!(file.len() > 1 << 20);
    studio.put("media://pictures/noise.png", &file);
    let (answer, _) =
        studio.ask(AGENT, request("media://pictures/noise.png", 200, 400, "png")).await.unwrap();
    assert_eq!(
        (&answer["width"], &answer["height"], &answer["media_type"]),
        (&json!(200), &json!(150), &json!("image/png"))
    );
    let (width, height, made) = pixels(&stored(&studio, &answer));
    assert_eq!((width, height), (200, 150));
    for (at, pixel) in (0..).zip(made) {
        let (x, y) = (at % width * 4, at / width * 4);
        let covered = (0..16).map(|step| noise(x + step % 4, y + step / 4));
        let sums = covered.fold([0_u32; 3], |sums, colour| [0, 1, 2].map(|i| sums[i] + u32::from(colour[i])));
        assert_eq!(pixel.map(u32::from), sums.map(|sum| (sum + 8) / 16), "at {x}, {y}");
    }
    // Nothing is enlarged.
    studio.put("media://pictures/small.png", &png(4, 3, noise));
    let (answer, _) =
        studio.ask(AGENT, request("media://pictures/small.png", 100, 100, "png")).await.unwrap();
    assert_eq!(pixels(&stored(&studio, &answer)).2, pixels(&png(4, 3, noise)).2);
}

#[tokio::test]
async fn photographs_are_made_and_read_as_well() {
    let studio = Studio::with("thumbnail", &[]).await;
    let halves = |x: u32, _: u32| if x < 200 { [220, 20, 20] } else { [20, 20, 220] };
    studio.put("media://pictures/halves.png", &png(400, 200, halves));
    let (answer, _) =
        studio.ask(AGENT, request("media://pictures/halves.png", 200, 200, "jpeg")).await.unwrap();
    assert_eq!(answer["media_type"], "image/jpeg");
    assert!(stored(&studio, &answer).starts_with(b"\xff\xd8\xff"));
    // The one that was made is read in turn.
    let photograph = answer["thumbnail"].as_str().unwrap();
    let (answer, _) = studio.ask(AGENT, request(photograph, 50, 50, "png")).await.unwrap();
    let (width, height, made) = pixels(&stored(&studio, &answer));
    assert_eq!((width, height), (50, 25));
    for (at, expected) in [(12 * 50 + 5, [220, 20, 20]), (12 * 50 + 45, [20, 20, 220])] {
        let near = made[at].iter().zip(expected).all(|(is, should): (_, u8)| is.abs_diff(should) <= 6);
        assert!(near, "{:?} is not {expected:?}", made[at]);
    }
}

#[tokio::test]
async fn what_is_no_image_or_would_be_too_large_is_refused_with_the_reason() {
    let studio = Studio::with("thumbnail", &[]).await;
    let whole = png(300, 300, noise);
    let bomb = hollow(30_000, 30_000);
    assert!(bomb.len() < 100, "a gigapixel in no room at all");
    for (name, content, says) in [
        ("bomb.png", bomb, "the image is too large: 30000 by 30000 pixels take 900000000 bytes"),
        ("wide.png", hollow(100_000, 1), "the image is too large: at most 32768 pixels a side"),
        ("cut.png", whole[..whole.len() / 2].to_vec(), "the image "),
        ("text.png", b"not a picture".to_vec(), "the image is neither a PNG nor a JPEG"),
        ("empty.png", Vec::new(), "the image is neither a PNG nor a JPEG"),
    ] {
        let reference = format!("media://pictures/{name}");
        studio.put(&reference, &content);
        let refused = studio.ask(AGENT, request(&reference, 100, 100, "png")).await.unwrap_err();
        assert!(refused.starts_with(says), "{name}: {refused}");
    }
    let gone = studio.ask(AGENT, request("media://pictures/gone.png", 100, 100, "png")).await.unwrap_err();
    assert!(gone.contains("there is no object `media://pictures/gone.png`"), "{gone}");
    let objects = std::fs::read_dir(studio.path("media://sha256")).map(Iterator::count).unwrap_or(0);
    assert_eq!(objects, 0, "nothing was stored");
}
