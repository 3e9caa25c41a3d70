//! JSON Schemas of every frame, written from the Rust types into protocol/schemas/, and the golden frames in protocol/
//! that every implementation is held to. Part of the tests alone: the server needs no schemas.

mod asyncapi;
mod client;
mod golden;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::server::{Answer, Frame};
use client::ClientFrame;

/// The schemas of all frames that one side sends, by their `type`, and of the objects that they are made of.
pub(super) struct Frames {
    pub frames: BTreeMap<String, Value>,
    pub objects: Map<String, Value>,
}

/// What the server sends.
pub(super) fn server_frames() -> Frames {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut frames = variants::<Frame<'static>>(&mut generator);
    frames.append(&mut variants::<Answer<'static>>(&mut generator));
    Frames { frames, objects: objects(generator) }
}

/// What a client sends.
pub(super) fn client_frames() -> Frames {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let frames = variants::<ClientFrame>(&mut generator);
    Frames { frames, objects: objects(generator) }
}

/// Takes the schema of a tagged enum apart: one for each variant, each with what surrounds them all.
fn variants<T: JsonSchema>(generator: &mut SchemaGenerator) -> BTreeMap<String, Value> {
    generator.subschema_for::<T>();
    let Some(Value::Object(mut whole)) = generator.definitions_mut().remove(&*T::schema_name()) else {
        panic!("no schema of an object")
    };
    let Some(Value::Array(variants)) = whole.remove("oneOf") else { panic!("no variants") };
    whole.remove("description");
    let variants = variants.into_iter().map(|mut variant| {
        merge(&mut variant, &whole);
        let name = variant["properties"]["type"]["const"].as_str().expect("a tagged variant").to_owned();
        (name, variant)
    });
    variants.collect()
}

/// Adds the properties that surround a variant.
fn merge(variant: &mut Value, surroundings: &Map<String, Value>) {
    if let Some(properties) = surroundings.get("properties").and_then(Value::as_object) {
        variant["properties"].as_object_mut().expect("properties").extend(properties.clone());
    }
    if let Some(required) = surroundings.get("required").and_then(Value::as_array) {
        variant["required"].as_array_mut().expect("required fields").extend(required.clone());
    }
}

fn objects(mut generator: SchemaGenerator) -> Map<String, Value> {
    generator.take_definitions(true)
}

impl Frames {
    /// One schema that says which frames there are.
    fn document(self, title: &str) -> Value {
        let choices: Vec<Value> = self.frames.keys().map(|name| json!({ "$ref": format!("#/$defs/{name}") })).collect();
        let mut definitions = self.objects;
        definitions.extend(self.frames);
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": title,
            "oneOf": choices,
            "$defs": definitions,
        })
    }
}

/// Compares a file of the repository with what it is generated from, or writes it where that is asked for.
pub(crate) fn assert_current(path: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
        std::fs::write(&path, text).expect("the file is written");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == text, "{} is stale; run this test with UPDATE_GENERATED=1", path.display());
}

/// JSON as it is checked in.
pub(crate) fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("JSON") + "\n"
}

#[test]
fn the_schemas_of_frames_are_current() {
    let server = server_frames().document("A frame that the server sends");
    assert_current("protocol/schemas/server.json", &pretty(&server));
    let client = client_frames().document("A frame that a client sends");
    assert_current("protocol/schemas/client.json", &pretty(&client));
}
