//! Which capability covers which: what a manifest asks for against what its agent asks for while it runs. Decided by
//! what the two permit, never by how they are written.
//!
//! Invariant: to cover is reflexive and transitive, and whatever the covered one permits, the covering one permits.

use std::net::IpAddr;

use crate::capability::{Capability, FileAccess, Protocol};
use crate::host::{Host, Port};

/// Ports that are reached only when they are named: remote shells, mail, remote desktops.
pub const BLOCKED_PORTS: [u16; 3] = [22, 25, 3389];

impl Capability {
    /// Whether this permits everything that `other` does.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Filesystem { access, path },
                Self::Filesystem { access: other_access, path: other_path },
            ) => access.covers(*other_access) && is_at_or_below(other_path, path),
            (
                Self::Network { protocol, host, port },
                Self::Network { protocol: other_protocol, host: other_host, port: other_port },
            ) => {
                (*protocol == Protocol::Any || protocol == other_protocol)
                    && host.covers(other_host)
                    && port.reach(*protocol).covers(other_port.reach(*other_protocol))
            }
            (
                Self::Compute { memory, cpu_ms, fuel },
                Self::Compute { memory: other_memory, cpu_ms: other_cpu_ms, fuel: other_fuel },
            ) => {
                is_within(*other_memory, *memory)
                    && is_within(*other_cpu_ms, *cpu_ms)
                    && is_within(*other_fuel, *fuel)
            }
            (Self::Media { access, prefix }, Self::Media { access: other_access, prefix: other_prefix }) => {
                access == other_access && other_prefix.starts_with(prefix.as_str())
            }
            (Self::Env(name), Self::Env(other_name))
            | (Self::Secret(name), Self::Secret(other_name))
            | (Self::Extension(name), Self::Extension(other_name)) => name == other_name,
            _ => false,
        }
    }
}

impl FileAccess {
    /// Whether this permits everything that `other` does.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self == Self::ReadWrite || self == other
    }
}

/// By whole components: `/data` covers `/data/a` and not `/database`.
#[must_use]
pub fn is_at_or_below(path: &str, top: &str) -> bool {
    match path.strip_prefix(top) {
        Some(rest) => rest.is_empty() || rest.starts_with('/') || top == "/",
        None => false,
    }
}

/// A budget that is not asked for takes nothing; one that was not given permits nothing.
fn is_within<T: PartialOrd>(asked: Option<T>, given: Option<T>) -> bool {
    match (asked, given) {
        (None, _) => true,
        (Some(asked), Some(given)) => asked <= given,
        (Some(_), None) => false,
    }
}

/// The ports that a capability reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// All but the blocked ones.
    Usual,
    /// This one.
    One(u16),
}

impl Reach {
    fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::Usual, Self::Usual) => true,
            (Self::Usual, Self::One(port)) => !BLOCKED_PORTS.contains(&port),
            (Self::One(port), Self::One(other)) => port == other,
            (Self::One(_), Self::Usual) => false,
        }
    }
}

impl Port {
    fn reach(self, protocol: Protocol) -> Reach {
        self.number(protocol).map_or(Reach::Usual, Reach::One)
    }

    /// Whether connections to this port of a host are meant, by a capability of that protocol.
    #[must_use]
    pub fn reaches(self, protocol: Protocol, port: u16) -> bool {
        self.reach(protocol).covers(Reach::One(port))
    }
}

impl Host {
    /// Whether this means every host that `other` does.
    ///
    /// A name never covers an address, nor the other way round: which addresses a name has is found out when it is
    /// connected to, and checked then. `*` covers an address only where strangers may be reached at it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Any | Self::Name(_) | Self::Suffix(_)) => true,
            (Self::Any, Self::Network { address, prefix }) => {
                !RESERVED.iter().any(|reserved| reserved.overlaps(*address, *prefix))
            }
            (Self::Name(name), Self::Name(other)) => name == other,
            (Self::Suffix(suffix), Self::Name(other)) => is_below(other, suffix),
            (Self::Suffix(suffix), Self::Suffix(other)) => other == suffix || is_below(other, suffix),
            (
                Self::Network { address, prefix },
                Self::Network { address: other_address, prefix: other_prefix },
            ) => prefix <= other_prefix && shares_prefix(*address, *other_address, *prefix),
            _ => false,
        }
    }
}

/// By whole labels: `api.openai.com` is below `openai.com`, and neither that itself nor `evilopenai.com` is.
fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn shares_prefix(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let rest = 32_u32.saturating_sub(prefix.into());
            (one.to_bits() ^ other.to_bits()).checked_shr(rest).unwrap_or(0) == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let rest = 128_u32.saturating_sub(prefix.into());
            (one.to_bits() ^ other.to_bits()).checked_shr(rest).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// A network of addresses.
#[derive(Clone, Copy, Debug)]
struct Block {
    address: IpAddr,
    prefix: u8,
}

impl Block {
    const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Self {
        Self { address: IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, 0)), prefix }
    }

    const fn v4_one(a: u8, b: u8, c: u8, d: u8) -> Self {
        Self { address: IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d)), prefix: 32 }
    }

    const fn v6(first: u16, second: u16, third: u16, prefix: u8) -> Self {
        Self { address: IpAddr::V6(std::net::Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0)), prefix }
    }

    fn overlaps(&self, address: IpAddr, prefix: u8) -> bool {
        shares_prefix(self.address, address, self.prefix.min(prefix))
    }
}

