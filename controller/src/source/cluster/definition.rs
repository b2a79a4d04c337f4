//! The definition of one of our kinds: whether it is installed, new enough, and still alive.

use std::time::Duration;

use crds::{SCHEMA, SCHEMA_ANNOTATION};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};
use tokio::time::sleep;

use crate::admin::Admin;

/// Between two looks at a definition that is not as it should be.
const PAUSE: Duration = Duration::from_secs(2);

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
    pub(super) async fn wait(&self, lack: impl Fn(String)) {
        while let Some(sentence) = self.problem().await {
            lack(sentence);
            sleep(PAUSE).await;
        }
    }

    async fn problem(&self) -> Option<String> {
        let name = &self.name;
        let definition = match self.api.get_opt(name).await {
            Ok(Some(definition)) => definition,
            Ok(None) => {
                return Some(format!(
                    "the definition `{name}` is not installed; apply the files of crds/yaml"
                ));
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                return Some(format!(
                    "the right to get the definition `{name}` is missing; grant the ServiceAccount the verb get on customresourcedefinitions of API group apiextensions.k8s.io"
                ));
            }
            Err(error) => return Some(format!("the definition `{name}` cannot be read: {error}")),
        };
        if definition.metadata.deletion_timestamp.is_some() {
            return Some(format!(
                "the definition `{name}` is being deleted; apply the files of crds/yaml when it is gone"
            ));
        }
        let annotations = definition.metadata.annotations.unwrap_or_default();
        let schema = annotations.get(SCHEMA_ANNOTATION).and_then(|it| it.parse::<u32>().ok());
        if schema.is_none_or(|schema| schema < SCHEMA) {
            return Some(format!(
                "the definition `{name}` is older than this program; apply the files of crds/yaml of this version"
            ));
        }
        None
    }

    /// Whether the definition exists and is not being deleted; waits for an answer.
    pub(super) async fn is_alive(&self) -> bool {
        loop {
            match self.api.get_metadata_opt(&self.name).await {
                Ok(Some(definition)) if definition.metadata.deletion_timestamp.is_none() => {
                    return true;
                }
                Ok(_) => {
                    tracing::error!(
                        resource = self.name,
                        "Definition is being deleted; its last objects stay in force"
                    );
                    return false;
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
