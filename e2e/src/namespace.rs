//! Private namespaces for a test binary: addresses of its own, and no process that outlives it.
//!
//! `unshare` gives the binary a network that leads nowhere and a process table in which it is the
//! first process. The kernel ends everything in that table when its first process ends, however it
//! ends, so neither a panic, nor a kill, nor Ctrl-C leaves an API server behind. Temporary files go
//! the same way: they lie in a file system in memory that only these namespaces see.

use std::convert::Infallible;
use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, ensure};

/// Set for a process that already lives in its own namespaces.
const MARK: &str = "WHYGATE_E2E_NAMESPACE";

/// The benchmark range of RFC 2544, all of it local: any address in it can be bound and connected
/// from. The API server refuses endpoints in 127.0.0.0/8, so upstreams listen here.
const RANGE: &str = "198.18.0.1/15";

/// The documentation range of RFC 3849, local in the same way.
const RANGE_V6: &str = "2001:db8::/32";

/// Address `198.18.third.fourth`.
pub fn address(third: u8, fourth: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, third, fourth)
}

/// Whether this process lives in namespaces that [`enter`] made.
pub fn inside() -> bool {
    env::var_os(MARK).is_some()
}

/// Runs this very program again, with the same arguments and `settings` as environment variables,
/// in network, process and mount namespaces of its own. `unshare` takes this process's place, so
/// whoever ends this process ends the tests.
///
/// `scratch` is a folder over which the process inside mounts its own memory file system.
///
/// # Errors
/// The machine gives no namespaces; the sentence names the remedies. It returns only then.
pub fn enter(settings: &[(&str, String)], scratch: &str) -> anyhow::Result<Infallible> {
    const PRIVATE: [&str; 5] = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let root = rustix::process::geteuid().is_root();
    let mut unshare = Command::new("unshare");
    if !root {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(PRIVATE);
    ensure_possible(&unshare)?;

    let program = env::current_exe().context("cannot tell where this test binary is")?;
    fs::create_dir_all(scratch).with_context(|| format!("cannot make `{scratch}`"))?;
    let error = unshare
        .arg(program)
        .args(env::args_os().skip(1))
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .env(MARK, "1")
        .env("TMPDIR", scratch)
        .exec();
    Err(error).context("cannot run `unshare`")
}

/// Tries `unshare` on a program that can't fail, to tell a missing right from a failing test.
fn ensure_possible(unshare: &Command) -> anyhow::Result<()> {
    let mut trial = Command::new(unshare.get_program());
    trial.args(unshare.get_args()).arg("true");
    let output = trial.output().context(
        "cannot run `unshare`, which gives these tests a network of their own: install util-linux",
    )?;
    ensure!(
        output.status.success(),
        "these tests need a network namespace of their own and the machine refuses it ({}): run \
         them as root, or allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, \
         on Ubuntu also kernel.apparmor_restrict_unprivileged_userns=0)",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Furnishes the new namespaces: a network that is up, and temporary files that go with them.
/// Called once, by the process inside.
///
/// # Errors
/// `ip` or `mount` is missing or refuses.
pub fn prepare() -> anyhow::Result<()> {
    let scratch = env::temp_dir().display().to_string();
    run("mount", &["-t", "tmpfs", "whygate-e2e", &scratch], "util-linux")?;
    for arguments in [
        ["link", "set", "lo", "up"].as_slice(),
        &["address", "add", RANGE, "dev", "lo"],
        &["-6", "route", "add", "local", RANGE_V6, "dev", "lo"],
    ] {
        run("ip", arguments, "iproute2")?;
    }
    fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1")
        .context("cannot let sockets bind addresses of the IPv6 documentation range")?;
    end_on_signal()
}

fn run(program: &str, arguments: &[&str], package: &str) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| {
        format!("cannot run `{program}`, which furnishes the tests' namespaces: install {package}")
    })?;
    ensure!(
        output.status.success(),
        "`{program} {}` failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// The first process of a process table has no default reaction to signals: without this Ctrl-C
/// would do nothing.
fn end_on_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        #[expect(clippy::exit, reason = "the tests' threads can't be asked to end")]
        std::process::exit(130);
    })?;
    Ok(())
}
