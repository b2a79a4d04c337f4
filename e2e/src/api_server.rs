//! A real Kubernetes API server with its etcd, as child processes of the test.
//!
//! There are no controllers beside it: no `EndpointSlice` or default `ServiceAccount` appears by
//! itself, namespaces never finish deleting, owners' objects are not collected, and the aggregated
//! `ClusterRoles` are empty.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rcgen::KeyPair;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::api::Api;
use crate::audit::{self, Write};
use crate::client::Client;
use crate::kubernetes;
use crate::process::{self, Finished, Process};
use crate::wait::eventually;

/// Longest time until it answers: 2 minutes. On a free machine it takes 4 seconds.
const START_LIMIT: Duration = Duration::from_mins(2);

/// What the audit log is to hold, and where it is, in the server's folder.
const AUDIT_POLICY: &str = "audit-policy";
const AUDIT_LOG: &str = "audit.log";

/// An API server. Dropping it kills both processes and removes their data.
#[derive(Debug)]
pub struct ApiServer {
    // In this order they end: the API server first, the folder last.
    server: Option<Process>,
    etcd: Process,
    programs: PathBuf,
    address: SocketAddr,
    token: String,
    folder: TempDir,
}

impl ApiServer {
    /// Starts etcd and the API server, and waits until it is ready.
    ///
    /// # Errors
    /// The programs can't be had, or one of them ended; the error shows its last words.
    pub async fn start() -> anyhow::Result<Self> {
        let programs = kubernetes::programs()?;
        let folder = tempfile::Builder::new().prefix("whygate-api-server-").tempdir()?;
        let token = random_token()?;
        fs::write(
            folder.path().join("tokens.csv"),
            format!("{token},admin,admin,system:masters\n"),
        )?;
        write_service_account_key(folder.path())?;
        fs::write(folder.path().join(AUDIT_POLICY), audit::POLICY)?;

        let etcd = start_etcd(&programs, folder.path())?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut this = Self { server: None, etcd, programs, address, token, folder };
        fs::write(this.kubeconfig(), this.kubeconfig_text(address, &this.token)?)?;
        this.start_again().await?;
        Ok(this)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// A kubeconfig that leads through `proxy`, an address of 127.0.0.1, to this API server.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn kubeconfig_through(&self, proxy: SocketAddr) -> anyhow::Result<PathBuf> {
        let name = format!("kubeconfig-{}", proxy.port());
        self.write_kubeconfig(&name, proxy, &self.token)
    }

    /// A kubeconfig for an existing `ServiceAccount`, with the rights that RBAC gives it and no
    /// more; `through` is the API server's address or that of a proxy before it.
    ///
    /// # Errors
    /// There is no such account.
    pub fn kubeconfig_of_account(
        &self,
        namespace: &str,
        account: &str,
        through: SocketAddr,
    ) -> anyhow::Result<PathBuf> {
        let token = self
            .kubectl(&["create", "token", account, "--namespace", namespace, "--duration", "1h"])?
            .success()?;
        let name = format!("kubeconfig-{namespace}-{account}-{}", through.port());
        self.write_kubeconfig(&name, through, token.trim())
    }

