//! What the hub answers to a browser that opens its address: data, and how it is served.

use std::borrow::Cow;
#[cfg(feature = "page")]
use std::sync::OnceLock;

use bytes::Bytes;

use crate::handshake::{ALLOWED, Refusal, Status, http_head, http_head_of_stream};

/// An answer in parts: a head of its own, and a body that all answers share.
pub(crate) type Parts = Vec<Bytes>;

/// The page at `/`, and at `/feed/` and the name of a feed, which it follows.
#[derive(Clone)]
pub(crate) enum Page {
    /// The one that comes with this crate.
    #[cfg(feature = "page")]
    Own,
    /// The user's.
    Custom(Bytes),
    #[cfg(not(feature = "page"))]
    None,
}

impl Default for Page {
    #[cfg(feature = "page")]
    fn default() -> Self {
        Self::Own
    }

    #[cfg(not(feature = "page"))]
    fn default() -> Self {
        Self::None
    }
}

const HTML: (&str, &str) = ("Content-Type", "text/html; charset=utf-8");
const NO_SNIFF: (&str, &str) = ("X-Content-Type-Options", "nosniff");
/// A page that stays the same while the program behind it changes is worse than one more request.
const NO_STORE: (&str, &str) = ("Cache-Control", "no-store");
const POLICY: &str = "Content-Security-Policy";

impl Page {
    /// This text, which is copied for nobody.
    pub(crate) fn custom(html: Cow<'static, str>) -> Self {
        Self::Custom(match html {
            Cow::Borrowed(html) => Bytes::from_static(html.as_bytes()),
            Cow::Owned(html) => html.into(),
        })
    }

    /// The answer to `GET` of `/`, or of a feed's path, which pages of these sources may show in a
    /// frame. A page of the program's own is at `/` alone: its addresses are relative to that.
    pub(crate) fn response(&self, path: &str, frame_ancestors: &str) -> Result<Parts, Refusal> {
        let frames = format!("frame-ancestors {frame_ancestors}");
        match self {
            #[cfg(feature = "page")]
            Self::Own => own(path, &frames),
            Self::Custom(html) if path == "/" => {
                let headers = [HTML, NO_STORE, NO_SNIFF, (POLICY, frames.as_str())];
                answer(Status::Ok, &headers, vec![html.clone()])
            }
            Self::Custom(_) => Err(Refusal::not_found(path)),
            #[cfg(not(feature = "page"))]
            Self::None => Err(Refusal::not_found(path)),
        }
    }
}

/// The answer to `OPTIONS`, by which some proxies ask for a server's health.
pub(crate) fn options() -> Result<Parts, Refusal> {
    answer(Status::NoContent, &[("Allow", ALLOWED)], Vec::new())
}

/// The answer to `GET /jobs`: the state of the run, for scripts.
pub(crate) fn state(state: Bytes) -> Result<Parts, Refusal> {
    answer(Status::Ok, &[("Content-Type", "application/json"), NO_STORE, NO_SNIFF], vec![state])
}

/// The head of the answer to `GET /events`, whose body is lines of JSON until one side ends.
pub(crate) fn events() -> Result<Bytes, Refusal> {
    let no_buffer = ("X-Accel-Buffering", "no"); // nginx passes each line on at once
    let headers = [("Content-Type", "application/x-ndjson"), NO_STORE, NO_SNIFF, no_buffer];
    http_head_of_stream(&headers).map_err(|_| invalid_headers())
}

fn invalid_headers() -> Refusal {
    Refusal::new(Status::InternalError, "the page's headers are not valid")
}

/// Puts a head before a body.
fn answer(
    status: Status,
    headers: &[(&str, &str)],
    mut body: Vec<Bytes>,
) -> Result<Parts, Refusal> {
    let length = body.iter().map(Bytes::len).sum();
    let head = http_head(status, headers, length).map_err(|_| invalid_headers())?;
    body.insert(0, head);
    Ok(body)
}

/// A script that browsers import.
#[cfg(feature = "page")]
pub(crate) struct Script {
    path: &'static str,
    text: &'static str,
    /// What is sent, and its tag.
    sent: OnceLock<(Bytes, String)>,
}

/// The browser's client, what it makes of the feed of the run, and the page that shows it.
#[cfg(feature = "page")]
static SCRIPTS: [Script; 8] = [
    Script::new("/stepcast.js", include_str!("stepcast.js")),
    Script::new("/run.js", include_str!("run.js")),
    Script::new("/series.js", include_str!("series.js")),
    Script::new("/page.js", include_str!("page.js")),
    Script::new("/panes.js", include_str!("panes.js")),
    Script::new("/plot.js", include_str!("plot.js")),
    Script::new("/words.js", include_str!("words.js")),
    Script::new("/dom.js", include_str!("dom.js")),
];

/// Returns the script at this path.
#[cfg(feature = "page")]
pub(crate) fn script_at(path: &str) -> Option<&'static Script> {
    SCRIPTS.iter().find(|script| script.path == path)
}

#[cfg(feature = "page")]
impl Script {
    const fn new(path: &'static str, text: &'static str) -> Self {
        Self { path, text, sent: OnceLock::new() }
    }

