//! The document that is served is the one that is kept.

#[test]
fn the_document_in_docs_is_the_one_that_is_served() {
    let kept = include_str!("../../docs/openapi.json");
    let served = northbound::http::document::document_json();
    assert!(kept == served, "cargo run -q -p northbound --example openapi > docs/openapi.json");
}
