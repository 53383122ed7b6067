//! The origin and host rules: pages (`Origin`) and names (`Host`) that may reach the server.

use std::sync::OnceLock;

use super::head::{Head, Single};
use super::host::{Authority, HostName, Origin};
use super::refusal::{Refusal, quote};
use super::request::Request;
use super::response::Status;

/// The origin and host rules of a server.
///
/// Any page can open a WebSocket to `127.0.0.1`, and any name can be made to point there. So by
/// default:
///
/// - **`Host`**, its port ignored, is `localhost`, an IP address, or the machine's own name.
///   [`allow_host`](Self::allow_host) adds other names. This stops DNS rebinding, which needs a
///   name of the attacker.
/// - **`Origin`** is absent (not a browser), or has the host of `Host`. Scheme and port are
///   ignored, so a page on port 3000 may use a hub on 8002. [`allow_origin`](Self::allow_origin)
///   adds other origins.
///
/// Names are compared whole, ASCII case ignored, addresses as addresses. `localhost` and the
/// loopback addresses are one host. An HTTP/1.0 request without a `Host` does not come from a
/// browser, and is let in.
///
/// ```
/// use bytes::BytesMut;
/// use stepcast::handshake::{HeadLimits, Request, RequestReader, Rules};
///
/// fn request(origin: &str) -> Request {
///     let head = format!("GET / HTTP/1.1\r\nHost: localhost:8002\r\nOrigin: {origin}\r\n\r\n");
///     let mut received = BytesMut::from(head.as_str());
///     RequestReader::new(HeadLimits::default()).read(&mut received).unwrap().unwrap()
/// }
///
/// let rules = Rules::default();
/// assert!(rules.check(&request("http://localhost:3000")).is_ok());
/// assert!(rules.check(&request("https://app.example")).is_err());
/// assert!(rules.allow_origin("https://app.example").check(&request("https://app.example")).is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Rules {
    origins: Vec<Box<str>>,
    hosts: Vec<Box<str>>,
    machine: Option<&'static str>,
}

impl Default for Rules {
    /// The rules above with nothing listed. The machine's name is asked for once per process.
    fn default() -> Self {
        Self { origins: Vec::new(), hosts: Vec::new(), machine: machine_name() }
    }
}