/// Addresses that a stranger's agent has no business with unless they are named: this machine, its link, private
/// networks and their metadata services, multicast, what is set aside, and what hides an IPv4 address in an IPv6 one
/// (IANA's special-purpose address registries, RFC 6890).
const RESERVED: &[Block] = &[
    Block::v4(0, 0, 0, 8),
    Block::v4(10, 0, 0, 8),
    Block::v4(100, 64, 0, 10),
    Block::v4(127, 0, 0, 8),
    Block::v4(169, 254, 0, 16),
    Block::v4(172, 16, 0, 12),
    Block::v4(192, 0, 0, 24),
    Block::v4(192, 0, 2, 24),
    Block::v4(192, 88, 99, 24),
    Block::v4(192, 168, 0, 16),
    Block::v4(198, 18, 0, 15),
    Block::v4(198, 51, 100, 24),
    Block::v4(203, 0, 113, 24),
    // Multicast, what is reserved, and broadcast.
    Block::v4(224, 0, 0, 3),
    // Azure's own services for machines, which answer at a public address (documented as such there).
    Block::v4_one(168, 63, 129, 16),
    // All that is not global unicast (2000::/3): loopback, IPv4-compatible, -mapped and -translated addresses, NAT64
    // (RFC 6052, RFC 8215), unique local addresses with the metadata service fd00:ec2::254, link-local, multicast.
    Block::v6(0, 0, 0, 3),
    Block::v6(0x4000, 0, 0, 2),
    Block::v6(0x8000, 0, 0, 1),
    // Teredo, ORCHID, benchmarking, documentation: the whole of IETF's protocol assignments.
    Block::v6(0x2001, 0, 0, 23),
    Block::v6(0x2001, 0xdb8, 0, 32),
    // 6to4, which carries an IPv4 address.
    Block::v6(0x2002, 0, 0, 16),
    Block::v6(0x3fff, 0, 0, 20),
];

