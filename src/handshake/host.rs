//! Host names as `Host` and `Origin` carry them: parsed strictly, compared whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::from_utf8;

/// A host without its port. `text` keeps the brackets of an IPv6 literal.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostName<'a> {
    pub(super) text: &'a str,
    pub(super) ip: Option<IpAddr>,
}

impl HostName<'_> {
    /// Addresses are compared as addresses, names whole and with ASCII case ignored. The names of the
    /// loopback interface are one: whichever of them a browser shows, the page is of this machine.
    pub(super) fn is_same(&self, other: &HostName<'_>) -> bool {
        match (self.ip, other.ip) {
            (Some(one), Some(two)) if one == two => true,
            (None, None) if self.text.eq_ignore_ascii_case(other.text) => true,
            _ => self.is_loopback() && other.is_loopback(),
        }
    }

    fn is_loopback(&self) -> bool {
        self.ip.map_or_else(
            || self.text.eq_ignore_ascii_case("localhost"),
            |ip| ip.to_canonical().is_loopback(),
        )
    }
}

/// `host [":" port]`, the whole of a `Host` header (RFC 9110 section 7.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Authority<'a> {
    pub(super) host: HostName<'a>,
    pub(super) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Only what can be a DNS name or an IP literal is a host: no user information, path, percent-escape, space
    /// or zone. A port has digits, or none (RFC 3986, section 3.2.3: a colon alone is the same as no port).
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let text = from_utf8(bytes).ok()?;
        let host_end = match text.strip_prefix('[') {
            Some(_) => text.find(']')? + 1,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, port) = text.split_at(host_end);
        let port = match port {
            "" | ":" => None,
            port => Some(parse_port(port)?),
        };
        Some(Self { host: parse_host(host)?, port })
    }
}

fn parse_host(text: &str) -> Option<HostName<'_>> {
    let ip = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(literal) => Some(IpAddr::V6(literal.parse::<Ipv6Addr>().ok()?)),
        None if is_name(text) => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        None => return None,
    };
    Some(HostName { text, ip })
}

/// Letters, digits, `-` and `.`, and the `_` that is found in the names of containers.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed)
}

/// A colon and a number up to 65535.
fn parse_port(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(':')?;
    // `u16::from_str` takes a plus sign too.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// `scheme "://" host [":" port]` and nothing after it (RFC 6454 section 6.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    pub(super) scheme: &'a str,
    pub(super) host: HostName<'a>,
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (scheme, rest) = from_utf8(bytes).ok()?.split_once("://")?;
        let Authority { host, port } = Authority::parse(rest.as_bytes())?;
        is_scheme(scheme).then_some(Self { scheme, host, port })
    }

    /// Scheme, host and port, a scheme's own port being the same as none.
    pub(super) fn is_same(&self, other: &Origin<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.host.is_same(&other.host)
            && self.effective_port() == other.effective_port()
    }

    fn effective_port(&self) -> Option<u16> {
        let default = match self.scheme {
            scheme if scheme.eq_ignore_ascii_case("http") => Some(80),
            scheme if scheme.eq_ignore_ascii_case("https") => Some(443),
            _ => None,
        };
        self.port.or(default)
    }
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Option<&str> {
        Authority::parse(text.as_bytes()).map(|authority| authority.host.text)
    }

    #[test]
    fn names_and_addresses_with_and_without_a_port_are_hosts() {
        assert_eq!(host("localhost"), Some("localhost"));
        assert_eq!(host("my_box-1.example:8002"), Some("my_box-1.example"));
        assert_eq!(host("127.0.0.1:65535"), Some("127.0.0.1"));
        assert_eq!(host("[::1]"), Some("[::1]"));
        assert_eq!(host("[::1]:8002"), Some("[::1]"));
        assert_eq!(host("localhost:"), Some("localhost"));
        assert_eq!(host("[::1]:"), Some("[::1]"));
    }

    #[test]
    fn anything_else_is_not_a_host() {
        for text in [
            "",
            ":80",
            "a b",
            "a/b",
            "a@b",
            "user:pass@b",
            "a:+1",
            "a:65536",
            "a:8o",
            "a:1:2",
            "::1",
            "[::1",
            "[::1]x",
            "[fe80::1%25eth0]",
            "[127.0.0.1]",
            "[]",
            "a,b",
            "a%2e",
            "a?b",
            "a#b",
            "a\tb",
            "b\u{fc}cher",
            "*",
        ] {
            assert_eq!(host(text), None, "{text:?}");
        }
        assert_eq!(host(&"a".repeat(256)), None);
        assert_eq!(Authority::parse(b"a\xff").map(|_| ()), None);
    }

    #[test]
    fn addresses_are_compared_as_addresses_and_names_as_names() {
        let same =
            |one: &str, two: &str| parse_host(one).unwrap().is_same(&parse_host(two).unwrap());
        assert!(same("LocalHost", "localhost"));
        assert!(same("[::1]", "[0:0:0:0:0:0:0:1]"));
        assert!(!same("localhost", "localhost."));
        assert!(!same("localhost", "localhost.evil.example"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(!same("127.0.0.1", "127.1"));
        assert!(!same("192.0.2.1", "[::ffff:192.0.2.1]"));
    }

    #[test]
    fn the_names_of_the_loopback_interface_are_one_host() {
        let names =
            ["localhost", "LOCALHOST", "127.0.0.1", "127.0.0.2", "[::1]", "[::ffff:127.0.0.1]"];
        let same =
            |one: &str, two: &str| parse_host(one).unwrap().is_same(&parse_host(two).unwrap());
        for one in names {
            assert!(names.into_iter().all(|two| same(one, two)), "{one}");
            for other in
                ["localhost.", "localhost.evil.example", "evil-localhost", "192.0.2.1", "[::2]"]
            {
                assert!(!same(one, other) && !same(other, one), "{one} {other}");
            }
        }
    }

    #[test]
    fn an_origin_has_a_scheme_and_an_authority_and_nothing_more() {
        let parses = |text: &str| Origin::parse(text.as_bytes()).is_some();
        assert!(parses("http://localhost"));
        assert!(parses("vscode-webview://abc"));
        assert!(parses("http://[::1]:3000"));
        for text in [
            "",
            "null",
            "localhost",
            "//localhost",
            "://localhost",
            "http:localhost",
            "http://",
            "http:///",
            "http://localhost/",
            "http://localhost?x",
            "http://localhost#x",
            "http://evil@localhost",
            "http://localhost http://b",
            "http://localhost, http://b",
            "1http://localhost",
            "ht tp://localhost",
            "http://http://localhost",
        ] {
            assert!(!parses(text), "{text:?}");
        }
    }

    #[test]
    fn the_port_of_a_scheme_may_be_left_out() {
        let parse = |text: &'static str| Origin::parse(text.as_bytes()).unwrap();
        let same = |one, two| parse(one).is_same(&parse(two));
        assert!(same("https://a.example", "HTTPS://A.example:443"));
        assert!(same("http://a.example:80", "http://a.example"));
        assert!(!same("https://a.example:80", "https://a.example"));
        assert!(!same("http://a.example", "https://a.example"));
        assert!(!same("tauri://a.example", "tauri://a.example:80"));
    }
}
