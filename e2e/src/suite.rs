//! Test binaries that own their `main`: they prepare what needs the network, move into
//! namespaces of their own, and run their tests there.
//!
//! `cargo test -p e2e --test NAME [FILTER] [-- --list | --exact | --test-threads N]` works as with
//! the ordinary harness.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{kubernetes, namespace, program};

/// Longest time one test may take: 5 minutes. A test that hangs fails with a sentence.
const TEST_TIMEOUT: Duration = Duration::from_mins(5);

/// What a suite's tests use and what has to be built before they lose the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The `whygate` program.
    Program,
    /// etcd, kube-apiserver and kubectl.
    Kubernetes,
}

/// Defines the `main` of a test binary with `harness = false`.
///
/// A test is an `async fn() -> anyhow::Result<()>`; one that is left out of the list is dead code,
/// which the lints refuse.
///
/// ```ignore
/// e2e::suite!(needs: [Kubernetes], tests: [a_bad_policy_is_refused]);
/// ```
#[macro_export]
macro_rules! suite {
    (needs: [$($need:ident),* $(,)?], tests: [$($test:ident),+ $(,)?] $(,)?) => {
        fn main() -> std::process::ExitCode {
            $crate::suite::main(
                &[$($crate::suite::Need::$need),*],
                env!("CARGO_TARGET_TMPDIR"),
                vec![$($crate::suite::test(stringify!($test), $test)),+],
            )
        }
    };
}

/// One test of a suite, run on a runtime of its own.
pub fn test<F, T>(name: &'static str, body: F) -> Trial
where
    F: FnOnce() -> T + Send + 'static,
    T: Future<Output = anyhow::Result<()>> + 'static,
{
    Trial::test(name, move || run(name, body))
}

/// Runs a suite: outside of the namespaces it prepares and re-executes itself, inside it tests.
/// `scratch` is a folder that the tests' temporary files may cover.
pub fn main(needs: &[Need], scratch: &str, tests: Vec<Trial>) -> ExitCode {
    let arguments = Arguments::from_args();
    if arguments.list || namespace::inside() {
        return inside(&arguments, tests);
    }
    let Err(error) = prepare(needs).and_then(|settings| namespace::enter(&settings, scratch));
    crate::say(&format!("{error:#}"));
    ExitCode::FAILURE
}

fn inside(arguments: &Arguments, tests: Vec<Trial>) -> ExitCode {
    if namespace::inside()
        && let Err(error) = namespace::prepare()
    {
        crate::say(&format!("{error:#}"));
        return ExitCode::FAILURE;
    }
    libtest_mimic::run(arguments, tests).exit_code()
}

/// Builds what is needed; the result goes to the inner process as environment variables.
fn prepare(needs: &[Need]) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut settings = Vec::new();
    for need in needs {
        let (variable, path) = match need {
            Need::Program => (program::VARIABLE, program::build()?),
            Need::Kubernetes => (kubernetes::VARIABLE, kubernetes::programs()?),
        };
        settings.push((variable, path.display().to_string()));
    }
    Ok(settings)
}

tokio::task_local! {
    /// What the parts of the running test had to say when they ended.
    static REPORT: Arc<Mutex<String>>;
}

/// Adds a part's last words to the report of the running test, printed only if it fails.
///
/// Outside of a test it does nothing.
pub fn report(text: &str) {
    // Without a test there is nobody to read it.
    let _ = REPORT.try_with(|report| {
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        report.push_str(text);
        report.push('\n');
    });
}

fn run<F, T>(name: &str, body: F) -> Result<(), Failed>
where
    F: FnOnce() -> T,
    T: Future<Output = anyhow::Result<()>>,
{
    let report = Arc::new(Mutex::new(String::new()));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(REPORT.scope(Arc::clone(&report), async {
            let limit = TEST_TIMEOUT.as_secs();
            tokio::time::timeout(TEST_TIMEOUT, body())
                .await
                .with_context(|| format!("`{name}` did not end within {limit} s"))?
        }))
    }));
    // Tasks that a test forgot must not keep it from ending.
    runtime.shutdown_background();
    let report = report.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failed::from(format!("{error:?}\n{report}"))),
        Err(panic) => {
            crate::say(&report);
            std::panic::resume_unwind(panic)
        }
    }
}
