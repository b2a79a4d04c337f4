//! `whygate key new`: an API key, shown once, and the line that admits it.

use std::fmt::Write;

use anyhow::{Context, Result};
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use decision::subscription::KEY_ID_LENGTH;

use crate::output;

const EXAMPLES: &str = "\
Examples:
  whygate key new
  whygate key new > key.txt";

/// API keys of subscriptions
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(super) enum Key {
    New(New),
}

/// Make a new API key
///
/// The key is shown once and stored nowhere. The second line belongs into
/// `spec.credentials` of an `AccessSubscription`; it holds no secret.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(super) struct New {}

impl Key {
    pub(super) fn execute(self) -> Result<()> {
        let Self::New(New {}) = self;
        let key = ApiKey::new()?;
        output::line(&key.text);
        output::line(&key.credential());
        output::remark(
            "The first line is the key: it is shown only now. The second line goes into spec.credentials of the AccessSubscription.",
        );
        Ok(())
    }
}

/// A key and what may be known of it.
pub(super) struct ApiKey {
    pub(super) text: String,
    pub(super) id: String,
    pub(super) sha256: String,
}

impl ApiKey {
    pub(super) fn new() -> Result<Self> {
        let mut letters = [0; KEY_ID_LENGTH];
        let mut secret = [0; 32];
        rand::fill(&mut letters).ok().context("the system gives no random numbers")?;
        rand::fill(&mut secret).ok().context("the system gives no random numbers")?;
        let id: String = letters.iter().map(|byte| letter(*byte)).collect();
        let text = format!("wg_{id}_{}", BASE64_URL_SAFE_NO_PAD.encode(secret));
        let digest = digest(&SHA256, text.as_bytes());
        let sha256 = digest.as_ref().iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Ok(Self { text, id, sha256 })
    }

    /// The entry of `spec.credentials`.
    fn credential(&self) -> String {
        format!("- apiKey: {{ id: {}, sha256: \"{}\" }}", quoted(&self.id), self.sha256)
    }
}

/// Ids are no secret, so that some letters come a little more often does not matter.
fn letter(byte: u8) -> char {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    LETTERS.get(usize::from(byte) % LETTERS.len()).copied().map_or('a', char::from)
}

/// An id of digits, or like `1e234567`, would be a number in YAML.
fn quoted(id: &str) -> String {
    format!("\"{id}\"")
}

#[cfg(test)]
mod tests {
    use decision::subscription::{ApiKey as Parsed, KeyDigest};

    use super::*;

    #[test]
    fn a_new_key_has_the_one_form_and_the_digest_that_is_printed() {
        let key = ApiKey::new().unwrap();
        assert!(Parsed::parse(key.text.as_bytes()).is_some());
        assert_eq!(KeyDigest::parse(&key.sha256), Some(KeyDigest::of(key.text.as_bytes())));
        assert!(!key.credential().contains(&key.text));
    }

    #[test]
    fn no_two_keys_are_equal() {
        assert_ne!(ApiKey::new().unwrap().text, ApiKey::new().unwrap().text);
    }
}
