//! Scaling down. Each pixel of the result is the mean of the area that it covers, in whole numbers, so that every machine
//! makes the same bytes; colours count by how opaque they are, so that what is transparent colours nothing.

use std::ops::Range;

use image::{GenericImageView, Rgba, RgbaImage};

/// The largest size within a box of the shape of an image, which is never larger than the image.
pub fn fit((width, height): (u32, u32), (widest, highest): (u32, u32)) -> (u32, u32) {
    if width <= widest && height <= highest {
        return (width, height);
    }
    let share = |side: u32, of: u32, whole: u32| {
        let exact = u64::from(side) * u64::from(of);
        let rounded = (exact + u64::from(whole) / 2) / u64::from(whole.max(1));
        u32::try_from(rounded).unwrap_or(u32::MAX).max(1)
    };
    if u64::from(width) * u64::from(highest) >= u64::from(height) * u64::from(widest) {
        (widest, share(height, widest, width))
    } else {
        (share(width, highest, height), highest)
    }
}

/// Scales an image down to a size that is not larger in either direction.
pub fn scale(image: &impl GenericImageView<Pixel = Rgba<u8>>, (width, height): (u32, u32)) -> RgbaImage {
    let (from_width, from_height) = image.dimensions();
    RgbaImage::from_fn(width, height, |x, y| {
        let (mut colours, mut opacity, mut area) = ([0_u64; 3], 0_u64, 0_u64);
        for (row, row_share) in covered(y, height, from_height) {
            for (column, column_share) in covered(x, width, from_width) {
                let Rgba([red, green, blue, alpha]) = image.get_pixel(column, row);
                let share = row_share * column_share;
                let weight = share * u64::from(alpha);
                for (sum, colour) in colours.iter_mut().zip([red, green, blue]) {
                    *sum += weight * u64::from(colour);
                }
                opacity += weight;
                area += share;
            }
        }
        let [red, green, blue] = colours.map(|sum| mean(sum, opacity));
        Rgba([red, green, blue, mean(opacity, area)])
    })
}

/// The pixels of a line of `from` that a pixel of a line of `to` covers, each with how much of it: `to` is all of it.
fn covered(position: u32, to: u32, from: u32) -> impl Iterator<Item = (u32, u64)> {
    // Along a line that both divide, a pixel of the one is `to` long and a pixel of the other `from`.
    let (to, from) = (u64::from(to), u64::from(from));
    let Range { start, end } = u64::from(position) * from..(u64::from(position) + 1) * from;
    (start / to..end.div_ceil(to)).map(move |pixel| {
        let share = end.min((pixel + 1) * to) - start.max(pixel * to);
        (u32::try_from(pixel).unwrap_or(u32::MAX), share)
    })
}

fn mean(sum: u64, weight: u64) -> u8 {
    u8::try_from((sum + weight / 2).checked_div(weight).unwrap_or(0)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_kept_and_nothing_is_enlarged() {
        for (image, within, expected) in [
            ((400, 200), (100, 100), (100, 50)),
            ((200, 400), (100, 100), (50, 100)),
            ((400, 200), (1000, 50), (100, 50)),
            ((40, 20), (100, 100), (40, 20)),
            ((10_000, 1), (100, 100), (100, 1)),
            ((3, 2), (2, 2), (2, 1)),
            ((u32::MAX, u32::MAX), (u32::MAX, 1), (1, 1)),
        ] {
            assert_eq!(fit(image, within), expected, "{image:?} within {within:?}");
        }
    }

    #[test]
    fn a_pixel_is_the_mean_of_what_it_covers() {
        // Three columns to two: each covers one and a half.
        let image = RgbaImage::from_fn(3, 1, |x, _| Rgba([[0, 90, 240][x as usize], 0, 0, 255]));
        let scaled = scale(&image, (2, 1));
        assert_eq!(scaled.get_pixel(0, 0), &Rgba([30, 0, 0, 255]));
        assert_eq!(scaled.get_pixel(1, 0), &Rgba([190, 0, 0, 255]));
    }

    #[test]
    fn what_is_transparent_colours_nothing() {
        let image =
            RgbaImage::from_fn(
                2,
                1,
                |x, _| if x == 0 { Rgba([200, 10, 0, 255]) } else { Rgba([0, 0, 255, 0]) },
            );
        assert_eq!(scale(&image, (1, 1)).get_pixel(0, 0), &Rgba([200, 10, 0, 128]));
    }

    #[test]
    fn an_image_scaled_to_its_own_size_is_the_same() {
        let image = RgbaImage::from_fn(5, 4, |x, y| Rgba([(x * 50) as u8, (y * 60) as u8, 7, 255]));
        assert_eq!(scale(&image, (5, 4)), image);
    }
}
