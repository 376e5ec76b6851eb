//! Prints the `OpenAPI` document: `cargo run -q -p northbound --example openapi > docs/openapi.json`.

fn main() {
    print!("{}", northbound::http::document::document_json(&[flows::rest_routes()]));
}
