//! What of a proxied message is passed on: a request for a whole URL without what concerns the connection to the proxy alone
//! (RFC 9110, section 7.6), and its response alike. Pure.
//!
//! Invariant: how long a body is, is never said by a header that was passed on beside another one.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, TE, TRAILER, TRANSFER_ENCODING,
};
use http::uri::Authority;
use http::{Request, Response, StatusCode, Version};
use mentat_manifest::{Capability, Host, Port, Protocol, escape_untrusted};
use wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS;

use super::NetworkError;

/// Characters of a request's target in a message.
const MAX_TARGET_CHARS: usize = 200;

/// What a tunnel may be: of any bytes, or of an encrypted connection with its host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ways {
    pub(super) tcp: Capability,
    pub(super) https: Capability,
    pub(super) port: u16,
}

/// Whether a capability is for something that can be done by way of a proxy.
pub(super) fn is_for_a_proxy(capability: &Capability) -> bool {
    match capability {
        Capability::Network { protocol, .. } => *protocol != Protocol::Udp,
        _ => false,
    }
}

/// A request for a whole URL as it is passed on.
pub(super) fn request<B>(request: Request<B>) -> Result<Request<B>, NetworkError> {
    let (mut head, body) = request.into_parts();
    if head.uri.scheme().is_none() || head.uri.authority().is_none() {
        let shown = escape_untrusted(&head.uri.to_string(), MAX_TARGET_CHARS);
        return Err(NetworkError::Malformed(format!(
            "this is a proxy, and `{shown}` is no whole URL; ask for one that begins with `http://`, or open a tunnel by \
             CONNECT"
        )));
    }
    remove_of_connection(&mut head.headers);
    // Is answered here.
    head.headers.remove(EXPECT);
    head.version = Version::HTTP_11;
    Ok(Request::from_parts(head, body))
}

/// A response as it is passed back.
pub(super) fn response<B>(response: Response<B>) -> Result<Response<B>, NetworkError> {
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let message = "the host switches to a protocol that it was not asked for".into();
        return Err(NetworkError::Malformed(message));
    }
    remove_of_connection(&mut head.headers);
    head.version = Version::HTTP_11;
    Ok(Response::from_parts(head, body))
}

/// The tunnel that a CONNECT asks for.
pub(super) fn tunnel<B>(request: &Request<B>) -> Result<Ways, NetworkError> {
    let shown = escape_untrusted(&request.uri().to_string(), MAX_TARGET_CHARS);
    let wrong = |what: &str| NetworkError::Malformed(format!("CONNECT to `{shown}` {what}"));
    let content_length = request.headers().get(CONTENT_LENGTH);
    if content_length.is_some_and(|length| length.as_bytes() != b"0")
        || request.headers().contains_key(TRANSFER_ENCODING)
    {
        return Err(wrong("has a body, which it cannot have"));
    }
    let authority = request.uri().authority().map_or("", Authority::as_str);
    if authority.contains('@') {
        return Err(wrong("holds user information (`…@`)"));
    }
    let way = |protocol: &str| {
        let text = format!("network:{protocol}:{authority}");
        text.parse::<Capability>().map_err(|error| wrong(&format!("is to no host: {error}")))
    };
    let (tcp, https) = (way("tcp")?, way("https")?);
    match tcp {
        Capability::Network {
            host: Host::Name(_) | Host::Network { .. }, port: Port::Number(port), ..
        } => Ok(Ways { tcp, https, port }),
        _ => Err(wrong("must name one host and one port")),
    }
}

/// Takes out what is said for one connection alone, by its name or by being named there.
fn remove_of_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // Not to be taken away by whoever likes: they say how long the body is, and what is asked for.
        .filter(|name| *name != CONTENT_LENGTH)
        .collect();
    for name in named.iter().chain(&DEFAULT_FORBIDDEN_HEADERS).chain(&[TE, TRAILER]) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;

    fn asked(method: Method, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn what_is_said_to_the_proxy_is_not_said_to_the_host() {
        let headers = [
            ("host", "elsewhere.example"),
            ("connection", "close, X-Hop ,,\"x"),
            ("connection", "content-length, authorization"),
            ("x-hop", "1"),
            ("authorization", "to be named there is to be taken out"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("keep-alive", "timeout=5"),
            ("expect", "100-continue"),
            ("http2-settings", "x"),
            ("content-length", "5"),
            ("accept", "text/html"),
        ];
        let passed = request(asked(Method::POST, "http://a.example/x?y", &headers)).unwrap();
        let names: Vec<&str> = passed.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-length", "accept"]);
        assert_eq!(
            (passed.uri().to_string().as_str(), passed.version()),
            ("http://a.example/x?y", Version::HTTP_11)
        );
    }

    #[test]
    fn what_is_no_whole_url_is_refused() {
        for uri in ["/x", "*", "a.example:80"] {
            let refused = request(asked(Method::GET, uri, &[])).unwrap_err();
            assert!(refused.to_string().contains("no whole URL"), "{refused}");
        }
        let switches = Response::builder().status(101).body(()).unwrap();
        assert!(response(switches).is_err());
    }

    #[test]
    fn a_tunnel_is_to_one_host_and_one_port() {
        for (to, is) in [
            ("Api.Example.com.:443", Some("network:tcp:api.example.com:443")),
            ("10.0.0.1:5432", Some("network:tcp:10.0.0.1:5432")),
            ("[::ffff:10.0.0.1]:80", Some("network:tcp:10.0.0.1:80")),
            ("[2001:db8::1]:443", Some("network:tcp:[2001:db8::1]:443")),
            ("api.example.com", None),
            ("user@api.example.com:443", None),
            ("2130706433:80", None),
            ("0x7f.1:80", None),
            ("127.1:80", None),
            ("api.example.com:0443000", None),
            ("*.example.com:443", None),
        ] {
            let found = to.parse::<http::Uri>().ok().and_then(|uri| {
                let mut request = asked(Method::CONNECT, "x:1", &[]);
                *request.uri_mut() = uri;
                tunnel(&request).ok()
            });
            assert_eq!(found.map(|ways| ways.tcp.to_string()).as_deref(), is, "{to}");
        }
        for body in [("content-length", "4"), ("transfer-encoding", "chunked")] {
            let refused = tunnel(&asked(Method::CONNECT, "a.example:443", &[body])).unwrap_err();
            assert!(refused.to_string().contains("has a body"), "{refused}");
        }
        assert!(tunnel(&asked(Method::CONNECT, "a.example:443", &[("content-length", "0")])).is_ok());
    }

    #[test]
    fn datagrams_have_no_proxy() {
        for (capability, has) in [
            ("network:https:*", true),
            ("network:tcp:a.example:1", true),
            ("network:*:a.example", true),
            ("network:udp:a.example:53", false),
            ("env:X", false),
        ] {
            assert_eq!(is_for_a_proxy(&capability.parse().unwrap()), has, "{capability}");
        }
    }

    proptest! {
        #[test]
        fn nothing_of_the_connection_is_ever_passed_on(values in proptest::collection::vec("[ -~]{0,30}", 0..4)) {
            let headers: Vec<(&str, &str)> =
                values.iter().map(|value| ("connection", value.as_str())).chain([("te", "x"), ("upgrade", "y")]).collect();
            let passed = request(asked(Method::GET, "http://a.example/", &headers)).unwrap();
            prop_assert!(passed.headers().is_empty());
        }
    }
}
