//! Defaults that differ between commands, for the help of each.

use clap::Arg;

use super::Surroundings;

/// A flag whose help says what holds without it, in these surroundings.
pub(crate) fn say_default(flag: Arg, place: Surroundings) -> Arg {
    let Some(default) = default(flag.get_id().as_str(), place) else { return flag };
    let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
    flag.help(format!("{help}. {default}"))
}

fn default(flag: &str, place: Surroundings) -> Option<&'static str> {
    let (cluster, directory, demo) = match flag {
        "http_listen" => ("Default `[::]:8080`", "Default `[::]:8080`", "Default `127.0.0.1:8080`"),
        "https_listen" => ("Default `[::]:8443`", "Default `[::]:8443`", "Default `off`"),
        "admin_listen" => {
            ("Default `[::]:9090`", "Default `127.0.0.1:9090`", "Default `127.0.0.1:9090`")
        }
        "inspect_listen" => (
            "It demands the bearer token of a user or ServiceAccount with the right to list accesspolicies (whygate.dev) in all namespaces",
            "On loopback only, for everybody there",
            "On loopback only, for everybody there",
        ),
        "infrastructure_cidrs" => {
            ("Default: the private networks and loopback", "Default `none`", "Default `none`")
        }
        "denial_window_seconds" => (
            "Updates grow apart while more than half of the writes are used. Default 30",
            "Default: half a second",
            "Default: half a second",
        ),
        "shutdown_delay_seconds" => ("Default 20", "Default 0", "Default 0"),
        "log" => (
            "Default `info`",
            "Default `warn`, and handshakes without a certificate",
            "Default `warn`, and handshakes without a certificate",
        ),
        _ => return None,
    };
    Some(match place {
        Surroundings::Cluster => cluster,
        Surroundings::Directory => directory,
        Surroundings::Demo => demo,
    })
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::{super::ServeFlags, *};

    #[test]
    fn the_help_of_each_command_says_what_holds_there() {
        for place in [Surroundings::Cluster, Surroundings::Directory, Surroundings::Demo] {
            let command = ServeFlags::augment_args(Command::new("whygate"));
            let flags = command.clone().try_get_matches_from(["whygate"]).unwrap();
            let flags = ServeFlags::from_arg_matches(&flags).unwrap();
            let settings = flags.dataplane(place).unwrap();
            let off = || "off".to_owned();
            for (flag, holds) in [
                ("http_listen", settings.http.first().map_or_else(off, ToString::to_string)),
                ("https_listen", settings.https.first().map_or_else(off, ToString::to_string)),
                ("admin_listen", flags.admin(place).map_or_else(off, |it| it.to_string())),
                ("shutdown_delay_seconds", flags.shutdown_delay(place).as_secs().to_string()),
                ("log", flags.log_filter(place).split(',').next().unwrap().to_owned()),
            ] {
                let arg = command.get_arguments().find(|arg| arg.get_id() == flag).unwrap();
                let help = say_default(arg.clone(), place).get_help().unwrap().to_string();
                let holds = holds.trim_matches('`');
                let said = help.replace('`', "");
                assert!(said.contains(&format!("Default {holds}")), "{flag} {place:?}: {help}");
            }
        }
    }
}
