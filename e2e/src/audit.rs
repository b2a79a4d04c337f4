//! The API server's own log of the writes that it was asked for: who, what, when.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::Deserialize;

/// What the log holds: each write once, when it has been answered.
pub(crate) const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- { level: Metadata, verbs: [create, update, patch, delete, deletecollection] }
- { level: None }
";

/// A write that was asked of the API server.
#[derive(Debug, Clone)]
pub struct Write {
    /// Who asked: `system:serviceaccount:NAMESPACE:NAME` for an account.
    pub user: String,
    /// `create`, `update`, `patch`, `delete`.
    pub verb: String,
    /// `events`, `accesspolicies/status`.
    pub resource: String,
    /// When it arrived, since 1970.
    pub at: Duration,
    /// The status of the answer.
    pub status: u16,
}

pub(crate) fn writes(log: &Path) -> anyhow::Result<Vec<Write>> {
    let text = fs::read_to_string(log).with_context(|| format!("{}", log.display()))?;
    // The last line may still be on its way.
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let mut writes = lines
        .map(|line| Ok(serde_json::from_str::<Line>(line)?.write()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    writes.sort_by_key(|write| write.at);
    Ok(writes)
}

/// The largest number of writes within any span of this length.
pub fn most_within(writes: &[Write], span: Duration) -> usize {
    let within = |(first, write): (usize, &Write)| {
        writes
            .iter()
            .skip(first)
            .take_while(|later| later.at.saturating_sub(write.at) < span)
            .count()
    };
    writes.iter().enumerate().map(within).max().unwrap_or(0)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    user: User,
    verb: String,
    #[serde(default)]
    object_ref: Object,
    request_received_timestamp: MicroTime,
    #[serde(default)]
    response_status: Status,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Object {
    resource: String,
    subresource: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    code: u16,
}

impl Line {
    fn write(self) -> Write {
        let Object { mut resource, subresource } = self.object_ref;
        if !subresource.is_empty() {
            resource = format!("{resource}/{subresource}");
        }
        let since = u64::try_from(self.request_received_timestamp.0.as_microsecond());
        Write {
            user: self.user.username,
            verb: self.verb,
            resource,
            at: Duration::from_micros(since.unwrap_or_default()),
            status: self.response_status.code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_span_counts_wherever_it_begins() {
        let write = |second| Write {
            user: String::new(),
            verb: String::new(),
            resource: String::new(),
            at: Duration::from_secs(second),
            status: 200,
        };
        let writes: Vec<_> = [0, 50, 55, 109, 110].map(write).into();
        assert_eq!(most_within(&writes, Duration::from_mins(1)), 3);
        assert_eq!(most_within(&[], Duration::from_mins(1)), 0);
    }
}
