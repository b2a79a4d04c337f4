//! How a request ended, as a runner saw it, and how it should have ended.

use serde::Deserialize;

/// What a case expects. What is left out may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Expectation {
    /// `NAMESPACE/SERVICE:PORT TARGET`: it passed and went there.
    pub forwarded: Option<String>,
    /// The code of the refusal, disclosed to the client.
    pub code: Option<String>,
    /// The code of a refusal that the client is not told.
    pub undisclosed: Option<String>,
    /// Refused with whatever code.
    pub refused: bool,
    /// The status.
    pub status: Option<u16>,
    /// `NAMESPACE/NAME` of the policy.
    pub policy: Option<String>,
    /// The rule's name.
    pub rule: Option<String>,
    /// The field's path.
    pub field: Option<String>,
    /// `WWW-Authenticate`.
    pub challenge: Option<String>,
    /// Headers that must not reach the upstream.
    pub absent: Vec<String>,
    /// Texts that the response must contain.
    pub says: Vec<String>,
    /// Texts that the response must not contain.
    pub never_says: Vec<String>,
}

/// How a request ended. None where this runner cannot see it.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// `NAMESPACE/SERVICE:PORT TARGET`, the empty text if it was not forwarded.
    pub forwarded: Option<String>,
    /// The code, the empty text if it was forwarded.
    pub code: Option<String>,
    /// The status.
    pub status: Option<u16>,
    /// The policy, the empty text if none refused.
    pub policy: Option<String>,
    /// The rule, the empty text if none refused.
    pub rule: Option<String>,
    /// The field, the empty text if none is named.
    pub field: Option<String>,
    /// `WWW-Authenticate`, the empty text if there is none.
    pub challenge: Option<String>,
    /// The names of the headers that the upstream got.
    pub headers: Option<Vec<String>>,
    /// Headers and body of the response.
    pub response: Option<String>,
    /// Everything else that helps to understand a failure.
    pub explanation: String,
}

impl Expectation {
    /// The code that the refusal must have, disclosed or not.
    pub fn denial_code(&self) -> Option<&str> {
        self.code.as_deref().or(self.undisclosed.as_deref())
    }

    /// Every difference between what was expected and what was seen, a sentence each.
    pub fn differences(&self, verdict: &Verdict) -> Vec<String> {
        let forwarded = self.forwarded.clone().or(self.denial_code().map(|_| String::new()));
        let mut differences: Vec<String> = [
            differ("forwarded", forwarded.as_deref(), verdict.forwarded.as_deref()),
            differ("code", self.denial_code(), verdict.code.as_deref()),
            differ("policy", self.policy.as_deref(), verdict.policy.as_deref()),
            differ("rule", self.rule.as_deref(), verdict.rule.as_deref()),
            differ("field", self.field.as_deref(), verdict.field.as_deref()),
            differ("challenge", self.challenge.as_deref(), verdict.challenge.as_deref()),
            differ("status", self.status, verdict.status),
        ]
        .into_iter()
        .flatten()
        .collect();
        if self.refused
            && verdict.forwarded.as_deref().is_some_and(|forwarded| !forwarded.is_empty())
        {
            differences.push("it was forwarded".into());
        }
        let leaked =
            |name: &&String| verdict.headers.as_ref().is_some_and(|headers| headers.contains(name));
        differences.extend(
            self.absent.iter().filter(leaked).map(|name| format!("{name} reached the upstream")),
        );
        if let Some(response) = &verdict.response {
            let missing = self.says.iter().filter(|text| !response.contains(*text));
            differences.extend(missing.map(|text| format!("the response does not say `{text}`")));
            let said = self.never_says.iter().filter(|text| response.contains(*text));
            differences.extend(said.map(|text| format!("the response says `{text}`")));
        }
        differences
    }
}

fn differ<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: Option<T>,
    seen: Option<T>,
) -> Option<String> {
    let (expected, seen) = (expected?, seen?);
    (expected != seen).then(|| format!("{what}: expected {expected:?}, got {seen:?}"))
}
