//! The OpenAPI document, made of the table of routes. It is checked in as docs/openapi.json, where a test holds it to
//! the table, and served from there.

use axum::http::{Method, header};
use axum::response::IntoResponse;

use super::route::{Access, Route};

const DOCUMENT: &str = include_str!("../../docs/openapi.json");

pub fn routes() -> Vec<Route> {
    let route =
        Route::new(Method::GET, "/api/v1/openapi.json", Access::Nobody, "This description of all routes.", document);
    vec![route.answers::<serde_json::Map<String, serde_json::Value>>(200)]
}

async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use schemars::SchemaGenerator;
    use schemars::generate::SchemaSettings;
    use serde_json::{Map, Value, json};

    use crate::http::problem::ProblemBody;
    use crate::http::route::{Access, Content, Route};
    use crate::protocol::schemas::{assert_current, pretty};

    const API: &str = "/api/v1";

    /// Schemas of what is sent and of what is taken differ in what may be left out.
    struct Schemas {
        sent: SchemaGenerator,
        taken: SchemaGenerator,
    }

    fn document(routes: &[Route]) -> Value {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        let mut schemas =
            Schemas { sent: settings().for_serialize().into_generator(), taken: settings().into_generator() };
        let problem = schemas.sent.subschema_for::<ProblemBody>();
        let mut paths = Map::new();
        for route in routes {
            let path = paths.entry(route.path).or_insert_with(|| json!({}));
            let known = &mut path[route.method.as_str().to_lowercase()];
            assert!(known.is_null(), "{} {} is there twice", route.method, route.path);
            *known = operation(route, &mut schemas);
        }
        let mut definitions = schemas.sent.take_definitions(true);
        for (name, schema) in schemas.taken.take_definitions(true) {
            let known = definitions.entry(&name).or_insert_with(|| schema.clone());
            assert_eq!(*known, schema, "{name} is taken in another form than it is sent");
        }
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Tidings",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Real-time chat and notifications. What these routes change reaches the sockets as \
                                events, which asyncapi.json describes.",
            },
            "paths": paths,
            "components": {
                "schemas": definitions,
                "responses": {
                    "Problem": {
                        "description": "A refusal (RFC 9457); its `code` says why, its `detail` what to do.",
                        "content": { "application/problem+json": { "schema": problem } },
                    },
                },
                "securitySchemes": {
                    "user": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                              "description": "A token of the platform's, as on sockets." },
                    "platform": { "type": "http", "scheme": "bearer", "description": "One of the API keys." },
                },
            },
        })
    }

    fn operation(route: &Route, schemas: &mut Schemas) -> Value {
        let mut responses = Map::new();
        for (status, content) in &route.answers {
            responses.insert(status.to_string(), answer(*status, *content, &mut schemas.sent));
        }
        // Any route may refuse, and say so in the same form.
        for refusal in ["4XX", "5XX"] {
            responses.insert(refusal.to_owned(), json!({ "$ref": "#/components/responses/Problem" }));
        }
        let mut operation = json!({
            "operationId": operation_id(route),
            "summary": route.summary,
            "tags": [tag(route)],
            "parameters": parameters(route),
            "responses": responses,
            "security": security(route.access),
        });
        if let Some(Content { kind, schema }) = route.request {
            operation["requestBody"] =
                json!({ "required": true, "content": { kind: { "schema": schema(&mut schemas.taken) } } });
        }
        operation
    }

    fn answer(status: u16, content: Option<Content>, generator: &mut SchemaGenerator) -> Value {
        let status = axum::http::StatusCode::from_u16(status).expect("a status");
        let mut answer = json!({ "description": status.canonical_reason().expect("a known status") });
        if let Some(Content { kind, schema }) = content {
            answer["content"] = json!({ kind: { "schema": schema(generator) } });
        }
        answer
    }

    fn security(access: Access) -> Value {
        match access {
            Access::Nobody => json!([]),
            Access::User => json!([{ "user": [] }]),
            Access::Platform => json!([{ "platform": [] }]),
            Access::Either => json!([{ "user": [] }, { "platform": [] }]),
        }
    }

    fn parameters(route: &Route) -> Vec<Value> {
        let segments = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = segments
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": schema_of(name) }))
            .collect();
        for (name, meaning) in route.query {
            parameters.push(json!({ "name": name, "in": "query", "description": meaning, "schema": schema_of(name) }));
        }
        if route.method == "POST" {
            parameters.push(json!({
                "name": "Idempotency-Key",
                "in": "header",
                "description": "A repeat within 7 days gets the first answer.",
                "schema": { "type": "string", "minLength": 1, "maxLength": 64 },
            }));
        }
        parameters
    }

    /// What a parameter of this name takes.
    fn schema_of(name: &str) -> Value {
        match name {
            "limit" => json!({ "type": "integer", "minimum": 1, "default": 50 }),
            "unread" | "archived" => json!({ "type": "boolean" }),
            "before" | "after" => json!({ "type": "string" }),
            "id" => json!({ "type": "integer", "minimum": 1, "maximum": crate::ids::ID_END - 1 }),
            name if name.ends_with("_id") => schema_of("id"),
            _ => json!({ "type": "string" }),
        }
    }

    fn words(route: &Route) -> Vec<&str> {
        let path = route.path.strip_prefix(API).expect("routes lie below /api/v1");
        path.split(['/', '.']).map(|part| part.trim_matches(['{', '}'])).filter(|part| !part.is_empty()).collect()
    }

    /// `get_attachments_id_filename`.
    fn operation_id(route: &Route) -> String {
        format!("{}_{}", route.method.as_str().to_lowercase(), words(route).join("_"))
    }

    fn tag(route: &Route) -> &str {
        words(route)[0]
    }

    #[test]
    fn the_openapi_document_is_current() {
        let document = document(&crate::http::routes());
        assert_current("docs/openapi.json", &pretty(&document));
    }

    #[test]
    fn every_route_is_described_in_full() {
        let mut ids = BTreeSet::new();
        for route in crate::http::routes() {
            let name = format!("{} {}", route.method, route.path);
            assert!(route.summary.ends_with('.'), "{name}: the summary is no sentence");
            assert!(!route.answers.is_empty(), "{name}: no good answer is described");
            assert!(route.query.iter().all(|(_, meaning)| meaning.ends_with('.')), "{name}: a parameter says nothing");
            assert!(ids.insert(operation_id(&route)), "{name}: its id is another's");
        }
        assert!(!ids.is_empty());
    }
}