impl Rules {
    /// Lets in pages of a further origin. `origin` is one of:
    ///
    /// - an origin as browsers send it, `https://app.example` or `http://app.example:3000`; a `/`
    ///   at its end is ignored, and the scheme's own port is the same as none;
    /// - a host name alone, `app.example`: any scheme and port;
    /// - a scheme other than `http` and `https` with a star, `vscode-webview://*` or
    ///   `chrome-extension://*`: any origin of that scheme, since the names in these are random;
    /// - `null`: pages opened from disk, and sandboxed frames of any page in the world;
    /// - any other text that a program is known to send, compared whole.
    ///
    /// There are no other wildcards.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader, Rules};
    /// let mut received = BytesMut::from("GET / HTTP/1.1\r\nHost: [::1]\r\nOrigin: https://app.example\r\n\r\n");
    /// let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// assert!(Rules::default().check(&request).is_err());
    /// assert!(Rules::default().allow_origin("app.example").check(&request).is_ok());
    /// assert!(Rules::default().allow_origin("http://app.example").check(&request).is_err());
    /// # Ok::<(), stepcast::handshake::Refusal>(())
    /// ```
    #[must_use]
    pub fn allow_origin(mut self, origin: &str) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Accepts a further host name, such as `progress.example`. A port is ignored, and there are no
    /// wildcards.
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use stepcast::handshake::{HeadLimits, RequestReader, Rules};
    ///
    /// # fn main() -> Result<(), stepcast::handshake::Refusal> {
    /// let mut received = BytesMut::from("GET / HTTP/1.1\r\nHost: progress.example\r\n\r\n");
    /// let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// assert!(Rules::default().check(&request).is_err());
    /// assert!(Rules::default().allow_host("progress.example").check(&request).is_ok());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn allow_host(mut self, host: &str) -> Self {
        let name = Authority::parse(host.as_bytes()).map_or(host, |parsed| parsed.host.text);
        self.hosts.push(name.into());
        self
    }

    /// Checks a request, for a page or an upgrade, against the rules.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader, Rules, Status};
    /// let mut received = BytesMut::from("GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n");
    /// let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// let refusal = Rules::default().check(&request).unwrap_err();
    /// assert_eq!(refusal.status(), Status::Forbidden);
    /// assert!(refusal.reason().contains(r#"got "rebound.example""#));
    /// # Ok::<(), stepcast::handshake::Refusal>(())
    /// ```
    ///
    /// # Errors
    ///
    /// 403 for a `Host` or an `Origin` that is not allowed. 400 for an `Origin` that is repeated or
    /// does not have the form `scheme://host:port` (RFC 6454 section 6.2).
    pub fn check(&self, request: &Request) -> Result<(), Refusal> {
        self.judge(request, false)?
    }

    /// Checks a request from a trusted proxy against the rules. The host in `X-Forwarded-Host` or
    /// `Forwarded` (RFC 7239, section 5.3) stands for `Host`, and is let in: the proxy decides
    /// about its own names. A request without these headers is checked as [`check`](Self::check)
    /// does.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader, Rules};
    /// let mut received = BytesMut::from("GET / HTTP/1.1\r\nHost: backend\r\nOrigin: https://app.example\r\n\
    ///     X-Forwarded-Host: app.example\r\n\r\n");
    /// let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// assert!(Rules::default().check(&request).is_err());
    /// assert!(Rules::default().check_forwarded(&request).is_ok());
    /// # Ok::<(), stepcast::handshake::Refusal>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub fn check_forwarded(&self, request: &Request) -> Result<(), Refusal> {
        self.judge(request, true)?
    }

    /// Checks the host, and gives what comes of the origin. A proxy that is `trusted` says which
    /// host was asked for.
    pub(crate) fn judge(
        &self,
        request: &Request,
        trusted: bool,
    ) -> Result<Result<(), Refusal>, Refusal> {
        if let Some(host) = forwarded_host(request.head()).filter(|_| trusted) {
            return Ok(self.check_origin_of(request, host));
        }
        let host = request.host_name();
        if !(request.is_old() && host.text.is_empty()) {
            self.check_host(host)?;
        }
        Ok(self.check_origin_of(request, host))
    }

    fn check_origin_of(&self, request: &Request, host: HostName<'_>) -> Result<(), Refusal> {
        match request.head().single("Origin") {
            Single::Missing | Single::One(b"") => Ok(()), // no browser sends an empty one
            Single::One(origin) => self.check_origin(origin, host),
            Single::Several => {
                Err(Refusal::bad_request("expected one Origin header, got several; send one"))
            }
        }
    }

    fn check_host(&self, host: HostName<'_>) -> Result<(), Refusal> {
        let is = |name: &str| host.text.eq_ignore_ascii_case(name);
        let allowed = host.ip.is_some()
            || is("localhost")
            || self.machine.is_some_and(is)
            || self.hosts.iter().any(|name| is(name));
        if allowed {
            return Ok(());
        }
        let got = quote(host.text.as_bytes());
        Err(Refusal::new(
            Status::Forbidden,
            format!(
                "expected a Host of localhost, an IP address, this machine's name or a listed one, \
                 got {got}; if it is yours, call .allow_host({got})"
            ),
        ))
    }

    fn check_origin(&self, origin: &[u8], host: HostName<'_>) -> Result<(), Refusal> {
        let parsed = Origin::parse(origin);
        if self.origins.iter().any(|listed| is_listed(listed, origin, parsed.as_ref())) {
            return Ok(());
        }
        let got = quote(origin);
        match parsed {
            Some(parsed) if parsed.host.is_same(&host) => Ok(()),
            None if origin != b"null" => Err(Refusal::bad_request(format!(
                "expected an Origin of the form scheme://host:port, got {got}"
            ))),
            _ => Err(Refusal::new(
                Status::Forbidden,
                format!(
                    "expected no Origin, one with the host {}, or a listed one, got {got}; have a \
                     proxy in between pass the Host on (nginx: proxy_set_header Host $host), or, \
                     if the page is yours, call .allow_origin({got})",
                    quote(host.text.as_bytes())
                ),
            )),
        }
    }
}

/// The host that the client asked the proxy for: what the last proxy says, if there are several.
fn forwarded_host(head: &Head) -> Option<HostName<'_>> {
    let parse = |value| Authority::parse(value).map(|authority| authority.host);
    if let Some(value) = head.elements("X-Forwarded-Host").last() {
        return parse(value);
    }
    let last = head.elements("Forwarded").last()?;
    last.split(|&byte| byte == b';').find_map(|pair| {
        let (name, value) = pair.trim_ascii().split_at_checked("host=".len())?;
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        name.eq_ignore_ascii_case(b"host=").then(|| parse(unquoted.unwrap_or(value)))?
    })
}

