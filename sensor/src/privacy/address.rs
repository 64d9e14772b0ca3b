//! Addresses, and where they stand in a text.

use std::{borrow::Cow, net::IpAddr};

/// Longest text that can be an address.
const LONGEST: usize = 45;

/// `private` or `public`; `None` for those that every host has.
pub(super) fn class(address: IpAddr) -> Option<&'static str> {
    let (everywhere, private) = match address {
        IpAddr::V4(address) => (
            address.is_loopback()
                || address.is_unspecified()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast(),
            address.is_private(),
        ),
        IpAddr::V6(address) => (
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unicast_link_local()
                || address.is_multicast(),
            address.is_unique_local(),
        ),
    };
    match (everywhere, private) {
        (true, _) => None,
        (false, true) => Some("private"),
        (false, false) => Some("public"),
    }
}

/// Whether it is one of the world's, not of this host or of networks of one's own.
pub(crate) fn is_public(address: IpAddr) -> bool {
    class(address) == Some("public")
}

/// `text`, with `change` made to each address in it.
pub(super) fn map<'t>(text: &str, change: impl Fn(&str) -> String) -> Cow<'t, str> {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(length);
        put(run, &change, &mut shown);
        let next = after.find(is_part).unwrap_or(after.len());
        let (between, after) = after.split_at(next);
        shown.push_str(between);
        rest = after;
    }
    Cow::Owned(shown)
}

fn is_part(character: char) -> bool {
    // Letters and dashes are taken along, so that a version or a name is seen to be none.
    character.is_ascii_alphanumeric() || matches!(character, '.' | ':' | '-' | '_')
}

/// A run that may be an address, one with a port, or with a dot that ends the sentence.
fn put(run: &str, change: &impl Fn(&str) -> String, shown: &mut String) {
    let bare = run.trim_end_matches(['.', ':']);
    let ended = &run[bare.len()..];
    let is_address = |text: &str| text.len() <= LONGEST && text.parse::<IpAddr>().is_ok();
    if is_address(bare) {
        shown.push_str(&change(bare));
        shown.push_str(ended);
    } else if let Some((address, port)) = bare.rsplit_once(':').filter(|(address, _)| is_address(address)) {
        shown.push_str(&change(address));
        shown.push(':');
        shown.push_str(port);
        shown.push_str(ended);
    } else {
        shown.push_str(run);
    }
}
