//! Ways to spell a protected path, and how a careless server would read them.

/// A protected path with everything that a path may hold unescaped besides `;`.
pub(crate) const ODD: &str = "/@a:b+c!$&'()*,=-._~z";

/// Targets that somebody could read as `/admin` or [`ODD`].
pub(crate) const SPELLINGS: [&str; 91] = [
    "/admin/secret",
    "/admin",
    "/admin/",
    "//admin/secret",
    "///admin//secret",
    "/./admin/secret",
    "/.//admin/secret",
    "/x/../admin/secret",
    "/x/y/../../admin/secret",
    "/x/.././admin/secret",
    "/x//../admin/secret",
    "/%61dmin/secret",
    "/%61%64%6d%69%6e/secret",
    "/%41/../admin/secret",
    "/adm%69n/secret",
    "/admi%6E/secret",
    "/%2e/admin/secret",
    "/%2E/admin/secret",
    "/x/%2e%2e/admin/secret",
    "/x/%2E%2e/admin/secret",
    "/x/.%2e/admin/secret",
    "/x/%2e./admin/secret",
    "/%2fadmin/secret",
    "/%2Fadmin%2fsecret",
    "/admin%2fsecret",
    "/admin%2Fsecret",
    "/x%2f..%2fadmin/secret",
    "/x/..%2fadmin/secret",
    "/x/%2e%2e%2fadmin/secret",
    "/%5cadmin/secret",
    "/admin%5csecret",
    "/x/..%5cadmin/secret",
    "/\\admin/secret",
    "/admin\\secret",
    "/x\\..\\admin/secret",
    "\\admin/secret",
    "/x/..;/admin/secret",
    "/x/..;a=b/admin/secret",
    "/;/admin/secret",
    "/;a=b/admin/secret",
    "/x/.;/../admin/secret",
    "/admin;/secret",
    "/admin;a=b/secret",
    "/admin;a=b",
    "/x/%2e%2e;/admin/secret",
    "/admin%3b/secret",
    "/admin%3Ba=b/secret",
    "/x/..%3b/admin/secret",
    "/x/%2e%2e%3Ba=b/admin/secret",
    "/%3b/admin/secret",
    "/%2561dmin/secret",
    "/%252fadmin/secret",
    "/x/%252e%252e/admin/secret",
    "/x/%252e%252e%252fadmin/secret",
    "/%25%36%31dmin/secret",
    "/%2500/admin/secret",
    "/admin%00/secret",
    "/admin%0a/secret",
    "/admin%0d%0a/secret",
    "/admin%09/secret",
    "/%00admin/secret",
    "/admin%7f/secret",
    "/%u0061dmin/secret",
    "/%c1%a1dmin/secret",
    "/%c0%afadmin/secret",
    "/x/%c0%ae%c0%ae/admin/secret",
    "/%e0%80%afadmin/secret",
    "/%ff/../admin/secret",
    "/../admin/secret",
    "/../../admin/secret",
    "/%2e%2e/admin/secret",
    "/admin?x=1",
    "/admin/secret?/../../x",
    "/admin#x",
    "http://api.example.com/admin/secret",
    "http://api.example.com:80//admin/secret",
    "http://other.example.com/admin/secret",
    "/%40a%3Ab%2Bc%21%24%26%27%28%29%2A%2C%3D%2D%2E%5F%7Ez",
    "/%40a%3ab%2bc%21%24%26%27%28%29%2a%2c%3d%2d%2e%5f%7ez",
    "/%40a:b%2bc!$&'()*,=-._~z/secret",
    "/@a%3Ab+c!$&'()*,=-._~z;x=1",
    "/@a%3Ab+c!$&'()*,=-._~z%3Bx=1",
    "//@a:b+c%21$&'()*,=-._~z",
    "/x/../%40a:b+c!%24&'()*,=-._~z",
    "/x/%2e%2e/@a:b+c!$%26'()*,=-._~z",
    "/%2f@a:b+c!$&%27()*,=-._~z",
    "/%5c@a:b+c!$&'%28)*,=-._~z",
    "/%2540a:b+c!$&'()*,=-._~z",
    "/%25%34%30a:b+c!$&'()*,=-._~z",
    "http://api.example.com/%40a:b+c!$&'()%2a,=-._~z",
    "http://api.example.com:80//%40a:b+c!$&'()*%2C%3D-._~z?x",
];

/// A path with each of its characters escaped, and with all of them, in both cases of digits.
pub(crate) fn escapes(path: &str) -> Vec<String> {
    let upper = |byte: u8| format!("%{byte:02X}");
    let lower = |byte: u8| format!("%{byte:02x}");
    let with = |escape: &dyn Fn(u8) -> String, escaped: &dyn Fn(usize, u8) -> bool| {
        let bytes = path.bytes().enumerate();
        let spelled = bytes.map(|(at, byte)| match byte {
            b'/' => "/".to_owned(),
            _ if escaped(at, byte) => escape(byte),
            _ => char::from(byte).to_string(),
        });
        spelled.collect::<String>()
    };
    let mut spellings = vec![path.to_owned()];
    for escape in [&upper as &dyn Fn(u8) -> String, &lower] {
        spellings.push(with(escape, &|_, _| true));
        spellings.push(with(escape, &|_, byte| !byte.is_ascii_alphanumeric()));
        spellings.extend((1..path.len()).map(|only| with(escape, &|at, _| at == only)));
    }
    spellings
}

/// Whether some careless server would take a target for a protected path: decoded twice, with
/// backslashes for slashes, without parameters, with dot segments resolved.
pub(crate) fn reads_as_protected(target: &str) -> bool {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let once = percent_decode(path);
    let twice = percent_decode(&once);
    [path.to_owned(), once, twice].iter().any(|reading| {
        let path = resolve(reading);
        path.starts_with("/admin") || path.starts_with(ODD)
    })
}

fn percent_decode(text: &str) -> String {
    let mut decoded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) => decoded.push(char::from(byte)),
            None => decoded.push('%'),
        }
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    decoded + rest
}

fn resolve(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.replace('\\', "/").split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name.trim_end_matches(|c: char| c.is_control()).to_owned()),
        }
    }
    format!("/{}", kept.join("/"))
}
