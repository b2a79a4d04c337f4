//! The known name that somebody probably meant.

/// Longer names are not compared: the work grows with their length.
const LONGEST: usize = 64;

/// The known name closest to this one; `None` if none is close enough to be meant.
///
/// Close is a name that differs in case only, or in at most a third of its letters
/// (two in short names).
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let allowed = (name.chars().count() / 3).max(2);
    let distance =
        |candidate: &str| strsim::osa_distance(&name.to_lowercase(), &candidate.to_lowercase());
    known
        .iter()
        .map(|candidate| (distance(candidate), *candidate))
        .filter(|(distance, candidate)| {
            *distance <= allowed && *distance < candidate.chars().count()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_the_name_that_was_meant() {
        let known = ["deny", "require", "targetRefs", "jwtProviders", "onDeny"];
        let found = ["requires", "targetrefs", "jwtProvider", "denny", "target_refs", "limits"]
            .map(|name| nearest(name, &known));
        assert_eq!(
            found,
            [
                Some("require"),
                Some("targetRefs"),
                Some("jwtProviders"),
                Some("deny"),
                Some("targetRefs"),
                None
            ]
        );
    }
}
