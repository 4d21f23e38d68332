//! Hosts and ports as capabilities name them: names, suffixes, addresses and networks, each in one
//! canonical form, so that no two spellings of a host are two hosts.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::capability::Protocol;
use crate::escape::escape_untrusted;

/// Whom a network capability is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// Everyone.
    Any,
    /// One name, in lower-case ASCII (IDNA), without a trailing dot.
    Name(String),
    /// Every name that ends in `.` and this one; not the name itself.
    Suffix(String),
    /// One address, or a network of them by its prefix length; IPv4-mapped IPv6 is IPv4.
    Network {
        /// The address with all bits beyond the prefix cleared.
        address: IpAddr,
        /// Leading bits that count: 32 or 128 for one address.
        prefix: u8,
    },
}

/// Which ports a network capability is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// The protocol's own; every port but the blocked ones where it has none.
    Unsaid,
    /// Every port.
    Any,
    /// This one.
    Number(u16),
}

/// Reads `host[:port]`.
pub(crate) fn parse_target(target: &str) -> Result<(Host, Port), String> {
    let (host, port) = split(target)?;
    let port = match port {
        None => Port::Unsaid,
        Some("*") => Port::Any,
        Some(digits) => match digits.parse::<u16>() {
            Ok(number) if number > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Port::Number(number)
            }
            _ => return Err(format!("port `{}` must be 1 to 65535, or `*`", escape_untrusted(digits, 20))),
        },
    };
    Ok((host_of(host)?, port))
}

/// Splits off the port; addresses of IPv6 stand in brackets, as in URLs (RFC 3986, section 3.2.2).
fn split(target: &str) -> Result<(&str, Option<&str>), String> {
    let unclear = "an IPv6 host must stand in brackets, such as `[2001:db8::1]:443`";
    if let Some(rest) = target.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or(unclear)?;
        // Nothing else stands in brackets: not a name, and not `*`, which would mean every host.
        let (plain, _length) = address.split_once('/').unwrap_or((address, ""));
        plain.parse::<Ipv6Addr>().map_err(|_| {
            format!("host `[{}]` is no IPv6 address or network of them", escape_untrusted(address, 60))
        })?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((address, Some(port))),
            None if after.is_empty() => Ok((address, None)),
            None => Err(unclear.into()),
        };
    }
    match target.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(unclear.into()),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((target, None)),
    }
}

fn host_of(text: &str) -> Result<Host, String> {
    if text == "*" {
        return Ok(Host::Any);
    }
    if let Some((address, prefix)) = text.split_once('/') {
        return network(address, prefix);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let address = address.to_canonical();
        return Ok(Host::Network { address, prefix: bits(address) });
    }
    match text.strip_prefix("*.") {
        Some(suffix) => name(suffix).map(Host::Suffix),
        None => name(text).map(Host::Name),
    }
}

fn network(address: &str, prefix: &str) -> Result<Host, String> {
    let shown = escape_untrusted(prefix, 10);
    let address: IpAddr = address.parse().map_err(|_| {
        format!("host `{}/{shown}` is no network of addresses", escape_untrusted(address, 60))
    })?;
    let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let length = if digits { prefix.parse::<u8>().ok() } else { None };
    let Some(mut length) = length.filter(|length| *length <= bits(address)) else {
        return Err(format!("prefix length `/{shown}` must be 0 to {}", bits(address)));
    };
    let mut canonical = address;
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
        && length >= 96
    {
        canonical = IpAddr::V4(v4);
        length -= 96;
    }
    Ok(Host::Network { address: masked(canonical, length), prefix: length })
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// A DNS name in its ASCII form (UTS 46), each label a letter-digit-hyphen one (RFC 1123).
fn name(text: &str) -> Result<String, String> {
    let wrong = || format!("host `{}` is neither a name nor an address", escape_untrusted(text, 60));
    let text = text.strip_suffix('.').unwrap_or(text);
    let ascii = idna::domain_to_ascii_strict(text).map_err(|_| wrong())?;
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let last = ascii.rsplit('.').next().unwrap_or_default();
    // A last label of digits would be read as an address by some resolvers, such as `1.2.3` or `0x7f.1`.
    let numeric = last.starts_with(|first: char| first.is_ascii_digit());
    if ascii.len() <= 253 && ascii.split('.').all(label_fits) && !numeric {
        return Ok(ascii);
    }
    Err(wrong())
}

impl Host {
    /// In plain words.
    pub(crate) fn explain(&self) -> String {
        match self {
            Self::Any => "any host with a name".into(),
            Self::Name(name) => format!("`{name}`"),
            Self::Suffix(suffix) => format!("hosts below `{suffix}`"),
            Self::Network { address, prefix } if *prefix == bits(*address) => {
                format!("the address `{address}`")
            }
            Self::Network { address, prefix } => format!("addresses in `{address}/{prefix}`"),
        }
    }
}

impl Port {
    /// The one port that is meant, by a capability of that protocol, if it is one.
    #[must_use]
    pub fn number(self, protocol: Protocol) -> Option<u16> {
        match (self, protocol) {
            (Self::Number(number), _) => Some(number),
            (Self::Unsaid, Protocol::Http) => Some(80),
            (Self::Unsaid, Protocol::Https) => Some(443),
            (Self::Unsaid | Self::Any, _) => None,
        }
    }

    /// In plain words, to follow a host.
    pub(crate) fn explain(self) -> String {
        match self {
            Self::Unsaid => String::new(),
            Self::Any => " on any port".into(),
            Self::Number(number) => format!(" on port {number}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("*"),
            Self::Name(name) => formatter.write_str(name),
            Self::Suffix(suffix) => write!(formatter, "*.{suffix}"),
            Self::Network { address, prefix } => {
                let length = if *prefix == bits(*address) { String::new() } else { format!("/{prefix}") };
                match address {
                    IpAddr::V4(v4) => write!(formatter, "{v4}{length}"),
                    IpAddr::V6(v6) => write!(formatter, "[{v6}{length}]"),
                }
            }
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsaid => Ok(()),
            Self::Any => formatter.write_str(":*"),
            Self::Number(number) => write!(formatter, ":{number}"),
        }
    }
}
