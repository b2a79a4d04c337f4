//! What the commands say to whoever starts them, and how they end.
#![expect(clippy::unwrap_used, reason = "the first surprise ends the test")]

use std::fs;
use std::time::Duration;

use e2e::manifests::{Ingress, backend, namespace};
use e2e::{Authority, Client, Whygate};

e2e::suite!(
    needs: [Program],
    tests: [
        serve_says_what_it_serves_and_what_it_has_read_again,
        a_handshake_without_a_certificate_is_told_in_the_log,
        an_interrupt_skips_the_delay_for_balancers,
        a_wrong_command_line_ends_with_exit_code_2,
        a_check_names_what_it_passed_over,
    ],
);

const LONG: Duration = Duration::from_secs(20);

fn shop() -> String {
    let ingress = Ingress {
        namespace: "shop",
        name: "web",
        host: "shop.test",
        paths: &[("/", "web"), ("/orders", "web")],
        requires: None,
        tls: None,
    };
    namespace("shop") + &backend("shop", "web", ([127, 0, 0, 1], 1).into()) + &ingress.manifest()
}

async fn serve_says_what_it_serves_and_what_it_has_read_again() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("shop.yaml"), shop())?;
    let whygate = Whygate::serve(folder.path(), &[]).await?;
    let said = whygate.line(LONG, "Serving ").await?;
    let (http, https) = (whygate.http()?, whygate.https()?);
    assert!(said.contains("1 Ingress (1 is open), 2 routes from "), "{said}");
    assert!(said.ends_with(&format!(" on http://{http} and https://{https}")), "{said}");
    fs::write(folder.path().join("none.yaml"), namespace("other"))?;
    let again = whygate.line(LONG, "Read again: ").await?;
    assert_eq!(again, "Read again: 1 Ingress (1 is open), 2 routes");
    Ok(())
}

async fn a_handshake_without_a_certificate_is_told_in_the_log() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let whygate = Whygate::serve(folder.path(), &[]).await?;
    let client = Client::new(whygate.https()?).trusting(&Authority::new("nobody")?)?;
    for _ in 0..3 {
        client.get("nobody.test", "/").await.unwrap_err();
    }
    let told = whygate.line(LONG, "Handshakes failed").await?;
    assert!(
        told.contains("nobody.test") && told.contains("no certificate has this name"),
        "{told}"
    );
    assert_eq!(whygate.output().matches("Handshakes failed").count(), 1);
    Ok(())
}

async fn an_interrupt_skips_the_delay_for_balancers() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let flags = ["--shutdown-delay-seconds", "3600", "--log", "info"];
    let mut whygate = Whygate::serve(folder.path(), &flags).await?;
    whygate.sigint()?;
    assert!(whygate.wait(LONG).await?.success());
    assert!(whygate.output().contains("SIGINT"), "{}", whygate.output());
    Ok(())
}

async fn a_wrong_command_line_ends_with_exit_code_2() -> anyhow::Result<()> {
    for line in [
        &["run", "--http-listn", "off"][..],
        &["serve", "--manifests", "/nowhere", "--threads", "0"],
        &["demo", "--trusted-proxies", "192.0.2.0/24"],
    ] {
        let ended = Whygate::command(line)?;
        assert_eq!(ended.code, Some(2), "{line:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
    let ended = Whygate::command(&["serve", "--manifests", "/nowhere"])?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    Ok(())
}

async fn a_check_names_what_it_passed_over() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_str().unwrap();
    let empty = Whygate::command(&["check", path])?.success()?;
    assert!(empty.contains("no file *.yaml or *.yml") && empty.contains("1 warning"), "{empty}");
    fs::write(folder.path().join("shop.yaml"), shop().replace("whygate\n", "whygat\n"))?;
    let checked = Whygate::command(&["check", path])?.success()?;
    assert!(checked.contains("`whygat` (did you mean `whygate`?)"), "{checked}");
    assert!(checked.contains("1 file, 0 Ingresses of ours, 0 routes: 0 findings"), "{checked}");
    Ok(())
}
