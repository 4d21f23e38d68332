//! One power, many spellings: however a capability is written, it is the same one, permits the same, and is never wider
//! than what was written. What looks like an address or a host and is none is refused.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests fail by panicking")]

use mentat_manifest::{Capability, CapabilityKind};
use proptest::prelude::*;

fn capability(text: &str) -> Capability {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn addresses_in_disguise_are_no_hosts() {
    for host in [
        // Numbers that resolvers of C read as addresses: octal, decimal, hexadecimal, with parts left out.
        "0177.0.0.1",
        "127.0.0.01",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0X7F.1",
        "127.1",
        "127.0.1",
        "1.2.3.4.5",
        "256.1.1.1",
        "127.0.0.1.",
        // Digits and dots from elsewhere in Unicode.
        "１２７.０.０.１",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "١٢٧.0.0.1",
        "*.127.0.0.1",
        "*.1",
        "a.0x1",
        // Zones belong to one machine's links.
        "[fe80::1%eth0]",
        "[fe80::1%251]",
        "fe80::1",
        "[::1",
        "::1]",
        "[::1]x",
        "[::1]/128",
        "[[::1]]",
        "[]",
        // Only IPv6 stands in brackets.
        "[127.0.0.1]",
        "[a.com]",
        "[*]",
        "[*.a.com]",
        "[10.0.0.0/8]",
    ] {
        let text = format!("network:https:{host}");
        assert!(text.parse::<Capability>().is_err(), "{text} is {}", capability(&text));
    }
}

#[test]
fn wildcards_stand_for_whole_labels_at_the_beginning() {
    for host in
        ["*.", "**", "*.*.com", "a.*.com", "a.*", "*com", "*.co*m", "a*.com", "*..com", ".com", "*.-a.com"]
    {
        let text = format!("network:https:{host}");
        assert!(text.parse::<Capability>().is_err(), "{text} is {}", capability(&text));
    }
    let all_of_com = capability("network:https:*.com");
    assert!(all_of_com.covers(&capability("network:https:a.b.com")));
    assert!(!all_of_com.covers(&capability("network:https:com")));
}

#[test]
fn hosts_hold_nothing_but_a_host() {
    for host in [
        "user@a.com",
        "user:secret@a.com",
        "a.com/path",
        "a.com?x",
        "a.com#x",
        "a.com\\b.com",
        "a.com b.com",
        " a.com",
        "a.com ",
        "a_b.com",
        "a..com",
        "a.com..",
        ".",
        "%61.com",
        "a.com%00",
        "a\u{200b}b.com:80:80",
        "-a.com",
    ] {
        let text = format!("network:https:{host}");
        assert!(text.parse::<Capability>().is_err(), "{text} is {}", capability(&text));
    }
}

#[test]
fn ports_are_one_number_or_all() {
    for port in
        ["0", "65536", "99999999999", "-1", "+443", "0x50", "80-90", "80,81", "", " 80", "８０", "http", "**"]
    {
        let text = format!("network:tcp:a.com:{port}");
        assert!(text.parse::<Capability>().is_err(), "{text} is {}", capability(&text));
    }
    assert_eq!(capability("network:tcp:a.com:0080"), capability("network:tcp:a.com:80"));
}

#[test]
fn networks_are_what_their_prefix_says() {
    for network in [
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "10.0.0.0/8/8",
        "10.0.0/8",
        "[::/129]",
        "/8",
        "*/8",
    ] {
        let text = format!("network:tcp:{network}");
        assert!(text.parse::<Capability>().is_err(), "{text} is {}", capability(&text));
    }
    for (written, is) in [
        ("10.1.2.3/8", "network:tcp:10.0.0.0/8"),
        ("10.1.2.3/32", "network:tcp:10.1.2.3"),
        ("1.2.3.4/0", "network:tcp:0.0.0.0/0"),
        ("[2001:db8::1/32]", "network:tcp:[2001:db8::/32]"),
        ("[::ffff:10.1.2.3]", "network:tcp:10.1.2.3"),
        ("[::ffff:10.1.2.3/104]", "network:tcp:10.0.0.0/8"),
        ("[::ffff:0:0/96]", "network:tcp:0.0.0.0/0"),
        // Wider than all of IPv4: an IPv6 network, which covers no IPv4 address.
        ("[::ffff:0:0/95]", "network:tcp:[::fffe:0:0/95]"),
    ] {
        assert_eq!(capability(&format!("network:tcp:{written}")).to_string(), is);
    }
    assert!(!capability("network:tcp:[::/0]").covers(&capability("network:tcp:[::ffff:10.1.2.3]")));
}

/// A capability in its usual spelling, and the same in another.
fn spelled_otherwise() -> impl Strategy<Value = (String, String)> {
    prop_oneof![path(), name(), address(), budget(), other()]
}

fn path() -> impl Strategy<Value = (String, String)> {
    let component =
        ("[a-zA-Z0-9 _~:é-]{1,8}", prop_oneof![Just("/"), Just("//"), Just("/./"), Just("///./")]);
    let end = prop_oneof![Just(""), Just("/"), Just("/."), Just("//")];
    (prop_oneof!["read", "write", "readwrite"], proptest::collection::vec(component, 1..5), end).prop_map(
        |(access, components, end)| {
            let usual: String = components.iter().map(|(name, _)| format!("/{name}")).collect();
            let other: String = components.iter().map(|(name, slash)| format!("{slash}{name}")).collect();
            (format!("filesystem:{access}:{usual}"), format!("filesystem:{access}:{other}{end}"))
        },
    )
}

/// Names with other cases, dots and forms of Unicode, and with the protocol's own port.
fn name() -> impl Strategy<Value = (String, String)> {
    let label = prop_oneof![
        "[a-z]([a-z0-9-]{0,4}[a-z0-9])?".prop_filter("no Punycode", |label| label.get(2..4) != Some("--")),
        Just("xn--bcher-kva".to_owned()),
        Just("xn--fa-hia".to_owned())
    ];
    let dot = prop_oneof![Just("."), Just("．"), Just("。"), Just("｡")];
    let labels = proptest::collection::vec((label, dot, any::<bool>()), 1..4);
    (prop_oneof![Just(""), Just("*.")], labels, any::<bool>()).prop_map(|(star, labels, rooted)| {
        let usual: Vec<&str> = labels.iter().map(|(label, ..)| label.as_str()).collect();
        let mut other = String::new();
        for (index, (label, dot, upper)) in labels.iter().enumerate() {
            if index > 0 {
                other.push_str(dot);
            }
            match (label.as_str(), upper) {
                ("xn--bcher-kva", true) => other.push_str("BÜCHER"),
                ("xn--fa-hia", true) => other.push_str("faß"),
                (label, true) => other.push_str(&label.to_uppercase()),
                (label, false) => other.push_str(label),
            }
        }
        let root = if rooted { "." } else { "" };
        (format!("network:https:{star}{}", usual.join(".")), format!("network:https:{star}{other}{root}"))
    })
}

fn address() -> impl Strategy<Value = (String, String)> {
    (any::<[u8; 4]>(), 1_u16.., 0_u8..=32).prop_map(|(address, port, prefix)| {
        let address = std::net::Ipv4Addr::from(address);
        let mapped = address.to_ipv6_mapped();
        let length = prefix + 96;
        (format!("network:tcp:{address}/{prefix}:{port}"), format!("network:tcp:[{mapped}/{length}]:0{port}"))
    })
}

fn budget() -> impl Strategy<Value = (String, String)> {
    (1_u64..1 << 20, any::<u64>(), any::<u64>()).prop_map(|(megabytes, cpu_ms, fuel)| {
        let bytes = megabytes << 20;
        (
            format!("compute:memory={bytes},cpu_ms={cpu_ms},fuel={fuel}"),
            format!("compute:fuel={fuel},cpu_ms={cpu_ms},memory={megabytes}MB"),
        )
    })
}

/// Kinds with one spelling only.
fn other() -> impl Strategy<Value = (String, String)> {
    let text = prop_oneof![
        "(env|secret):[A-Za-z_][A-Za-z0-9_]{0,8}",
        "media:(read|write):([a-z.]{3,6}/){0,2}[a-z]{0,4}",
        "extension:[a-z][a-z0-9._-]{0,8}",
    ];
    text.prop_map(|text| (text.clone(), text))
}

/// Capabilities near to one another, in any spelling.
fn any_text() -> impl Strategy<Value = String> {
    spelled_otherwise().prop_flat_map(|(one, other)| prop_oneof![Just(one), Just(other)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn another_spelling_is_the_same_capability((usual, other) in spelled_otherwise()) {
        let (usual, other) = (capability(&usual), capability(&other));
        prop_assert_eq!(&usual, &other);
        prop_assert!(usual.covers(&other) && other.covers(&usual));
        prop_assert_eq!(usual.to_string(), other.to_string());
    }

    #[test]
    fn what_is_displayed_is_parsed_to_the_same(text in any_text()) {
        let parsed = capability(&text);
        prop_assert_eq!(capability(&parsed.to_string()), parsed);
    }

    #[test]
    fn the_protocols_own_port_need_not_be_said(host in "[a-z]{1,4}\\.com") {
        for (protocol, port) in [("http", 80), ("https", 443)] {
            let unsaid = capability(&format!("network:{protocol}:{host}"));
            let said = capability(&format!("network:{protocol}:{host}:{port}"));
            prop_assert!(unsaid.covers(&said) && said.covers(&unsaid));
        }
    }

    #[test]
    fn a_path_that_leads_up_is_refused_wherever_it_does(
        before in "(/[a-z.]{1,3}){0,3}", after in "(/[a-z.]{1,3}){0,3}"
    ) {
        let text = format!("filesystem:read:{before}/../{after}");
        prop_assert!(text.parse::<Capability>().is_err());
    }

    #[test]
    fn one_kind_never_covers_another(one in any_text(), two in any_text()) {
        let (one, two) = (capability(&one), capability(&two));
        prop_assert!(one.kind() == two.kind() || !one.covers(&two));
    }
}

#[test]
fn every_kind_is_among_what_is_tried() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        seen.insert(capability(&any_text().new_tree(&mut runner).unwrap().current()).kind());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), CapabilityKind::ALL);
}