    /// Returns the answer to `GET` of the script. Pages of other origins may import a `shared`
    /// script, as they may connect. Browsers keep any other script to the pages of its own origin,
    /// so that no site finds out that a hub runs on this machine. The hub's own page is among them
    /// behind a proxy that changes `Host`, and shows why its socket is refused.
    pub(crate) fn answer<'a>(
        &self,
        if_none_match: impl Iterator<Item = &'a [u8]>,
        shared: bool,
    ) -> Result<Parts, Refusal> {
        let (script, tag) = self.sent.get_or_init(|| tagged(without_comments(self.text)));
        let is_known = is_known(tag, if_none_match);
        let (status, body) = if is_known {
            (Status::NotModified, Vec::new())
        } else {
            (Status::Ok, vec![script.clone()])
        };
        let headers = [
            ("Content-Type", "text/javascript; charset=utf-8"),
            ("ETag", tag),
            ("Cache-Control", "no-cache"), // asked for each time, and sent when it has changed
            NO_SNIFF,
            ("Cross-Origin-Resource-Policy", "same-origin"), // for classic scripts, which come without an Origin
            ("Vary", "Origin"),
            ("Access-Control-Allow-Origin", "*"),
        ];
        answer(status, &headers[..headers.len() - usize::from(!shared)], body)
    }
}

/// Returns a script, and the tag of what is in it.
#[cfg(feature = "page")]
fn tagged(script: String) -> (Bytes, String) {
    use sha1::{Digest as _, Sha1};
    use std::fmt::Write as _;

    let mut tag = "\"".to_owned();
    Sha1::digest(&script).iter().take(10).for_each(|byte| {
        let _ = write!(tag, "{byte:02x}");
    });
    (script.into(), tag + "\"")
}

/// Whether a browser has what is tagged so.
#[cfg(feature = "page")]
fn is_known<'a>(tag: &str, mut if_none_match: impl Iterator<Item = &'a [u8]>) -> bool {
    // Compared weakly (RFC 9110, section 13.1.2): a proxy that compresses marks the tag so. Apache
    // makes "tag-gzip" of it.
    let own = tag.trim_end_matches('"').as_bytes();
    let is_tag = |known: &[u8]| {
        let known = known.trim_ascii();
        let rest = known.strip_prefix(b"W/").unwrap_or(known).strip_prefix(own);
        known == b"*" || matches!(rest, Some([b'"'] | [b'-', .., b'"']))
    };
    // No tag of ours has a comma in it: one that is cut at its own is not ours.
    if_none_match.any(|tags| tags.split(|byte| *byte == b',').any(is_tag))
}

/// A script without its comments and its indentation: a fifth of what would travel. The package for
/// npm has them.
///
/// What ends a line counts as a comment where no quotation mark follows, so that no part of a
/// string does. No string of the script may have several lines.
#[cfg(feature = "page")]
fn without_comments(script: &str) -> String {
    let is_comment = |line: &str| line.starts_with("/**") && line.ends_with("*/");
    let mut code = String::with_capacity(script.len());
    for line in script.lines().map(str::trim_ascii).filter(|line| !is_comment(line)) {
        let comment = line.find("//").filter(|&at| at == 0 || line[..at].ends_with(' '));
        let comment = comment.filter(|&at| !line[at..].contains(['\'', '"', '`']) || at == 0);
        let line = line[..comment.unwrap_or(line.len())].trim_ascii_end();
        if !line.is_empty() {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

/// The page of this crate, in which only the script and the style that came with it run: each
/// answer has a nonce of its own (Content Security Policy Level 3, section 2.3.1). The text around
/// the nonces is the same in all answers, and copied for none. The hub's root is told relative to
/// the page's path, so that a proxy's prefix is kept.
#[cfg(feature = "page")]
fn own(path: &str, frames: &str) -> Result<Parts, Refusal> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|_| Refusal::new(Status::InternalError, "the system gave no random bytes"))?;
    let nonce = STANDARD.encode(random);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}' 'self'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; {frames}"
    );
    let headers =
        [HTML, NO_STORE, NO_SNIFF, (POLICY, policy.as_str()), ("Referrer-Policy", "no-referrer")];
    let mut body = Vec::new();
    let shared_nonce = Bytes::from(nonce.clone());
    let up = path.matches('/').count().saturating_sub(1);
    let root = Bytes::from(if up == 0 { "./".to_owned() } else { "../".repeat(up) });
    for text in include_str!("index.html").split("{{nonce}}") {
        if !body.is_empty() {
            body.push(shared_nonce.clone());
        }
        for (index, text) in text.split("{{root}}").enumerate() {
            if index > 0 {
                body.push(root.clone());
            }
            body.push(Bytes::from_static(text.as_bytes()));
        }
    }
    answer(Status::Ok, &headers, body)
}

#[cfg(all(test, feature = "page"))]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_served_without_its_comments_and_with_all_of_its_code() {
        let source = "// it's a\nlet b = 1; // c\n  /** d */\n  e(`//`);\n\n  f(' // '); // not it's\n\
            'http://g';\n/** h\n// i";
        let served = "let b = 1;\ne(`//`);\nf(' // '); // not it's\n'http://g';\n/** h\n";
        assert_eq!(without_comments(source), served);
    }

    #[test]
    fn no_string_of_a_script_has_several_lines() {
        for script in &SCRIPTS {
            let odd = script.text.lines().find(|line| line.matches('`').count() % 2 == 1);
            assert_eq!(odd, None);
        }
    }
}
