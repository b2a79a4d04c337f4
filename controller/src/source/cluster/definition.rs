//! The definition of one of our kinds: whether it is installed, new enough, and still alive.

use std::time::Duration;

use crds::{SCHEMA, SCHEMA_ANNOTATION};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};
use tokio::time::sleep;

use crate::admin::Admin;

/// Between two looks at a definition that is not as it should be.
const PAUSE: Duration = Duration::from_secs(2);

/// What to do about a definition that is missing or too old; Helm neither upgrades nor restores one.
const REMEDY: &str = "apply the definitions of this version: the files of crds/yaml, or what `helm show crds` prints for the chart";

/// What has become of a definition since somebody last waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It is the one that it was.
    Same,
    /// It is being deleted, or is gone.
    Gone,
    /// There is another one of the same name.
    Replaced,
}

/// One definition.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    api: Api<CustomResourceDefinition>,
    name: String,
    admin: Admin,
}

impl Definition {
    pub(super) fn new(client: Client, plural: &str, admin: Admin) -> Self {
        Self { api: Api::all(client), name: format!("{plural}.whygate.dev"), admin }
    }

    /// Waits until the definition is there to stay and new enough; says what is wrong until then.
    /// Gives its uid.
    pub(super) async fn wait(&self, lack: impl Fn(String)) -> String {
        loop {
            match self.usable().await {
                Ok(uid) => return uid,
                Err(sentence) => lack(sentence),
            }
            sleep(PAUSE).await;
        }
    }

    async fn usable(&self) -> Result<String, String> {
        let name = &self.name;
        let definition = match self.api.get_opt(name).await {
            Ok(Some(definition)) => definition,
            Ok(None) => {
                return Err(format!("the definition `{name}` is not installed; {REMEDY}"));
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                return Err(format!(
                    "the right to get the definition `{name}` is missing; grant the ServiceAccount the verb get on customresourcedefinitions of API group apiextensions.k8s.io"
                ));
            }
            Err(error) => return Err(format!("the definition `{name}` cannot be read: {error}")),
        };
        if definition.metadata.deletion_timestamp.is_some() {
            return Err(format!(
                "the definition `{name}` is being deleted; when it is gone, {REMEDY}"
            ));
        }
        let annotations = definition.metadata.annotations.unwrap_or_default();
        let schema = annotations.get(SCHEMA_ANNOTATION).and_then(|it| it.parse::<u32>().ok());
        if schema.is_none_or(|schema| schema < SCHEMA) {
            let number = schema.map_or("no schema number".to_owned(), |it| format!("schema {it}"));
            return Err(format!(
                "the definition `{name}` has {number}, and this program needs {SCHEMA}; {REMEDY}"
            ));
        }
        Ok(definition.metadata.uid.unwrap_or_default())
    }

    /// What has become of the definition with this uid; waits for an answer.
    pub(super) async fn life(&self, uid: &str) -> Life {
        loop {
            match self.api.get_metadata_opt(&self.name).await {
                Ok(Some(definition)) if definition.metadata.deletion_timestamp.is_none() => {
                    let is_same = definition.metadata.uid.as_deref() == Some(uid);
                    return if is_same { Life::Same } else { Life::Replaced };
                }
                Ok(_) => {
                    tracing::error!(
                        resource = self.name,
                        "Definition is being deleted; its last objects stay in force"
                    );
                    return Life::Gone;
                }
                Err(error) => {
                    self.admin.watch_errors.inc();
                    tracing::warn!(resource = self.name, %error, "Definition cannot be read");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}
