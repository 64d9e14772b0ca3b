//! Tokens that say themselves what they are, by how they begin.
//!
//! How services mark their tokens is public, so that tokens can be found where they should not be. The mark stays, since it tells an
//! analyst what has leaked; what follows is hidden. Lengths are well below the real ones: an argument can be cut.

use std::ops::Range;

use super::spans::Spans;

/// What may follow.
#[derive(Clone, Copy)]
enum Of {
    /// Letters and digits.
    Plain,
    /// And what base64 for URLs has beside them.
    Token,
    /// And dots.
    Dotted,
    /// Parts of a path and of base64.
    Path,
}

impl Of {
    const fn has(self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric()
            || match self {
                Self::Plain => false,
                Self::Token => matches!(byte, b'_' | b'-'),
                Self::Dotted => matches!(byte, b'_' | b'-' | b'.' | b'~' | b'='),
                Self::Path => matches!(byte, b'_' | b'-' | b'.' | b'~' | b'=' | b'/' | b'+' | b':' | b'@'),
            }
    }
}

/// How a token begins, how long the rest is at least, and what it consists of; in the order of the first byte.
const SHAPES: [(&str, usize, Of); 103] = [
    ("1//0", 20, Of::Token),
    ("ABIA", 12, Of::Plain),
    ("ACCA", 12, Of::Plain),
    ("AGE-SECRET-KEY-1", 10, Of::Plain),
    ("AIza", 20, Of::Token),
    ("AKCp", 20, Of::Plain),
    ("AKIA", 12, Of::Plain),
    ("ASIA", 12, Of::Plain),
    ("ATATT3", 10, Of::Dotted),
    ("ATBB", 20, Of::Plain),
    ("ATCTT3", 10, Of::Dotted),
    ("CCIPAT_", 10, Of::Token),
    ("FlyV1", 10, Of::Path),
    ("GOCSPX-", 10, Of::Token),
    ("LTAI", 14, Of::Plain),
    ("NRAK-", 10, Of::Plain),
    ("NRII-", 10, Of::Token),
    ("PMAK-", 10, Of::Token),
    ("SG.", 16, Of::Dotted),
    ("SK", 32, Of::Plain),
    ("api.telegram.org/bot", 10, Of::Path),
    ("apify_api_", 10, Of::Plain),
    ("atlasv1.", 10, Of::Token),
    ("cfut_", 20, Of::Token),
    ("ctp_", 30, Of::Plain),
    ("dapi", 32, Of::Plain),
    ("dckr_oat_", 10, Of::Token),
    ("dckr_pat_", 10, Of::Token),
    ("discord.com/api/webhooks/", 10, Of::Path),
    ("discordapp.com/api/webhooks/", 10, Of::Path),
    ("doo_v1_", 10, Of::Plain),
    ("dop_v1_", 10, Of::Plain),
    ("dor_v1_", 10, Of::Plain),
    ("dp.pt.", 10, Of::Plain),
    ("dp.st.", 10, Of::Dotted),
    ("dt0c01.", 10, Of::Dotted),
    ("eyJ", 10, Of::Dotted),
    ("figd_", 10, Of::Token),
    ("fm1_", 10, Of::Path),
    ("fo1_", 10, Of::Token),
    ("gAAAAA", 20, Of::Dotted),
    ("ghc_", 10, Of::Plain),
    ("gho_", 10, Of::Plain),
    ("ghp_", 10, Of::Plain),
    ("ghr_", 10, Of::Plain),
    ("ghs_", 10, Of::Dotted),
    ("ghu_", 10, Of::Plain),
    ("github_pat_", 10, Of::Token),
    ("glagent-", 10, Of::Token),
    ("glc_", 16, Of::Dotted),
    ("glcbt-", 10, Of::Token),
    ("gldt-", 10, Of::Token),
    ("glft-", 10, Of::Token),
    ("glimt-", 10, Of::Token),
    ("gloas-", 10, Of::Token),
    ("glpat-", 10, Of::Dotted),
    ("glptt-", 10, Of::Token),
    ("glrt-", 10, Of::Dotted),
    ("glsa_", 10, Of::Token),
    ("glsoat-", 10, Of::Token),
    ("gsk_", 20, Of::Plain),
    ("hf_", 20, Of::Plain),
    ("hooks.slack.com/services/", 10, Of::Path),
    ("hooks.slack.com/workflows/", 10, Of::Path),
    ("hvb.", 10, Of::Token),
    ("hvr.", 10, Of::Token),
    ("hvs.", 10, Of::Token),
    ("key-", 32, Of::Plain),
    ("lin_api_", 10, Of::Plain),
    ("lsv2_", 10, Of::Token),
    ("nfp_", 10, Of::Plain),
    ("npm_", 20, Of::Plain),
    ("ntn_", 20, Of::Plain),
    ("nvapi-", 10, Of::Token),
    ("oy2", 40, Of::Plain),
    ("pplx-", 20, Of::Plain),
    ("pscale_pw_", 10, Of::Token),
    ("pscale_tkn_", 10, Of::Token),
    ("pul-", 20, Of::Plain),
    ("pypi-", 20, Of::Token),
    ("r8_", 20, Of::Plain),
    ("rk_live_", 10, Of::Plain),
    ("rk_test_", 10, Of::Plain),
    ("rubygems_", 10, Of::Plain),
    ("rzp_live_", 8, Of::Plain),
    ("sbp_", 20, Of::Plain),
    ("secret_", 40, Of::Plain),
    ("shpat_", 10, Of::Plain),
    ("shpca_", 10, Of::Plain),
    ("shppa_", 10, Of::Plain),
    ("shpss_", 10, Of::Plain),
    ("sk-", 32, Of::Plain),
    ("sk-ant-", 10, Of::Token),
    ("sk-or-", 20, Of::Token),
    ("sk-proj-", 10, Of::Token),
    ("sk_live_", 10, Of::Plain),
    ("sk_test_", 10, Of::Plain),
    ("sntrys_", 10, Of::Path),
    ("sq0csp-", 10, Of::Token),
    ("tskey-", 10, Of::Token),
    ("whsec_", 10, Of::Path),
    ("xapp-", 10, Of::Token),
    ("xox", 12, Of::Token),
];

