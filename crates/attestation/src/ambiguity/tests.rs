//! What is ambiguous is found where it stands, and nothing else is.

use mentat_manifest::Manifest;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn told(text: &str) -> String {
    refuse(text).expect_err(text).to_string()
}

#[test]
fn a_tag_is_refused_wherever_it_stands() {
    for text in [
        "x: !!str 1\n",
        "x: !custom z\n",
        "x: ! y\n",
        "!!str x: y\n",
        "x: !!binary aGk=\n",
        "x: [!!float 1]\n",
        "x: !!set {a, b}\n",
        "x: !<tag:example.com,2026:y> z\n",
        "--- !!map\nx: y\n",
        "attestation: { version: !!str 1 }\n",
    ] {
        assert!(matches!(refuse(text), Err(Ambiguity::Tag(_))), "{text}: {:?}", refuse(text));
    }
    assert!(told("id: a.b\n# !!str\nx:\n  - '!!str 1'\n  - !!str 1\n").starts_with("line 5: it has a tag"));
}

#[test]
fn a_directive_is_refused_but_for_the_version_that_is_read() {
    for text in [
        "%YAML 1.1\n---\nx: y\n",
        "# first\n%YAML 1.3\n---\nx: y\n",
        "%TAG ! !x\n---\nx: y\n",
        "%X\n---\nx: y\n",
        "# first\r%YAML 1.1\r---\rx: y\r",
        "#\r\n%YAML 1.1\r\n---\r\nx: y\r\n",
    ] {
        assert!(matches!(refuse(text), Err(Ambiguity::Directive { .. })), "{text}: {:?}", refuse(text));
    }
    assert!(told("# first\n%YAML 1.1\n---\nx: y\n").starts_with("line 2: the directive `%YAML 1.1`"));
    refuse("%YAML 1.2 # this one\n---\nx: z\n").unwrap();
    refuse("\u{feff}%YAML 1.2\n---\nx: '%YAML 1.1'\n").unwrap();
    refuse("x: |\n  %YAML 1.1\n").unwrap();
}

#[test]
fn anchors_and_aliases_are_refused() {
    for text in ["x: &a [1]\n", "x: &a y\nz: *a\n", "x: &a {y: z}\n", "&a x: y\n"] {
        assert!(matches!(refuse(text), Err(Ambiguity::Anchor(1))), "{text}: {:?}", refuse(text));
    }
}

#[test]
fn a_line_that_ends_for_some_readers_alone_is_refused() {
    for (character, code) in [('\u{85}', "U+0085"), ('\u{2028}', "U+2028"), ('\u{2029}', "U+2029")] {
        let hidden = told(&format!("id: a.b\n# a comment{character}runtime: container\n"));
        assert!(hidden.contains("line 2:") && hidden.contains(code), "{hidden}");
        assert!(refuse(&format!("x: \"a{character}b\"\n")).is_err());
    }
    refuse("x: \"a\\u0085b\\u2028c\"\r\nw: z\r\n").unwrap();
}