fn is_listed(listed: &str, origin: &[u8], parsed: Option<&Origin<'_>>) -> bool {
    if listed.as_bytes().eq_ignore_ascii_case(origin) {
        return true;
    }
    let Some(parsed) = parsed else {
        return false;
    };
    if let Some(scheme) = listed.strip_suffix("://*") {
        let is_web = ["http", "https"].iter().any(|web| web.eq_ignore_ascii_case(scheme));
        return !is_web && scheme.eq_ignore_ascii_case(parsed.scheme);
    }
    let listed = listed.strip_suffix('/').unwrap_or(listed);
    match (Origin::parse(listed.as_bytes()), Authority::parse(listed.as_bytes())) {
        (Some(listed), _) => listed.is_same(parsed),
        (None, Some(Authority { host, port: None })) => host.is_same(&parsed.host),
        _ => false,
    }
}

/// The machine's own name, if it can stand in a URL. It is asked for once per process.
pub(crate) fn machine_name() -> Option<&'static str> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    let is_host = |name: &String| {
        Authority::parse(name.as_bytes()).is_some_and(|parsed| parsed.host.text == name)
    };
    NAME.get_or_init(|| system_name().filter(is_host)).as_deref()
}

#[cfg(unix)]
fn system_name() -> Option<String> {
    rustix::system::uname().nodename().to_str().ok().map(str::to_owned)
}

