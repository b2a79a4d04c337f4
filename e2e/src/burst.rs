//! Many requests over one connection, several under way at a time, for floods: threads and plain
//! sockets, so that the sender costs little beside what it floods.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::{Context as _, ensure};

use crate::client::connect;

/// How many requests are under way at a time.
const DEPTH: usize = 20;

/// How often each status was answered.
pub type Statuses = BTreeMap<u16, usize>;

/// Sends the same GET `requests` times over one connection from `source`, and reads every answer.
///
/// # Errors
/// The connection ended before the last answer.
pub async fn burst(
    address: SocketAddr,
    source: IpAddr,
    (host, path): (&str, &str),
    requests: usize,
) -> anyhow::Result<Statuses> {
    let stream = connect(address, Some(source)).await?.into_std()?;
    stream.set_nonblocking(false)?;
    let text = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    tokio::task::spawn_blocking(move || send(stream, &text, requests)).await?
}

fn send(mut stream: TcpStream, text: &str, requests: usize) -> anyhow::Result<Statuses> {
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut statuses = Statuses::new();
    let mut left = requests;
    while left > 0 {
        let batch = left.min(DEPTH);
        stream.write_all(text.repeat(batch).as_bytes())?;
        for _ in 0..batch {
            *statuses.entry(answer(&mut answers)?).or_default() += 1;
        }
        left -= batch;
    }
    Ok(statuses)
}

/// Reads one answer with a length to its end and gives back its status.
fn answer(answers: &mut BufReader<TcpStream>) -> anyhow::Result<u16> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    let status = line.split(' ').nth(1).context("the connection ended before the last answer")?;
    let status = status.parse().with_context(|| format!("no status: {line}"))?;
    let mut length = None;
    loop {
        line.clear();
        ensure!(answers.read_line(&mut line)? > 0, "an answer broke off");
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<u64>()?);
        }
    }
    let length = length.context("an answer has no length")?;
    let read = std::io::copy(&mut answers.by_ref().take(length), &mut std::io::sink())?;
    ensure!(read == length, "an answer's body broke off");
    Ok(status)
}