#[test]
fn a_character_that_is_escaped_in_two_halves_is_refused() {
    for (text, line) in [
        (r#"x: "\ud83d\ude00""#, 1),
        (r#"x: "a\\\uD83D\uDE00""#, 1),
        (r#"x: ["é", "\ud83d\ude00"]"#, 1),
        (r#""\ud83d\ude00": x"#, 1),
        ("x: \"a\n  b \\\n  \\ud83d\\ude00\"", 3),
        (r#"{"x": "\ud83d\ude00", "attestation": {}}"#, 1),
    ] {
        assert_eq!(refuse(text), Err(Ambiguity::Halves(line)), "{text}");
    }
    for text in [
        r#"x: "\\ud83d\\ude00""#,
        r"x: '\ud83d\ude00'",
        r"x: \ud83d\ude00",
        r#"x: "\U0001F600\u00e9\ud7ff\ue000""#,
        "x: \"\u{1f600}\"",
        r#"attestation: {signature: "\ud83d\ude00"}"#,
    ] {
        refuse(text).unwrap_or_else(|found| panic!("{text}: {found}"));
    }
}

#[test]
fn a_block_of_lines_that_does_not_end_is_refused() {
    for text in ["x: |\n  a", "x: >-\n  a\n  ", "id: a.b\nx:\n- |\n  a", "? |\n  a"] {
        assert!(told(text).contains("end it with one"), "{text}");
        refuse(&format!("{text}\n")).unwrap();
    }
    refuse("x: |\n  a\nw: b").unwrap();
}

#[test]
fn what_another_version_reads_otherwise_is_refused_with_what_to_write() {
    for (text, says) in [
        ("yes", "a truth value"),
        ("NO", "a truth value"),
        ("off", "`true` or `false`"),
        ("y", "a truth value"),
        ("Y", "a truth value"),
        ("n", "`true` or `false`"),
        ("N", "a truth value"),
        ("017", "a number"),
        ("0o17", "a number"),
        ("0x1F", "a number"),
        ("0b11", "a number"),
        ("1_000", "a number"),
        ("+1", "a number"),
        (".5", "a number"),
        ("1.", "a number"),
        ("1e3", "a number"),
        ("1.5e3", "`1.5e+3`"),
        ("-00.5", "a number"),
        ("12:30", "a number"),
        ("8080:22", "a number"),
        ("1:02:03.5", "a number"),
        ("2026-01-31", "a date"),
        ("2026-01-31T12:00:00Z", "a date"),
        ("2026-1-31 12:00:00 +1", "a date"),
        (".inf", "a number"),
        ("?x", "a mark of the grammar"),
        (":x", "a mark of the grammar"),
    ] {
        let message = told(&format!("id: a.b\nx: [{text}]\n"));
        assert!(message.contains("line 2:") && message.contains(says), "{text}: {message}");
        assert!(matches!(refuse(&format!("x: {{ {text}: y }}\n")), Err(Ambiguity::Key { .. })), "{text}");
        refuse(&format!("x: '{text}'\n")).unwrap();
        refuse(&format!("x: |\n  {text}\n")).unwrap();
    }
    for key in ["1", "1.5", "~", "null", "true", "False", "-7"] {
        let message = told(&format!("id: a.b\nx:\n  {key}: y\n"));
        assert!(message.contains("line 3:") && message.contains("write it in quotes"), "{key}: {message}");
    }
}

#[test]
fn what_all_read_alike_is_none() {
    for text in [
        "1",
        "-12",
        "0",
        "0.5",
        "-0.25",
        "1.0e-7",
        "1.5E+3",
        "true",
        "False",
        "~",
        "null",
        "1.0.0",
        "v1",
        "10.0.0.1:8080",
        "8080:80",
        "a.b",
        "yesterday",
        "on-call",
        "0xyz",
        "0b12",
        "0beef",
        "2026",
        "2026-Q1",
        "2026-01-3x",
        "env:A",
        "1-2",
        "--x",
        "1 000",
        "ten",
        ".hidden",
        "+",
        "1.2.3-rc.1",
        "_1",
    ] {
        refuse(&format!("id: a.b\nx: {text}\n")).unwrap_or_else(|found| panic!("{text}: {found}"));
    }
}

#[test]
fn numbers_that_are_rounded_when_they_are_read_are_refused() {
    for (text, read) in [
        ("9007199254740993.0", "9007199254740992"),
        ("9007199254740993", "9007199254740992"),
        ("0.10000000000000001", "0.1"),
        ("333333333.33333329", "333333333.3333333"),
        ("-1.00000000000000000001", "-1"),
        ("1.0e-400", "0"),
        ("123456789012345678901234567890", "1.2345678901234568e+29"),
    ] {
        let message = told(&format!("x: {text}\n"));
        assert!(message.contains(&format!("write `{read}`")), "{text}: {message}");
    }
    for text in [
        "0.1",
        "4.50",
        "1.0e-7",
        "100.0",
        "5.0e-324",
        "-0.0",
        "1.7976931348623157e+308",
        "0.30000000000000004",
    ] {
        refuse(&format!("x: {text}\n")).unwrap_or_else(|found| panic!("{text}: {found}"));
    }
}

#[test]
fn what_is_not_signed_may_be_written_in_any_way() {
    let block =
        "attestation:\n  version: 1_0\n  timestamp: 2026-01-31T12:00:00Z\n  more: { on: [yes, 1e3] }\n";
    refuse(&format!("id: a.b\n{block}version: 1.0.0\n")).unwrap();
    refuse(block).unwrap();
    refuse("attestation: yes\n").unwrap();
    for text in [
        format!("{block}x: yes\n"),
        "attestation: [yes]\nx: yes\n".to_owned(),
        "attestation: {a: {b: c}}\nx: [{z: yes}]\n".to_owned(),
        // Only the outermost one is left out of what is signed.
        "x: { attestation: yes }\n".to_owned(),
        "x: attestation\nz: yes\n".to_owned(),
        "x: [attestation, yes]\n".to_owned(),
    ] {
        assert!(matches!(refuse(&text), Err(Ambiguity::Value { .. })), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_is_let_through_is_what_it_looks_like_to_the_reader_of_manifests(
        text in "[-+]?[0-9]{0,3}[._:xobe]?[0-9a-f]{0,3}([.:eE-][-+]?[0-9_]{0,3}){0,2}|[yYnNtTfFoO~][a-zA-Z]{0,4}",
    ) {
        let manifest = format!("x: {text}\n");
        let Ok(document) = Manifest::document(&manifest) else { return Ok(()) };
        if refuse(&manifest).is_ok() {
            let text = text.trim();
            match &document["x"] {
                Value::Number(number) => {
                    prop_assert!(is_number(text), "{text} is {number}");
                    prop_assert_eq!(number.as_f64(), text.parse().ok());
                }
                Value::Bool(_) => prop_assert!(is_truth(text), "{}", text),
                Value::Null => prop_assert!(is_null(text), "{}", text),
                Value::String(read) => {
                    prop_assert_eq!(read, text);
                    prop_assert!(!is_number(text) && !is_truth(text) && !is_null(text), "{}", text);
                }
                other => prop_assert!(other.is_object() || other.is_array(), "{} is {}", text, other),
            }
        }
    }

    #[test]
    fn numbers_that_differ_are_one_for_nobody(a in any::<i32>(), b in any::<i32>(), power in -8_i32..8) {
        let shown = |number: i32| format!("{number}.0e{power:+}");
        prop_assert_eq!(significant(&shown(a)) == significant(&shown(b)), a.unsigned_abs() == b.unsigned_abs());
        let double: f64 = shown(a).parse().unwrap();
        prop_assert_eq!(significant(&shown(a)), significant(&format!("{double:e}")));
    }

    #[test]
    fn any_text_is_looked_through_without_a_panic(text in "[-a0-9{}\\[\\]:,?|>#'\"!&*%._ \n\r\u{feff}]{0,60}") {
        let _ = refuse(&text);
    }
}
