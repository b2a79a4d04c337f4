//! Requests that two servers could cut differently: each is a base and a fragment that goes into it.

mod chunks;
mod encodings;
mod fields;
mod lengths;
mod lines;
mod methods;

/// A request for the protected path; whoever takes it out of another's body has been smuggled to.
const ADMIN: &str = "GET /admin/secret HTTP/1.1\r\nHost: api.example.com\r\n\r\n";

/// More bytes than the head of a request may have.
const LONG: usize = 20_000;

/// More fields than the head of a request may have.
const MANY: usize = 150;

/// Bases and fragments, each of which goes into all of the bases.
///
/// Their text is Latin-1: a character is one byte. Of the names in braces, `{}` is the fragment,
/// `{ADMIN}` a whole request for the protected path, `{LEN}` its length, `{HEX}` the same in
/// hexadecimal digits, and `{ALL}` its length together with that of an empty last chunk.
pub(crate) struct Group {
    /// Name and text of each.
    bases: &'static [(&'static str, &'static str)],
    /// Text of each, and how it ends in each of the bases; see [`Framing::ends`].
    fragments: &'static [(&'static str, &'static [&'static str])],
}

const GROUPS: [&Group; 15] = [
    &lengths::VALUES,
    &lengths::NAMES,
    &lengths::SEVERAL,
    &encodings::CODINGS,
    &encodings::LENGTHS,
    &chunks::SIZES,
    &chunks::EXTENSIONS,
    &chunks::TRAILERS,
    &lines::STARTS,
    &lines::HOSTS,
    &fields::FIELDS,
    &fields::WISHES,
    &fields::ENDS,
    &methods::METHODS,
    &methods::OLD,
];

/// One of the requests.
pub(crate) struct Framing {
    /// What it is, for people.
    pub(crate) name: String,
    /// What goes over the wire.
    pub(crate) bytes: Vec<u8>,
    /// How it ends: the status of each answer, and `cut` for each request that gets a permit and
    /// never comes whole to the upstream. 200 is the upstream's, and every other one ours.
    pub(crate) ends: &'static str,
}

impl Framing {
    /// The statuses of the answers.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        self.ends.split(' ').filter_map(|end| end.parse().ok()).collect()
    }

    /// How many of its requests end with this word.
    pub(crate) fn count(&self, end: &str) -> u64 {
        self.ends.split(' ').filter(|each| *each == end).count() as u64
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Framing> {
    let mut framings = Vec::new();
    for group in GROUPS {
        for (fragment, ends) in group.fragments {
            for ((name, base), ends) in group.bases.iter().zip(*ends) {
                let name = format!("{name} `{}`", fragment.escape_debug());
                let bytes = bytes(&filled(base, fragment));
                framings.push(Framing { name, bytes, ends });
            }
        }
    }
    framings
}

fn filled(base: &str, fragment: &str) -> String {
    base.replace("{}", fragment)
        .replace("{HOST}", "api.example.com")
        .replace("{LEN}", &ADMIN.len().to_string())
        .replace("{HEX}", &format!("{:x}", ADMIN.len()))
        .replace("{ALL}", &("0\r\n\r\n".len() + ADMIN.len()).to_string())
        .replace("{LONG}", &"a".repeat(LONG))
        .replace("{METHOD}", &"A".repeat(LONG))
        .replace("{MANY}", &vec!["x: y"; MANY].join("\r\n"))
        .replace("{ADMIN}", ADMIN)
}

/// A character above Latin-1 has no byte, and becomes `?`.
fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(character).unwrap_or(b'?')).collect()
}
