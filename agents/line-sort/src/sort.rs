//! The options and the sorting. Lines are bytes: any encoding passes, and equal lines keep their
//! order, so that a result never depends on the machine.

use std::cmp::Ordering;

/// How to sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-n`: by the number that a line begins with; a line without one counts as 0.
    pub numeric: bool,
    /// `-r`: largest first.
    pub reverse: bool,
    /// `-u`: each line once.
    pub unique: bool,
    /// `-c`: each line once, after the number of its occurrences and a tab.
    pub count: bool,
    /// `-l N`: no more than the first N lines of the result.
    pub limit: Option<usize>,
}

impl Options {
    /// Understands single letters, alone or together (`-nr`), and `-l N` or `-lN`.
    ///
    /// # Errors
    /// What was not understood, and what would have been.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some(letters) = argument.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
                return Err(format!("`{argument}` is no option, and lines come from stdin alone"));
            };
            let mut letters = letters.chars();
            while let Some(letter) = letters.next() {
                match letter {
                    'n' => options.numeric = true,
                    'r' => options.reverse = true,
                    'u' => options.unique = true,
                    'c' => options.count = true,
                    'l' => {
                        let rest = letters.as_str();
                        let number = if rest.is_empty() { arguments.next() } else { Some(rest.to_owned()) };
                        let number = number.ok_or("`-l` needs a number of lines, as in `-l 10`")?;
                        let limit = number.parse();
                        options.limit = Some(limit.map_err(|_| format!("`{number}` is no number of lines"))?);
                        break;
                    }
                    other => {
                        return Err(format!(
                            "`{argument}` is no option: `{other}` is none of -n -r -u -c -l N"
                        ));
                    }
                }
            }
        }
        Ok(options)
    }
}

/// The lines of the text in order. Every line of the result ends in a line feed; a carriage return
/// before one belongs to the line break and is dropped.
pub fn sorted(text: &[u8], options: &Options) -> Vec<u8> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<&[u8]> =
        text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    let compare = |a: &&[u8], b: &&[u8]| {
        let by_number = if options.numeric { number(a).total_cmp(&number(b)) } else { Ordering::Equal };
        by_number.then_with(|| a.cmp(b))
    };
    lines.sort_by(compare);
    if options.reverse {
        lines.reverse();
    }
    let mut output = Vec::with_capacity(text.len() + 1);
    let groups = lines.chunk_by(|a, b| (options.unique || options.count) && a == b);
    for group in groups.take(options.limit.unwrap_or(usize::MAX)) {
        if options.count {
            output.extend_from_slice(format!("{}\t", group.len()).as_bytes());
        }
        output.extend_from_slice(group.first().copied().unwrap_or_default());
        output.push(b'\n');
    }
    output
}

/// The number at the start of a line, after spaces: a sign, digits, a point, digits.
fn number(line: &[u8]) -> f64 {
    let line = line.trim_ascii_start();
    let digits = |from: usize| line.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let sign = usize::from(matches!(line.first(), Some(b'-' | b'+')));
    let mut end = sign + digits(sign);
    if line.get(end) == Some(&b'.') {
        end += 1 + digits(end + 1);
    }
    let text = line.get(..end).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sort(text: &str, arguments: &[&str]) -> String {
        let options = Options::parse(arguments.iter().map(ToString::to_string)).unwrap();
        String::from_utf8(sorted(text.as_bytes(), &options)).unwrap()
    }

    #[test]
    fn lines_are_sorted_by_their_bytes() {
        assert_eq!(sort("b\na\nC\na", &[]), "C\na\na\nb\n");
        assert_eq!(sort("", &[]), "");
        assert_eq!(sort("b\r\n\r\na\r\n", &[]), "\na\nb\n");
    }

    #[test]
    fn numbers_are_sorted_as_numbers_when_asked() {
        assert_eq!(sort("10\n9\n-1.5 x\nnone\n 2", &["-n"]), "-1.5 x\nnone\n 2\n9\n10\n");
        assert_eq!(sort("10\n9\n100", &["-nr"]), "100\n10\n9\n");
    }

    #[test]
    fn repeated_lines_are_dropped_or_counted() {
        assert_eq!(sort("b\na\nb", &["-u"]), "a\nb\n");
        assert_eq!(sort("b\na\nb", &["-cr", "-l", "1"]), "2\tb\n");
    }

    #[test]
    fn arguments_that_make_no_sense_are_named() {
        for (argument, expected) in
            [("-x", "`-x` is no option"), ("file", "`file` is no option"), ("-lx", "`x`")]
        {
            let error = Options::parse([argument.to_owned()]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(Options::parse(["-l".to_owned()]).is_err());
    }
}
