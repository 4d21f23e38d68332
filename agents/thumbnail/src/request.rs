//! What is asked of the agent, in JSON.

use serde::Deserialize;

/// A request.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Reference of the image.
    pub image: String,
    /// Widest that the copy may be.
    pub width: u32,
    /// Highest that it may be.
    pub height: u32,
    /// As what it is stored; PNG where nothing is said.
    #[serde(default)]
    pub format: Format,
}

/// A format that copies are stored in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Without loss, and with transparency.
    #[default]
    Png,
    /// Smaller for photographs; what is transparent becomes white.
    Jpeg,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(input: &[u8]) -> Result<Self, String> {
        let request: Self = serde_json::from_slice(input)
            .map_err(|error| format!("the input is no request for a thumbnail: {error}"))?;
        if request.width == 0 || request.height == 0 {
            return Err("`width` and `height` begin at 1".into());
        }
        Ok(request)
    }
}

impl Format {
    /// Its media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_a_png_unless_something_else_is_asked_for() {
        let parse = |format: &str| {
            let input = format!(r#"{{"image": "media://a.png", "width": 3, "height": 4{format}}}"#);
            Request::parse(input.as_bytes()).map(|request| request.format)
        };
        assert_eq!(parse(""), Ok(Format::Png));
        assert_eq!(parse(r#", "format": "jpeg""#), Ok(Format::Jpeg));
        let refused = parse(r#", "format": "gif""#).unwrap_err();
        assert!(refused.contains("unknown variant `gif`, expected `png` or `jpeg`"), "{refused}");
    }

    #[test]
    fn nothing_is_asked_for_by_a_size_of_nothing() {
        let refused = Request::parse(br#"{"image": "media://a.png", "width": 0, "height": 4}"#);
        assert_eq!(refused, Err("`width` and `height` begin at 1".into()));
    }
}
