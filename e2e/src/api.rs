//! Requests to the API server without kubectl, for what has to be asked many times a second.

use anyhow::ensure;
use http::{Method, header};
use serde_json::Value;

use crate::client::{Connection, empty, full, request};

/// A connection to the API server with somebody's token.
#[derive(Debug)]
pub struct Api {
    connection: Connection,
    token: String,
}

impl Api {
    pub(crate) fn over(connection: Connection, token: &str) -> Self {
        Self { connection, token: token.to_owned() }
    }

    /// What stands at a path.
    ///
    /// # Errors
    /// The API server refuses, or the connection has ended.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        let request = request(Method::GET, "127.0.0.1", path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        let answer = self.connection.send(request.body(empty())?).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
        answer.json()
    }

    /// Changes what stands at a path by a merge patch (RFC 7396), and gives back what became of it.
    ///
    /// # Errors
    /// The API server refuses, or the connection has ended.
    pub async fn patch(&mut self, path: &str, change: &Value) -> anyhow::Result<Value> {
        let request = request(Method::PATCH, "127.0.0.1", path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/merge-patch+json");
        let answer = self.connection.send(request.body(full(change.to_string()))?).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.text());
        answer.json()
    }

    /// The Events of a namespace about objects of this kind.
    ///
    /// # Errors
    /// The API server refuses, or the connection has ended.
    pub async fn events(&mut self, namespace: &str, kind: &str) -> anyhow::Result<Vec<Event>> {
        let path = format!(
            "/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.kind%3D{kind}"
        );
        let list = self.get(&path).await?;
        let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
        Ok(items.map(Event::of).collect())
    }
}

/// An Event, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The code of the refusal.
    pub reason: String,
    /// What it says.
    pub message: String,
    /// How often it happened.
    pub count: u64,
}

impl Event {
    fn of(item: &Value) -> Self {
        let text = |name| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            reason: text("reason"),
            message: text("message"),
            // One that never recurred has no count.
            count: item.get("count").and_then(Value::as_u64).unwrap_or(1),
        }
    }
}
