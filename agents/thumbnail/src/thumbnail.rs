//! From the bytes of an image to those of its smaller copy. What strangers send is decoded here, so that everything it
//! could make large is bounded before it is decoded.

use std::io::{BufRead, Seek};

use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage, RgbaImage};

use crate::request::{Format, Request};
use crate::scale::{fit, scale};

/// Largest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 64 << 20;

/// Largest image in memory, in bytes: a photograph of 44 megapixels. Decoding a progressive JPEG takes twice as much besides.
const MAX_DECODED_BYTES: u64 = 128 << 20;

/// Longest side of an image, in pixels.
const MAX_SIDE: u32 = 32_768;

/// What a photograph keeps of its detail, of 100.
const JPEG_QUALITY: u8 = 85;

/// A smaller copy.
#[derive(Debug)]
pub struct Thumbnail {
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Makes a copy that is as small as a request says.
///
/// # Errors
/// What was read is no PNG and no JPEG, is damaged, or would become too large.
pub fn thumbnail(file: impl BufRead + Seek, request: &Request) -> Result<Thumbnail, String> {
    let (image, orientation) = decode(file)?;
    let (mut widest, mut highest) = (request.width, request.height);
    if is_turned(orientation) {
        (widest, highest) = (highest, widest);
    }
    let is_grey = !image.color().has_color();
    let pixels = scale(&image, fit((image.width(), image.height()), (widest, highest)));
    let has_alpha = image.color().has_alpha();
    // The encoder needs memory as well.
    drop(image);
    let mut small = match (has_alpha, request.format) {
        (true, Format::Png) => DynamicImage::ImageRgba8(pixels),
        (true, Format::Jpeg) => DynamicImage::ImageRgb8(on_white(&pixels)),
        (false, _) if is_grey => DynamicImage::ImageLuma8(DynamicImage::ImageRgba8(pixels).into_luma8()),
        (false, _) => DynamicImage::ImageRgb8(DynamicImage::ImageRgba8(pixels).into_rgb8()),
    };
    small.apply_orientation(orientation);
    let mut bytes = Vec::new();
    match request.format {
        Format::Png => small.write_to(&mut std::io::Cursor::new(&mut bytes), ImageFormat::Png),
        Format::Jpeg => small.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)),
    }
    .map_err(|error| format!("the thumbnail cannot be encoded: {error}"))?;
    Ok(Thumbnail { width: small.width(), height: small.height(), bytes })
}

/// The image as it is stored, and how it is to be turned before it is looked at.
fn decode(file: impl BufRead + Seek) -> Result<(DynamicImage, Orientation), String> {
    let mut reader = ImageReader::new(file)
        .with_guessed_format()
        .map_err(|error| format!("the image cannot be read: {error}"))?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        return Err("the image is neither a PNG nor a JPEG".into());
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| complaint(&error))?;
    let (width, height) = decoder.dimensions();
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(format!(
            "the image is too large: {width} by {height} pixels take {} bytes, and at most {MAX_DECODED_BYTES} are \
             decoded",
            decoder.total_bytes()
        ));
    }
    // An image that says nothing, or nonsense, of how it was held is shown as it is.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| complaint(&error))?;
    Ok((image, orientation))
}

fn complaint(error: &ImageError) -> String {
    match error {
        ImageError::Limits(_) => {
            format!(
                "the image is too large: at most {MAX_SIDE} pixels a side and {MAX_DECODED_BYTES} bytes are decoded"
            )
        }
        ImageError::IoError(error) => format!("the image cannot be read: {error}"),
        other => format!("the image is damaged: {other}"),
    }
}

/// Whether width and height change places.
fn is_turned(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// An image without transparency.
fn on_white(pixels: &RgbaImage) -> RgbImage {
    RgbImage::from_fn(pixels.width(), pixels.height(), |x, y| {
        let image::Rgba([red, green, blue, alpha]) = *pixels.get_pixel(x, y);
        let mixed = |colour: u8| {
            let sum = u32::from(colour) * u32::from(alpha) + 255 * (255 - u32::from(alpha));
            u8::try_from((sum + 127) / 255).unwrap_or(u8::MAX)
        };
        image::Rgb([red, green, blue].map(mixed))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn png(image: &DynamicImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
        bytes
    }

    fn request(width: u32, height: u32, format: Format) -> Request {
        Request { image: String::new(), width, height, format }
    }

    fn small(file: &[u8], asked: &Request) -> Result<DynamicImage, String> {
        let made = thumbnail(Cursor::new(file), asked)?;
        let image = image::load_from_memory(&made.bytes).unwrap();
        assert_eq!((image.width(), image.height()), (made.width, made.height));
        Ok(image)
    }

    #[test]
    fn grey_stays_grey_and_sixteen_bits_become_eight() {
        let grey = DynamicImage::ImageLuma16(image::ImageBuffer::from_pixel(8, 4, image::Luma([0x8080])));
        let made = small(&png(&grey), &request(4, 4, Format::Png)).unwrap();
        assert_eq!(made, DynamicImage::ImageLuma8(image::GrayImage::from_pixel(4, 2, image::Luma([0x80]))));
    }

    #[test]
    fn what_is_transparent_is_white_in_a_jpeg() {
        let clear = DynamicImage::ImageRgba8(RgbaImage::from_pixel(8, 8, image::Rgba([0, 0, 0, 0])));
        let made = small(&png(&clear), &request(8, 8, Format::Jpeg)).unwrap();
        assert_eq!(made.to_rgb8().get_pixel(3, 3), &image::Rgb([255; 3]));
        let made = small(&png(&clear), &request(8, 8, Format::Png)).unwrap();
        assert_eq!(made.to_rgba8().get_pixel(3, 3).0[3], 0);
    }

    #[test]
    fn a_photograph_is_turned_as_it_was_held() {
        let lying = DynamicImage::ImageRgb8(RgbImage::from_fn(32, 16, |x, _| {
            image::Rgb(if x < 16 { [255, 0, 0] } else { [0, 0, 255] })
        }));
        let mut plain = Vec::new();
        lying.write_with_encoder(JpegEncoder::new_with_quality(&mut plain, 95)).unwrap();
        // Orientation 6: to be turned by a quarter, clockwise.
        let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
        let file = [&plain[..2], b"\xff\xe1", &length, exif, &plain[2..]].concat();
        let made = small(&file, &request(8, 16, Format::Png)).unwrap().to_rgb8();
        assert_eq!(made.dimensions(), (8, 16));
        assert!(made.get_pixel(4, 2).0[0] > 200 && made.get_pixel(4, 13).0[2] > 200);
    }

    #[test]
    fn what_is_no_image_or_half_of_one_is_refused() {
        let whole =
            png(&DynamicImage::ImageRgb8(RgbImage::from_fn(64, 64, |x, y| image::Rgb([(x * y) as u8; 3]))));
        for (file, says) in [
            (&b"GIF89a\x01\0\x01\0"[..], "neither a PNG nor a JPEG"),
            (b"", "neither a PNG nor a JPEG"),
            (&whole[..40], "the image "),
            (&whole[..whole.len() - 30], "the image "),
            (b"\xff\xd8\xff\xe0", "the image is damaged"),
        ] {
            let refused = small(file, &request(8, 8, Format::Png)).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
    }
}
