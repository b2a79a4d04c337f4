//! What happens with requests that no policy covers, and who said so.

use crate::refs::FieldRef;

/// What happens with requests that no policy covers. Never left unsaid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Uncovered {
    /// They pass.
    Open(OpenBy),
    /// They are refused with `PolicyRequired`.
    Closed(ClosedBy),
}

/// Who said that a route without a policy is closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClosedBy {
    /// `--default-posture closed`.
    Flag,
    /// `whygate.dev/posture: Closed` on this object.
    Annotation(FieldRef),
}

/// Who said that a route without a policy is open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OpenBy {
    /// `--default-posture open`, and neither `IngressClass` nor Namespace says otherwise.
    Flag,
}
