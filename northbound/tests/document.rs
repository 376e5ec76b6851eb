//! The served document equals the stored one.

#[test]
fn the_document_in_docs_equals_the_served_one() {
    let kept = include_str!("../../docs/openapi.json");
    let served = northbound::http::document::document_json(&[flows::rest_routes()]);
    assert!(kept == served, "cargo run -q -p northbound --example openapi > docs/openapi.json");
}
