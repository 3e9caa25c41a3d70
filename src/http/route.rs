//! A REST route with what its description needs, in one place.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::app::App;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Nobody,
    User,
    Platform,
    /// A user, or the platform with more rights.
    Either,
}

/// How a schema is made, within one document's generator.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a request or an answer carries: its content type, and its schema.
#[derive(Clone, Copy)]
pub struct Content {
    pub kind: &'static str,
    pub schema: SchemaOf,
}

impl Content {
    fn json<T: JsonSchema>() -> Self {
        Self { kind: "application/json", schema: SchemaGenerator::subschema_for::<T> }
    }
}

/// One method on one path.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    /// One sentence.
    pub summary: &'static str,
    pub handler: MethodRouter<Arc<App>>,
    /// The query's parameters with what each means.
    pub query: &'static [(&'static str, &'static str)],
    pub request: Option<Content>,
    /// The good answers: status and body.
    pub answers: Vec<(u16, Option<Content>)>,
}

impl Route {
    /// A route; its description is added by the methods below.
    pub fn new<H, T>(method: Method, path: &'static str, access: Access, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        Self {
            method,
            path,
            access,
            summary,
            handler: on(filter, handler),
            query: &[],
            request: None,
            answers: Vec::new(),
        }
    }

    pub fn query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    /// The JSON body that it takes.
    pub fn takes<T: JsonSchema>(mut self) -> Self {
        self.request = Some(Content::json::<T>());
        self
    }

    /// The `multipart/form-data` body that it takes, whose size it bounds by itself.
    pub fn takes_form<T: JsonSchema>(mut self) -> Self {
        self.request = Some(Content { kind: "multipart/form-data", schema: SchemaGenerator::subschema_for::<T> });
        self.handler = self.handler.layer(DefaultBodyLimit::disable());
        self
    }

    /// A good answer that is a file of whatever type.
    pub fn answers_file(mut self, status: u16) -> Self {
        let schema: SchemaOf = |_| schemars::json_schema!({ "type": "string", "format": "binary" });
        self.answers.push((status, Some(Content { kind: "*/*", schema })));
        self
    }

    /// A good answer with a JSON body.
    pub fn answers<T: JsonSchema>(mut self, status: u16) -> Self {
        self.answers.push((status, Some(Content::json::<T>())));
        self
    }

    /// A good answer without a body.
    pub fn answers_empty(mut self, status: u16) -> Self {
        self.answers.push((status, None));
        self
    }
}