    fn write_kubeconfig(
        &self,
        name: &str,
        address: SocketAddr,
        token: &str,
    ) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, self.kubeconfig_text(address, token)?)?;
        Ok(path)
    }

    fn kubeconfig_text(&self, address: SocketAddr, token: &str) -> anyhow::Result<String> {
        let authority = self.certificate();
        // JSON is YAML, and needs no thought about quoting.
        Ok(serde_json::to_string_pretty(&serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://{address}"), "certificate-authority": authority,
            }}],
            "users": [{ "name": "test", "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        }))?)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate it made for itself, which is also the one to trust.
    fn certificate(&self) -> PathBuf {
        self.folder.path().join("tls/apiserver.crt")
    }

    /// Runs kubectl as the administrator.
    ///
    /// # Errors
    /// It can't be started; a refusal by the API server is in the result.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        self.kubectl_with(arguments, "")
    }

    /// Runs kubectl as the administrator with `input` as its standard input, for `apply -f -`.
    ///
    /// # Errors
    /// It can't be started; a refusal by the API server is in the result.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> anyhow::Result<Finished> {
        let mut kubectl = Command::new(self.programs.join("kubectl"));
        // Its caches go where they are removed.
        kubectl.env("KUBECONFIG", self.kubeconfig()).env("HOME", self.folder.path());
        process::run(&mut kubectl, arguments, input)
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// The API server refused one; the error is kubectl's.
    pub fn apply(&self, manifests: &str) -> anyhow::Result<String> {
        self.kubectl_with(&["apply", "--filename", "-"], manifests)?.success()
    }

    /// Applies every file of a folder.
    ///
    /// # Errors
    /// The API server refused one; the error is kubectl's.
    pub fn apply_folder(&self, folder: &Path) -> anyhow::Result<String> {
        let folder = folder.display().to_string();
        self.kubectl(&["apply", "--filename", &folder])?.success()
    }

    /// A connection for what has to be asked often, as the administrator.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn api(&self) -> anyhow::Result<Api> {
        let trust = fs::read(self.certificate()).context("no certificate yet")?;
        let client = Client::new(self.address).trusting_pem(&trust)?;
        Ok(Api::over(client.connect("127.0.0.1").await?, &self.token))
    }

    /// Every write that was asked of it so far, in the order of arrival.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn writes(&self) -> anyhow::Result<Vec<Write>> {
        audit::writes(&self.folder.path().join(AUDIT_LOG))
    }

    /// Ends the API server at once; etcd keeps its data.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts the API server on the same port with the same data, and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or doesn't get ready.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.stop();
        let mut server = start_server(&self.programs, self.folder.path(), self.address.port())?;
        eventually(START_LIMIT, "the API server is ready", async || {
            // An error here would be tried again until the limit, so it is given back as a value.
            if let Err(error) = self.etcd.ensure_running().and_then(|()| server.ensure_running()) {
                return Ok(Err(error));
            }
            self.ready().await.map(Ok)
        })
        .await??;
        self.server = Some(server);
        Ok(())
    }

    /// Stops the API server's process where it stands: connections stay open, nothing answers.
    ///
    /// # Errors
    /// The system refuses.
    pub fn freeze(&mut self) -> anyhow::Result<()> {
        self.server.as_mut().map_or(Ok(()), |server| server.signal(Signal::STOP))
    }

    /// Lets a frozen API server go on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn thaw(&mut self) -> anyhow::Result<()> {
        self.server.as_mut().map_or(Ok(()), |server| server.signal(Signal::CONT))
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let trust = fs::read(self.certificate()).context("no certificate yet")?;
        let answer =
            Client::new(self.address).trusting_pem(&trust)?.get("127.0.0.1", "/readyz").await?;
        ensure!(answer.status == 200, "{}", answer.text());
        Ok(())
    }
}

fn start_etcd(programs: &Path, folder: &Path) -> anyhow::Result<Process> {
    // Relative names: an absolute path is refused as an advertised address, and a socket's path
    // may have 108 bytes only.
    const CLIENTS: &str = "unix://etcd:1";
    let mut etcd = Command::new(programs.join("etcd"));
    etcd.current_dir(folder)
        .args(["--data-dir", "etcd", "--log-level", "warn"])
        // Nothing of it is kept.
        .arg("--unsafe-no-fsync")
        .args(["--listen-client-urls", CLIENTS, "--advertise-client-urls", CLIENTS])
        .args(["--listen-peer-urls", "unix://peer:1"]);
    Process::start("etcd", &mut etcd, folder)
}

fn start_server(programs: &Path, folder: &Path, port: u16) -> anyhow::Result<Process> {
    let mut server = Command::new(programs.join("kube-apiserver"));
    server
        .current_dir(folder)
        .args(["--etcd-servers", "unix://etcd:1"])
        .args(["--bind-address", "127.0.0.1", "--secure-port", &port.to_string()])
        // A loopback address is no valid endpoint of the Service `kubernetes`, so none is written.
        .args(["--advertise-address", "127.0.0.1", "--endpoint-reconciler-type", "none"])
        .args(["--cert-dir", "tls", "--authorization-mode", "RBAC"])
        .args(["--token-auth-file", "tokens.csv"])
        .args(["--audit-policy-file", AUDIT_POLICY, "--audit-log-path", AUDIT_LOG])
        .args(["--service-account-issuer", "https://kubernetes.default.svc"])
        .args(["--service-account-key-file", "service-account.pub"])
        .args(["--service-account-signing-key-file", "service-account.key"])
        .args(["--service-cluster-ip-range", "198.19.0.0/24", "--allow-privileged"])
        // No controller makes the default account that this plugin would demand of every pod.
        .args(["--disable-admission-plugins", "ServiceAccount"]);
    Process::start("kube-apiserver", &mut server, folder)
}

/// The pair that signs and verifies tokens of `ServiceAccounts`. The API server reads the public
/// key from a file of its own: it takes no PKCS#8 file for verification.
fn write_service_account_key(folder: &Path) -> anyhow::Result<()> {
    let pair = KeyPair::generate()?;
    fs::write(folder.join("service-account.key"), pair.serialize_pem())?;
    fs::write(folder.join("service-account.pub"), pair.public_key_pem())?;
    Ok(())
}

fn random_token() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// A port that nobody has. The namespace is ours alone, so nobody takes it in between.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
