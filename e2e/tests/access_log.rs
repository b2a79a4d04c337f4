//! The access log of the real program: what is in it, and what becomes of traffic when nobody reads
//! it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the first surprise ends the test"
)]

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use e2e::manifests::{Ingress, backend, namespace};
use e2e::{Client, Upstream, Whygate, eventually};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

e2e::suite!(
    needs: [Program],
    tests: [
        each_exchange_is_one_line_and_the_last_ones_are_written_before_the_end,
        a_file_that_takes_no_line_costs_lines_and_no_request,
        lines_for_people_go_to_standard_output_beside_everything_else,
    ],
);

const LONG: Duration = Duration::from_secs(20);

/// A shop of one open Ingress.
async fn shop(folder: &Path) -> anyhow::Result<Upstream> {
    let upstream = Upstream::start(([127, 0, 0, 1], 0).into(), "web").await?;
    let ingress = Ingress {
        namespace: "shop",
        name: "web",
        host: "shop.test",
        paths: &[("/", "web")],
        requires: None,
        tls: None,
    };
    let backend = backend("shop", "web", upstream.address());
    fs::write(folder.join("shop.yaml"), namespace("shop") + &backend + &ingress.manifest())?;
    Ok(upstream)
}

fn lines(file: &Path) -> anyhow::Result<Vec<Value>> {
    let text = fs::read_to_string(file)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

async fn each_exchange_is_one_line_and_the_last_ones_are_written_before_the_end()
-> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let upstream = shop(folder.path()).await?;
    let file = folder.path().join("access.log");
    let flags = ["--access-log=json", "--access-log-file", file.to_str().unwrap()];
    let mut whygate = Whygate::serve(folder.path(), &flags).await?;
    let client = Client::new(whygate.http()?);
    let answer = client.get("shop.test", "/a%7B%22?token=secret").await?;
    let id = answer.headers["whygate-request-id"].to_str()?.to_owned();
    let told = eventually(LONG, "the line is there", async || {
        lines(&file)?.pop().context("there is no line")
    })
    .await?;
    let expected = serde_json::json!({
        "timestamp": told["timestamp"], "target": "access", "request.id": id,
        "request.method": "GET", "request.host": "shop.test", "request.path": "/a%7B%22",
        "request.bytes": 0, "response.status": 200, "response.bytes": answer.body.len(),
        "end": "complete", "route": "shop/web shop.test/", "client.ip": told["client.ip"],
        "upstream.addr": upstream.address().to_string(),
        "upstream.first_byte_ms": told["upstream.first_byte_ms"],
        "protocol": "HTTP/1.1", "duration_ms": told["duration_ms"],
    });
    assert_eq!(told, expected);
    assert!(told["upstream.first_byte_ms"].as_f64() <= told["duration_ms"].as_f64(), "{told}");
    for _ in 0..100 {
        client.get("nobody.test", "/").await?;
    }
    whygate.sigterm()?;
    assert!(whygate.wait(LONG).await?.success());
    assert!(!whygate.output().contains("not passed on"), "{}", whygate.output());
    let all = lines(&file)?;
    assert_eq!(all.len(), 101);
    assert!(all.iter().skip(1).all(|line| line["denial.code"] == "RouteNotFound"), "{all:?}");
    Ok(())
}

/// Refused requests on one connection, as many as asked for.
async fn refuse(whygate: &Whygate, many: usize) -> anyhow::Result<()> {
    let (mut read, mut write) = TcpStream::connect(whygate.http()?).await?.into_split();
    let request = "GET / HTTP/1.1\r\nhost: nobody.test\r\n\r\n".repeat(many);
    let writing = tokio::spawn(async move {
        write.write_all(request.as_bytes()).await?;
        write
            .write_all(b"GET / HTTP/1.1\r\nhost: nobody.test\r\nconnection: close\r\n\r\n")
            .await?;
        anyhow::Ok(write)
    });
    let mut answers = String::new();
    tokio::time::timeout(LONG, read.read_to_string(&mut answers)).await??;
    drop(writing.await??);
    assert_eq!(answers.matches("HTTP/1.1 404").count(), many + 1);
    Ok(())
}

async fn a_file_that_takes_no_line_costs_lines_and_no_request() -> anyhow::Result<()> {
    const DROPPED: &str = "whygate_access_log_dropped_total";
    let folder = tempfile::tempdir()?;
    let _upstream = shop(folder.path()).await?;
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status()?.success());
    // Open for both, so that the program can open it, and nobody ever reads.
    let silent: File = OpenOptions::new().read(true).write(true).open(&pipe)?;
    for file in ["/dev/full", pipe.to_str().unwrap()] {
        let flags = ["--access-log=json", "--access-log-file", file, "--log=warn"];
        let mut whygate = Whygate::serve(folder.path(), &flags).await?;
        refuse(&whygate, 10_000).await?;
        eventually(LONG, &format!("lines for {file} are counted"), async || {
            let dropped = whygate.metric(DROPPED).await?;
            anyhow::ensure!(dropped > 0, "none was dropped");
            Ok(())
        })
        .await?;
        let answer = Client::new(whygate.http()?).get("shop.test", "/").await?;
        assert_eq!(answer.status, 200);
        if file == "/dev/full" {
            whygate.line(LONG, "The access log cannot be written").await?;
            assert_eq!(whygate.output().matches("access log").count(), 1, "{}", whygate.output());
        }
        whygate.sigterm()?;
        assert!(whygate.wait(LONG).await?.success(), "{file}: {}", whygate.output());
    }
    drop(silent);
    Ok(())
}

async fn lines_for_people_go_to_standard_output_beside_everything_else() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let _upstream = shop(folder.path()).await?;
    let whygate = Whygate::serve(folder.path(), &["--access-log=text"]).await?;
    let client = Client::new(whygate.http()?);
    client.get("shop.test", "/").await?;
    client.get("nobody.test", "/").await?;
    let told = whygate.line(LONG, "GET `shop.test/` 200 complete ").await?;
    assert!(told.contains(" route=`shop/web shop.test/` HTTP/1.1 id="), "{told}");
    whygate.line(LONG, "GET `nobody.test/` 404 complete RouteNotFound ").await?;
    let folder = folder.path().join("nowhere").join("access.log");
    let flags = ["serve", "--manifests", ".", "--access-log=json", "--access-log-file"];
    let ended = Whygate::command(&[&flags[..], &[folder.to_str().unwrap()]].concat())?;
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(1), 1), "{}", ended.stderr);
    assert!(ended.stderr.contains("--access-log-file"), "{}", ended.stderr);
    Ok(())
}