/// Where in [`SHAPES`] those begin that begin with a byte.
const FIRST: [u8; 257] = {
    let mut table = [0; 257];
    let mut byte = 0;
    let mut shape = 0;
    while byte < 256 {
        table[byte] = shape as u8;
        while shape < SHAPES.len() && SHAPES[shape].0.as_bytes()[0] as usize == byte {
            shape += 1;
        }
        byte += 1;
    }
    assert!(
        shape == SHAPES.len(),
        "the shapes are in the order of their first byte"
    );
    table[256] = shape as u8;
    table
};

/// A token that begins at `start`.
pub(super) fn at(bytes: &[u8], start: usize, within: &Range<usize>, spans: &mut Spans) -> Option<usize> {
    let first = usize::from(bytes[start]);
    let shapes = &SHAPES[usize::from(FIRST[first])..usize::from(FIRST[first + 1])];
    if shapes.is_empty() {
        return None;
    }
    let rest = &bytes[start..within.end];
    let fits = |(prefix, least, of): &&(&str, usize, Of)| {
        rest.len() >= prefix.len() + least
            // Most differ here.
            && rest[1] == prefix.as_bytes()[1]
            && rest.starts_with(prefix.as_bytes())
            && rest[prefix.len()..prefix.len() + least].iter().all(|byte| of.has(*byte))
            && (*least < 30 || rest[prefix.len()..].iter().take(*least).any(u8::is_ascii_digit))
    };
    let (prefix, _, of) = shapes.iter().find(fits)?;
    let body = start + prefix.len();
    let end = bytes[body..within.end]
        .iter()
        .position(|byte| !of.has(*byte))
        .map_or(within.end, |length| body + length);
    spans.hide(body..end);
    Some(end)
}

/// A private key whose first line begins at `start`: what is between `-----BEGIN … PRIVATE KEY-----` and `-----END`.
pub(super) fn private_key(
    bytes: &[u8],
    start: usize,
    within: &Range<usize>,
    spans: &mut Spans,
) -> Option<usize> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const HEADER_MAX: usize = 48;
    const PRIVATE: &[u8] = b"PRIVATE KEY";
    const END: &[u8] = b"-----END";
    let rest = &bytes[start..within.end];
    if !rest.starts_with(BEGIN) {
        return None;
    }
    let header = &rest[BEGIN.len()..rest.len().min(BEGIN.len() + HEADER_MAX)];
    let length = header.windows(5).position(|window| window == b"-----")?;
    if !header[..length]
        .windows(PRIVATE.len())
        .any(|window| window == PRIVATE)
    {
        return None;
    }
    let body = start + BEGIN.len() + length + 5;
    let end = bytes[body..within.end]
        .windows(END.len())
        .position(|window| window == END);
    let end = end.map_or(within.end, |length| body + length);
    if bytes[body..end].iter().any(u8::is_ascii_alphanumeric)
        && !bytes[body..end].starts_with(super::MARK.as_bytes())
    {
        spans.hide(body..end);
    }
    Some(end)
}

/// A client secret of Azure, with a `~` in its midst: three characters, a digit, `Q~`, and 34 more.
pub(super) fn client_secret(
    bytes: &[u8],
    tilde: usize,
    within: &Range<usize>,
    spans: &mut Spans,
) -> Option<usize> {
    const BEFORE: usize = 5;
    const LEAST: usize = 20;
    const MOST: usize = 64;
    let start = tilde.checked_sub(BEFORE).filter(|start| *start >= within.start)?;
    let is_begun = bytes[tilde - 1] == b'Q' && bytes[tilde - 2].is_ascii_digit();
    let length = bytes[tilde + 1..within.end]
        .iter()
        .take(MOST)
        .take_while(|byte| Of::Dotted.has(**byte))
        .count();
    (is_begun && length >= LEAST).then(|| {
        spans.hide(start..tilde + 1 + length);
        tilde + 1 + length
    })
}