#[cfg(not(unix))]
fn system_name() -> Option<String> {
    hostname::get().ok()?.into_string().ok()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::handshake::{HeadLimits, RequestReader};

    fn rules() -> Rules {
        Rules { machine: Some("Workstation"), ..Rules::default() }
    }

    fn host(rules: &Rules, host: &str) -> bool {
        rules.check_host(Authority::parse(host.as_bytes()).unwrap().host).is_ok()
    }

    fn origin(rules: &Rules, origin: &str, host: &str) -> u16 {
        let host = Authority::parse(host.as_bytes()).unwrap().host;
        rules.check_origin(origin.as_bytes(), host).map_or_else(|no| no.status().code(), |()| 101)
    }

    #[test]
    fn the_machine_answers_to_its_own_names_and_to_addresses() {
        let rules = rules().allow_host("Progress.example:8002").allow_host("other.example");
        for name in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:8002",
            "192.0.2.7",
            "[::1]:8002",
            "[2001:db8::1]",
            "workstation",
            "WORKSTATION:80",
            "progress.example",
            "PROGRESS.EXAMPLE:1",
            "other.example",
        ] {
            assert!(host(&rules, name), "{name}");
        }
    }

    #[test]
    fn names_are_compared_whole() {
        let rules = rules().allow_host("progress.example");
        for name in [
            "localhost.evil.example",
            "evil-localhost",
            "localhost.",
            "evil.localhost",
            "127.0.0.1.evil.example",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "127.0.0.01",
            "a.progress.example",
            "progress.example.evil",
            "workstation.local",
            "work",
            "evil.example",
        ] {
            assert!(!host(&rules, name), "{name}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn the_name_found_for_the_machine_is_its_own() {
        let output = std::process::Command::new("uname").arg("-n").output().unwrap();
        let name = String::from_utf8(output.stdout).unwrap();
        assert_eq!(machine_name(), Some(name.trim_end()));
    }

    fn parse(host: &str) -> HostName<'_> {
        Authority::parse(host.as_bytes()).unwrap().host
    }

    #[test]
    fn a_page_of_the_same_host_may_come_from_any_port_and_scheme() {
        let rules = rules();
        assert_eq!(origin(&rules, "http://localhost:3000", "localhost:8002"), 101);
        assert_eq!(origin(&rules, "HTTPS://LocalHost", "localhost:8002"), 101);
        assert_eq!(origin(&rules, "http://[::1]:3000", "[::1]:8002"), 101);
        assert_eq!(origin(&rules, "http://[0:0:0:0:0:0:0:1]", "[::1]:8002"), 101);
        assert_eq!(origin(&rules, "http://192.0.2.7", "192.0.2.7:8002"), 101);
    }

    #[test]
    fn another_hosts_page_is_forbidden() {
        let rules = rules();
        for from in [
            "http://evil.example",
            "http://localhost.evil.example",
            "http://localhost.",
            "http://192.0.2.1",
            "null",
            "NULL",
        ] {
            let expected = if from == "NULL" { 400 } else { 403 };
            assert_eq!(origin(&rules, from, "localhost:8002"), expected, "{from}");
        }
        for from in [
            "http://evil@localhost",
            "http://localhost/",
            "localhost",
            "",
            "file://",
            "http://a http://localhost",
        ] {
            assert_eq!(origin(&rules, from, "localhost:8002"), 400, "{from}");
        }
    }

    #[test]
    fn a_listed_origin_may_come_in() {
        let rules = rules()
            .allow_origin("https://app.example/")
            .allow_origin("http://dev.example:3000")
            .allow_origin("any.example")
            .allow_origin("null")
            .allow_origin("file://");
        for from in [
            "https://app.example",
            "https://APP.example:443",
            "http://dev.example:3000",
            "http://any.example:1",
            "tauri://any.example",
            "null",
            "file://",
        ] {
            assert_eq!(origin(&rules, from, "localhost:8002"), 101, "{from}");
        }
        for from in [
            "http://app.example",
            "https://app.example:8443",
            "http://dev.example",
            "https://a.app.example",
            "https://app.example.evil",
            "http://x.any.example",
        ] {
            assert_eq!(origin(&rules, from, "localhost:8002"), 403, "{from}");
        }
    }

    #[test]
    fn a_scheme_lets_in_all_its_origins_unless_it_is_the_webs() {
        let rules = rules()
            .allow_origin("vscode-webview://*")
            .allow_origin("http://*")
            .allow_origin("HTTPS://*");
        assert_eq!(origin(&rules, "vscode-webview://1a2b3c", "localhost"), 101);
        assert_eq!(origin(&rules, "VSCODE-webview://1a2b3c", "localhost"), 101);
        for from in ["http://evil.example", "https://evil.example", "vscode-webview2://a"] {
            assert_eq!(origin(&rules, from, "localhost"), 403, "{from}");
        }
        assert_eq!(origin(&rules, "vscode-webview://a/b", "localhost"), 400);
    }

    #[test]
    fn a_page_of_this_machine_may_name_it_by_any_loopback_name() {
        let rules = rules();
        assert_eq!(origin(&rules, "http://localhost:3000", "127.0.0.1:8002"), 101);
        assert_eq!(origin(&rules, "http://127.0.0.1:3000", "[::1]:8002"), 101);
        assert_eq!(origin(&rules, "http://localhost", "192.0.2.1:8002"), 403);
    }

    fn status(rules: &Rules, head: &str) -> (u16, u16) {
        let text = format!("GET / {head}\r\n\r\n");
        let mut reader = RequestReader::new(HeadLimits::default());
        let request = reader.read(&mut BytesMut::from(text.as_str())).unwrap().unwrap();
        let code =
            |answer: Result<(), Refusal>| answer.map_or_else(|no| no.status().code(), |()| 101);
        (code(rules.check(&request)), code(rules.check_forwarded(&request)))
    }

    #[test]
    fn the_host_that_a_trusted_proxy_was_asked_for_counts() {
        let rules = rules();
        let from = |headers: &str| {
            let head = "HTTP/1.1\r\nHost: backend\r\nOrigin: https://app.example\r\n";
            status(&rules, &format!("{head}{headers}"))
        };
        for headers in [
            "X-Forwarded-Host: app.example",
            "X-Forwarded-Host: APP.example:443",
            "X-Forwarded-Host: evil.example, app.example",
            "Forwarded: for=192.0.2.1;Host=app.example;proto=https",
            "Forwarded: host=evil.example, proto=https; host=\"app.example:443\"",
        ] {
            assert_eq!(from(headers), (403, 101), "{headers}");
        }
        for headers in [
            "X-Forwarded-Host: app.example, evil.example",
            "X-Forwarded-Host: ap p",
            "X-Forwarded-Proto: https",
            "Forwarded: for=app.example",
        ] {
            assert_eq!(from(headers), (403, 403), "{headers}");
        }
    }

    #[test]
    fn who_sends_no_host_in_http_1_0_and_no_origin_is_no_browser() {
        assert_eq!(status(&rules(), "HTTP/1.0").0, 101);
        assert_eq!(status(&rules(), "HTTP/1.0\r\nHost: evil.example").0, 403);
        assert_eq!(status(&rules(), "HTTP/1.0\r\nOrigin: http://evil.example").0, 403);
        assert_eq!(status(&rules(), "HTTP/1.1\r\nHost: localhost\r\nOrigin:").0, 101);
    }

    #[test]
    fn a_wildcard_lets_nobody_in() {
        let rules = rules().allow_origin("*").allow_host("*");
        assert_eq!(origin(&rules, "http://evil.example", "localhost"), 403);
        assert!(!host(&rules, "evil.example"));
    }

    #[test]
    fn the_refusal_says_what_to_write() {
        let refusal = rules().check_origin(b"http://a.example", parse("localhost")).unwrap_err();
        assert!(refusal.reason().ends_with(".allow_origin(\"http://a.example\")"), "{refusal}");
        let refusal = rules().check_host(parse("a.example")).unwrap_err();
        assert!(refusal.reason().ends_with(".allow_host(\"a.example\")"), "{refusal}");
    }
}