/// Whether an address is one that strangers may be reached at: it lies in none of the ranges that are set aside for this
/// machine, its network or special uses. IPv4-mapped IPv6 counts as the IPv4 that it is.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    !RESERVED.iter().any(|reserved| reserved.overlaps(address, prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn capability(text: &str) -> Capability {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn what_is_asked_for_must_lie_within_what_the_manifest_asks_for() {
        for (manifest, asked, covers) in [
            ("filesystem:read:/data", "filesystem:read:/data/a/b", true),
            ("filesystem:read:/data", "filesystem:read:/data", true),
            ("filesystem:read:/data", "filesystem:read:/database", false),
            ("filesystem:read:/data", "filesystem:read:/", false),
            ("filesystem:read:/data", "filesystem:write:/data", false),
            ("filesystem:read:/", "filesystem:read:/etc", true),
            ("filesystem:readwrite:/data", "filesystem:write:/data/x", true),
            ("filesystem:write:/data", "filesystem:readwrite:/data", false),
            ("network:https:*.openai.com", "network:https:api.openai.com", true),
            ("network:https:*.openai.com", "network:https:API.OpenAI.com.", true),
            ("network:https:*.openai.com", "network:https:a.b.openai.com", true),
            ("network:https:*.openai.com", "network:https:openai.com", false),
            ("network:https:*.openai.com", "network:https:evilopenai.com", false),
            ("network:https:*.openai.com", "network:https:openai.com.evil.com", false),
            ("network:https:*.openai.com", "network:https:*.api.openai.com", true),
            ("network:https:*.api.openai.com", "network:https:*.openai.com", false),
            ("network:https:a.com", "network:https:a.com:443", true),
            ("network:https:a.com", "network:https:a.com:8443", false),
            ("network:https:a.com:8443", "network:https:a.com", false),
            ("network:https:a.com:*", "network:https:a.com:8443", true),
            ("network:https:a.com:*", "network:https:a.com:22", false),
            ("network:tcp:a.com:22", "network:tcp:a.com:22", true),
            ("network:tcp:a.com", "network:tcp:a.com:25", false),
            ("network:tcp:a.com", "network:tcp:a.com:5432", true),
            ("network:https:a.com", "network:http:a.com", false),
            ("network:*:a.com", "network:http:a.com", true),
            ("network:https:a.com", "network:*:a.com:443", false),
            ("network:tcp:10.0.0.0/8", "network:tcp:10.1.2.3:80", true),
            ("network:tcp:10.0.0.0/8", "network:tcp:[::ffff:10.1.2.3]:80", true),
            ("network:tcp:10.0.0.0/8", "network:tcp:11.0.0.1:80", false),
            ("network:tcp:10.0.0.0/16", "network:tcp:10.0.0.0/8", false),
            ("network:tcp:[2001:4860::/32]", "network:tcp:[2001:4860::1]:53", true),
            ("network:https:*", "network:https:a.com", true),
            ("network:https:*", "network:https:8.8.8.8", true),
            ("network:https:*", "network:https:127.0.0.1", false),
            ("network:https:*", "network:https:169.254.169.254", false),
            ("network:https:*", "network:https:[fd00:ec2::254]", false),
            ("network:https:*", "network:https:[64:ff9b::a00:1]", false),
            ("network:https:*", "network:https:0.0.0.0/0", false),
            ("network:https:a.com", "network:https:8.8.8.8", false),
            ("env:A", "env:A", true),
            ("env:A", "env:a", false),
            ("env:A", "secret:A", false),
            ("compute:memory=64MB,fuel=100", "compute:memory=32MB", true),
            ("compute:memory=64MB", "compute:memory=64MB,fuel=1", false),
            ("compute:fuel=100", "compute:fuel=101", false),
            ("media:read:pictures/", "media:read:pictures/a.png", true),
            ("media:read:pictures/", "media:read:pictures", false),
            ("media:read:", "media:write:", false),
            ("extension:acme.search", "extension:acme.search", true),
        ] {
            assert_eq!(capability(manifest).covers(&capability(asked)), covers, "{manifest} and {asked}");
        }
    }

    #[test]
    fn addresses_of_this_machine_and_its_networks_are_not_public() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.31.0.1",
            "192.168.1.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    /// Capabilities from a small world, so that some cover others.
    fn any_capability() -> impl Strategy<Value = Capability> {
        let access = prop_oneof!["read", "write", "readwrite"];
        let path = prop_oneof![Just("/"), Just("/a"), Just("/a/b"), Just("/ab"), Just("//a/./b/")];
        let host = prop_oneof![
            Just("*"),
            Just("a.com"),
            Just("A.com."),
            Just("*.a.com"),
            Just("b.a.com"),
            Just("*.b.a.com"),
            Just("10.0.0.0/8"),
            Just("10.0.0.0/16"),
            Just("10.0.0.1"),
            Just("[::ffff:10.0.0.1]"),
            Just("8.8.8.8"),
            Just("0.0.0.0/0"),
            Just("8.0.0.0/7"),
            Just("[::/0]"),
            Just("[2606:4700::/32]"),
            Just("[2606:4700::1]"),
        ];
        let protocol = prop_oneof!["http", "https", "tcp", "udp", "\\*"];
        let port = prop_oneof![Just(""), Just(":*"), Just(":22"), Just(":80"), Just(":443")];
        let budget = (0_u64..3, 0_u64..3).prop_map(|(memory, fuel)| match (memory, fuel) {
            (0, 0) => "compute:cpu_ms=1".to_owned(),
            (0, fuel) => format!("compute:fuel={fuel}"),
            (memory, 0) => format!("compute:memory={memory}"),
            (memory, fuel) => format!("compute:memory={memory},fuel={fuel}"),
        });
        let prefix = prop_oneof![Just(""), Just("a"), Just("a/"), Just("a/b")];
        prop_oneof![
            (access, path).prop_map(|(access, path)| format!("filesystem:{access}:{path}")),
            (protocol, host, port)
                .prop_map(|(protocol, host, port)| format!("network:{protocol}:{host}{port}")),
            budget,
            (prop_oneof!["read", "write"], prefix)
                .prop_map(|(access, prefix)| format!("media:{access}:{prefix}")),
            "(env|secret|extension):[ab]",
        ]
        .prop_map(|text| capability(&text))
    }

    /// A single thing that a network capability could be used for.
    fn any_use() -> impl Strategy<Value = Capability> {
        let host =
            prop_oneof![Just("a.com"), Just("b.a.com"), Just("10.0.0.1"), Just("8.8.8.8"), Just("127.0.0.1")];
        let protocol = prop_oneof!["http", "https", "tcp", "udp"];
        let port = prop_oneof![Just(22_u16), Just(80), Just(443), Just(5432)];
        (protocol, host, port)
            .prop_map(|(protocol, host, port)| capability(&format!("network:{protocol}:{host}:{port}")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn covering_is_reflexive(one in any_capability()) {
            prop_assert!(one.covers(&one));
        }

        #[test]
        fn covering_is_transitive(one in any_capability(), two in any_capability(), three in any_capability()) {
            if one.covers(&two) && two.covers(&three) {
                prop_assert!(one.covers(&three), "{} {} {}", one, two, three);
            }
        }

        #[test]
        fn whatever_the_covered_one_permits_the_covering_one_permits(
            one in any_capability(), two in any_capability(), used in any_use()
        ) {
            if one.covers(&two) && two.covers(&used) {
                prop_assert!(one.covers(&used), "{} {} {}", one, two, used);
            }
        }

        #[test]
        fn what_is_written_and_read_again_covers_the_same(one in any_capability(), two in any_capability()) {
            let again = capability(&one.to_string());
            prop_assert_eq!(one.covers(&two), again.covers(&two));
            prop_assert_eq!(two.covers(&one), two.covers(&again));
        }
    }
}
