//! A file and the documents in it.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use super::{
    document::{self, Broken, Document, Part},
    item::Item,
    node::Node,
};

/// A file that was read.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: Arc<str>,
    pub(super) text: Arc<str>,
    pub(super) documents: Vec<Standing>,
}

/// A document where it stands in a file.
#[derive(Debug)]
pub(super) struct Standing {
    /// How many lines stand before it.
    before: usize,
    range: Range<usize>,
    document: Arc<Document>,
}

impl File {
    /// Reads a text. Documents that stood in `before`, too, are taken from there.
    pub(super) fn read(path: Arc<str>, text: Arc<str>, before: Option<&Self>) -> Self {
        let known: HashMap<_, _> = before.into_iter().flat_map(Self::by_text).collect();
        let documents = document::parts(&text).map(|Part { before, range, text }| {
            let known = known.get(text).copied().map(Arc::clone);
            let document = known.unwrap_or_else(|| Arc::new(Document::read(text)));
            Standing { before, range, document }
        });
        let documents = documents.collect();
        Self { path, text, documents }
    }
}

impl File {
    fn by_text(&self) -> impl Iterator<Item = (&str, &Arc<Document>)> {
        let part = |standing: &'_ Standing| self.text.get(standing.range.clone());
        self.documents.iter().filter_map(move |one| Some((part(one)?, &one.document)))
    }
}

impl Standing {
    /// The objects of the document, in their order.
    pub(super) fn items(&self) -> &Result<Vec<Item>, Broken> {
        &self.document.items
    }

    /// A line of the document as a line of the file.
    pub(super) fn line(&self, line: usize) -> usize {
        line.saturating_add(self.before)
    }

    /// The value of an object; `text` is that of the file.
    pub(super) fn node(&self, item: usize, text: &str) -> Option<&Node> {
        self.document.node(item, text.get(self.range.clone())?)
    }

    /// The namespaces that a broken document may have protected, if they are certain.
    pub(super) fn protected_namespaces(&self, text: &str) -> Option<BTreeSet<String>> {
        document::protected_namespaces(text.get(self.range.clone())?)
    }
}
